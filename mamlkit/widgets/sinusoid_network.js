// What the figures of sinusoids share: the network, adapted in the browser by back-propagation, and the plane of its curves.
// mamlkit/widgets/_assets.py puts this text between common.js and such a figure.

const X_RANGE = [-5, 5];
const Y_RANGE = [-5.6, 5.6];
const GRID = Array.from({ length: 201 }, (_, i) => -5 + i / 20);
const HIDDEN = 40;

// ---- The network: 1-40-40-1, ReLU --------------------------------------------------------------------------------

// Parameters lie one after the other in one array: weight and bias of each layer; here is where each begins.
const W1 = 0;
const B1 = W1 + HIDDEN;
const W2 = B1 + HIDDEN;
const B2 = W2 + HIDDEN * HIDDEN;
const W3 = B2 + HIDDEN;
const B3 = W3 + HIDDEN;

function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// The output at x; the two hidden layers are left in h1 and h2.
function forward(p, x, h1, h2) {
  for (let i = 0; i < HIDDEN; i++) h1[i] = Math.max(0, p[W1 + i] * x + p[B1 + i]);
  let output = p[B3];
  for (let j = 0; j < HIDDEN; j++) {
    let sum = p[B2 + j];
    for (let i = 0; i < HIDDEN; i++) sum += p[W2 + j * HIDDEN + i] * h1[i];
    h2[j] = Math.max(0, sum);
    output += p[W3 + j] * h2[j];
  }
  return output;
}

// The gradient of the mean squared error of the support points.
function slopeOf(p, xs, ys) {
  const gradient = new Float64Array(p.length);
  const [h1, h2] = [new Float64Array(HIDDEN), new Float64Array(HIDDEN)];
  xs.forEach((x, n) => {
    const error = (2 / xs.length) * (forward(p, x, h1, h2) - ys[n]); // d loss / d output
    const back = new Float64Array(HIDDEN); // d loss / d h1
    gradient[B3] += error;
    for (let j = 0; j < HIDDEN; j++) {
      gradient[W3 + j] += error * h2[j];
      if (h2[j] <= 0) continue;
      const delta = error * p[W3 + j];
      gradient[B2 + j] += delta;
      for (let i = 0; i < HIDDEN; i++) {
        gradient[W2 + j * HIDDEN + i] += delta * h1[i];
        back[i] += delta * p[W2 + j * HIDDEN + i];
      }
    }
    for (let i = 0; i < HIDDEN; i++) {
      if (h1[i] <= 0) continue;
      gradient[W1 + i] += back[i] * x;
      gradient[B1 + i] += back[i];
    }
  });
  return gradient;
}

// One step of gradient descent on it.
function innerStep(p, xs, ys, alpha) {
  const gradient = slopeOf(p, xs, ys);
  return p.map((value, i) => value - alpha * gradient[i]);
}

// Outputs on the grid and their mean squared error, after 0, 1, ..., steps inner steps.
function adaptStart(start, xs, ys, truth, { steps, alpha }) {
  const [h1, h2] = [new Float64Array(HIDDEN), new Float64Array(HIDDEN)];
  const curves = [];
  let p = start;
  for (let k = 0; k <= steps; k++) {
    curves.push(GRID.map((x) => forward(p, x, h1, h2)));
    if (k < steps) p = innerStep(p, xs, ys, alpha);
  }
  const mse = curves.map((curve) => curve.reduce((sum, y, i) => sum + (y - truth[i]) ** 2, 0) / GRID.length);
  return { curves, mse };
}

// ---- The plane of x and y ----------------------------------------------------------------------------------------

// In real pixels that are laid out anew for each width: px takes a point to its pixel, axes and clip are drawn by fit.
function curvePlane() {
  const clipId = `mk-clip-${Math.random().toString(36).slice(2)}`;
  const box = { left: 24, top: 6, right: 82, width: 0, height: 0 }; // names of curves stand right of it
  const [axes, marks, clip] = [svg("g"), svg("g"), svg("rect")];
  const defs = svg("defs", {}, svg("clipPath", { id: clipId }, clip));
  const px = (x, y) => [
    box.left + ((x - X_RANGE[0]) / (X_RANGE[1] - X_RANGE[0])) * box.width,
    box.top + ((Y_RANGE[1] - y) / (Y_RANGE[1] - Y_RANGE[0])) * box.height,
  ];
  const curve = (ys, attributes) => {
    const points = ys.map((y, i) => px(GRID[i], y).map((v) => v.toFixed(1)).join(",")).join(" ");
    return svg("polyline", { points, fill: "none", "stroke-linejoin": "round", ...attributes });
  };
  const inside = (...curves) => svg("g", { "clip-path": `url(#${clipId})` }, ...curves);
  // Names at the right ends of curves: words, outputs on the grid, colour.
  const names = (...entries) => endLabels(box.left + box.width + 6, box.top + 6, box.top + box.height - 6,
    entries.map(([words, ys, colour]) => ({ words, y: px(0, ys.at(-1))[1], colour })));
  const xAt = (pixel) => X_RANGE[0] + ((pixel - box.left) / box.width) * (X_RANGE[1] - X_RANGE[0]);
  // Fit the plot to a width; false where it is not shown.
  const fit = (plot, width, shape) => {
    if (width <= 0) return false;
    box.width = width - box.left - box.right;
    box.height = Math.max(200, shape * box.width);
    plot.setAttribute("width", width);
    plot.setAttribute("height", box.height + box.top + 22);
    const area = { x: box.left, y: box.top, width: box.width, height: box.height };
    for (const [name, value] of Object.entries(area)) clip.setAttribute(name, value);
    const zero = px(0, 0)[1];
    axes.replaceChildren(
      svg("rect", { ...area, fill: "none", stroke: "var(--mk-rule)" }),
      svg("line", { x1: box.left, y1: zero, x2: box.left + box.width, y2: zero, stroke: "var(--mk-rule)" }),
      ...[-4, -2, 0, 2, 4].map((x) => tickLabel(px(x, Y_RANGE[0]), [0, 16], x, "middle")),
      ...[-4, -2, 0, 2, 4].map((y) => tickLabel(px(X_RANGE[0], y), [-5, 4], y, "end")),
      svg("text", { x: box.left + box.width - 2, y: box.top + box.height + 16, "text-anchor": "end", class: "mk-tick" }, "x"),
    );
    return true;
  };
  return { box, defs, axes, marks, curve, inside, names, px, xAt, fit };
}

// The support points: a reader drags them along x, or moves them with the arrow keys, and they stay on the sinusoid.
function supportHandles(model, save, plane, plot, helpId) {
  const first = model.get("points");
  const group = svg("g");
  const handles = first.map((start, n) => dragHandle(
    { "aria-label": `Support point ${n + 1}`, "aria-describedby": helpId, "aria-orientation": "horizontal", "aria-valuemin": X_RANGE[0], "aria-valuemax": X_RANGE[1] },
    {
      at: (event) => [plane.xAt(event.clientX - plot.getBoundingClientRect().left)],
      get: () => [model.get("points")[n]],
      set: ([x]) => {
        const inside = Math.min(X_RANGE[1], Math.max(X_RANGE[0], Math.round(x * 1000) / 1000));
        model.set("points", model.get("points").map((old, i) => (i === n ? inside : old)));
        save();
      },
      moves: (event) => {
        const step = event.shiftKey ? 0.5 : 0.1;
        return { ArrowLeft: [-step], ArrowDown: [-step], ArrowRight: [step], ArrowUp: [step] };
      },
      home: [start], ways: SIDEWAYS, r: 8,
    },
    svg("circle", { class: "mk-target", r: 14 }), svg("circle", { class: "mk-ring", r: 11 }),
    svg("circle", { class: "mk-point", r: 6, style: "fill: var(--mk-support); stroke: var(--mk-paper); stroke-width: 1.5" })));
  const update = (xs, ys) => {
    if (group.childElementCount !== xs.length) group.replaceChildren(...handles.slice(0, xs.length)); // else one keeps its focus
    xs.forEach((x, n) => {
      handles[n].setAttribute("transform", `translate(${plane.px(x, ys[n]).join(" ")})`);
      handles[n].setAttribute("aria-valuenow", x);
      handles[n].setAttribute("aria-valuetext", `x = ${format(x, 2)}, y = ${format(ys[n], 2)}`);
    });
  };
  return { node: group, update };
}

// A button that draws all support inputs anew.
const newPoints = (model, save) => html("button", {
  type: "button",
  onclick: () => {
    model.set("points", model.get("points").map(() => Math.round((Math.random() * 10 - 5) * 1000) / 1000));
    save();
  },
}, "new points");
