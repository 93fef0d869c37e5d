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


def executed(folder: Path, smaller: Mapping[str, str], *more: str) -> Any:
    """The notebook after all of its cells ran in `folder`, and then some `more`; `smaller` replaces text of the cells,
    each once.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in smaller.items():
        (cell,) = (cell for cell in cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False).execute()
    return notebook


def stored(notebook: Any) -> str:
    """As a file that differs from one made before in what it shows alone."""
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            forms = output.get("data", {})
            forms.pop("image/jpeg", None)  # a picture twice
            if "text/plain" in forms:
                forms["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", forms["text/plain"])
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    text: str = nbformat.writes(notebook)
    return f"{text}\n"


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        NOTEBOOK.write_text(stored(executed(Path(place), {})))
