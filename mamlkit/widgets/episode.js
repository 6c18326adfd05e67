// Figure of chapter 5: few-shot episodes to play. The network's probabilities come from Python; the counting is done here.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PLAYERS = { you: "you", before: "network before", after: "network after" };

function pixelsOf(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

const argmax = (values) => values.indexOf(Math.max(...values));
const percent = (p) => `${Math.round(100 * p)} %`;

function render({ model, el }) {
  const pixels = pixelsOf(model.get("images"));
  const [height, width] = model.get("size");
  const [supportY, queryY, names] = ["support_y", "query_y", "names"].map((key) => model.get(key));
  const [before, after] = model.get("answers"); // (episodes, questions, ways) each
  const episodes = queryY.length;
  const questions = queryY[0].length;
  const ways = before[0][0].length;
  const perEpisode = supportY[0].length + questions;
  const group = `mk-episode-${Math.random().toString(36).slice(2)}`;

  // ---- The state: which episode, the reader's answers, what is revealed ------------------------------------------

  const choicesOf = (episode) => model.get("choices")[episode];
  const isRevealed = (episode) => model.get("revealed")[episode];
  const replaced = (list, i, value) => list.map((old, j) => (j === i ? value : old));
  const set = (trait, value) => {
    model.set(trait, value);
    model.save_changes();
  };
  const answersOf = (episode) => ({
    you: choicesOf(episode),
    before: before[episode].map(argmax),
    after: after[episode].map(argmax),
  });
  const hits = (episode) =>
    Object.fromEntries(Object.entries(answersOf(episode)).map(([who, given]) =>
      [who, given.filter((answer, i) => answer === queryY[episode][i]).length]));

  // ---- Pieces ----------------------------------------------------------------------------------------------------

  // Ink is 1: dark on a white card, in light pages and in dark ones.
  function picture(episode, index, label) {
    const canvas = html("canvas", { width, height, class: "mk-image", role: "img", "aria-label": label });
    const begin = (episode * perEpisode + index) * width * height;
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const grey = 255 - pixels[begin + i];
      image.data.set([grey, grey, grey, 255], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  // A bar for each class; the true one has a dot under its letter.
  function bars(probabilities, right, who) {
    const [step, top, base] = [14, 26, 28];
    const parts = probabilities.flatMap((p, c) => [
      svg("rect", { x: c * step + 2, width: step - 4, y: base - Math.max(1, top * p), height: Math.max(1, top * p), fill: `var(--mk-${who === "after" ? "maml" : "scratch"})` }),
      svg("text", { x: (c + 0.5) * step, y: base + 12, "text-anchor": "middle", class: "mk-tick" }, LETTERS[c]),
    ]);
    const label = probabilities.map((p, c) => `${LETTERS[c]} ${percent(p)}`).join(", ");
    return svg("svg", { width: ways * step, height: base + 20, role: "img", "aria-label": label }, ...parts,
      svg("circle", { cx: (right + 0.5) * step, cy: base + 17, r: 2.5, fill: "var(--mk-ink)" }));
  }

  const mark = (answer, right) => (answer < 0 ? "–" : `${LETTERS[answer]} ${answer === right ? "✓" : "✗"}`);
  const spoken = (answer, right) => html("span", { class: "mk-hidden" }, answer === right ? "right" : "wrong");

  // ---- The figure ------------------------------------------------------------------------------------------------

  const title = html("p", { class: "mk-title" });
  const support = html("div", { class: "mk-cards" });
  const cards = html("div", { class: "mk-questions" });
  const show = html("button", { type: "button", class: "mk-main", onclick: reveal }, "Show the network's answer");
  const count = html("span", {});
  const previous = html("button", { type: "button", onclick: () => go(-1) }, "Previous episode");
  const next = html("button", { type: "button", onclick: () => go(1) }, "Next episode");
  const again = html("button", { type: "button", onclick: startAgain }, "Start again");
  const verdict = html("p", { class: "mk-title", tabindex: -1 });
  const rows = html("tbody");
  const totals = html("tfoot");
  const table = html("table", {},
    html("caption", {}, "Answers, and the network's probabilities before and after adaptation"),
    tableHead("image", "class", ...Object.values(PLAYERS)),
    rows, totals);
  const readout = html("div", { class: "mk-readout" }, verdict, table,
    html("p", { class: "mk-note" }, "✓ right, ✗ wrong. The bars are probabilities, with a dot under the true class. Before adaptation the network has not seen the support set."));
  const score = html("p", { class: "mk-score" });
  const words = html("div", {});
  const inWords = html("details", {}, html("summary", {}, "The images in words (this gives the answers away)"), words);
  const status = liveRegion();
  const root = html("div", { class: "mk-fig mk-episode", role: "group", "aria-label": "Live figure: play a few-shot episode" },
    title,
    html("p", { class: "mk-label" }, "Support set: all that you and the network get"), support,
    html("p", { class: "mk-label" }, `Query set: which class is each of the ${questions}?`), cards,
    html("p", { class: "mk-help", style: "margin-top: 10px" }, "A class may come more than once, or not at all."),
    html("div", { class: "mk-controls" }, show, count),
    readout,
    html("div", { class: "mk-controls" }, previous, next, again),
    score,
    ...(names.length ? [inWords] : []),
    status.node);

  function go(by) {
    set("episode", Math.min(episodes - 1, Math.max(0, model.get("episode") + by)));
  }
  function reveal() {
    const episode = model.get("episode");
    if (choicesOf(episode).includes(-1)) return;
    set("revealed", replaced(model.get("revealed"), episode, true));
    draw();
    verdict.focus();
  }
  function startAgain() {
    set("choices", model.get("choices").map((row) => row.map(() => -1)));
    set("revealed", model.get("revealed").map(() => false));
    set("episode", 0);
  }
  function choose(question, answer) {
    const episode = model.get("episode");
    set("choices", replaced(model.get("choices"), episode, replaced(choicesOf(episode), question, answer)));
  }

  function card(episode, question) {
    const choice = (c) => html("label", { class: "mk-choice" },
      html("input", { type: "radio", name: `${group}-${question}`, value: c, disabled: isRevealed(episode), onchange: () => choose(question, c) }),
      html("span", {}, LETTERS[c]));
    return html("fieldset", { class: "mk-question" },
      html("legend", { class: "mk-hidden" }, `Query image ${question + 1}`),
      picture(episode, supportY[0].length + question, `Query image ${question + 1}`),
      html("div", { class: "mk-choices" }, ...Array.from({ length: ways }, (_, c) => choice(c))));
  }

  let built = null; // the cards are built anew for another episode only: a choice keeps its focus
  function build(episode) {
    const key = `${episode} ${isRevealed(episode)}`;
    if (built === key) return;
    built = key;
    support.replaceChildren(...Array.from({ length: ways }, (_, c) => {
      const own = supportY[episode].flatMap((label, i) => (label === c ? [i] : []));
      return html("div", { class: "mk-card" },
        ...own.map((i) => picture(episode, i, `Support image of class ${LETTERS[c]}`)),
        html("b", {}, LETTERS[c]));
    }));
    cards.replaceChildren(...Array.from({ length: questions }, (_, i) => card(episode, i)));
    if (names.length) {
      const name = (label) => names[episode][label];
      words.replaceChildren(
        html("p", {}, `Support set: ${names[episode].map((text, c) => `${LETTERS[c]}: ${text}`).join("; ")}.`),
        html("p", {}, `Query set: ${queryY[episode].map((label, i) => `${i + 1}: ${name(label)}`).join("; ")}.`));
    }
  }

  function draw() {
    const episode = model.get("episode");
    const done = isRevealed(episode);
    build(episode);
    cards.querySelectorAll("fieldset").forEach((node, i) =>
      node.querySelectorAll("input").forEach((input, c) => (input.checked = c === choicesOf(episode)[i])));
    title.textContent = `Episode ${episode + 1} of ${episodes}`;
    const given = choicesOf(episode).filter((answer) => answer >= 0).length;
    show.disabled = done || given < questions;
    count.textContent = done ? "" : `${given} of ${questions} answered`;
    previous.disabled = episode === 0;
    next.disabled = episode === episodes - 1;
    readout.hidden = !done;
    if (done) showAnswers(episode);

    const played = model.get("revealed").flatMap((shown, i) => (shown ? [hits(i)] : []));
    const total = (who) => `${played.reduce((sum, h) => sum + h[who], 0)} of ${played.length * questions}`;
    score.textContent = played.length
      ? `Score after ${played.length} episode${played.length > 1 ? "s" : ""}: you ${total("you")}, the network ${total("before")} before and ${total("after")} after adaptation.`
      : "No episode is scored yet.";
    readout.dataset.score = Object.keys(PLAYERS).map((who) => played.reduce((sum, h) => sum + h[who], 0)).join(",");
    status.say(done ? `${verdict.textContent} ${score.textContent}` : `Episode ${episode + 1} of ${episodes}, ${given} of ${questions} answered.`);
  }

  function showAnswers(episode) {
    const answers = answersOf(episode);
    const counted = hits(episode);
    verdict.textContent = `You got ${counted.you} of ${questions}, the network ${counted.after} of ${questions} after adaptation.`;
    rows.replaceChildren(...queryY[episode].map((right, i) => {
      const network = (who, probabilities) => html("td", {}, `${mark(answers[who][i], right)} `, spoken(answers[who][i], right),
        html("span", { class: "mk-faint" }, percent(probabilities[i][answers[who][i]])), bars(probabilities[i], right, who));
      return html("tr", {},
        html("th", { scope: "row" }, picture(episode, supportY[0].length + i, `Query image ${i + 1}`)),
        html("td", {}, LETTERS[right]),
        html("td", {}, mark(answers.you[i], right), spoken(answers.you[i], right)),
        network("before", before[episode]), network("after", after[episode]));
    }));
    totals.replaceChildren(html("tr", {}, html("th", { scope: "row" }, "score"), html("td", {}),
      ...Object.keys(PLAYERS).map((who) => html("td", {}, `${counted[who]} of ${questions}`))));
    const exact = { episode, right: queryY[episode], ...answers, pBefore: before[episode].flat(), pAfter: after[episode].flat() };
    publish(readout, exact);
  }

  return mount({ model, el }, root, ["episode", "choices", "revealed"], draw);
}

export default { render };
