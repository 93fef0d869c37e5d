"""What is aimed at on one core of a processor with instructions for bf16, beside what `make bench` measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

TARGETS = {
    ("seg-bf16", "crop 126"): 2.0,
    ("seg-bf16", "crop 266"): 2.0,
    ("seg-bf16", "crop 518"): 2.6,
    ("cd-bf16", "crop 252"): 1.8,
    ("cls-bf16", "fixmatch"): 2.0,
    ("seg", "crop 126"): 1.25,
    ("cd", "crop 126"): 1.25,
    ("cls", "fixmatch"): 1.25,
}
"""By file and step: how many times as long the reference takes, which stays in fp32; views, which semikit makes in the
step and the reference's loader beside it, are left out and stand in a column of their own."""


def targets_table(folder: Path) -> Table:
    """The targets whose measurement lies in the folder, with the ratio that was found."""
    columns = ("step", "precision", "to reach", "reference / semikit", "with views")
    table = Table(*columns, box=None, header_style="bold")
    for (name, step), target in TARGETS.items():
        path = folder / f"{name}.json"
        if path.is_file():
            measured = json.loads(path.read_text())[f"step, {step}"]
            ratio, views = (measured["ratios"][kind]["median"] for kind in ("step", "with_views"))
            precision = measured["precisions"]["semikit"]
            found = f"{ratio:.2f}{'' if ratio >= target else ', missed'}"
            table.add_row(f"{name.partition('-')[0]}, {step}", precision, f"{target:g}", found, f"{views:.2f}")
    return table


if __name__ == "__main__":
    Console().print(targets_table(Path(sys.argv[1])))
