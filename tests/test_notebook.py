"""The notebook of docs/: every cell runs, and what is stored of it is what its cells show."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

from tests.helpers.notebook import NOTEBOOK, executed

SMALLER = {
    "iterations=200, eval_every=40": "iterations=4, eval_every=2",
    '("train", 120, 12), ("val", 24, 24)': '("train", 16, 12), ("val", 4, 4)',
}
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def kinds(cell: dict[str, Any]) -> list[Any]:
    """What the outputs are: streams by their name, the rest by its forms."""
    return [output.get("name") or sorted(output["data"]) for output in cell["outputs"]]


def test_every_cell_runs_and_shows_what_is_stored(tmp_path: Path) -> None:
    ran = [cell for cell in executed(tmp_path, SMALLER).cells if cell["cell_type"] == "code"]
    assert [kinds(cell) for cell in ran] == [kinds(cell) for cell in CELLS]
    (cell,) = (cell for cell in ran if "semikit.train(" in cell["source"])
    lines, bar, card = cell["outputs"]  # and nothing on standard error
    assert "4/4 student mIoU" in lines["text"]
    assert bar["data"]["text/html"] == '<progress value="4" max="4"></progress> iterations: 4 of 4'
    assert "<b>semikit train seg</b>" in card["data"]["text/html"]


def test_it_is_stored_small_and_a_page_of_the_site() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert NOTEBOOK.stat().st_size < 400_000
    page = runpy.run_path(str(NOTEBOOK.parent / "_site/notebook.py"))["page"](NOTEBOOK)
    assert page.startswith("# In a notebook\n\n")
    assert page.count("```python\n") == len(CELLS)
    assert page.count('src="data:image/png;base64,') == sum("image/png" in str(kinds(cell)) for cell in CELLS) > 3
    assert not re.search(r'src="(?!data:)|https?://', page)
    links = re.findall(r"\]\(([^)#\s]+)", page)
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []
