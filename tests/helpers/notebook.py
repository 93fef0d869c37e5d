"""The notebook of docs/ in a kernel; `python -m tests.helpers.notebook` runs it and stores what it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


def executed(folder: Path, smaller: Mapping[str, str]) -> Any:
    """The notebook after all of its cells ran in `folder`; `smaller` replaces text, each of a single cell."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for old, new in smaller.items():
        (cell,) = (cell for cell in notebook.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    given = {"resources": {"metadata": {"path": str(folder)}}, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, timeout=600, kernel_name="python3", **given).execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        output.get("data", {}).pop("image/jpeg", None)  # a picture twice
    return notebook


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        found = executed(Path(place), {})
    found.metadata = {"kernelspec": found.metadata.kernelspec, "language_info": {"name": "python"}}
    NOTEBOOK.write_text(re.sub(r" at 0x[0-9a-f]+", "", nbformat.writes(found)) + "\n")
