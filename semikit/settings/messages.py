"""Raw values -> settings; pydantic's errors -> readable sentences."""

from __future__ import annotations

import types
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from semikit.errors import ConfigError

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "path_type": "a path",
    "none_required": "null",
    "finite_number": "a finite number",
}
_CONTAINERS = {"tuple_type": "a list", "list_type": "a list", "set_type": "a list"}
_BOUNDS = {"less_than", "less_than_equal", "greater_than", "greater_than_equal"}
_MAPPINGS = {"dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"}


MEANT = {
    "learning_rate": "optimizer.lr", "lr": "optimizer.lr", "lr0": "optimizer.lr", "base_lr": "optimizer.lr",
    "backbone_lr": "optimizer.encoder_lr", "lr_backbone": "optimizer.encoder_lr", "optim": "optimizer.name",
    "wd": "optimizer.weight_decay", "weight_decay": "optimizer.weight_decay", "momentum": "optimizer.momentum",
    "lr_scheduler": "optimizer.schedule", "scheduler": "optimizer.schedule", "warmup_steps": "optimizer.warmup",
    "epochs": "train.epochs", "n_epochs": "train.epochs", "num_epochs": "train.epochs", "max_epochs": "train.epochs",
    "iterations": "train.iterations", "max_steps": "train.iterations", "max_iters": "train.iterations",
    "total_iters": "train.iterations", "num_train_iter": "train.iterations", "bs": "train.batch",
    "batch": "train.batch", "batch_size": "train.batch", "train_batch_size": "train.batch", "uratio": "train.ratio",
    "gradient_accumulation_steps": "train.accumulate", "num_workers": "train.workers", "workers": "train.workers",
    "seed": "train.seed", "random_seed": "train.seed", "device": "train.device", "amp": "train.precision",
    "fp16": "train.precision", "early_stopping": "train.patience", "patience": "train.patience",
    "eval_interval": "train.eval_every", "val_interval": "train.eval_every", "num_eval_iter": "train.eval_every",
    "save_interval": "train.save_every", "log_interval": "train.log_every", "log_freq": "train.log_every",
    "img_size": "views.weak.crop", "imgsz": "views.weak.crop", "image_size": "views.weak.crop",
    "crop_size": "views.weak.crop", "crop": "views.weak.crop", "backbone": "model.encoder",
    "encoder": "model.encoder", "head": "model.decoder", "decoder": "model.decoder", "pretrained": "model.weights",
    "conf_thresh": "method.threshold", "conf_threshold": "method.threshold", "p_cutoff": "method.threshold",
    "ema_m": "method.ema_decay", "algorithm": "method.name", "num_labels": "data.labels", "labels": "data.labels",
}  # fmt: skip
"""What settings are called elsewhere -> the key of the configuration, where it may mean one thing alone."""
_OF_CLASSES = {"views.weak.crop": "views.size"}
"""And what it is called in classification."""


def meant(name: str) -> str | None:
    """The keys, in quotes, that somebody means who gives a setting the name it has elsewhere."""
    key = MEANT.get(name.lower().replace("-", "_"))
    return key and repr(key) + (f" (cls: {_OF_CLASSES[key]!r})" if key in _OF_CLASSES else "")


def validate(model: type[M], raw: Mapping[str, Any], where: str) -> M:
    """An instance of `model` from raw values, as YAML gives them; `where` (a file, "command line") begins the message.

    Raises:
        ConfigError: with every error, one line each.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: expected a mapping (key: value), got {_shown(raw)}.")
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        text = explain(error, model)
    lines = text.split("\n")
    if len(lines) == 1:
        raise ConfigError(f"{where}: {text}")
    raise ConfigError("\n- ".join([f"{where}: {len(lines)} errors", *lines]))


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence a line for everything that is wrong, unknown keys with the nearest known ones."""
    gathered: dict[tuple[str, str], list[dict[str, Any]]] = {}
    owners: dict[str, list[type[BaseModel]]] = {}
    for item in error.errors(include_url=False):
        path, owner = _path(item["loc"], model, unknown=item["type"] == "extra_forbidden")
        owners[path] = owner
        gathered.setdefault((path, _group(item["type"])), []).append(dict(item))
    return "\n".join(_sentence(path, items, owners[path]) for (path, _), items in gathered.items())


def _group(kind: str) -> str:
    """Errors of one group at one key are alternatives of a union and share a sentence."""
    return kind if kind in {"extra_forbidden", "missing"} else "value"


def _sentence(path: str, items: list[dict[str, Any]], owner: list[type[BaseModel]]) -> str:
    item, kind = items[0], items[0]["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path, owner)
    if kind == "missing":
        return f"missing entry '{path}'" if path.endswith("]") else f"missing key '{path}'"
    if kind in {"value_error", "assertion_error"}:
        reason = item["msg"].partition(", ")[2]
        return f"invalid value for key '{path}': {reason}" if path else reason
    items = [item for item in items if item["type"] in _BOUNDS] or items  # a number out of bounds hears of these alone
    expected = " or ".join(dict.fromkeys(_expected(item) for item in items))
    word = "type" if any(_is_type(item["type"]) for item in items) else "value"
    return f"invalid {word} for key '{path}': expected {expected}, got {_shown(item['input'])}{_hint(items)}"


def _unknown_key(path: str, owner: list[type[BaseModel]]) -> str:
    """The sentence for a key that no model of `owner` has: its new name where it was renamed, else the nearest ones."""
    key = path.rpartition(".")[2]
    for model in owner:
        renamed: Mapping[str, str] = getattr(model, "RENAMED", {})
        if key in renamed:
            return f"unknown key '{path}': it is called '{renamed[key]}' now"
    other = meant(key)
    return f"unknown key '{path}'.{f' Did you mean {other}?' if other else _near(key, owner)}"


def _expected(item: dict[str, Any]) -> str:
    kind = item["type"]
    if kind == "literal_error" or kind == "enum":
        return f"one of {item['ctx']['expected']}".replace(" or ", ", ")
    if kind in {"too_long", "too_short"}:
        bound = item["ctx"].get("max_length", item["ctx"].get("min_length"))
        return f"at {'most' if kind == 'too_long' else 'least'} {bound} entries"
    if kind in _MAPPINGS:
        return "a mapping (key: value)"
    text = _EXPECTED.get(kind) or _CONTAINERS.get(kind)
    return text or str(item["msg"]).removeprefix("Input should be ").removeprefix("Input should ")


def _is_type(kind: str) -> bool:
    return kind in _EXPECTED or kind in _CONTAINERS or kind in _MAPPINGS


def _hint(items: list[dict[str, Any]]) -> str:
    """What was probably meant: the nearest allowed word, or a number that YAML read as text."""
    given = items[0]["input"]
    if not isinstance(given, str):
        return ""
    allowed = [part.strip("'") for i in items if i["type"] == "literal_error" for part in _words(i["ctx"]["expected"])]
    near = get_close_matches(given, allowed, n=1, cutoff=0.5)
    if near:
        return f". Did you mean '{near[0]}'?"
    if any(item["type"] in {"float_type", "int_type"} for item in items) and _is_number(given):
        return "; YAML reads 1e-4 as text, write 1.0e-4" if "e" in given.lower() else "; write it without quotes"
    return ""


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _near(key: str, owner: list[type[BaseModel]]) -> str:
    known = sorted({name for model in owner for name in model.model_fields})
    near = get_close_matches(key, known, n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(repr(name) for name in near)}?"
    return f" Known here: {', '.join(known)}." if known else ""


def _shown(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _path(loc: tuple[str | int, ...], model: type[BaseModel], unknown: bool) -> tuple[str, list[type[BaseModel]]]:
    """Pydantic's location as `a.b[0]`, without the names of union members, and the models its last key belongs to."""
    path, owner = "", [model]
    current: list[Any] = [model]
    for position, piece in enumerate(loc):
        inner = _inside(current, piece)
        if inner is None and not (unknown and position == len(loc) - 1):
            continue
        path += f"[{piece}]" if isinstance(piece, int) and not _has_mapping(current) else f".{piece}"
        owner = [item for item in current if isinstance(item, type) and issubclass(item, BaseModel)]
        current = inner or []
    return path.lstrip("."), owner


def _has_mapping(annotations: list[Any]) -> bool:
    return any(_is_mapping(get_origin(item)) for item in annotations)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _inside(annotations: list[Any], piece: str | int) -> list[Any] | None:
    """What lies under `piece` in values of these types; None where it is no key of theirs (a union member's name)."""
    found: list[Any] = []
    for item in annotations:
        origin, arguments = get_origin(item), get_args(item)
        if isinstance(item, type) and issubclass(item, BaseModel):
            if piece in item.model_fields:
                found += _members(item.model_fields[str(piece)].annotation)
        elif _is_mapping(origin):
            # Not keys: "[key]" after a bad key, and "dict[int,str]" naming the member of a union.
            if piece != "[key]" and not (len(annotations) > 1 and "[" in str(piece)):
                found += _members(arguments[1])
        elif origin in {tuple, list} and isinstance(piece, int):
            found += _members(arguments[min(piece, len(arguments) - 1)] if arguments[-1] is not ... else arguments[0])
    return found or None


def _members(annotation: Any) -> list[Any]:
    """The types of a union, bare, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation]
