"""Options several commands share, and how flags become overrides of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Dataset = Annotated[str | None, typer.Option(help="A known data set by name (semikit list datasets).")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Your own images, described by a YAML file, or a folder (cd: train/A, train/B …; cls: train/CLASS …)."
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder that relative paths of the data begin at.")]
Device = Annotated[str | None, typer.Option(help="auto | cpu | cuda | mps")]
Precision = Annotated[str | None, typer.Option(help="fp32 | bf16 | fp16")]
QuietFlag = Annotated[bool, typer.Option("--quiet", help="Print results only.")]

KEYS: Mapping[str, str] = {
    "labels": "data.labels",
    "unlabeled": "data.unlabeled",
    "encoder": "model.encoder",
    "decoder": "model.decoder",
    "weights": "model.weights",
    "method": "method.name",
    "iterations": "train.iterations",
    "epochs": "train.epochs",
    "batch": "train.batch",
    "seed": "train.seed",
    "device": "train.device",
    "precision": "train.precision",
    "compile": "train.compile",
    "protocol": "train.protocol",
    "eval_every": "train.eval_every",
    "save_every": "train.save_every",
    "workers": "train.workers",
    "crop": "views.weak.crop",
}
"""Flag -> key of the configuration."""


KEYS_OF_TASK: Mapping[str, Mapping[str, str]] = {"cls": {"crop": "views.size"}}
"""Task -> flags that mean another key there."""


def flag_overrides(flags: Mapping[str, Any], task: str = "") -> dict[str, Any]:
    """Nested overrides for the flags that were given (not None)."""
    keys = {**KEYS, **KEYS_OF_TASK.get(task, {})}
    nested: dict[str, Any] = {}
    for flag, value in flags.items():
        if value is None or value == []:
            continue
        *path, last = keys[flag].split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = _located(flag, value)
    return nested


def _located(flag: str, value: Any) -> Any:
    """Files and folders as absolute paths, so that the written configuration works from any folder."""
    if flag == "unlabeled":
        return [text if _is_published(text) else str(Path(text).absolute()) for text in value]
    if flag in ("labels", "weights") and not re.fullmatch(r"\d+(/\d+)?", value) and Path(value).is_file():
        return str(Path(value).absolute())
    return value


def _is_published(text: str) -> bool:
    from semikit.data.published.catalogue import published_names

    return text.partition(":")[0] in published_names() and not Path(text).is_dir()
