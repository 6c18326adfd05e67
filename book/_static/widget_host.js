// Starts the live figures (anywidgets) of a static page: no kernel, no other file, no other host.
// It reads the widget state that myst-nb embeds, imports each figure's ES module and gives it a model.
(() => {
  "use strict";
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

  // The part of a Jupyter model that a front-end module may use; there is no kernel to save to or to message.
  function makeModel(state) {
    const data = { ...state };
    const listeners = new Map(); // event name -> Set of callbacks
    const emit = (name, ...args) => [...(listeners.get(name) ?? [])].forEach((callback) => callback(...args));
    const model = {
      get: (key) => data[key],
      set(key, value) {
        const entries = typeof key === "object" ? Object.entries(key) : [[key, value]];
        const changed = entries.filter(([name, next]) => data[name] !== next);
        changed.forEach(([name, next]) => (data[name] = next));
        changed.forEach(([name, next]) => emit(`change:${name}`, model, next));
        if (changed.length) emit("change", model);
      },
      on(names, callback) {
        for (const name of names.split(" ")) listeners.set(name, (listeners.get(name) ?? new Set()).add(callback));
      },
      off(names, callback) {
        if (!names) return listeners.clear();
        for (const name of names.split(" ")) callback ? listeners.get(name)?.delete(callback) : listeners.delete(name);
      },
      save_changes() {},
      send() {},
    };
    return model;
  }

  // Arrays and images travel as base64 beside the state: put them back where they belong.
  function withBuffers({ state, buffers = [] }) {
    for (const { path, data } of buffers) {
      const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
      const parent = path.slice(0, -1).reduce((node, key) => node[key], state);
      parent[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  const started = new Map(); // model id -> Promise of { widget, model }: one model, however many views
  function start(id, entry) {
    if (!started.has(id)) {
      started.set(id, (async () => {
        const state = withBuffers(entry);
        const url = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
        let widget;
        try {
          widget = (await import(url)).default;
        } finally {
          URL.revokeObjectURL(url);
        }
        if (typeof widget === "function") widget = await widget();
        if (state._css) document.head.append(Object.assign(document.createElement("style"), { textContent: state._css }));
        const model = makeModel(state);
        await widget.initialize?.({ model, signal: new AbortController().signal });
        return { widget, model };
      })());
    }
    return started.get(id);
  }

  async function show(script, models) {
    const entry = models[JSON.parse(script.textContent).model_id];
    const el = document.createElement("div");
    el.className = "live-figure";
    script.replaceWith(el);
    if (!entry?.state._esm) {
      el.classList.add("needs-kernel");
      el.textContent = "This control needs a kernel: run the notebook.";
      return;
    }
    try {
      const { widget, model } = await start(JSON.parse(script.textContent).model_id, entry);
      await widget.render({ model, el, signal: new AbortController().signal });
    } catch (error) {
      el.textContent = "This figure could not start in your browser.";
      console.error(error);
    }
  }

  // A figure starts when it comes near the window, or when the page is printed.
  function main() {
    const models = {};
    for (const script of document.querySelectorAll(STATE)) Object.assign(models, JSON.parse(script.textContent).state);
    const waiting = new Map(); // the place of a figure -> its script
    const reach = (place) => {
      const script = waiting.get(place);
      if (waiting.delete(place)) show(script, models);
    };
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          observer.unobserve(target);
          reach(target);
        }
      }
    }, { rootMargin: "800px" });
    for (const script of document.querySelectorAll(VIEW)) {
      waiting.set(script.parentElement, script);
      observer.observe(script.parentElement);
    }
    addEventListener("beforeprint", () => [...waiting.keys()].forEach(reach));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", main);
  else main();
})();
