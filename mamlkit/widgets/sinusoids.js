// Figure of chapter 1: one sinusoid, three starts. The network is adapted here, in the browser.

const STEPS = 10;
const ALPHA = 0.01;
const STARTS = {
  maml: { name: "MAML", width: 3.5, dash: null },
  pretrained: { name: "pretrained", width: 2.8, dash: "9 4" },
  scratch: { name: "scratch", width: 2.8, dash: "2 4" },
};

function render({ model, el }) {
  const starts = Object.fromEntries(Object.entries(model.get("weights")).map(([name, text]) => [name, unpack(text)]));
  const save = afterRest(() => model.save_changes(), 150);

  const plane = curvePlane();
  const plot = svg("svg", { class: "mk-plot", role: "img", "aria-label": "The sinusoid, its support points and three adapted curves; the table has the numbers" },
    plane.defs, plane.axes, plane.marks);
  const plotBox = html("div", { class: "mk-grow" }, plot);
  const sliders = [
    slider(model, "amplitude", "amplitude", { min: 0.1, max: 5, step: 0.1, digits: 1, save }),
    slider(model, "phase", "phase", { min: 0, max: 3.14, step: 0.02, digits: 2, save }),
    slider(model, "shots", "support points", { min: 1, max: 20, step: 1, save }),
    slider(model, "inner_steps", "inner steps", { min: 0, max: STEPS, step: 1, save }),
  ];

  const legend = legendOf(
    ...Object.entries(STARTS).map(([name, style]) => [lineSample(`var(--mk-${name})`, style), ` ${style.name}`]),
    [lineSample("var(--mk-ink)", { width: 1.5, dash: null }), " the sinusoid"],
    [supportSample(), " support points"]);

  const body = html("tbody");
  const table = html("table", {},
    html("caption", {}, "Mean squared error"),
    tableHead("steps", ...Object.values(STARTS).map((s) => s.name)),
    body);
  const readout = html("div", { class: "mk-readout" }, table);
  const status = liveRegion();
  const root = html("div", { class: "mk-fig mk-sinusoids", role: "group", "aria-label": "Live figure: one sinusoid, three starts" },
    html("p", {}, "Choose a sinusoid and its support points, then change the number of inner steps and see how far each start comes."),
    html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node), newPoints(model, save)),
    legend,
    html("div", { class: "mk-beside" }, plotBox, readout),
    html("p", { class: "mk-note" }, `Each start takes the same steps of gradient descent, of size ${ALPHA}, on the support points. The error is the mean over the whole line from −5 to 5.`),
    status.node);

  function layout() {
    if (plane.fit(plot, plotBox.clientWidth, 0.82)) draw();
  }

  // Adapting depends on the task only: kept while just the number of steps to show changes.
  let solved = { key: null };
  function solve() {
    const [amplitude, phase] = [model.get("amplitude"), model.get("phase")];
    const xs = model.get("points").slice(0, model.get("shots"));
    const key = String([amplitude, phase, ...xs]);
    if (solved.key !== key) {
      const wave = (x) => amplitude * Math.sin(x - phase);
      const [ys, truth] = [xs.map(wave), GRID.map(wave)];
      solved = { key, amplitude, phase, xs, ys, truth };
      for (const name of Object.keys(STARTS)) solved[name] = adaptStart(starts[name], xs, ys, truth, { steps: STEPS, alpha: ALPHA });
    }
    return solved;
  }

  function draw() {
    if (!plane.box.width) return;
    const task = solve();
    const steps = model.get("inner_steps");
    sliders.forEach((s) => s.update());
    plane.marks.replaceChildren(
      plane.inside(
        plane.curve(task.truth, { stroke: "var(--mk-ink)", "stroke-width": 1.5 }),
        ...Object.entries(STARTS).reverse().map(([name, { width, dash }]) =>
          plane.curve(task[name].curves[steps], { class: `mk-curve-${name}`, stroke: `var(--mk-${name})`, "stroke-width": width, "stroke-dasharray": dash }))),
      ...task.xs.map((x, n) => plane.supportPoint(x, task.ys[n])),
    );
    body.replaceChildren(...task.maml.mse.map((_, k) => html("tr", k === steps ? { class: "mk-now" } : {},
      html("th", { scope: "row" }, k === steps ? `${k} (drawn)` : String(k)),
      ...Object.keys(STARTS).map((name) => html("td", {}, format(task[name].mse[k], 2))))));
    const exact = { amplitude: task.amplitude, phase: task.phase, points: task.xs, steps };
    for (const name of Object.keys(STARTS)) exact[name] = task[name].mse;
    publish(readout, exact);
    status.say(`Amplitude ${format(task.amplitude, 1)}, phase ${format(task.phase, 2)}, ${task.xs.length} support points, ${steps} inner steps. Mean squared error: ` +
      `${Object.entries(STARTS).map(([name, style]) => `${style.name} ${format(task[name].mse[steps], 2)}`).join(", ")}.`);
  }

  return mount({ model, el }, root, ["amplitude", "phase", "shots", "inner_steps", "points"], oncePerFrame(draw), layout, plotBox);
}

export default { render };
