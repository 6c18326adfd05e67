// Formulas set by MathJax. In: a JSON list of {tex, display}. Out: {html: [...], css} for all of them together.
//
//     node formulas.mjs FOLDER_OF_MATHJAX < formulas.json
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
globalThis.MathJax = {
  loader: { paths: { mathjax: folder }, load: ["adaptors/liteDOM", "input/tex", "output/chtml", "a11y/assistive-mml"], require },
  options: { enableAssistiveMml: true }, // for screen readers
  chtml: { fontURL: "mathjax" },
  startup: { typeset: false },
};
require(`${folder}/startup.js`);
await MathJax.startup.promise;

const { adaptor } = MathJax.startup;
const html = [];
for (const { tex, display } of JSON.parse(readFileSync(0, "utf8"))) {
  const node = await MathJax.tex2chtmlPromise(tex, { display });
  const text = adaptor.outerHTML(node);
  if (/<mjx-merror|data-mjx-error/.test(text)) throw new Error(`expected a formula that MathJax can set, got ${tex}`);
  html.push(text);
}
process.stdout.write(JSON.stringify({ html, css: adaptor.textContent(MathJax.chtmlStylesheet()) }));
