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
  const plot = svg("svg", { class: "mk-plot", role: "group", "aria-label": "The sinusoid, its support points and three adapted curves; the table has the numbers" },
    plane.defs, plane.axes, plane.marks);
  const helpId = `mk-help-${Math.random().toString(36).slice(2)}`;
  const points = supportHandles(model, save, plane, plot, helpId);
  plot.append(points.node);
  const picture = html("div", { class: "mk-picture" }, plot);
  const sliders = [
    slider(model, "amplitude", "amplitude", { min: 0.1, max: 5, step: 0.1, digits: 1, save }),
    slider(model, "phase", "phase", { min: 0, max: 3.14, step: 0.02, digits: 2, save }),
    slider(model, "shots", "support points", { min: 1, max: 20, step: 1, save }),
    slider(model, "inner_steps", "inner steps", { min: 0, max: STEPS, step: 1, save }),
  ];

  const play = player(sliders[3]);
  const first = model.get("points");
  const from = (shots, ...xs) => ({ shots, points: [...xs, ...first.slice(xs.length)], inner_steps: 0 });
  const places = presets(model, save, [play], [["five points", from(5)], ["three on one side", from(3, 0.5, 2, 4)], ["a single point", from(1)]]);

  const body = html("tbody");
  const table = html("table", {},
    html("caption", {}, "Mean squared error"),
    tableHead("steps", ...Object.values(STARTS).map((s) => s.name)),
    body);
  const readout = html("div", { class: "mk-readout" }, table);
  const status = liveRegion();
  const root = figureOf("sinusoids", "one sinusoid, three starts", {
    picture, numbers: readout, status, beside: true,
    does: [
      html("div", { class: "mk-actions" }, play.node, newPoints(model, save), places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { id: helpId, class: "mk-help" }, "Choose a sinusoid and play the steps. Drag a support point, or select it and press the arrow keys: it stays on the sinusoid."),
    ],
    note: [`Each start takes the same steps of gradient descent, of size ${ALPHA}, on the support points. The error is the mean over the whole line from −5 to 5.`],
  });

  function layout() {
    if (plane.fit(plot, picture.clientWidth, 1.1)) draw();
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
      ...plane.names(["sinusoid", task.truth, "var(--mk-ink)"], ...Object.entries(STARTS).map(([name, style]) => [style.name, task[name].curves[steps], `var(--mk-${name})`])),
    );
    points.update(task.xs, task.ys);
    body.replaceChildren(...task.maml.mse.map((_, k) =>
      tableRow(String(k), Object.keys(STARTS).map((name) => format(task[name].mse[k], 2)), k === steps ? { class: "mk-now" } : {})));
    const exact = { amplitude: task.amplitude, phase: task.phase, points: task.xs, steps };
    for (const name of Object.keys(STARTS)) exact[name] = task[name].mse;
    publish(readout, exact);
    status.say(`Amplitude ${format(task.amplitude, 1)}, phase ${format(task.phase, 2)}, ${task.xs.length} support points, ${steps} inner steps. Mean squared error: ` +
      `${Object.entries(STARTS).map(([name, style]) => `${style.name} ${format(task[name].mse[steps], 2)}`).join(", ")}.`);
  }

  return mount({ model, el }, root, ["amplitude", "phase", "shots", "inner_steps", "points"], oncePerFrame(draw), layout);
}

export default { render };
