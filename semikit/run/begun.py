"""What the config.yaml of an older run does not say, for its settings came later: the run keeps what it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semikit.errors import WeightsError
from semikit.run.recipes import read_yaml

_VIEWS = {"seg": {"sampling": "anywhere"}, "cd": {"sampling": "anywhere"}, "cls": {"decode": "exact"}}


def read_begun(folder: Path) -> dict[str, Any]:
    """The configuration in a run folder, as `as_begun` completes it.

    Raises:
        InputError: there is none, or it is no YAML of plain values.
    """
    return as_begun(read_yaml(folder / "config.yaml"), folder)


def as_begun(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration `raw` of the run in `folder` with what it did where it says nothing: photos were not turned,
    values were read in the range that stands in its weights, labelled crops lay anywhere, and crops of images of one
    class were made of all pixels.
    """
    data, views = raw.get("data"), raw.get("views")
    if isinstance(views, Mapping):
        raw = {**raw, "views": {**_VIEWS.get(str(raw.get("task")), {}), **views}}
    folders = data.get("folders") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(folders, Mapping) or "orientation" in folders:
        return dict(raw)
    known: dict[str, Any] = {"orientation": "stored"}
    scale = None if folders.get("scale") is not None else _learned(folder).get("scale")
    if scale is not None:
        known["scale"] = scale
    return {**raw, "data": {**data, "folders": {**folders, **known}}}


def _learned(folder: Path) -> Mapping[str, Any]:
    """What the weights of a run say or, before it had a best, its checkpoint; nothing where neither can be read."""
    from safetensors import SafetensorError, safe_open

    from semikit.training.checkpoint import BEST, METADATA, read_last

    path = folder / "weights" / BEST
    if not path.is_file():
        try:
            known = read_last(path.parent)[0]["metadata"]
        except WeightsError:
            return {}
        return known if isinstance(known, Mapping) else {}
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, Mapping) else {}
