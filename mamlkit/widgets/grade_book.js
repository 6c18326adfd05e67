// Figure of chapter 6: the grade book. Two trajectories, and the weighted sums that MAML and MAML++ see of them.

const ROWS = [
  { colour: "var(--mk-ink)", dash: null },
  { colour: "var(--mk-query)", dash: "7 4" },
];
const WORDS = {
  scores: { row: "student", step: "exam" },
  losses: { row: "task", step: "step" },
};

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const start = model.get("rows");
  const [kind, top] = [model.get("kind"), model.get("top")];
  const { epochs, floor } = model.get("annealing");
  const steps = start[0].length;
  const words = WORDS[kind];
  const unit = top / 100; // what one press of an arrow key moves
  const digits = kind === "scores" ? 1 : 2;
  const names = [1, 2].map((number) => `${words.row} ${number}`);
  const save = afterRest(() => model.save_changes(), 150);
  const helpId = `mk-help-${Math.random().toString(36).slice(2)}`;
  const clamp = (value) => Math.min(top, Math.max(0, Math.round(value * 100) / 100));
  const isWhole = (value) => Math.abs(value - Math.round(value)) < 1e-9;
  const show = (value) => (kind === "scores" && isWhole(value) ? String(Math.round(value)) : format(value, digits, false));

  function setValue(row, step, value) {
    const rows = model.get("rows").map((values) => [...values]);
    rows[row][step] = kind === "scores" ? Math.round(clamp(value)) : clamp(value);
    model.set("rows", rows);
    save();
  }

  const axes = svg("g");
  const marks = svg("g");
  const handles = ROWS.map((look, row) => start[row].map((_, step) => makeHandle(look, row, step)));
  const plot = svg(
    "svg", { class: "mk-plot", role: "group", "aria-label": `The ${kind} of both ${words.row}s, and what each method sees; the table has the numbers` },
    axes, marks, ...handles.flat(),
  );
  const picture = html("div", { class: "mk-picture" }, plot);
  const epoch = slider(model, "epoch", "epoch of MAML++", { min: 0, max: epochs, step: 1, save });
  epoch.node.querySelector("input").setAttribute("aria-label", "epoch of MAML++");
  const play = player(epoch, "play the epochs");
  const reset = restart(model, save, [play], { rows: start });
  // Row 1 with one value changed, in epoch 0: what the text and its question speak of.
  const changed = (step, value) => ({ rows: [start[0].map((old, k) => (k === step ? value : old)), start[1]], epoch: 0 });
  const places = presets(model, save, [play], kind === "scores" && steps === 5
    ? [[4, 100], [5, 77], [5, 80]].filter(([exam, score]) => start[0][exam - 1] !== score).map(([exam, score]) => [`exam ${exam}: ${score}`, changed(exam - 1, score)])
    : []);
  const verdicts = ["MAML", "MAML++"].map(() => html("p", { style: "font-size: 16px; font-weight: 600; margin: 2px 0" }));
  const body = html("tbody");
  const head = tableHead(words.step, ...names, "MAML weighs", "MAML++ weighs");
  const readout = html("div", { class: "mk-readout" },
    html("table", { class: "mk-wrap" }, html("caption", {}, kind === "scores" ? "Scores (more is better)" : "Query losses (less is better)"), head, body));
  const status = liveRegion();
  const root = figureOf("grade-book", "the grade book", {
    picture, numbers: readout, status,
    does: [
      ...verdicts,
      html("div", { class: "mk-actions" }, play.node, reset, places),
      html("div", { class: "mk-controls" }, epoch.node),
      html("p", { id: helpId, class: "mk-help" }, `Drag a point up or down, or select it and press the arrow keys (with Shift for bigger steps, Home to put it back). Each method sees one number of each ${words.row}.`),
    ],
    note: [`MAML sees the last ${words.step} only. MAML++ weighs all of them: equally in epoch 0, and from epoch ${epochs} on the last only.`],
  });

  // Geometry: real pixels, laid out anew for each width. The two columns of what is seen are a little wider than a step.
  const WIDER = 1.3;
  const box = { left: 34, top: 12, width: 0, height: 0 };
  const strip = { top: 0, height: 40 }; // the bars of the weights, under the steps
  const column = (index) => {
    const one = box.width / (steps + 2 * WIDER);
    return box.left + one * (index < steps ? index + 0.5 : steps + WIDER * (index - steps + 0.5));
  };
  const aside = (row) => (row ? 8 : -8);
  const height = (value) => box.top + (1 - value / top) * box.height;

  function layout() {
    const width = picture.clientWidth;
    if (width <= 0) return;
    box.width = width - box.left - 4;
    box.height = Math.max(200, Math.min(260, 0.5 * box.width));
    strip.top = box.top + box.height + 34;
    plot.setAttribute("width", width);
    plot.setAttribute("height", strip.top + strip.height + 4);
    const [right, bottom] = [box.left + box.width, box.top + box.height];
    const border = (column(steps - 1) + column(steps)) / 2 - 0.25 * (column(1) - column(0)) * (WIDER - 1);
    axes.replaceChildren(
      svg("rect", { x: box.left, y: box.top, width: box.width, height: box.height, fill: "none", stroke: "var(--mk-rule)" }),
      ...[0, 1, 2, 3, 4].flatMap((i) => [
        svg("line", { x1: box.left, x2: right, y1: height((i * top) / 4), y2: height((i * top) / 4), stroke: "var(--mk-rule)" }),
        tickLabel([box.left, height((i * top) / 4)], [-6, 4], (i * top) / 4, "end"),
      ]),
      svg("line", { x1: border, x2: border, y1: box.top, y2: bottom + 22, stroke: "var(--mk-faint)", "stroke-width": 1.5 }),
      ...start[0].map((_, k) => tickLabel([column(k), bottom], [0, 17], k ? k + 1 : `${words.step} 1`, "middle")),
      ...["MAML", "MAML++"].map((name, i) => tickLabel([column(steps + i), bottom], [0, 17], name, "middle")),
      svg("text", { x: box.left - 6, y: strip.top + 10, "text-anchor": "end", class: "mk-tick" }, "1"),
      svg("text", { x: box.left - 6, y: strip.top + strip.height, "text-anchor": "end", class: "mk-tick" }, "0"),
      ...["maml", "mamlpp"].flatMap((name, i) => [
        weightBar(name, column(steps) - 16, strip.top + 4 + 20 * i, 9, 11),
        svg("text", { x: column(steps) - 1, y: strip.top + 14 + 20 * i, class: "mk-tick" }, i ? "MAML++" : "MAML")]),
      svg("text", { x: box.left + 3, y: strip.top + 8, class: "mk-tick" }, "weights"),
      svg("line", { x1: box.left, x2: column(steps - 1) + 18, y1: strip.top + strip.height, y2: strip.top + strip.height, stroke: "var(--mk-faint)" }),
    );
    draw();
  }

  // MAML's bars are filled, those of MAML++ are open.
  function weightBar(name, x, y, width, tall) {
    const colour = `var(--mk-${name})`;
    return svg("rect", { class: `mk-weight-${name}`, x, y, width, height: Math.max(0, tall), fill: name === "maml" ? colour : "none", stroke: colour, "stroke-width": 2 });
  }

  // A disc or a square: open for what is dragged, filled for what is seen.
  function mark(row, x, y, r, fill = "var(--mk-paper)") {
    const style = `fill: ${fill}; stroke: ${ROWS[row].colour}; stroke-width: 2.5`;
    return row ? svg("rect", { x: x - r * 0.9, y: y - r * 0.9, width: 1.8 * r, height: 1.8 * r, style }) : svg("circle", { cx: x, cy: y, r, style });
  }

  // The name of a row stands at its first point, on the side where the other row is not, if there is room.
  function nameOf(rows, row) {
    const [first, lowest, highest] = [height(rows[row][0]), box.top + box.height - 4, box.top + 12];
    const above = rows[row][0] > rows[1 - row][0] || (rows[0][0] === rows[1][0] && row === 1);
    const y = above ? (first - 20 < highest ? first + 29 : first - 20) : first + 29 > lowest ? first - 20 : first + 29;
    return svg("text", { x: box.left + 4, y, class: "mk-halo", style: `fill: ${ROWS[row].colour}` }, names[row]);
  }

  function makeHandle(look, row, step) {
    return dragHandle(
      {
        "aria-orientation": "vertical", "aria-label": `${names[row]}, ${words.step} ${step + 1}`,
        "aria-describedby": helpId, "aria-valuemin": 0, "aria-valuemax": top,
      },
      {
        at: (event) => [top * (1 - (event.clientY - plot.getBoundingClientRect().top - box.top) / box.height)],
        get: () => [clamp(model.get("rows")[row][step])],
        set: ([value]) => setValue(row, step, value),
        home: [start[row][step]],
        moves: (event) => ({ ...upAndDown((event.shiftKey ? 10 : 1) * unit), PageUp: [10 * unit], PageDown: [-10 * unit] }),
        ways: UPRIGHT, r: 9.5,
      },
      svg("circle", { class: "mk-target", r: 13 }), svg("circle", { class: "mk-ring", r: 13 }), mark(row, 0, 0, 8),
      svg("text", { y: 4, "text-anchor": "middle", style: "font-size: 11px; font-weight: 700" }, row + 1),
    );
  }

  function verdict(method, seen) {
    const [a, b] = seen;
    if (Math.abs(a - b) < 1e-9) return `${method} sees no difference: ${show(a)} and ${show(b)}.`;
    const best = (kind === "scores" ? a > b : a < b) ? 0 : 1;
    return `${method} prefers ${names[best]}: ${show(seen[best])} against ${show(seen[1 - best])}.`;
  }

  function draw() {
    if (!box.width) return;
    const [rows, now] = [model.get("rows"), model.get("epoch")];
    const weights = [epochs, now].map((e) => annealedWeights(steps, e, epochs, floor)); // after annealing, MAML++ weighs as MAML
    const seen = weights.map((w) => rows.map((values) => weigh(w, values))); // by method, then by row
    epoch.update();
    const tall = (weight) => weight * (strip.height - 4);
    marks.replaceChildren(
      ...rows.map((values, r) => svg("polyline", {
        points: values.map((value, k) => `${column(k) + aside(r)},${height(value)}`).join(" "),
        fill: "none", stroke: ROWS[r].colour, "stroke-width": 2.5, "stroke-dasharray": ROWS[r].dash,
      })),
      ...weights.flatMap((w, m) => w.map((weight, k) =>
        weightBar(m ? "mamlpp" : "maml", column(k) + (m ? 2 : -12), strip.top + strip.height - tall(weight), 10, tall(weight)))),
      ...seen.flatMap((both, m) => both.map((value, r) => svg("g", { class: "mk-seen" }, mark(r, column(steps + m) + aside(r), height(value), 5, ROWS[r].colour)))),
    );
    if (box.width > 400) marks.append(...rows.map((_, r) => nameOf(rows, r))); // with less room the numbers in the handles must do
    handles.forEach((line, r) => line.forEach((handle, k) => {
      handle.setAttribute("transform", `translate(${column(k) + aside(r)} ${height(rows[r][k])})`);
      handle.setAttribute("aria-valuenow", rows[r][k]);
      handle.setAttribute("aria-valuetext", show(rows[r][k]));
    }));
    verdicts.forEach((node, m) => (node.textContent = verdict(m ? "MAML++" : "MAML", seen[m])));
    body.replaceChildren(
      ...rows[0].map((_, k) => tableRow(String(k + 1), [...rows.map((values) => show(values[k])), ...weights.map((w) => (isWhole(w[k]) ? String(w[k]) : format(w[k], 3, false)))])),
      tableRow("MAML sees", [...seen[0].map(show), "", ""], { class: "mk-now" }),
      tableRow("MAML++ sees", [...seen[1].map(show), "", ""], { class: "mk-now" }),
    );
    const exact = { rows: rows.flat(), epoch: now, weights: weights[1], maml: seen[0], mamlpp: seen[1] };
    publish(readout, exact);
    status.say(`Epoch ${now}. ${verdicts.map((node) => node.textContent).join(" ")}`);
  }

  return mount({ model, el }, root, ["rows", "epoch"], oncePerFrame(draw), layout);
}

export default { render };
