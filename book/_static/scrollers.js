// Code and tables that scroll sideways can be reached by the keyboard. The theme sees to that when the window changes; what
// was folded before must be looked at again.
"use strict";
document.addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);
