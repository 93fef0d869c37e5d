"""Recipes: plain values from YAML, laid over one another. Nothing here knows what the values mean.

Layers, each over the one before: the task's recipe (`configs/<task>.yaml`), the data set's
(`configs/datasets/<name>.yaml`), a preset's or the user's own file, then flags and key=value. What a layer changes for
one method (`by_method`) or encoder (`by_encoder`, patterns) lies just above it; its `methods` are settings by method,
those of `all` for each that has them, and of flags and key=value lie over all recipes; a shipped recipe for several
tasks says under `by_task` what differs.

A preset is a file of `configs/presets/`, or the recipe of a data set at one of its official splits with one of the
encoders its `sizes` name: `pascal-92-dinov2-s`, or one of USB's recipes: `usb-fixmatch-cifar10-40`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, TypeGuard

from semikit.errors import ConfigError, unknown
from semikit.registry import METHODS
from semikit.settings.yaml_text import parse

RECIPES = Path(__file__).parents[1] / "configs"

METHOD = "unimatch_v2"
"""The method where none is named."""
_VARIANTS = {"by_method": ("method", "name", METHOD), "by_encoder": ("model", "encoder", "")}
"""What a layer changes by a name, and where that name stands: section and key; and the name where there is none."""
_ALL = "all"
"""In place of a method's name, under `methods`."""
_LENGTHS = ("iterations", "epochs")
_OF_ENCODER = ("encoder_args", "encoder_layers", "output_stride", "decoder_widths")


def task_recipe(task: str) -> dict[str, Any]:
    """The recipe every run of a task begins with; empty for a task that ships none."""
    path = RECIPES / f"{task}.yaml"
    return _read_shipped(path) if path.is_file() else {"task": task}


def recipe_names(folder: str, task: str | None = None) -> list[str]:
    """Names of the shipped recipes in a folder of `configs/` ("datasets", "presets"), of one task if given; a preset
    without a task is for all of them.
    """
    paths = sorted((RECIPES / folder).glob("*.yaml"))
    named = [path.stem for path in paths if task is None or _shipped(path).get("task", task) == task]
    return named if folder == "datasets" else [*named, *_cells(task)]


def listed(folder: str) -> list[tuple[str, str, str]]:
    """Name, task and what it is about of the shipped recipes in a folder; of many that a name is put together for, one
    line that says of what: usb-{fixmatch,flexmatch}-cifar10-{40,250}.
    """
    cells = _cells(None) if folder == "presets" else {}
    found = {}
    for name in recipe_names(folder):
        shown, about = cells.get(name, {}).get("family", (name, ""))
        if shown not in found:
            raw = read_recipe(folder, name)
            found[shown] = shown, str(raw.get("task", "")), about or str(raw.get("about", ""))
    return [*found.values()]


def _cells(task: str | None) -> dict[str, dict[str, Any]]:
    """Presets that are a data set's recipe at an official split with one encoder, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name in recipe_names("datasets", task):
        raw = _read_shipped(RECIPES / "datasets" / f"{name}.yaml")
        splits, sizes = {str(one).replace("/", "_"): one for one in raw.get("official", ())}, raw.get("sizes", {})
        family = f"{name}-{_any(splits)}-{_any(sizes)}", f"{name}: its official splits, DINOv2"
        for (text, split), (size, encoder) in product(splits.items(), sizes.items()):
            above = {"data": {"labels": f"official:{split}"}, "model": {"encoder": encoder}}
            about = f"{name}, official split {split}, {encoder}"
            found[f"{name}-{text}-{size}"] = {"about": about, "family": family, "based_on": name, **above}
    return found | (_usb() if task in (None, "cls") else {})


def _any(values: Iterable[Any]) -> str:
    """What a part of a name may be, as a shell writes it: dinov2-{s,b,l}."""
    texts = list(map(str, values))
    same = texts[0][: texts[0].rfind("-") + 1] if texts else ""
    same = same if all(text.startswith(same) for text in texts) else ""
    return f"{same}{{{','.join(text.removeprefix(same) for text in texts)}}}"


def _usb() -> dict[str, dict[str, Any]]:
    """Presets that are a recipe of USB: method, data set and number of labels."""
    raw, found = _read_shipped(RECIPES / "usb.yaml"), dict[str, dict[str, Any]]()
    for method, (name, own) in product(raw["methods"], raw["datasets"].items()):
        family = f"usb-{_any(raw['methods'])}-{name}-{_any(own['labels'])}", f"{name}: USB's recipes, by labels"
        settings = {"name": method, **raw["methods"][method], **own.get("methods", {}).get(method, {})}
        for labels in own["labels"]:
            about = f"{name}, {labels} labels, {method} as in USB"
            above = {"about": about, "family": family, "based_on": name, "data": {"labels": labels}, "method": settings}
            for layer in (raw["settings"], own.get("settings", {}), raw["by_method"].get(method, {})):
                above = merge(above, layer)
            found[f"usb-{method}-{name}-{labels}"] = above
    return found


def read_recipe(folder: str, name: str, task: str | None = None) -> dict[str, Any]:
    """A shipped recipe by name, laid over the preset it is `based_on`, if any.

    Raises:
        UnknownNameError: with the nearest known names.
        ConfigError: it is one of another task.
    """
    known = recipe_names(folder, task)
    kind = {"datasets": "data set", "presets": "preset"}.get(folder, folder)
    if name not in known and name in recipe_names(folder):
        raise ConfigError(f"{name} is a {kind} of another task: semikit train {read_recipe(folder, name)['task']} …")
    if name not in known:
        raise unknown(kind, name, known, first=[path.stem for path in (RECIPES / folder).glob("*.yaml")])
    path = RECIPES / folder / f"{name}.yaml"
    raw = _read_shipped(path) if path.is_file() else _cells(task)[name]
    for key in ("official", "sizes", "family"):
        raw.pop(key, None)
    raw = merge(raw, raw.pop("by_task", {}).get(task, {}))
    base = raw.pop("based_on", None)
    if base is None:
        return raw
    return merge(read_recipe("presets" if path.is_file() else "datasets", base, task), raw)


def compose(
    task: str,
    dataset: str | None = None,
    preset: str | None = None,
    config: Path | None = None,
    above: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All layers of a run's configuration, laid over one another.

    `own` are the user's own data, in place of a named data set; `above` are flags and key=value.

    Raises:
        InputError: when a name is not known, or the recipe is one of another task.
    """
    above = above or {}
    named = read_recipe("datasets", dataset, task) if dataset is not None else dict(own or {})
    raw: dict[str, Any] = {}
    layers = (
        task_recipe(task),
        {} if own else named,
        read_recipe("presets", preset, task) if preset is not None else {},
        read_yaml(config) if config is not None else {},
        own or {},
    )
    for layer in (*layers, above):
        _refuse_unreadable(layer)
    _refuse_two_sets(_published(named), layers)
    named_by = {key: _first_name((above, *reversed(layers)), *place) for key, place in _VARIANTS.items()}
    for layer in layers:
        raw = merge(raw, _by_name({key: value for key, value in layer.items() if key not in _VARIANTS}))
        for key, name in named_by.items():
            for pattern, variant in (layer.get(key) or {}).items():
                raw = merge(raw, _by_name(variant or {}) if fnmatch.fnmatchcase(name, str(pattern)) else {})
    raw = lay_over(merge(raw, _only_source(named, raw)), above)
    if raw.get("task") != task:
        raise ConfigError(f"this recipe is for the task {raw.get('task')!r}: semikit train {raw.get('task')} …")
    return raw


def lay_over(raw: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` below flags and key=value, of which what `methods` hold for its method is among the method's settings.

    Raises:
        ConfigError: `methods` are not as described.
    """
    name = _first_name((above, raw), *_VARIANTS["by_method"])
    above = _by_name(above)
    if own := (above.get("methods") or {}).get(name):
        above = merge({"method": {"name": name, **own}}, above)
    return merge(raw, above)


def _by_name(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The layer in which what `methods` hold for all stands under the name of each method that has it, below its own.

    Raises:
        ConfigError: there are no mappings, or names or settings that no method has.
    """
    if (methods := layer.get("methods")) is None:
        return layer
    _refuse_values({"methods": methods})
    _refuse_values({f"methods.{key}": value for key, value in methods.items()})
    if strange := [key for key in methods if key not in (_ALL, *METHODS.names())]:
        raise ConfigError(f"methods: {unknown('method', strange[0], [_ALL, *METHODS.names()])}")
    if not (values := methods.get(_ALL)):
        return layer
    fields = {name: METHODS.get(name).Config.model_fields for name in METHODS.names()}
    known = {key for one in fields.values() for key in one}
    if strange := [key for key in values if key not in known]:
        raise ConfigError(f"methods.{_ALL}: {unknown('setting of a method', strange[0], known)}")
    named = {name: {key: value for key, value in values.items() if key in one} for name, one in fields.items()}
    return {**layer, "methods": merge(named, {key: value or {} for key, value in methods.items() if key != _ALL})}


def _refuse_unreadable(layer: Mapping[str, Any]) -> None:
    """Raise where what is read before the whole is validated has another shape, or is for a method there is not."""
    mappings = {"data": layer.get("data")}
    for key in _VARIANTS:
        mappings[key] = variants = layer.get(key)
        if isinstance(variants, Mapping):
            mappings |= {f"{key}.{name}": variant for name, variant in variants.items()}
    _refuse_values(mappings)
    names = METHODS.names()
    if strange := [str(one) for one in layer.get("by_method") or () if not fnmatch.filter(names, str(one))]:
        raise ConfigError(f"by_method: {unknown('method', strange[0], ['*', *names])}")


def _refuse_values(mappings: Mapping[str, Any]) -> None:
    """Raise where what stands under a key is a value and no mapping; null is none."""
    for key, value in mappings.items():
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected a mapping (key: value), got {value!r}.")


def _first_name(layers: Iterable[Mapping[str, Any]], section: str, key: str, default: str) -> str:
    """The first text that a layer holds under `section.key`; `default` where none does."""
    found = (values.get(key) for layer in layers if isinstance(values := layer.get(section), Mapping))
    return next((name for name in found if isinstance(name, str)), default)


def _refuse_two_sets(dataset: str | None, layers: Iterable[Mapping[str, Any]]) -> None:
    """Raise where a data set is named and a recipe is one of another: crop, labels and length belong to it."""
    for layer in layers:
        other = _published(layer)
        if dataset is not None and other not in (None, dataset):
            raise ConfigError(f"--dataset {dataset}, but the recipe is one of {other}. Leave out one of the two.")


def _published(raw: Mapping[str, Any]) -> str | None:
    """The published data set a layer is for."""
    published = (raw.get("data") or {}).get("published")
    return published.get("name") if isinstance(published, Mapping) else None


def _only_source(named: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the data that were named on the command line take the place of a whole recipe's own."""
    data = raw.get("data") or {}
    wanted = {key: value for key, value in named.get("data", {}).items() if isinstance(value, dict)}
    others = {key: None for key, value in data.items() if isinstance(value, dict) and key not in wanted}
    absent = {key: value for key, value in wanted.items() if data.get(key) is None}
    return {"name": named["name"], "data": {**others, **absent}} if wanted and (others or absent) else {}


@lru_cache(maxsize=256)
def _shipped(path: Path) -> dict[str, Any]:
    return read_yaml(path)


def _read_shipped(path: Path) -> dict[str, Any]:
    """A recipe of ours, which is read once; a copy that may be changed."""
    return deepcopy(_shipped(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: when there is no such file, or it is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}. Give the path of a YAML file.")
    raw = parse(path.read_bytes(), str(path))
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
            value = parse(text, key)
        except ConfigError as error:
            raise ConfigError(f"cannot read the value of {item!r}: {error}") from None
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    return nested


def difference(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Lines `section.key: old -> new` for all values that differ between two plain configurations, also between the
    mappings of two lists of as many.
    """
    lines: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += difference(a, b, f"{where}{key}.")
        elif _mappings(a) and _mappings(b) and len(a) == len(b):
            for one, other in zip(a, b, strict=True):
                lines += difference(one, other, f"{where}{key}.")
        elif a != b:
            lines.append(f"{where}{key}: {a!r} -> {b!r}")
    return lines


def _mappings(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
