"""Run notebooks and store their outputs, so that the same notebook always gives the same bytes.

    python book/_ext/execute.py [NOTEBOOK ...]      without arguments: every chapter and every exercise

Each notebook runs alone: a fresh kernel of this interpreter, an empty temporary folder. What differs from run to run and
means nothing is left out: times, messages on stderr, object addresses, random ids of widgets, the Python version.
So is what a plain control does not set: Jupyter has the same defaults, and a page stores some twenty for each part of it.
The results that a reader is asked to predict are stored closed, for Jupyter and Colab; pages veil it themselves (predict.js).
When each ran, how long and with which versions goes into book/results/notebooks.json (see last_runs.py).
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from last_runs import notebooks, record_run

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}
# One thread and a fixed hash seed: sums are added, and sets listed, in one order.
KERNEL_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


class OwnKernel(KernelSpecManager):
    """Whatever kernel is asked for, it is the interpreter that runs this program."""

    def get_kernel_spec(self, kernel_name: str):
        return self.kernel_spec_class(resource_dir=RESOURCES, **get_kernel_dict())


def execute(notebook: nbformat.NotebookNode, folder: str, **settings: object) -> nbformat.NotebookNode:
    """Run a notebook in a folder; the first cell that fails ends the run with CellExecutionError, if no setting says else."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=OwnKernel())
    client = NotebookClient(
        notebook,
        km=manager,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": folder}},
        **{"timeout": 600, **settings},
    )
    try:
        return client.execute(env={**os.environ, **KERNEL_ENVIRONMENT})
    finally:
        run_sync(manager.shutdown_kernel)(now=True)  # nbclient leaves a kernel that it was given


def normalise(notebook: nbformat.NotebookNode) -> list[str]:
    """Leave out what differs between two runs; returns what the notebook wrote to stderr."""
    dropped = []
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        dropped += [output.text for output in cell.outputs if output.get("name") == "stderr"]
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict({**METADATA, **({"widgets": widgets} if widgets else {})})

    models = ((widgets or {}).get(WIDGET_STATE) or {}).get("state", {})
    for model in models.values():
        if model["model_module"].startswith("@jupyter-widgets/"):
            model["state"] = {name: value for name, value in model["state"].items() if value is not None}
    close_predicted(notebook.cells)
    text = json.dumps(notebook.cells)
    state = json.dumps(widgets)
    for number, model in enumerate(models):
        text, state = (part.replace(model, f"{number:032x}") for part in (text, state))
    if widgets:
        notebook.metadata.widgets = nbformat.from_dict(json.loads(state))
    cells = nbformat.from_dict(json.loads(text))
    for cell in cells:
        for output in cell.get("outputs", []):
            for holder, key in [(output, "text"), *((output.get("data", {}), mime) for mime in output.get("data", {}))]:
                if key in holder and isinstance(holder[key], str) and not key.startswith("image/"):
                    holder[key] = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x0", holder[key])
    notebook.cells = cells
    return dropped


def close_predicted(cells: list[nbformat.NotebookNode]) -> None:
    """Close what answers a question "Predict.": from the first cell with an output after it, all up to the next text."""
    asked = answered = False
    for cell in cells:
        if cell.cell_type == "markdown":
            asked = "**Predict.**" in cell.source or (asked and not answered)
            answered = False
        elif asked and cell.outputs:
            cell.metadata["collapsed"] = True
            cell.metadata["jupyter"] = {**cell.metadata.get("jupyter", {}), "outputs_hidden": True}
            answered = True
        else:
            cell.metadata.pop("collapsed", None)
            if (
                cell.metadata.get("jupyter", {}).pop("outputs_hidden", None) is not None
                and not cell.metadata["jupyter"]
            ):
                del cell.metadata["jupyter"]


def processor_time() -> float:
    """What the kernels that have ended took, in seconds: unlike time on the clock it leaves out what else the machine does."""
    times = os.times()
    return times.children_user + times.children_system


def main(arguments: list[str]) -> int:
    """Run the named notebooks, or all; the exit status says whether all of them ran."""
    failed = False
    for path in [Path(name) for name in arguments] or notebooks():
        started = processor_time()
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            try:
                notebook = execute(notebook, folder)
            except CellExecutionError as error:
                print(f"{path}: {error}", file=sys.stderr)
                failed = True
                continue
            written = sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*"))
        for text in normalise(notebook):
            print(f"{path}: dropped from stderr: {text.strip()[:300]}", file=sys.stderr)
        if written:
            print(f"{path}: a notebook must write no file, this one wrote {written}", file=sys.stderr)
            failed = True
        nbformat.validate(notebook)
        new = nbformat.writes(notebook) + "\n"
        changed = new != path.read_text(encoding="utf-8")
        if changed:
            path.write_text(new, encoding="utf-8")
        seconds = processor_time() - started
        record_run(path, seconds)
        print(f"{path}: {seconds:.0f} s of processor time, {'changed' if changed else 'the same as before'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
