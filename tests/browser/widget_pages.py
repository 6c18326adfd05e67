"""Build a page that holds live figures with the book's own settings, serve it, and look at it in Chromium."""

import contextlib
import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import yaml
from axe import add_axe
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/favicon.ico":  # the browser asks by itself
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(folder, handler=QuietHandler):
    """Address of a folder served over http."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def build_page(folder, cells):
    """Execute the cells as a notebook, build it with the book's _config.yml; the page's http and file addresses."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A live figure")])
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(notebook, folder / "page.ipynb")

    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    config["bibtex_bibfiles"] = [str(ROOT / path) for path in config["bibtex_bibfiles"]]
    sphinx = config["sphinx"]
    sphinx["local_extensions"] = {
        name: str(ROOT / path) for name, path in sphinx["local_extensions"].items() if name != "api_reference"
    }
    sphinx["config"]["html_static_path"] = [str(ROOT / path) for path in sphinx["config"]["html_static_path"]]
    sphinx["config"]["html_favicon"] = str(ROOT / sphinx["config"]["html_favicon"])
    (folder / "_config.yml").write_text(yaml.safe_dump(config))
    (folder / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(folder), "-W", "--keep-going", "-q"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    html = folder / "_build" / "html"
    with serve(html) as address:
        yield {"http": f"{address}/page.html", "file": (html / "page.html").as_uri()}


@contextlib.contextmanager
def open_page(browser, url, width=1280, height=900, **options):
    """The page once its figures stand. At the end: no error in the console, nothing asked of another host."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    try:
        page = context.new_page()
        problems = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("response", lambda answer: problems.append(f"no {answer.url}") if answer.status >= 400 else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        home = url.rsplit("/", 1)[0]

        def note(request):
            own = (home, "data:", "blob:") if url.startswith("http") else ("file:", "data:", "blob:")
            if not request.url.startswith(own):
                problems.append(f"asked for {request.url}")

        page.on("request", note)
        page.goto(url)
        page.locator(".mk-fig").first.wait_for()
        yield page
        assert not problems, problems
    finally:
        context.close()


def readout(page, figure=0):
    """What the figure of that number shows, in full precision."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    data = page.locator(".mk-readout").nth(figure).evaluate("node => ({...node.dataset})")
    return {key: [float(number) for number in value.split(",")] for key, value in data.items()}


def set_range(page, index, value):
    """Move the slider of that number, as a reader's hand does."""
    page.locator(".mk-slider input").nth(index).evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def assert_accessible_and_fits(page, width):
    """No rule of axe is broken, nothing overflows, and the smallest text can be read."""
    assert axe_violations(page, ".mk-fig") == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for inner, outer in page.eval_on_selector_all(".mk-fig", "all => all.map((n) => [n.scrollWidth, n.clientWidth])"):
        assert inner <= outer
    assert smallest_text(page, ".mk-fig") >= 11


def assert_made_for_a_phone(page):
    """Each figure fits one screen of 844 px: its picture first, its tables folded, no legend, all large enough to touch."""
    found = page.eval_on_selector_all(
        ".mk-fig",
        """all => all.map((figure) => {
            const box = (node) => node.getBoundingClientRect();
            const seen = (selector) => [...figure.querySelectorAll(selector)].filter((node) => node.checkVisibility());
            const touched = seen("button, summary, .mk-slider input, .mk-target, label:not(.mk-slider)");
            return {
                height: box(figure).height,
                picture: box(seen("svg[role], canvas")[0]).top,
                pressed: Math.min(...seen("button, label").map((node) => box(node).top)),
                tables: seen("table").length,
                legends: seen(".mk-legend").length,
                least: Math.min(...touched.flatMap((node) => [box(node).width, box(node).height])),
            };
        })""",
    )
    assert found
    for figure in found:
        assert figure["height"] <= 844, figure
        assert figure["picture"] < figure["pressed"], figure
        assert (figure["tables"], figure["legends"]) == (0, 0), figure
        assert figure["least"] >= 24, figure


def axe_violations(page, selector):
    """WCAG A and AA violations inside the selector, as 'rule: element'."""
    add_axe(page)
    options = {"preload": False, "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = page.evaluate("([selector, options]) => axe.run(selector, options)", [selector, options])["violations"]
    return [f"{rule['id']}: {node['html'][:150]}" for rule in found for node in rule["nodes"]]


def smallest_text(page, selector):
    """Size in px, as rendered, of the smallest visible text inside the selector."""
    return page.eval_on_selector(
        selector,
        """root => Math.min(...[...root.querySelectorAll('*')]
            .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
            .filter((node) => !node.closest('.mk-hidden'))
            .map((node) => {
                const scale = node instanceof SVGElement ? node.getScreenCTM().d : 1;
                return parseFloat(getComputedStyle(node).fontSize) * Math.abs(scale);
            }))""",
    )
