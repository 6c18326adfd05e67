// Figure of chapter 2: the start along a meta-training, and what a few inner steps make of it. Adapted here, in the browser.

const ALPHA = 0.01;
const MOST_STEPS = 5;
const COURSE = { height: 120, left: 32, top: 10 };

function render({ model, el }) {
  const outer = model.get("outer_steps");
  const starts = model.get("weights").map(unpack);
  const last = outer.length - 1;
  const far = last > 1 && outer[last] > 10 * outer[last - 1]; // then the last start stands apart, behind a break of the axis
  const run = far ? last - 1 : last;
  const words = outer.map((n) => n.toLocaleString("en"));
  const save = afterRest(() => model.save_changes(), 150);

  const plane = curvePlane();
  const plot = svg("svg", { class: "mk-plot", role: "group", "aria-label": "The sinusoid, its support points, the start's curve and the adapted one; the table has the errors" },
    plane.defs, plane.axes, plane.marks);
  const course = svg("svg", { class: "mk-plot", role: "img", "aria-label": "Error on this sinusoid along the training, before and after the inner steps; the table has the numbers" });
  const helpId = `mk-help-${Math.random().toString(36).slice(2)}`;
  const points = supportHandles(model, save, plane, plot, helpId);
  plot.append(points.node);
  const picture = html("div", { class: "mk-picture" }, plot, course);
  const sliders = [
    slider(model, "moment", "outer steps", { min: 0, max: last, step: 1, save }),
    slider(model, "inner_steps", "inner steps", { min: 0, max: MOST_STEPS, step: 1, save }),
    slider(model, "amplitude", "amplitude", { min: 0.1, max: 5, step: 0.1, digits: 1, save }),
    slider(model, "phase", "phase", { min: 0, max: 3.14, step: 0.02, digits: 2, save }),
  ];
  const moment = sliders[0].node;

  const play = player(sliders[0], "play the training");
  const places = presets(model, save, [play], last < 1 ? [] : [
    [`${words[last - 1]} outer, ${MOST_STEPS} inner steps`, { moment: last - 1, inner_steps: MOST_STEPS }],
    [`${words[last]} outer, 1 inner step`, { moment: last, inner_steps: 1 }],
  ]);

  const body = html("tbody");
  const after = html("th", { scope: "col" });
  const head = html("thead", {}, html("tr", {}, html("th", { scope: "col" }, "outer steps"), html("th", { scope: "col" }, "start"), after));
  const readout = html("div", { class: "mk-readout" }, html("table", {}, html("caption", {}, "Mean squared error"), head, body));
  const status = liveRegion();
  const root = figureOf("meta-training", "a meta-training, played", {
    picture, numbers: readout, status, beside: true,
    does: [
      html("div", { class: "mk-actions" }, play.node, newPoints(model, save), places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { id: helpId, class: "mk-help" }, "Play the training. Then choose a different sinusoid, or drag a support point (or select it and press the arrow keys)."),
    ],
    note: [`Inner steps are of size ${ALPHA}, on the support points. The error is the mean over the whole line from −5 to 5. Below the curves: the error on this sinusoid along the training.`],
  });

  function layout() {
    if (!plane.fit(plot, picture.clientWidth, 0.8)) return;
    course.setAttribute("width", picture.clientWidth);
    course.setAttribute("height", COURSE.height + COURSE.top + 36);
    draw();
  }

  // Depends on the task only: kept while just the moment or the number of steps changes.
  let solved = { key: null };
  function solve() {
    const [amplitude, phase, xs] = ["amplitude", "phase", "points"].map((trait) => model.get(trait));
    const key = String([amplitude, phase, ...xs]);
    if (solved.key !== key) {
      const wave = (x) => amplitude * Math.sin(x - phase);
      const [ys, truth] = [xs.map(wave), GRID.map(wave)];
      const each = starts.map((start) => adaptStart(start, xs, ys, truth, { steps: MOST_STEPS, alpha: ALPHA }));
      solved = { key, amplitude, phase, xs, ys, truth, each };
    }
    return solved;
  }

  function drawCourse(before, adapted, now) {
    const width = picture.clientWidth - COURSE.left - plane.box.right;
    const top = Math.max(1, Math.ceil(Math.max(...before, ...adapted)));
    const x = (i) => COURSE.left + 8 + ((i > run ? run + 3.5 : i) / (far ? run + 3.5 : run)) * (width - 8);
    const y = (error) => COURSE.top + (1 - error / top) * COURSE.height;
    const line = (errors, colour, dash) => svg("polyline", {
      points: errors.slice(0, run + 1).map((error, i) => `${x(i).toFixed(1)},${y(error).toFixed(1)}`).join(" "),
      fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash });
    const alone = (errors, colour) => svg("circle", { cx: x(last), cy: y(errors[last]), r: 3.5, fill: "var(--mk-paper)", stroke: colour, "stroke-width": 2 });
    const rule = (x1, y1, x2, y2, attributes) => svg("line", { x1, y1, x2, y2, stroke: "var(--mk-rule)", ...attributes });
    const every = width < 420 ? 2 : 1; // room for every second number only
    course.replaceChildren(
      ...[0, top / 2, top].flatMap((error) => [rule(COURSE.left, y(error), COURSE.left + width, y(error)), tickLabel([COURSE.left, y(error)], [-5, 4], error, "end")]),
      ...words.flatMap((text, i) => (i < run && (run - i) % every ? [] : [tickLabel([x(i), y(0)], [i === last ? 10 : 0, 16], text, i === last ? "end" : "middle")])),
      tickLabel([COURSE.left + width, y(0)], [0, 32], "outer steps", "end"),
      tickLabel([COURSE.left + width, COURSE.top], [0, 13], "error", "end"),
      ...endLabels(COURSE.left + width + 10, COURSE.top, y(0) - 4, [
        { words: "start", y: y(before[last]), colour: "var(--mk-scratch)" }, { words: "adapted", y: y(adapted[last]), colour: "var(--mk-maml)" }]),
      rule(x(now), y(0), x(now), COURSE.top, { stroke: "var(--mk-ink)", "stroke-width": 1.5 }),
      line(before, "var(--mk-scratch)", "2 4"), line(adapted, "var(--mk-maml)", null),
      ...(far ? [tickLabel([(x(run) + x(last)) / 2, y(0)], [0, 5], "//", "middle"), alone(before, "var(--mk-scratch)"), alone(adapted, "var(--mk-maml)")] : []),
      svg("circle", { cx: x(now), cy: y(before[now]), r: 5, fill: "var(--mk-scratch)" }),
      svg("circle", { cx: x(now), cy: y(adapted[now]), r: 5, fill: "var(--mk-maml)" }),
    );
  }

  function draw() {
    if (!plane.box.width) return;
    const task = solve();
    const [now, steps] = [model.get("moment"), model.get("inner_steps")];
    const [before, adapted] = [0, steps].map((k) => task.each.map((start) => start.mse[k]));
    sliders.forEach((s) => s.update());
    moment.querySelector("output").textContent = words[now];
    moment.querySelector("input").setAttribute("aria-valuetext", words[now]);
    const { curves } = task.each[now];
    plane.marks.replaceChildren(
      plane.inside(
        plane.curve(task.truth, { stroke: "var(--mk-ink)", "stroke-width": 1.5 }),
        plane.curve(curves[0], { class: "mk-curve-start", stroke: "var(--mk-scratch)", "stroke-width": 2.5, "stroke-dasharray": "2 4" }),
        plane.curve(curves[steps], { class: "mk-curve-adapted", stroke: "var(--mk-maml)", "stroke-width": 3.5 })),
      ...plane.names(["sinusoid", task.truth, "var(--mk-ink)"], ["start", curves[0], "var(--mk-scratch)"], ["adapted", curves[steps], "var(--mk-maml)"]),
    );
    points.update(task.xs, task.ys);
    drawCourse(before, adapted, now);
    const afterSteps = steps === 1 ? "after 1 step" : `after ${steps} steps`;
    after.textContent = afterSteps;
    body.replaceChildren(...words.map((text, i) =>
      tableRow(text, [format(before[i], 2), format(adapted[i], 2)], i === now ? { class: "mk-now" } : {})));
    publish(readout, { amplitude: task.amplitude, phase: task.phase, points: task.xs, steps, moment: now, before, adapted });
    status.say(`${words[now]} outer steps. Mean squared error of the start ${format(before[now], 2)}, ${afterSteps} ${format(adapted[now], 2)}.`);
  }

  return mount({ model, el }, root, ["moment", "inner_steps", "amplitude", "phase", "points"], oncePerFrame(draw), layout);
}

export default { render };
