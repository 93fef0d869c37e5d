"""`semikit evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.cli.output import check_json, progress_bar, write_json
from semikit.run.compose import check_scoring
from semikit.run.folder import existing_run


def evaluate(
    run: Annotated[
        Path, typer.Argument(help="A run folder (or: last), a weights file, or a released checkpoint (.pth).")
    ],
    dataset: o.Dataset = None,
    data: o.Data = None,
    root: o.Root = None,
    split: Annotated[str, typer.Option(help="val | test")] = "val",
    average: Annotated[str | None, typer.Option(help="paper: absent classes count 0 | present: are left out")] = None,
    window: Annotated[str | None, typer.Option(help="original: the whole image | sliding")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="P|CLASS=P|auto",
            help="seg, cd: a class, of change any, from this probability on, as of predict; auto: the best one for "
            "change on these images (default: that of the run).",
        ),
    ] = None,
    objects: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="seg, cd: also score the connected areas of this class, its objects; repeatable (cd: all changes).",
        ),
    ] = None,
    objects_min_pixels: Annotated[int | None, typer.Option(help="Areas of fewer pixels are no objects.")] = None,
    tta: o.Tta = None,
    ensemble: o.Ensemble = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores as JSON.")] = None,
    device: o.Device = None,
    precision: o.Precision = None,
    quiet: o.QuietFlag = False,
) -> None:
    """Score a trained model on validation or test images."""
    check_scoring(split, average, window)
    run, *others = [existing_run(one) for one in (run, *(ensemble or ()))]  # before anything heavy is imported
    check_json(json_file)
    from semikit.cli.console import class_table, say_absent, shown
    from semikit.core.task import at_threshold
    from semikit.registry import TASKS
    from semikit.run.evaluate import score

    with progress_bar(quiet) as progress:
        scores, facts = score(
            run, dataset=dataset, data=data, root=root, split=split, average=average, window=window,
            threshold=_threshold(threshold), objects=objects or None, objects_min_pixels=objects_min_pixels,
            ensemble=others, tta=tta or "none", device=device, precision=precision, progress=progress,
        )  # fmt: skip
    if json_file is not None:  # first: a reader of the table may close the pipe
        write_json(json_file, {"metric": scores.metric, "value": scores.value, **facts, **scores.plain()})
    console = Console()
    value = f"{scores.value:.2f}{at_threshold(scores.threshold)}"
    line = f"{scores.metric} {value} on {split} of {facts['data']} ({facts['images']} images)"
    console.print(line, highlight=False, markup=False)
    if not quiet:
        console.print(class_table(scores.per_class, TASKS.get(facts["task"]).per_class, scores.class_scores))
        say_absent(scores.per_class, facts["evaluation"].get("average"), console)
        for key, score_of_key in scores.extra.items():
            console.print(f"{key} {shown(score_of_key)}", highlight=False)
        for notice in [*facts["notices"], *facts["unused_files"]]:
            console.print(f"note: {notice}", soft_wrap=True, highlight=False, markup=False)
        console.print(_made_by(facts), soft_wrap=True, highlight=False, markup=False)


def _threshold(given: Sequence[str] | None) -> str | Sequence[str] | None:
    return given[0] if given and len(given) == 1 else given or None


def _made_by(facts: Mapping[str, Any]) -> str:
    """What the number was made with, in one line."""
    file = facts["checkpoint"]
    how = "".join(f", {name} {value}" for name, value in facts["evaluation"].items() if value is not None)
    whose = f"{facts['model']}, chosen by protocol {facts['protocol']}" if facts["model"] else "weights"
    how += "" if facts["tta"] == "none" else f", tta {facts['tta']}"
    how += "".join(f", averaged with {other['path']}" for other in facts["ensemble"])
    return f"{whose}{how}: {file['path']} (sha256 {file['sha256'][:12]})"
