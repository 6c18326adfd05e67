"""A chapter and an exercise as `make lab` opens them: a live figure, a control, a check and a solution, with a kernel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(
    find_spec("jupyterlab") is None, reason="JupyterLab is not installed: `make lab` brings it"
)

ROOT = Path(__file__).resolve().parents[2]
CHAPTER, EXERCISE = "03_a_gradient_of_gradients.ipynb", "exercises/03_a_gradient_of_gradients.ipynb"
PATIENCE = 240_000  # ms, for a machine that does other things besides
READY = """name => {
    const shown = window.jupyterapp?.shell.currentWidget;
    return shown?.title.label === name && shown.sessionContext?.session?.kernel?.status === "idle";
}"""
FOLDERS = [
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_RUNTIME_DIR",
    "IPYTHONDIR",
]
OPTIONS = ["--no-browser", "--expose-app-in-browser", "--allow-root", "--IdentityProvider.token=", "--LabApp.news_url="]
OPTIONS += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]


def copy_up_to_the_control(source, target):
    """The cells of a chapter to the first that makes a control: what comes after takes time and is not looked at here."""
    notebook = nbformat.read(source, as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if "@interact_manual" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a server whose folder holds copies of a chapter and its exercises."""
    folder, own = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    (folder / "exercises").mkdir()
    copy_up_to_the_control(ROOT / "book" / CHAPTER, folder / CHAPTER)
    shutil.copy(ROOT / "book" / EXERCISE, folder / EXERCISE)
    settings = own / FOLDERS[0] / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # every cell is on the page
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("jupyter-lab")), f"--ServerApp.port={port}", *OPTIONS, str(folder)]
    environment = {**os.environ, **{name: str(own / name) for name in FOLDERS}}
    address = f"http://127.0.0.1:{port}"
    with (own / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            wait_for(f"{address}/api", server, own / "log")
            yield address
        finally:
            server.terminate()


def wait_for(address, server, log):
    """Until the server answers."""
    for _ in range(PATIENCE // 500):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {address}: {log.read_text()}")


@pytest.fixture
def run_all(lab, browser):
    """A function that opens a notebook, waits until its kernel is idle, and runs all cells."""
    pages = []

    def run(name):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.goto(f"{lab}/lab/tree/{name}?reset")
        page.wait_for_function(READY, arg=Path(name).name)
        page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        return page

    yield run
    for page in pages:
        page.close()


def test_an_exercise_is_checked_and_its_solution_unfolds(run_all):
    page = run_all(EXERCISE)
    said = page.locator(".jp-OutputArea-output", has_text="Exercise 3.1").first
    expect(said).to_contain_text("not attempted yet", timeout=PATIENCE)
    folded = page.locator(".jp-InputPlaceholder")
    before = folded.count()
    assert before >= 5, "solutions are folded when an exercise is opened"
    folded.first.locator(".jp-Placeholder-content").click()
    expect(folded).to_have_count(before - 1)


def test_a_solution_typed_into_the_stub_is_found_correct(run_all):
    notebook = nbformat.read(ROOT / "book" / EXERCISE, as_version=4)
    stub, check, solution = next(
        trio
        for trio in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], strict=False)
        if "exercise" in trio[0].metadata.get("tags", [])
    )
    page = run_all(EXERCISE)
    said = page.locator(".jp-CodeCell", has_text=check.source).locator(".jp-OutputArea-output")
    expect(said).to_contain_text("not attempted yet", timeout=PATIENCE)
    editor = page.locator(".jp-CodeCell", has_text=stub.source.splitlines()[1].strip()).locator(".cm-content")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(solution.source)
    page.keyboard.press("Shift+Enter")  # runs the cell and goes to the next one: the check
    page.keyboard.press("Shift+Enter")
    expect(said).to_contain_text("correct.", timeout=PATIENCE)


def test_a_chapter_has_a_live_figure_and_a_control(run_all):
    page = run_all(CHAPTER)
    handle, place = page.locator(".mk-two-tasks .mk-handle"), page.locator(".mk-two-tasks .mk-place")
    handle.scroll_into_view_if_needed()
    before = place.inner_text()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 40, steps=5)
    page.mouse.up()
    expect(place).not_to_have_text(before)
    control = page.locator(".widget-interact")
    control.get_by_role("button", name="Compare").click()
    expect(control.locator(".jp-OutputArea-output")).to_contain_text("along one direction, K = 5", timeout=PATIENCE)
