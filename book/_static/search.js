// The search of search.html, over SECTIONS, which the build writes (book/_ext/search.py): it works from a file, too.
// A word counts in a section as in BM25, more in a heading; two words side by side count as a third. Pages are listed by their
// best sections, and a page whose title says little else than what is asked counts up to twice. Stemmer comes with Sphinx, in language_data.js.
(() => {
  "use strict";
  const FIELDS = [["heading", 4], ["text", 1], ["code", 0.3]]; // what a word weighs there
  const [PAGES, PLACES, BEFORE, SHOWN] = [10, 3, 12, 36]; // pages, sections of each; words of a line: before a found one, and all
  const SMALL = "a an and are as at be by do does for how i in is it my of on or out that the to what with".split(" ");
  // What readers type, and how this book says it.
  const SAME = {
    overfit: "memorise held", underfit: "average", dataset: "data omniglot", confidence: "interval", oom: "memory", lr: "rate", nan: "overshoot diverge",
    diverge: "overshoot", explode: "overshoot", unstable: "overshoot", batchnorm: "norm", bn: "norm", speed: "time", slow: "time", fast: "time",
    setup: "install", msl: "multi-step", da: "annealing", ca: "cosine", "first order": "fomaml hessian",
    "second order": "gradient", license: "licence", licence: "license", colab: "rocket",
  };

  const stemmer = new Stemmer();
  const stems = new Map();
  function stem(word) {
    const american = word.replace(/is(?=e|ing|ation)/, "iz").replace(/^_+|_+$/g, "");
    if (!stems.has(word)) stems.set(word, stemmer.stemWord(american));
    return stems.get(word);
  }
  const words = (text) => [...text.matchAll(/[\p{L}\p{N}_]+(?:\+\+)?/gu)]
    .map((match) => ({ stem: stem(match[0].toLowerCase()), at: match.index, end: match.index + match[0].length }));
  const stemmed = (text) => words(text).map((word) => word.stem);
  const telling = (text) => stemmed(text).filter((word) => !SMALL.includes(word) && !/^\d+$/.test(word));
  const same = new Map(Object.entries(SAME).map(([name, others]) => [stemmed(name).join(" "), stemmed(others)]));

  const places = [];
  const found = new Map(); // a word's stem -> the sections that have it -> its weight there
  function add(word, place, weight) {
    if (!found.has(word)) found.set(word, new Map());
    const here = found.get(word);
    here.set(place, (here.get(place) ?? 0) + weight);
  }
  for (const [page, share, title, sections] of SECTIONS) {
    for (const [i, [anchor, heading, text, code]] of sections.entries()) {
      const place = { page, share, title, anchor: i ? anchor : "", heading, text, code, stems: {}, length: 0 };
      places.push(place);
      for (const [field, weight] of FIELDS) {
        place.stems[field] = stemmed(place[field]);
        for (const word of place.stems[field]) add(word, place, weight);
        place.length += weight * place.stems[field].length;
      }
      for (const word of stemmed(title)) add(word, place, 0.5);
    }
  }
  const mean = places.reduce((sum, place) => sum + place.length, 0) / places.length;

  // The sections where one word stands behind another, with its weight there.
  function sideBySide([first, second]) {
    const here = new Map();
    for (const place of found.get(first)?.keys() ?? []) {
      for (const [field, weight] of FIELDS) {
        const count = place.stems[field].filter((word, i, all) => word === second && all[i - 1] === first).length;
        if (count) here.set(place, (here.get(place) ?? 0) + weight * count);
      }
    }
    return here;
  }

  // What a word, or two side by side, is worth in each section; other words for it count a little less.
  function weigh(own, begun) {
    const ways = new Map([[own, 1]]);
    for (const other of same.get(own) ?? []) ways.set(other, 0.7);
    if (begun) for (const word of found.keys()) if (word.startsWith(own) && !ways.has(word)) ways.set(word, 0.6);
    const scores = new Map();
    for (const [way, share] of ways) {
      const here = way.includes(" ") ? sideBySide(way.split(" ")) : found.get(way) ?? new Map();
      const rare = Math.log(1 + (places.length - here.size + 0.5) / (here.size + 0.5));
      for (const [place, count] of here) {
        const score = (share * rare * count * 2.2) / (count + 1.2 * (0.4 + (0.6 * place.length) / mean));
        scores.set(place, Math.max(scores.get(place) ?? 0, score));
      }
    }
    return { scores, ways: [...ways.keys()] };
  }

  // The pages that answer a question, the best first, each with its best sections; and the words to mark in them.
  function find(query) {
    const asked = stemmed(query).filter((word) => !SMALL.includes(word));
    const single = asked.map((word, i) => weigh(word, i === asked.length - 1 && word.length > 2));
    const double = asked.slice(1).map((word, i) => weigh(`${asked[i]} ${word}`));
    const pages = new Map();
    for (const place of places) {
      const number = single.filter(({ scores }) => scores.has(place)).length;
      const sum = [...single, ...double].reduce((sum, { scores }) => sum + (scores.get(place) ?? 0), 0);
      if (!sum) continue;
      const all = double.some(({ scores }) => scores.has(place)) ? 1 : number / asked.length;
      pages.set(place.page, [...(pages.get(place.page) ?? []), { place, score: sum * all ** 2 * place.share }]);
    }
    const names = [asked, ...(same.get(asked.join(" ")) ?? []).map((word) => [word])];
    const answers = [...pages.values()].map((sections) => {
      sections.sort((a, b) => b.score - a.score);
      const title = telling(sections[0].place.title);
      const named = title.filter((word) => names.some((name) => name.includes(word) && name.every((part) => title.includes(part)))).length / title.length;
      const score = (1 + named) * sections.reduce((sum, section, i) => sum + section.score / 2 ** i, 0);
      return { score, sections: sections.slice(0, PLACES).map(({ place }) => place) };
    });
    answers.sort((a, b) => b.score - a.score);
    return { answers: answers.slice(0, PAGES), marked: new Set([...single, ...double].flatMap(({ ways }) => ways)) };
  }

  // A line of a section, from where most of the words stand together, the words marked.
  function line({ text, code }, marked) {
    const list = words(text);
    const hits = list.flatMap((word, i) => (marked.has(word.stem) ? [i] : []));
    const row = hits.length ? "" : code.split("\n").find((row) => stemmed(row).some((word) => marked.has(word)));
    if (row) return withMarks(row.trim(), words(row.trim()), marked);
    const near = (i) => new Set(hits.filter((j) => j >= i && j < i + SHOWN - BEFORE).map((j) => list[j].stem)).size;
    const best = hits.reduce((best, i) => (near(i) > near(best) ? i : best), hits[0] ?? 0);
    const from = Math.max(0, best - BEFORE);
    const shown = list.slice(from, from + SHOWN);
    if (!shown.length) return [];
    const start = from ? shown[0].at : 0;
    const more = from + SHOWN < list.length;
    const cut = text.slice(start, more ? shown.at(-1).end : text.length);
    const moved = shown.map((word) => ({ ...word, at: word.at - start, end: word.end - start }));
    return [from ? "… " : "", ...withMarks(cut, moved, marked), more ? " …" : ""];
  }
  function withMarks(text, list, marked) {
    const parts = [];
    let last = 0;
    for (const { at, end } of list.filter((word) => marked.has(word.stem))) {
      parts.push(text.slice(last, at), element("mark", {}, text.slice(at, end)));
      last = end;
    }
    return [...parts, text.slice(last)];
  }

  function element(tag, properties, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }
  const results = document.getElementById("search-results");
  const said = element("p", { role: "status" });
  const list = element("ol", { className: "found" });
  function show(query) {
    const { marked, answers } = find(query);
    const number = answers.length === 1 ? "1 page" : `${answers.length} pages`;
    said.textContent = !query.trim() ? "" : answers.length ? number : `Nothing found for “${query.trim()}”.`;
    list.replaceChildren(...answers.map(({ sections }) => {
      const [{ page, title }] = sections;
      const lines = sections.map((section) => element(
        "div", {},
        ...(section.anchor ? [element("a", { href: `${page}#${section.anchor}` }, section.heading)] : []),
        element("p", {}, ...line(section, marked)),
      ));
      return element("li", {}, element("a", { className: "page", href: page }, title), ...lines);
    }));
  }

  results.replaceChildren(said, list);
  const query = new URLSearchParams(location.search).get("q") ?? "";
  for (const field of document.querySelectorAll("form.bd-search input[name=q]")) {
    field.value = query;
    field.addEventListener("input", () => show(field.value));
  }
  show(query);
})();
