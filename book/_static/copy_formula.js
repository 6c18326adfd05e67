// Copied text holds formulas as TeX: what is seen on the page are characters of a font that mean nothing elsewhere.
"use strict";
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  const place = range.commonAncestorContainer;
  const around = (place.nodeType === Node.ELEMENT_NODE ? place : place.parentElement).closest("[data-tex]"); // all or a part of one formula
  const fragment = document.createDocumentFragment();
  fragment.append(around ? around.cloneNode(true) : range.cloneContents());
  const formulas = fragment.querySelectorAll("[data-tex]");
  if (!formulas.length) return;
  for (const formula of formulas) formula.textContent = formula.matches("div") ? `$$${formula.dataset.tex}$$` : `$${formula.dataset.tex}$`;
  event.clipboardData.setData("text/plain", fragment.textContent);
  event.preventDefault();
});
