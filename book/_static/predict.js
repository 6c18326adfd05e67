// A prediction is a question with answers to choose from. Until the reader has chosen, the rest of the section is out of sight:
// a guess counts only before the result. Without JavaScript the page simply shows everything.
"use strict";
(() => {
  const QUESTION = "Predict.";
  const isQuestion = (element) => element.matches("p") && element.firstElementChild?.matches("strong") &&
    element.firstElementChild.textContent.trim() === QUESTION;

  // What comes after a prediction in its section, up to the next heading or prediction.
  function restOfSection(element) {
    const rest = [];
    for (let next = element.nextElementSibling; next; next = next.nextElementSibling) {
      if (next.matches("section, h2, h3, hr") || isQuestion(next)) break;
      rest.push(next);
    }
    return rest;
  }

  function veil(question) {
    const options = [];
    let last = question;
    while (last.nextElementSibling && !options.length && last.nextElementSibling.matches("p, ul, ol, div.math")) last = last.nextElementSibling;
    while (last.nextElementSibling?.matches("details")) options.push(last = last.nextElementSibling);
    const rest = options.length ? restOfSection(last) : [];
    if (!rest.length) return;

    const box = document.createElement("div");
    box.className = "veiled";
    box.tabIndex = -1;
    box.hidden = true;
    box.setAttribute("hidden", "until-found"); // the browser's search still finds what is in it
    const bar = document.createElement("p");
    bar.className = "veil";
    bar.append("Choose an answer to see the result, or ");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "show it without choosing";
    bar.append(button, ".");
    last.after(bar, box);
    box.append(...rest);

    const show = () => {
      if (!bar.isConnected) return;
      bar.remove();
      box.removeAttribute("hidden");
      dispatchEvent(new Event("resize")); // figures measure themselves
    };
    button.addEventListener("click", () => {
      show();
      box.focus({ preventScroll: true }); // the next Tab goes to the first link or button of the result
    });
    box.addEventListener("beforematch", show);
    addEventListener("beforeprint", show);
    for (const option of options) option.addEventListener("toggle", () => option.open && show());
  }

  document.addEventListener("DOMContentLoaded", () => {
    // From the end, so that a section with two predictions is cut at the second before the first is veiled.
    [...document.querySelectorAll(".bd-article p")].filter(isQuestion).reverse().forEach(veil);
  });
})();
