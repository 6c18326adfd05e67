// Figure of chapter 4: one quadratic task. Along each axis the meta-gradient is the query gradient times (1 - alpha h)^K.

const X_RANGE = [-2.4, 2.8];
const Y_RANGE = [-1.9, 2.6];
const LEVELS = [1, 2, 3, 4, 5, 6].map((i) => (0.6 * i) ** 2);
const ARROWS = ["maml", "fomaml"];

// ---- Mathematics -----------------------------------------------------------------------------------------------

function solve({ theta, support, query }, h, alpha, innerSteps) {
  const steps = [theta];
  for (let k = 0; k < innerSteps; k++) {
    steps.push(steps[k].map((value, j) => value - alpha * h[j] * (value - support[j])));
  }
  const factors = h.map((curvature) => (1 - alpha * curvature) ** innerSteps);
  const fomaml = steps.at(-1).map((value, j) => query[j] - value); // minus the query gradient at the adapted point
  const maml = fomaml.map((value, j) => factors[j] * value);
  return { steps, factors, maml, fomaml, angle: angleBetween(maml, fomaml) };
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const points = model.get("points");
  const save = afterRest(() => model.save_changes(), 150);
  const clipId = `mk-clip-${Math.random().toString(36).slice(2)}`;

  const plane = parameterPlane(X_RANGE, Y_RANGE, [-2, -1, 0, 1, 2], [-1, 0, 1, 2]);
  const { box, px, data: contours } = plane;
  const marks = svg("g");
  const clip = svg("rect");
  const plot = svg(
    "svg",
    { class: "mk-plot", role: "img", "aria-label": "Parameter plane with the inner steps and two arrows; the table has the numbers" },
    svg("defs", {}, svg("clipPath", { id: clipId }, clip)), plane.frame, svg("g", { "clip-path": `url(#${clipId})` }, contours), marks,
  );
  const sliders = [
    slider(model, "h1", "curvature h₁", { min: 0, max: 10, step: 0.1, digits: 1, save }),
    slider(model, "h2", "curvature h₂", { min: 0, max: 10, step: 0.1, digits: 1, save }),
    slider(model, "alpha", "step size α", { min: 0.01, max: 0.3, step: 0.01, digits: 2, save }),
    slider(model, "inner_steps", "inner steps K", { min: 1, max: 10, step: 1, save }),
  ];
  // A label that holds an output names the output: the inputs need names of their own.
  const names = ["curvature h1", "curvature h2", "step size alpha", "inner steps K"];
  sliders.forEach(({ node }, i) => node.querySelector("input").setAttribute("aria-label", names[i]));
  const play = player(sliders[3]);
  const places = presets(model, save, [play], [
    ["same direction", { h1: 4, h2: 4, alpha: 0.1, inner_steps: 5 }],
    ["drift apart", { h1: 1, h2: 4, alpha: 0.1, inner_steps: 5 }],
    ["flat axis kept", { h1: 0, h2: 4, alpha: 0.1, inner_steps: 5 }],
    ["a sign flips", { h1: 1, h2: 8, alpha: 0.13, inner_steps: 1 }],
    ["opposite ways", { h1: 8, h2: 8, alpha: 0.2, inner_steps: 1 }],
  ]);
  const axisRows = html("tbody");
  const arrowRows = html("tbody");
  const verdict = html("p", { style: "font-size: 17px; font-weight: 600; margin: 6px 0" });
  const readout = html(
    "div", { class: "mk-tables mk-readout" },
    html("table", {}, html("caption", {}, "What K steps leave"), tableHead("along", "α h", "(1 − α h)ᴷ"), axisRows),
    html("table", {}, html("caption", {}, "Arrows"), tableHead("method", "vector", "length"), arrowRows),
  );
  const status = liveRegion();
  const picture = html("div", { class: "mk-picture" }, plot);
  const root = figureOf("curvature", "curvature and the angle between two gradients", {
    picture, numbers: readout, status,
    does: [
      verdict,
      html("div", { class: "mk-actions" }, play.node, places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { class: "mk-help" }, "Change the curvatures of the support loss, the step size and the number of inner steps, and watch the angle between the arrows."),
    ],
    note: [
      "M is MAML's arrow, F is FOMAML's. + minimum of the support loss, with its contours; × minimum of the query loss. The line with dots is the inner loop from θ; it ends at the disc. ",
      "Both arrows start at θ. They show directions; their lengths are compressed, the numbers are in the table."],
  });

  function layout() {
    if (!plane.fit(plot, picture.clientWidth)) return;
    const area = { x: box.left, y: box.top, width: box.width, height: box.height };
    for (const [name, value] of Object.entries(area)) clip.setAttribute(name, value);
    draw();
  }

  let contourKey = null;
  function drawContours(h) {
    if (String(h) === contourKey) return;
    contourKey = String(h);
    const loss = ([x, y]) => 0.5 * (h[0] * (x - points.support[0]) ** 2 + h[1] * (y - points.support[1]) ** 2);
    contours.replaceChildren(svg("path", { class: "mk-line", stroke: "var(--mk-faint)", "stroke-width": 1, d: contourPath(loss, X_RANGE, Y_RANGE, LEVELS) }));
  }

  // The wedge between the two arrows.
  function wedge([x, y], from, to) {
    const r = 38;
    const turn = Math.atan2(Math.sin(to - from), Math.cos(to - from));
    const [a, b] = [from, from + turn].map((t) => `${x + r * Math.cos(t)} ${y + r * Math.sin(t)}`);
    return svg("path", { class: "mk-wedge", d: `M${x} ${y}L${a}A${r} ${r} 0 0 ${turn > 0 ? 1 : 0} ${b}Z`, fill: "var(--mk-faint)", "fill-opacity": 0.25, stroke: "var(--mk-faint)" });
  }

  function draw() {
    if (!box.width) return;
    const [h1, h2, alpha, innerSteps] = ["h1", "h2", "alpha", "inner_steps"].map((key) => model.get(key));
    const h = [h1, h2];
    const { steps, factors, angle, ...arrows } = solve(points, h, alpha, innerSteps);
    drawContours(h);
    sliders.forEach((s) => s.update());

    const [x, y] = px(points.theta);
    const drawn = ARROWS.map((name) => {
      const [u, v] = arrows[name];
      const size = Math.hypot(u, v);
      return { name, size, direction: Math.atan2(-v, u), reach: 34 + (0.2 * box.width * size) / (size + 0.7) };
    }).filter(({ size }) => size > 1e-12);
    const path = steps.map(px);
    const end = path.at(-1);
    const at = (angle, r) => [x + r * Math.cos(angle), y + r * Math.sin(angle)];
    // The letters of nearly parallel arrows stand on two sides.
    const [first, second] = drawn;
    const gap = drawn.length === 2 ? Math.atan2(Math.sin(first.direction - second.direction), Math.cos(first.direction - second.direction)) : Math.PI;
    const aside = Math.abs(gap) < 0.35 ? (gap >= 0 ? 0.2 : -0.2) : 0;
    marks.replaceChildren(
      svg("g", { "clip-path": `url(#${clipId})` },
        svg("polyline", { points: path.map((p) => p.join(",")).join(" "), fill: "none", stroke: "var(--mk-inner)", "stroke-width": 2.5 }),
        ...path.slice(1, -1).map(([cx, cy]) => svg("circle", { cx, cy, r: 3.5, fill: "var(--mk-inner)" })),
        svg("circle", { class: "mk-adapted", cx: end[0], cy: end[1], r: 8, fill: "var(--mk-inner)", stroke: "var(--mk-paper)", "stroke-width": 1.5 })),
      cross(px(points.support), 6, false, "var(--mk-support)"),
      cross(px(points.query), 6, true, "var(--mk-query)"),
      ...(drawn.length === 2 ? [wedge([x, y], first.direction, second.direction)] : []),
      ...drawn.flatMap(({ name, direction, reach }, i) => {
        const [tx, ty] = at(direction + (i ? -aside : aside), reach + 13);
        return [
          methodArrow(name, [x, y], at(direction, reach)),
          methodLetter(name, tx, ty),
        ];
      }),
      fixedPoint([x, y], "θ"),
    );

    const degrees = Number.isFinite(angle) ? `${format(angle, 1)}°` : "not defined: one arrow has length 0";
    verdict.textContent = `Angle between M and F: ${degrees}`;
    axisRows.replaceChildren(...h.map((value, j) => tableRow(`axis ${j + 1}`, [format(alpha * value, 2), format(factors[j])])));
    arrowRows.replaceChildren(...drawn.length ? ARROWS.map((name) => tableRow(
      methodName(name), [`(${arrows[name].map((v) => format(v, 3, false)).join(", ")})`, format(Math.hypot(...arrows[name]))])) : []);
    const exact = { h, alpha, innerSteps, factors, ...arrows, angle, steps: steps.flat() };
    publish(readout, exact);
    status.say(`Curvatures ${format(h1, 1)} and ${format(h2, 1)}, step size ${format(alpha, 2)}, ${innerSteps} inner step${innerSteps > 1 ? "s" : ""}. ` +
      `Factors ${factors.map((f) => format(f, 2)).join(" and ")}. Angle between MAML and FOMAML: ${degrees}.`);
  }

  return mount({ model, el }, root, ["h1", "h2", "alpha", "inner_steps"], oncePerFrame(draw), layout);
}

export default { render };
