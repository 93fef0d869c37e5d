"""A run's configuration: one object that is never changed, its sections validated by the classes that own them.

All errors of all sections are gathered into one message. Where the values come from: `semikit.run.recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from semikit.errors import ConfigError, InputError, unknown
from semikit.models.settings import ChannelAttentionSettings, EncoderSettings, ModelSettings
from semikit.registry import METHODS, TASKS
from semikit.run.begun import as_begun
from semikit.run.recipes import METHOD, difference, merge
from semikit.settings.base import Settings
from semikit.settings.messages import meant, validate
from semikit.settings.yaml_text import expand
from semikit.training.settings import OptimizerSettings, TrainSettings

FORMAT = 2
"""Of config.yaml and of checkpoints; files without a number have format 1. It rises when a run that was begun before
cannot be gone on with as the same run: 2, when the state of the methods in a checkpoint changed."""

_SECTIONS = ("data", "model", "method", "views", "evaluate", "optimizer", "train")

FREE = (
    *(
        "train.device:",
        "train.workers:",
        "train.log:",
        "train.log_every:",
        "train.save_every:",
        "train.compile:",
        "train.shard:",
    ),
    *("train.max_bad_files:", "model.checkpointing:", "name:", "views.cache:", "views.cache_gb:"),
    "method.teacher.run:",
)
"""What may differ when a run is resumed: it does not change what is learned."""

_TOLD = (
    *("optimizer.lr:", "optimizer.encoder_lr:", "train.precision:", "train.max_skipped:"),
    *("train.accumulate:", "train.reduce_dtype:", "train.guard:", "train.patience:"),
)
"""What may differ too, so that a run that diverged, was warned of or is shared otherwise can go on; it is reported and
recorded."""
LENGTHS = ("train.iterations:", "train.epochs:")
"""And the length, so that a run can be made longer: its schedules go on as those of the new length."""


CHOSEN = "chosen"
"""Key of plain values under which `--preset auto` says what it chose; it is not written."""


@final
class Chosen(dict[str, str]):
    """Choices of `--preset auto` with their reasons, by what was chosen."""


class _Dumper(yaml.SafeDumper):
    """Texts with line breaks and the like between double quotes: others do not always come back as they were."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')


_Dumper.add_representer(str, _text)


@final
@dataclass(frozen=True, slots=True)
class Config:
    """Everything that decides a run; `method` is the settings object of the method called `method_name`. `chosen` says
    in words what `--preset auto` chose.
    """

    task: str
    name: str
    method_name: str
    data: Settings
    model: EncoderSettings
    method: Settings
    views: Settings
    evaluate: Settings
    optimizer: OptimizerSettings
    train: TrainSettings
    chosen: Mapping[str, str] = field(default_factory=dict, compare=False)

    def to_raw(self) -> dict[str, Any]:
        """Plain values that `resolve` turns into an equal configuration."""
        raw: dict[str, Any] = {"task": self.task, "name": self.name}
        for section in _SECTIONS:
            raw[section] = getattr(self, section).model_dump(mode="json")
        raw["method"] = {"name": self.method_name, **raw["method"]}
        return raw

    def to_yaml(self) -> str:
        """The resolved configuration as text; `semikit train --config` takes it back."""
        return yaml.dump(
            {"format": FORMAT, **self.to_raw()}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110
        )


def resolve(raw: Mapping[str, Any]) -> Config:
    """Plain values -> a validated configuration.

    `methods` may hold settings for several methods, of which the one named by `method.name` is used.

    Raises:
        ConfigError: every unknown key, missing key and wrong value of all sections, one line each.
    """
    raw = dict(raw)
    chosen = raw.pop(CHOSEN) if isinstance(raw.get(CHOSEN), Chosen) else {}
    raw = expand(_written(raw), "the configuration")
    task_class = TASKS.get(str(raw.get("task", "")))
    method_raw = _mapping(raw, "method")
    name = str(method_raw.pop("name", METHOD))
    method_class = METHODS.get(name)
    method_raw = merge(_mapping(_mapping(raw, "methods"), name), method_raw)
    errors = _unknown_sections(raw)
    if not isinstance(raw.get("name", "run"), str | int | float):
        errors.append(f"name: expected a text, got {raw['name']!r}")
    parts: dict[str, Any] = {}
    for section, owner in {
        "data": task_class.Data,
        "model": task_class.Model,
        "method": method_class.Config,
        "views": task_class.Views,
        "evaluate": task_class.Evaluate,
        "optimizer": OptimizerSettings,
        "train": TrainSettings,
    }.items():
        values = method_raw if section == "method" else raw.get(section) or {}
        try:
            parts[section] = validate(owner, values, section)
        except InputError as error:
            errors.append(str(error))
    if errors:
        raise ConfigError("\n".join(errors))
    model = parts["model"]
    if method_class.requirements(parts["method"]).channel_attention and isinstance(model, ModelSettings):
        attention = model.channel_attention or ChannelAttentionSettings()
        parts["model"] = model.model_copy(update={"channel_attention": attention})
    return Config(task=str(raw["task"]), name=str(raw.get("name", "run")), method_name=name, **parts, chosen=chosen)


def resumable(folder: Path, before: Mapping[str, Any], config: Config) -> list[str]:
    """What is other than in the configuration `before` (plain values) that the run in `folder` was trained with, and
    has to be reported and recorded; one line each.

    Raises:
        ConfigError: for any change that would make it another run.
    """
    # What `before` does not name has its default: a setting that was added later changes nothing.
    completed = as_begun(before, folder)
    begun = resolve(completed).to_raw()
    # An older run did not record the range it had sampled; it is sampled again.
    sampled = completed.get("data") != before.get("data") and begun["data"]["folders"].get("scale") is None
    # What the two files name is compared with the split, wherever they lie.
    free = (*FREE, "data.also_labeled:", "data.only:", *(["data.folders.scale"] if sampled else []))
    lines = [line for line in difference(begun, config.to_raw()) if not line.startswith(free)]
    wrong = [line for line in lines if not line.startswith((*_TOLD, *LENGTHS))]
    if wrong:
        raise ConfigError(
            f"{folder} was trained with another configuration:\n  " + "\n  ".join(wrong) + "\nResume without these "
            "changes, or begin a new run with another --out."
        )
    return lines


def _mapping(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: expected a mapping (key: value), got {value!r}. A method is named by method.name.")
    return dict(value)


def _unknown_sections(raw: Mapping[str, Any]) -> list[str]:
    known = ["format", "task", "name", "methods", "about", *_SECTIONS]
    return [_unknown_section(str(key), known) for key in raw if key not in known]


def _unknown_section(key: str, known: Sequence[str]) -> str:
    other = meant(key)
    if other is None:
        return str(unknown("section of the configuration", key, known))
    return f"unknown section of the configuration {key!r}. Did you mean {other}?"


def _written(value: Any) -> Any:
    """The same values, whose keys can be written to a file.

    Raises:
        ConfigError: a key cannot.
    """
    if isinstance(value, list):
        return [_written(item) for item in value]
    if not isinstance(value, dict):
        return value
    for key in value:
        if isinstance(key, str) and any("\ud800" <= letter <= "\udfff" for letter in key):
            raise ConfigError(f"the configuration has the key {key!r}, which is no text (half of a surrogate pair).")
    return {key: _written(item) for key, item in value.items()}
