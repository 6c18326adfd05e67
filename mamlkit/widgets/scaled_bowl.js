// Figure of chapter 8: a badly scaled bowl. One step size for both coordinates or one for each, and the meta-gradient of each.

const X_RANGE = [-2.7, 2.7];
const Y_RANGE = [-1.5, 1.5];
const LEVELS = [1, 2, 3, 4, 5, 6].map((i) => (0.6 * i) ** 2);
const LOSS_HEIGHT = 110;
const GRID = [0.05, 0.005]; // steps of the sliders, flat and steep; the shared one takes the second

// ---- Mathematics -----------------------------------------------------------------------------------------------

// Inner steps, losses, and the derivative of the last loss by each coordinate's step size: minus the sum over the steps of
// the gradient g_k times the adjoint of the point that step k leads to.
function solve({ curvatures, theta }, alphas, innerSteps) {
  const steps = [theta];
  for (let k = 0; k < innerSteps; k++) {
    steps.push(steps[k].map((value, j) => value - alphas[j] * curvatures[j] * value));
  }
  const losses = steps.map((point) => 0.5 * point.reduce((sum, value, j) => sum + curvatures[j] * value * value, 0));
  const slopes = curvatures.map((h, j) => {
    let adjoint = h * steps[innerSteps][j];
    let slope = 0;
    for (let k = innerSteps - 1; k >= 0; k--) {
      slope -= h * steps[k][j] * adjoint;
      adjoint *= 1 - alphas[j] * h;
    }
    return slope;
  });
  return { steps, losses, slopes };
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const bowl = model.get("bowl");
  const save = afterRest(() => model.save_changes(), 150);
  const clipId = `mk-clip-${Math.random().toString(36).slice(2)}`;

  const plane = parameterPlane(X_RANGE, Y_RANGE, [-2, -1, 0, 1, 2], [-1, 0, 1]);
  const { box, px, data: contours } = plane;
  const marks = svg("g");
  const clip = svg("rect");
  const plot = svg(
    "svg", { class: "mk-plot", role: "img", "aria-label": "Contours of the bowl with the inner steps; the tables have the numbers" },
    svg("defs", {}, svg("clipPath", { id: clipId }, clip)), plane.frame, svg("g", { "clip-path": `url(#${clipId})` }, contours, marks),
  );
  const lossPlot = svg("svg", { class: "mk-plot", role: "img", "aria-label": "The loss after each inner step; the table has the numbers" });

  const named = (trait, label, name, limits) => {
    const made = slider(model, trait, label, { min: 0, save, ...limits });
    made.node.querySelector("input").setAttribute("aria-label", name);
    return made;
  };
  const shared = named("alpha", "step size α", "step size alpha for both", { max: bowl.max_shared, step: GRID[1], digits: 3 });
  const each = [
    named("alpha1", "α₁, flat axis", "step size alpha 1, flat axis", { max: bowl.max_alphas[0], step: GRID[0], digits: 2 }),
    named("alpha2", "α₂, steep axis", "step size alpha 2, steep axis", { max: bowl.max_alphas[1], step: GRID[1], digits: 3 }),
  ];
  const count = named("inner_steps", "inner steps K", "inner steps K", { min: 1, max: bowl.max_steps, step: 1 });
  const sliders = [shared, ...each, count];
  const sameBox = html("input", {
    type: "checkbox",
    onchange: () => {
      model.set("same", sameBox.checked);
      if (!sameBox.checked) {
        // The two begin where the shared one stands, as near as their sliders go.
        ["alpha1", "alpha2"].forEach((trait, j) => model.set(trait, Number((Math.round(model.get("alpha") / GRID[j]) * GRID[j]).toFixed(3))));
      }
      save();
    },
  });
  const verdicts = [0, 1].map(() => html("p", { class: "mk-verdict", style: "font-weight: 600; margin: 2px 0" }));
  const axisRows = html("tbody");
  const lossRows = html("tbody");
  const readout = html(
    "div", { class: "mk-tables mk-readout" },
    html("table", {}, html("caption", {}, "Step sizes and what they do"), tableHead("axis", "h", "α", "1 − α h", "dL/dα"), axisRows),
    html("table", {}, html("caption", {}, "Loss"), tableHead("after step", "L"), lossRows),
  );
  const status = liveRegion();
  const play = player(count);
  const common = (alpha) => ({ same: true, alpha, inner_steps: 1 });
  const places = presets(model, save, [play], [
    ["too short", common(0.05)],
    ["just right", common(0.13)],
    ["overshoots", common(0.2)],
    ["one for each axis", { same: false, alpha1: 2, alpha2: 0.125, inner_steps: 1 }],
    ["eight steps", { same: false, alpha1: 1, alpha2: 0.1, inner_steps: 8 }],
  ]);
  const picture = html("div", { class: "mk-picture" }, plot, lossPlot);
  const root = figureOf("scaled-bowl", "a badly scaled bowl and its step sizes", {
    picture, numbers: readout, status,
    does: [
      ...verdicts,
      html("div", { class: "mk-actions" }, play.node, places),
      html("label", {}, sameBox, html("span", {}, "the same step size for both axes")),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { class: "mk-help" }, "You are the outer loop: move each step size the way its meta-gradient asks, until it is as good as it gets."),
    ],
    note: [
      "+ the minimum. The line with dots is the inner loop from θ; it ends at the disc. Below it the loss L after each step. ",
      "dL/dα is the derivative of the last loss by a step size: where it is negative, a bigger step would end lower."],
  });

  function layout() {
    if (!plane.fit(plot, picture.clientWidth)) return;
    const area = { x: box.left, y: box.top, width: box.width, height: box.height };
    for (const [name, value] of Object.entries(area)) clip.setAttribute(name, value);
    const loss = ([x, y]) => 0.5 * (bowl.curvatures[0] * x * x + bowl.curvatures[1] * y * y);
    contours.replaceChildren(svg("path", { class: "mk-line", stroke: "var(--mk-faint)", "stroke-width": 1, d: contourPath(loss, X_RANGE, Y_RANGE, LEVELS) }));
    lossPlot.setAttribute("width", box.left + box.width + 6);
    lossPlot.setAttribute("height", LOSS_HEIGHT + 34);
    draw();
  }

  function drawLosses(losses) {
    const top = 5;
    const x = (k) => box.left + 14 + (k / Math.max(1, losses.length - 1)) * (box.width - 40);
    const y = (value) => 8 + (1 - Math.min(value, 1.2 * top) / top) * LOSS_HEIGHT;
    const line = (value) => svg("line", { x1: box.left, x2: box.left + box.width, y1: y(value), y2: y(value), stroke: "var(--mk-rule)" });
    const points = losses.map((value, k) => [x(k), y(value)]);
    lossPlot.replaceChildren(
      ...[0, 1, 2, 3, 4, 5].flatMap((value) => [line(value), ...(value % 2 ? [] : [tickLabel([box.left, y(value)], [-6, 4], value, "end")])]),
      ...losses.map((_, k) => tickLabel([x(k), y(0)], [0, 17], k ? (losses.length > 6 && box.width < 400 ? k : `step ${k}`) : "start", "middle")),
      svg("text", { x: box.left + box.width - 2, y: 22, "text-anchor": "end", class: "mk-tick" }, "loss L"),
      svg("polyline", { points: points.map((p) => p.join(",")).join(" "), fill: "none", stroke: "var(--mk-inner)", "stroke-width": 2.5 }),
      ...points.map(([cx, cy], k) => svg("circle", { cx, cy, r: k === losses.length - 1 ? 7 : 4.5, fill: "var(--mk-inner)", stroke: "var(--mk-paper)", "stroke-width": 1.5 })),
    );
  }

  // What the outer loop would do with a step size. Between two positions of a slider the slope may pass zero: then the
  // better of the two is as good as the slider gets. lossAt(d) is the last loss with the step size changed by d.
  function advice(name, slope, grid, lossAt) {
    let words = slope < 0 ? "raise it" : "lower it";
    if (Math.abs(slope) < 5e-4) words = "as good as it gets";
    else if (Math.min(lossAt(grid), lossAt(-grid)) >= lossAt(0)) words = "as good as it gets on this slider";
    return `${name}: ${words}, dL/dα = ${format(slope, 3, false)}.`;
  }

  function draw() {
    if (!box.width) return;
    const [same, innerSteps] = [model.get("same"), model.get("inner_steps")];
    const alphas = same ? [model.get("alpha"), model.get("alpha")] : [model.get("alpha1"), model.get("alpha2")];
    const { steps, losses, slopes } = solve(bowl, alphas, innerSteps);
    const total = slopes[0] + slopes[1];
    sliders.forEach((s) => s.update());
    sameBox.checked = same;
    shared.node.style.display = same ? "" : "none";
    each.forEach((s) => (s.node.style.display = same ? "none" : ""));

    const path = steps.map(px);
    const [[x, y], end] = [path[0], path.at(-1)];
    marks.replaceChildren(
      cross(px([0, 0]), 7, false, "var(--mk-support)"),
      svg("polyline", { points: path.map((p) => p.join(",")).join(" "), fill: "none", stroke: "var(--mk-inner)", "stroke-width": 2.5 }),
      ...path.slice(1, -1).map(([cx, cy]) => svg("circle", { cx, cy, r: 4, fill: "var(--mk-inner)" })),
      svg("circle", { class: "mk-adapted", cx: end[0], cy: end[1], r: 8, fill: "var(--mk-inner)", stroke: "var(--mk-paper)", "stroke-width": 1.5 }),
      fixedPoint([x, y], "θ"),
    );
    drawLosses(losses);

    const lossAt = (changes) => solve(bowl, alphas.map((alpha, j) => alpha + changes[j]), innerSteps).losses.at(-1);
    const words = same
      ? [advice("α", total, GRID[1], (d) => lossAt([d, d])), ""]
      : [advice("α₁", slopes[0], GRID[0], (d) => lossAt([d, 0])), advice("α₂", slopes[1], GRID[1], (d) => lossAt([0, d]))];
    verdicts.forEach((node, i) => (node.textContent = words[i]));
    const digits = [same ? 3 : 2, 3];
    axisRows.replaceChildren(
      ...bowl.curvatures.map((h, j) => tableRow(j ? "steep" : "flat", [String(h), format(alphas[j], digits[j], false), format(1 - alphas[j] * h, 3, false), format(slopes[j], 3, false)])),
      ...(same ? [tableRow("both", ["", format(alphas[0], 3, false), "", format(total, 3, false)], { class: "mk-now" })] : []),
    );
    lossRows.replaceChildren(...losses.map((value, k) => tableRow(k ? String(k) : "0 (start)", [format(value, 3, false)])));
    const exact = { alpha: same ? alphas[0] : alphas, innerSteps, steps: steps.flat(), losses, slopes: same ? total : slopes };
    publish(readout, exact);
    status.say(`${innerSteps} inner step${innerSteps > 1 ? "s" : ""}, loss ${format(losses[0], 2, false)} before and ${format(losses.at(-1), 3, false)} after. ${words.join(" ")}`);
  }

  return mount({ model, el }, root, ["alpha", "alpha1", "alpha2", "same", "inner_steps"], oncePerFrame(draw), layout);
}

export default { render };
