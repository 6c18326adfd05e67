// Figure of chapter 9: one query image, and the companions that its batch may have. Every answer comes from Python.

const [BAR_ROW, STRIP] = [36, 44]; // pixels

function render({ model, el }) {
  const pixels = Uint8Array.from(atob(model.get("images")), (char) => char.charCodeAt(0));
  const [height, width] = model.get("size");
  const [[right, ...classes], names, answers] = ["classes", "names", "answers"].map((key) => model.get(key));
  const ways = answers[0][0].length;
  const companies = 2 ** classes.length;
  const first = { present: model.get("present"), way: model.get("way") };
  const save = () => model.save_changes();
  const group = `mk-company-${Math.random().toString(36).slice(2)}`;
  const tried = names.map(() => new Set()); // rows of the answers that the reader has seen

  const rowOf = (present) => present.reduce((row, i) => row + 2 ** i, 0);
  const argmax = (values) => values.indexOf(Math.max(...values));
  const set = (trait, value) => {
    model.set(trait, value);
    save();
  };

  // ---- Pieces ----------------------------------------------------------------------------------------------------

  // Ink is 1: dark on a white card, in light pages and in dark ones.
  function imageOf(index, side, label = null) {
    const node = html("canvas", { width, height, style: `display: block; width: ${side}; aspect-ratio: ${width} / ${height}; background: #fff; border-radius: 2px` });
    if (label) ["role", "aria-label"].forEach((key, i) => node.setAttribute(key, ["img", label][i]));
    else node.setAttribute("aria-hidden", "true");
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const grey = 255 - pixels[index * width * height + i];
      image.data.set([grey, grey, grey, 255], 4 * i);
    }
    node.getContext("2d").putImageData(image, 0, 0);
    return node;
  }

  const small = "font-size: 13px; line-height: 1.3; text-align: center";
  const question = html("div", { style: `flex: none; width: 64px; ${small}` },
    html("div", { style: "padding: 2px; border: 3px solid var(--mk-query); border-radius: 5px" }, imageOf(ways, "100%", `The question: an image of class ${right}`)),
    html("b", { style: "color: var(--mk-query)" }, "the question"));
  const buttons = classes.map((label, i) => {
    const said = html("span", { "aria-hidden": "true" });
    const card = html("span", { style: "display: block; padding: 2px; border-radius: 5px" }, imageOf(ways + 1 + i, "100%"));
    const node = html("button", {
      type: "button", "aria-label": `companion ${i + 1}, class ${label}`, style: `padding: 0; border: 0; ${small}`,
      onclick: () => {
        const present = model.get("present");
        set("present", present.includes(i) ? present.filter((other) => other !== i) : [...present, i].sort((a, b) => a - b));
      },
    }, card, said);
    const update = (there) => {
      node.setAttribute("aria-pressed", String(there));
      card.style.border = there ? "3px solid var(--mk-ink)" : "3px dashed var(--mk-rule)";
      card.firstChild.style.opacity = there ? 1 : 0.5;
      said.textContent = `class ${label}${there ? " ✓" : ""}`;
      said.style.color = there ? "" : "var(--mk-faint)";
    };
    return { node, update };
  });
  const radios = names.map((name, i) => {
    const input = html("input", { type: "radio", name: group, value: i, style: "width: 18px; height: 18px; margin: 0; flex: none", onchange: () => set("way", i) });
    return { input, node: html("label", {}, input, html("span", {}, name)) };
  });
  const bars = Array.from({ length: ways }, (_, c) => {
    const fill = html("div", { style: `height: 100%; border-radius: 2px; transition: width 0.2s; background: var(--mk-${c === right ? "query" : "scratch"})` });
    const value = html("span", { style: "flex: none; width: 2.6em; text-align: right; font-variant-numeric: tabular-nums" });
    const name = html("span", { style: "flex: none; width: 4.2em" }, `class ${c}`);
    const node = html("li", { style: `display: flex; align-items: center; gap: 8px; height: ${BAR_ROW}px; margin: 0; padding: 0; list-style: none` },
      html("span", { style: "flex: none; border: 1px solid var(--mk-rule)" }, imageOf(c, "30px")), name,
      html("div", { style: "flex: 1 1 auto; height: 18px; border-left: 1px solid var(--mk-faint)", "aria-hidden": "true" }, fill), value);
    const update = (p, wins) => {
      fill.style.width = `${100 * p}%`;
      value.textContent = format(p, 2, false);
      for (const part of [value, name]) part.style.fontWeight = wins ? 700 : 400;
    };
    return { node, update };
  });
  const strip = svg("svg", { role: "img" });
  const stripBox = html("div", {}, strip);
  const verdict = html("p", { class: "mk-verdict", style: "font-size: 16px; font-weight: 600; margin: 6px 0; min-height: 3em" });
  const showAll = html("button", { type: "button", onclick: () => {
    for (let row = 0; row < companies; row++) tried[model.get("way")].add(row);
    draw();
  } }, `show all ${companies} companies`);
  const forget = { pause: () => tried.forEach((rows) => rows.clear()) }; // to start again is to forget what was tried
  const again = restart(model, save, [forget], first);
  const numbersOf = (holds) => classes.flatMap((label, i) => (holds(label, i) ? [i] : []));
  const places = presets(model, save, [], [
    ["alone", []],
    ["one of each other class", numbersOf((label, i) => label !== right && classes.indexOf(label) === i)],
    ["its own class", numbersOf((label) => label === right)],
    [`all ${classes.length}`, numbersOf(() => true)],
  ].map(([words, present]) => [words, { present }]));
  const body = html("tbody");
  const readout = html("div", { class: "mk-readout" },
    html("table", { class: "mk-wrap" }, html("caption", {}, "Probabilities in this company, normalised with"), tableHead("class", ...names), body));
  const picture = html("div", { class: "mk-picture" },
    html("div", { style: "display: flex; align-items: center; gap: 12px" }, question,
      html("ul", { "aria-label": "Probabilities of the question", style: "flex: 1 1 auto; margin: 0; padding: 0" }, ...bars.map((bar) => bar.node))),
    stripBox);
  const status = liveRegion();
  const root = figureOf("company", "choose the company of a query image", {
    picture, numbers: readout, status,
    does: [
      verdict,
      html("div", { role: "group", "aria-label": "Companions", style: "display: grid; grid-template-columns: repeat(auto-fit, minmax(48px, 72px)); gap: 4px 8px" }, ...buttons.map((button) => button.node)),
      html("div", { class: "mk-actions" }, places),
      html("fieldset", {}, html("legend", {}, "Normalise the question with"), ...radios.map((radio) => radio.node)),
      html("div", { class: "mk-actions" }, showAll, again),
      html("p", { class: "mk-help" }, "The question and the weights stay. Press a companion to put it into the query batch, or to take it out."),
    ],
    note: [`A tick on the line is a company that you have tried, the disc is this one. The network's answers in all ${companies} companies are stored here; nothing is computed anew.`],
  });

  // ---- What is shown ---------------------------------------------------------------------------------------------

  // A tick for each company tried, at the probability of the right class.
  function drawStrip(way, now) {
    const across = stripBox.clientWidth;
    if (across <= 0) return;
    const x = (p) => 8 + p * (across - 16);
    const rows = [...tried[way]];
    const found = rows.map((row) => answers[way][row][right]);
    strip.setAttribute("width", across);
    strip.setAttribute("height", STRIP);
    strip.setAttribute("aria-label", `Probability of class ${right} in the companies tried: ${format(Math.min(...found), 2, false)} to ${format(Math.max(...found), 2, false)}`);
    strip.replaceChildren(
      svg("text", { x: x(0.5), y: 12, "text-anchor": "middle", class: "mk-tick" }, `probability of class ${right}; companies tried: ${rows.length} of ${companies}`),
      svg("line", { x1: x(0), x2: x(1), y1: 28, y2: 28, stroke: "var(--mk-faint)" }),
      ...[0, 0.5, 1].map((p) => tickLabel([x(p), 28], [0, 14], p, p ? (p === 1 ? "end" : "middle") : "start")),
      ...rows.map((row, i) => svg("line", { x1: x(found[i]), x2: x(found[i]), y1: 21, y2: 28, stroke: "var(--mk-query)", "stroke-width": 1.5 })),
      svg("circle", { cx: x(answers[way][now][right]), cy: 25, r: 5, fill: "var(--mk-query)", stroke: "var(--mk-paper)", "stroke-width": 1 }),
    );
  }

  function sentence(way, row, present) {
    const p = answers[way][row];
    const best = argmax(p);
    const guess = Math.max(...p) < 1.25 / p.length; // the classes nearly level
    const verdict = best !== right ? `wrong: class ${right} has ${format(p[right], 2, false)}` : guess ? `right, but a guess: all ${p.length} classes are near ${format(1 / p.length, 1, false)}` : "right";
    const answer = `the network says class ${best}, ${verdict}.`;
    const same = answers[way].every((other) => other.every((value, c) => value === p[c]));
    const alone = present.length ? `${present.length} companion${present.length > 1 ? "s" : ""}` : "Alone";
    return `${alone}: ${answer} ${same ? "The companions change nothing." : ""}`.trim();
  }

  function draw() {
    const [way, present] = [model.get("way"), model.get("present")];
    const row = rowOf(present);
    tried[way].add(row);
    const p = answers[way][row];
    buttons.forEach((button, i) => button.update(present.includes(i)));
    radios.forEach(({ input }, i) => (input.checked = i === way));
    bars.forEach((bar, c) => bar.update(p[c], c === argmax(p)));
    verdict.textContent = sentence(way, row, present);
    body.replaceChildren(...Array.from({ length: ways }, (_, c) => tableRow(c === right ? `${c}, right` : String(c), answers.map((rows) => format(rows[row][c], 2, false)))));
    drawStrip(way, row);
    publish(readout, { way, row, p, tried: tried[way].size });
    status.say(`${verdict.textContent} Probabilities: ${p.map((value, c) => `class ${c} ${format(value, 2, false)}`).join(", ")}.`);
  }

  return mount({ model, el }, root, ["way", "present"], draw, draw);
}

export default { render };
