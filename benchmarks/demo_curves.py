"""Curves and table of the demo at several numbers of labels, from the run folders of `semikit demo`.

    python benchmarks/demo_curves.py OUT.png 30=runs/demo-30 60=runs/demo-60 ... [all=runs/demo-all]

Each folder holds seed-N/SIDE as `semikit demo --seeds 0,1,2 --labels L --out DIR` writes them (for "all", the seed-N of
`semikit train --method supervised --seeds`). Prints a table in Markdown; every number is on the test images, which the
run read once, by the network that was best on the validation images.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from semikit.training.tracking import read_rows

SIDES = {"labelled-only": "#8a8a8a", "semi-supervised": "#1f6fb4"}


def main(out: Path, named: Sequence[tuple[str, Path]]) -> None:
    """Draw one panel per number of labels and print the table."""
    figure = Figure(figsize=(3.6 * len(named), 3.4), layout="constrained")
    axes = figure.subplots(1, len(named), sharey=True, squeeze=False)[0]
    metric = json.loads(next(named[0][1].rglob("results.json")).read_text())["metric"]
    print("| labels | labelled-only | semi-supervised | difference |\n|---|---:|---:|---:|")
    for panel, (name, folder) in zip(axes, named, strict=True):
        tested = {}
        for side, colour in SIDES.items():
            runs = sorted(folder.glob(f"seed-*/{side}")) or (
                sorted(folder.glob("seed-*")) if side == "labelled-only" and name == "all" else []
            )
            for number, run in enumerate(runs):
                rows = read_rows(run)
                values = [max(row[f"student_{metric}"], row[f"teacher_{metric}"]) for row in rows]
                label = side if number == 0 else None
                panel.plot([row["iteration"] for row in rows], values, color=colour, label=label, linewidth=1.4)
            tested[side] = [json.loads((run / "results.json").read_text())["test"][metric] for run in runs]
        panel.set_title(f"{name} labelled images", fontsize=10, loc="left")
        panel.set_xlabel("iteration")
        panel.grid(alpha=0.25)
        print(row_of(name, tested))
    axes[0].set_ylabel(f"validation {metric} (%)")
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=110)


def row_of(name: str, tested: dict[str, list[float]]) -> str:
    """A line of the table: mean ± standard deviation over seeds, and the values."""
    cells = []
    for values in tested.values():
        listed = ", ".join(f"{value:.1f}" for value in values)
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.1f}{spread} ({listed})" if values else "-")
    few, semi = tested.values()
    gain = f"{statistics.mean(semi) - statistics.mean(few):+.1f}" if semi else "-"
    return f"| {name} | {' | '.join(cells)} | {gain} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), [(name, Path(path)) for name, _, path in (item.partition("=") for item in sys.argv[2:])])
