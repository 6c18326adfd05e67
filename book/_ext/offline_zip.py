"""The book and its notebooks as one file to read offline: python book/_ext/offline_zip.py FOLDER, after `make book`."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

ROOT = Path(__file__).resolve().parents[2]


def pack(target: Path, root: Path = ROOT) -> Path:
    """Write ``learning-to-learn.zip`` with the built pages and the notebooks into the folder; its path.

    Raises:
        FileNotFoundError: if the book is not built.
    """
    html = root / "_build" / "html"
    if not (html / "index.html").is_file():
        raise FileNotFoundError(f"expected the built book in {html}: run make book first")
    parts = {"html": (html, "*"), "notebooks": (root / "book", "*.ipynb")}
    archive = target / "learning-to-learn.zip"
    with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=9) as file:
        for name, (folder, pattern) in parts.items():
            for path in sorted(path for path in folder.rglob(pattern) if path.is_file()):
                file.write(path, f"learning-to-learn/{name}/{path.relative_to(folder)}")
    return archive


if __name__ == "__main__":
    made = pack(Path(sys.argv[1]))
    print(f"{made}: {made.stat().st_size / 2**20:.1f} MB")
