from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from benchmarks.step.targets import targets_table


def test_what_was_measured_stands_beside_what_is_aimed_at(tmp_path: Path) -> None:
    for name, step, ratio in (("seg-bf16", "crop 126", 1.9), ("cls-bf16", "fixmatch", 2.4)):
        ratios = {"step": {"median": ratio}, "with_views": {"median": ratio - 0.1}}
        measured = {"ratios": ratios, "precisions": {"semikit": "bf16"}}
        crops = {f"step, crop {side}": measured for side in (266, 518)}
        (tmp_path / f"{name}.json").write_text(json.dumps({**crops, f"step, {step}": measured}))
    console = Console(record=True, width=100)
    console.print(targets_table(tmp_path))
    told = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "seg, crop 126 bf16 2 1.90, missed 1.80" in told
    assert "cls, fixmatch bf16 2 2.40 2.30" in told
    assert not any(line.startswith("cd") for line in told)
