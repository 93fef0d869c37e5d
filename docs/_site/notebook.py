"""A notebook as a page of Markdown, with what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def page(path: Path) -> str:
    """All cells of a notebook, code with its outputs below."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [part for output in cell.get("outputs", ()) for part in shown(output)]
    parts.insert(1, f'<p><a href="{path.name}" download>Download this notebook</a></p>')
    return "\n\n".join(parts) + "\n"


def shown(output: Mapping[str, Any]) -> Iterator[str]:
    """An output as a browser shows it: the richest of its forms."""
    forms = output.get("data", {"text/plain": output.get("text", "")})
    text = {kind: "".join(value) for kind, value in forms.items()}
    if "text/html" in text:
        html = re.sub(r"\s*\n\s*", " ", text["text/html"])  # a blank line would end the block
        yield f'<div class="output">{html}</div>'
    elif "image/png" in text:
        image = text["image/png"].replace("\n", "")
        yield f'<p class="output"><img alt="What the cell above shows" src="data:image/png;base64,{image}"></p>'
    else:
        yield f"```text\n{text['text/plain'].rstrip()}\n```"
