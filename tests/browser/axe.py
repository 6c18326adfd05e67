"""axe-core in a page, made faster without touching what it checks: every element is looked at, by the same rules.

Most of its time goes into the colours behind each text. Each colour holds its parts in private fields, which axe.min.js keeps in
a WeakMap each, and those are slow by the hundred thousand; and the same few colours are parsed again for every element.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import Page

SOURCE = Path(find_spec("axe_playwright_python").origin).with_name("axe.min.js").read_text(encoding="utf-8")
# Stand for WeakMap and WeakSet within axe's own script: the value is a property of the object itself.
PROPERTIES = """
class WeakMap {
    #key = Symbol();
    has(object) { return Object.hasOwn(object, this.#key); }
    get(object) { return this.has(object) ? object[this.#key] : undefined; }
    set(object, value) { object[this.#key] = value; return this; }
    delete(object) { return this.has(object) && delete object[this.#key]; }
}
class WeakSet extends WeakMap {
    add(object) { return this.set(object, true); }
}
"""
PARSE_ONCE = """
const colour = axe.commons.color.Color.prototype, parse = colour.parseString, known = new Map();
colour.parseString = function (text) {
    if (known.has(text)) [this.r, this.g, this.b, this.alpha] = known.get(text);
    else {
        parse.call(this, text);
        known.set(text, [this.r, this.g, this.b, this.alpha]);
    }
    return this;
};
"""


def add_axe(page: Page) -> None:
    """Make `axe` known to the page."""
    page.add_script_tag(content=f"{{{PROPERTIES}{SOURCE}\n{PARSE_ONCE}}}")
