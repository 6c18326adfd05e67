// Figure of chapter 12: learners to diagnose from three symptoms, each beside the right learner's. The curves come from the record.

const PICTURES = {
  training: { title: "training loss", x: "outer steps", ticks: [0, 300, 600], shown: [0, 9, 19, 29], unit: "outer step" },
  steps: { title: "loss of unseen tasks", x: "inner steps", ticks: [0, 5, 10], shown: [0, 1, 5, 10], unit: "inner step" },
  memory: { title: "memory (thousands)", x: "K", ticks: [1, 5, 10, 20], shown: [0, 2, 4], unit: "K =" },
};
const LOSSES = [0.25, 1, 4, 16]; // marks of the logarithmic axis that all learners share
const LINES = [
  { who: "right", colour: "var(--mk-maml)", dash: null, width: 2.5, words: "right learner", short: "right" },
  { who: "patient", colour: "var(--mk-mamlpp)", dash: "7 4", width: 2.8, words: "this learner", short: "this" },
];

function render({ model, el }) {
  const [suspects, answers, patients, right, places] = ["suspects", "answers", "patients", "right", "axes"].map((key) => model.get(key));
  const group = `mk-diagnose-${Math.random().toString(36).slice(2)}`;
  let chosen = -1; // the suspect whose button is pressed, before it is named
  const guessesOf = (patient) => model.get("guesses")[patient];
  const solved = (patient) => guessesOf(patient).includes(answers[patient]);
  // Mean, lowest and highest by picture; memory has one number, in thousands.
  const curves = (who, picture) => {
    const rows = (who === "right" ? right : patients[model.get("patient")])[picture];
    return picture === "memory" ? rows.map((row) => row.map((n) => n / 1000)) : rows;
  };
  const losses = [right, ...patients].flatMap(({ training, steps }) => [training, steps]).flat(2);
  const lowest = Math.log(Math.min(...losses)), highest = Math.log(Math.max(...losses));
  const show = (picture, value) => format(value, picture === "memory" ? 1 : 2, false);

  // ---- Pieces ----------------------------------------------------------------------------------------------------

  const title = html("p", { style: "font-size: 17px; font-weight: 600" });
  const plots = Object.keys(PICTURES).map((picture) => [picture, svg("svg", { role: "img" })]);
  const strip = html("div", { class: "mk-picture mk-strip" }, ...plots.map(([, plot]) => plot),
    html("p", { style: "flex-basis: 100%" }, "What is wrong? Choose, then press the button."));
  const options = suspects.map((suspect, s) => {
    const input = html("input", { type: "radio", name: group, value: s, style: "width: 18px; height: 18px; margin: 0; flex: none", onchange: () => { chosen = s; draw(); } });
    return { input, node: html("label", {}, input, html("span", {}, suspect.name)) };
  });
  const name = html("button", { type: "button", onclick: diagnose }, "This is it");
  const verdict = html("p", { tabindex: -1, style: "font-size: 16px; font-weight: 600; margin: 6px 0" });
  const previous = html("button", { type: "button", onclick: () => go(-1) }, "Previous learner");
  const next = html("button", { type: "button", onclick: () => go(1) }, "Next learner");
  const again = html("button", { type: "button", onclick: startAgain }, "Start again");
  const score = html("p", {});
  const body = html("tbody");
  const table = html("table", {}, html("caption", {}, "Means over eight seeds"), tableHead("at", ...LINES.map((line) => line.words)), body);
  const readout = html("div", { class: "mk-readout" }, table);
  const status = liveRegion();
  const root = html("div", { class: "mk-fig mk-diagnose", role: "group", "aria-label": "Live figure: diagnose a learner" },
    title, strip,
    html("fieldset", {}, html("legend", { class: "mk-hidden" }, "What is wrong?"), ...options.map((option) => option.node)),
    verdict,
    html("div", { class: "mk-actions" }, name, previous, next, again),
    score,
    html("details", {}, html("summary", {}, "The pictures in numbers"), readout, html("p", { class: "mk-note" }, "Shaded: from the lowest to the highest of eight seeds.")),
    status.node);

  // ---- What a reader does ----------------------------------------------------------------------------------------

  function set(trait, value) {
    model.set(trait, value);
    model.save_changes();
  }
  function go(by) {
    set("patient", Math.min(patients.length - 1, Math.max(0, model.get("patient") + by)));
  }
  function startAgain() {
    set("guesses", patients.map(() => []));
    set("patient", 0);
  }
  function diagnose() {
    const patient = model.get("patient");
    if (chosen < 0 || solved(patient)) return;
    set("guesses", model.get("guesses").map((old, p) => (p === patient ? [...old, chosen] : old)));
    draw();
    verdict.focus({ preventScroll: true });
  }
  function said(patient) {
    const guess = guessesOf(patient).at(-1);
    if (guess === undefined) return "";
    return guess === answers[patient] ? `Right. ${suspects[guess].why}` : `No. If that were so, ${suspects[guess].sign}.`;
  }

  // ---- Pictures --------------------------------------------------------------------------------------------------

  let all = 0; // the width for all pictures; on a phone the first has a line to itself
  function layout() {
    if (strip.clientWidth <= 0) return;
    all = strip.clientWidth;
    drawPictures();
  }

  function drawPictures() {
    for (const [picture, plot] of plots) {
      const width = Math.floor(all >= 540 ? (all - 16) / 3 : picture === "training" ? all : (all - 8) / 2);
      const { title: words, x: axis, ticks } = PICTURES[picture];
      const both = LINES.map(({ who }) => curves(who, picture));
      const xs = places[picture];
      const box = { left: 32, top: 24, right: width - 42, bottom: all < 540 ? 118 : 180 };
      const first = picture === "memory" ? 0 : Math.min(ticks[0], xs[0]);
      const last = Math.max(ticks.at(-1), xs.at(-1));
      const top = niceTop(Math.max(...both.flat(2)));
      const px = (x) => box.left + ((x - first) / (last - first)) * (box.right - box.left);
      const height = picture === "memory" ? (y) => y / top : (y) => (Math.log(y) - lowest) / (highest - lowest);
      const py = (y) => box.bottom - height(y) * (box.bottom - box.top);
      const path = (row) => row.map((y, i) => `${px(xs[i]).toFixed(1)},${py(y).toFixed(1)}`);
      plot.setAttribute("width", width);
      plot.setAttribute("height", box.bottom + 36);
      plot.setAttribute("aria-label", `${words}: ` + both.map(([mean], i) => `${LINES[i].words} from ${show(picture, mean[0])} to ${show(picture, mean.at(-1))}`).join(", "));
      plot.replaceChildren(
        svg("text", { x: 2, y: 14, style: "font-weight: 600" }, words),
        svg("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, stroke: "var(--mk-faint)" }),
        ...(picture === "memory" ? [0, top / 2, top] : LOSSES).flatMap((y) => [
          svg("line", { x1: box.left, x2: box.right, y1: py(y), y2: py(y), stroke: "var(--mk-rule)" }),
          tickLabel([box.left, py(y)], [-5, 4], y, "end")]),
        ...ticks.map((x) => tickLabel([px(x), box.bottom], [0, 16], x, x === ticks.at(-1) ? "end" : "middle")),
        svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 32, "text-anchor": "middle", class: "mk-tick" }, axis),
        ...endLabels(box.right + 4, box.top, box.bottom - 4, both.map(([mean], i) => ({ words: LINES[i].short, y: py(mean.at(-1)), colour: LINES[i].colour }))),
        ...both.flatMap(([mean, low, high], i) => [
          ...(low ? [svg("polygon", { points: [...path(high), ...path(low).reverse()].join(" "), fill: LINES[i].colour, opacity: 0.18 })] : []),
          svg("polyline", { class: `mk-line-${LINES[i].who}`, points: path(mean).join(" "), fill: "none", stroke: LINES[i].colour, "stroke-width": LINES[i].width, "stroke-dasharray": LINES[i].dash })]),
      );
    }
  }

  // The least of these numbers times a power of ten that is not below.
  function niceTop(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= value * 0.999);
  }

  let shownPatient = -1;
  function draw() {
    const patient = model.get("patient");
    if (patient !== shownPatient) {
      shownPatient = patient;
      chosen = -1;
      options.forEach(({ input }) => (input.checked = false));
      body.replaceChildren(...Object.entries(PICTURES).flatMap(([picture, { title: words, shown, unit }]) => [
        html("tr", {}, html("th", { scope: "rowgroup", colspan: 3, style: "font-weight: 600" }, words)),
        ...shown.map((i) => tableRow(`${unit} ${places[picture][i]}`, LINES.map(({ who }) => show(picture, curves(who, picture)[0][i]))))]));
      if (all) drawPictures();
    }
    const done = solved(patient);
    title.textContent = `Learner ${patient + 1} of ${patients.length}`;
    options.forEach(({ input }, s) => {
      input.disabled = done;
      if (done) input.checked = s === answers[patient];
    });
    name.disabled = done || chosen < 0;
    previous.disabled = patient === 0;
    next.disabled = patient === patients.length - 1;
    verdict.textContent = said(patient);
    const found = patients.filter((_, p) => solved(p)).length;
    const atOnce = patients.filter((_, p) => guessesOf(p)[0] === answers[p]).length;
    score.textContent = `Diagnosed: ${found} of ${patients.length}, at the first try: ${atOnce}.`;
    publish(readout, {
      patient, answer: done ? answers[patient] : -1, found, atOnce,
      ...Object.fromEntries(Object.keys(PICTURES).map((picture) => [picture, curves("patient", picture)[0]])),
    });
    if (verdict.textContent) status.say(verdict.textContent);
  }

  return mount({ model, el }, root, ["patient", "guesses"], () => draw(), () => { draw(); layout(); });
}

export default { render };
