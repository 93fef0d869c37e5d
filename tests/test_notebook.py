"""The notebook of docs/: every cell runs, and what is stored of it is what its cells show."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest

from tests.helpers.notebook import NOTEBOOK, executed

SMALLER = {
    "iterations=200, eval_every=20": "iterations=4, eval_every=2",
    '120, 12), ("val", 24, 24)': '16, 12), ("val", 4, 4)',
}

Cells = list[dict[str, Any]]


def code(cells: Cells) -> Cells:
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def stored() -> Cells:
    return json.loads(NOTEBOOK.read_text())["cells"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """The cells after they ran, with few images and steps."""
    return executed(tmp_path_factory.mktemp("notebook"), SMALLER).cells


def kinds(cell: dict[str, Any]) -> list[Any]:
    shown = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return [(output["output_type"], sorted(set(output.get("data", ())) - {"image/jpeg"})) for output in shown]


def test_every_cell_runs_and_shows_what_is_stored(ran: Cells, stored: Cells) -> None:
    assert [kinds(cell) for cell in code(ran)] == [kinds(cell) for cell in code(stored)]
    assert [cell["execution_count"] for cell in code(stored)] == list(range(1, len(code(stored)) + 1))
    assert NOTEBOOK.stat().st_size < 400_000


def test_its_links_lead_somewhere(stored: Cells) -> None:
    text = "".join("".join(cell["source"]) for cell in stored if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_it_is_a_page_of_the_site(stored: Cells) -> None:
    page = runpy.run_path(str(NOTEBOOK.parent / "_site/notebook.py"))["page"](NOTEBOOK)
    assert page.startswith("# In a notebook\n\n")
    assert page.count('<a href="notebook.ipynb" download>') == 1
    assert page.count("```python\n") == len(code(stored))
    pictures = [output for cell in code(stored) for output in cell["outputs"] if "image/png" in output.get("data", ())]
    assert page.count('src="data:image/png;base64,') == len(pictures) > 1
    assert not re.search(r'src="(?!data:)|https?://', page)
