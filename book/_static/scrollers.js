// Code and tables that scroll sideways can be reached by the keyboard. They are looked at when they are laid out, near the
// window or unfolded: the theme looks at all of them at once, and the whole page would be laid out for that (see scripts.py).
"use strict";
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    target.tabIndex = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight ? 0 : -1;
  }
});
document.querySelectorAll(".bd-main :is(pre, .cell_output > .output, .pst-scrollable-table-container)").forEach((box) => resized.observe(box));
