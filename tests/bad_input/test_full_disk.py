"""A disk that is full: one line that names the file, nothing half-written, and a run that goes on when there is room again.

A limit on the size of a file stands for the disk: the system refuses the write in the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from test_command_line import call

from mamlkit.checkpoint import latest_checkpoint, save_checkpoint

RUN = (
    "--data sinusoids --shots 3 --queries 3 --epochs 2 --steps-per-epoch 5 --meta-batch 2 --validation-tasks 2 --inner-lr 0.001 "
    "--log-every 1 --checkpoint-every 5"
)
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from mamlkit.__main__ import main
main()
"""


def limited(size, folder, arguments):
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(size), *arguments.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr.replace("\r", "\n").splitlines()[-1]


@pytest.mark.parametrize(
    ("size", "file", "left"),
    [(1000, "run.json", []), (2000, "step-00000005.safetensors", ["curves.csv", "run.json"])],
    ids=["the record of the run", "the first checkpoint"],
)
def test_one_line_and_no_half_of_a_file(tmp_path, monkeypatch, size, file, left):
    status, line = limited(size, tmp_path, f"train --out run {RUN}")
    assert status == 1 and line.startswith("mamlkit: expected to write ") and file in line and "File too large" in line
    assert sorted(path.name for path in (tmp_path / "run").rglob("*") if path.is_file()) == left
    monkeypatch.chdir(tmp_path)  # there is room again
    status, out, _ = call(["train", "--out", "run", *(["--resume"] if left else RUN.split())])
    assert status == 0 and "10 outer steps in" in out


def test_notes_without_room_take_their_tensors_along(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError("no room")

    save_checkpoint(tmp_path / "step-00000001", {"a": torch.ones(3)}, {})
    monkeypatch.setattr("mamlkit.checkpoint.write_atomically", full)
    with pytest.raises(OSError, match="no room"):
        save_checkpoint(tmp_path / "step-00000002", {"a": torch.ones(3)}, {})
    assert latest_checkpoint(tmp_path).name == "step-00000001" and len(list(tmp_path.iterdir())) == 2


APPEND = """
import resource, sys
from pathlib import Path
from mamlkit._files import append
resource.setrlimit(resource.RLIMIT_FSIZE, (1000,) * 2)
try:
    while True:
        append(Path("log"), "a line of 23 letters...\\n")
except OSError as error:
    sys.exit(str(error))
"""


def test_a_log_keeps_whole_lines(tmp_path):
    done = subprocess.run([sys.executable, "-c", APPEND], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stderr == "expected to write log, got: File too large\n"
    assert (tmp_path / "log").read_text() == "a line of 23 letters...\n" * (1000 // 24)


def test_a_result_that_has_no_room_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(["train", "--out", "run", *RUN.split()])[0] == 0
    (tmp_path / "r.json").write_text("old")
    status, line = limited(1000, tmp_path, "evaluate run --tasks 50 --json r.json")
    assert status == 1 and line == "mamlkit: expected to write r.json, got: File too large"
    assert (tmp_path / "r.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "run"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["threads"]
