"""Recipes: plain values from YAML, laid over one another. Nothing here knows what the values mean.

Layers, each over the one before: the task's recipe (`configs/<task>.yaml`), the data set's
(`configs/datasets/<name>.yaml`), a preset's or the user's own file, then flags and key=value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from semikit.errors import ConfigError, unknown

RECIPES = Path(__file__).parent / "configs"

_LENGTHS = ("iterations", "epochs")
_OF_ENCODER = ("encoder_args", "encoder_layers", "output_stride", "decoder_widths")


def task_recipe(task: str) -> dict[str, Any]:
    """The recipe every run of a task begins with; empty for a task that ships none."""
    path = RECIPES / f"{task}.yaml"
    return read_yaml(path) if path.is_file() else {"task": task}


def recipe_names(folder: str, task: str | None = None) -> list[str]:
    """Names of the shipped recipes in a folder of `configs/` ("datasets", "presets"), of one task if given."""
    paths = sorted((RECIPES / folder).glob("*.yaml"))
    return [path.stem for path in paths if task is None or read_yaml(path).get("task") == task]


def read_recipe(folder: str, name: str, task: str | None = None) -> dict[str, Any]:
    """A shipped recipe by name, laid over the preset it is `based_on`, if any.

    Raises:
        UnknownNameError: with the nearest known names.
    """
    known = recipe_names(folder, task)
    if name not in known:
        raise unknown({"datasets": "data set", "presets": "preset"}.get(folder, folder), name, known)
    raw = read_yaml(RECIPES / folder / f"{name}.yaml")
    base = raw.pop("based_on", None)
    return raw if base is None else merge(read_recipe("presets", base, task), raw)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: when there is no such file, or it is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}. Give the path of a YAML file.")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, not {type(raw).__name__}.")
    return raw


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, mapping by mapping.

    Naming another method or encoder drops what was set for the former one; naming one length of a run (iterations or
    epochs) drops the other.
    """
    merged = dict(below)
    if below.get("encoder") not in (None, above.get("encoder", below.get("encoder"))):
        merged = {key: value for key, value in merged.items() if key not in _OF_ENCODER}
    for one, other in (_LENGTHS, _LENGTHS[::-1]):
        if above.get(one) is not None and above.get(other) is None and other in merged:
            merged[other] = None
    for key, value in above.items():
        former = merged.get(key)
        if key == "method" and isinstance(former, dict) and isinstance(value, dict) and _renamed(former, value):
            merged[key] = dict(value)
        elif isinstance(former, dict) and isinstance(value, dict) and key != "folders":
            merged[key] = merge(former, value)
        else:
            merged[key] = value
    return merged


def _renamed(former: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "name" in value and value["name"] != former.get("name")


def parse_overrides(items: Iterable[str]) -> dict[str, Any]:
    """`["method.threshold=0.9", "train.batch=4"]` -> nested mapping; values are read as YAML.

    Raises:
        ConfigError: for an item without `=` or with an empty key.
    """
    nested: dict[str, Any] = {}
    for item in items:
        key, sign, text = item.partition("=")
        if not sign or not re.fullmatch(r"\w+(\.\w+)*", key):
            raise ConfigError(f"cannot read {item!r}: overrides look like method.threshold=0.9 (section.key=value).")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot read the value of {item!r}: {error}") from error
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested


def difference(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Lines `section.key: old -> new` for all values that differ between two plain configurations."""
    lines: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{where}{key}.")
        elif a != b:
            lines.append(f"{where}{key}: {a!r} -> {b!r}")
    return lines
