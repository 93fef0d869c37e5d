"""From what is asked for (flags, keywords, data of one's own) to the plain values of a whole configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from semikit.errors import InputError, unknown
from semikit.registry import METHODS, TASKS
from semikit.run import recipes
from semikit.run.begun import read_begun
from semikit.run.folder import existing_run, find_run

AUTO = "auto"
"""The preset that `semikit.run.auto` chooses."""

KEYS: Mapping[str, str] = {
    "labels": "data.labels",
    "unlabeled": "data.unlabeled",
    "fold": "data.fold",
    "encoder": "model.encoder",
    "decoder": "model.decoder",
    "weights": "model.weights",
    "accept_licence": "model.accept_licence",
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
    "patience": "train.patience",
    "log": "train.log",
    "start_from": "train.start_from",
    "teacher": "method.teacher",
    "workers": "train.workers",
    "crop": "views.weak.crop",
}
"""Flag -> key of the configuration."""


KEYS_OF_TASK: Mapping[str, Mapping[str, str]] = {"cls": {"crop": "views.size"}}
"""Task -> flags that mean another key there."""


_OF_A_NEW_RUN = ("dataset", "data", "root", "config", "preset", "out", "seeds")
_NO_FLAGS = (*_OF_A_NEW_RUN, "gpus", "resume", "accept_data_changes", "settings", "reporter")


def asked(task: str, **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration that keywords of `train` ask for, as plain values, and what they lay over recipes or a run."""
    TASKS.check(task)
    if "method" in given:
        METHODS.check(given["method"])
    _check_types(given)
    flags = {name: value for name, value in given.items() if name not in _NO_FLAGS}
    flags |= {name: str(flags[name]) for name in ("labels", "weights") if name in flags}
    if "unlabeled" in flags:
        places = flags["unlabeled"]
        flags["unlabeled"] = [str(place) for place in ([places] if isinstance(places, str | PathLike) else places)]
    above = recipes.merge(flag_overrides(flags, task), _nested(given.get("settings", {})))
    if "seeds" in given and isinstance(above.get("train"), Mapping) and "seed" in above["train"]:
        numbers = ",".join(map(str, given["seeds"]))
        raise InputError(
            f"both --seeds {numbers} and one seed, {above['train']['seed']}, were given; give one of them."
        )
    if given.get("accept_data_changes") and "resume" not in given:
        raise InputError("--accept-data-changes is for a run that goes on: give it with --resume RUN, or leave it out.")
    if "resume" in given:
        wrong = [f"--{name}" for name in _OF_A_NEW_RUN if name in given]
        if wrong:
            raise InputError(f"--resume takes data and recipe from the run; leave out {', '.join(wrong)}.")
        return recipes.lay_over(read_begun(find_run(task, str(given["resume"]))), above), above
    data = given.get("data")
    raw = compose(
        task,
        dataset=given.get("dataset"),
        data=Path(data) if isinstance(data, str | PathLike) else data,
        root=_path(given.get("root")),
        config=_path(given.get("config")),
        preset=given.get("preset"),
        above=above,
        processes=given.get("gpus", 1),
    )
    return raw, above


def _check_types(given: Mapping[str, Any]) -> None:
    gpus = given.get("gpus", 1)
    if not _is_number(gpus) or gpus < 1:
        raise InputError(f"--gpus takes a number of processes, 1 or more; got {gpus!r}.")
    if "seeds" in given:
        check_seeds(given["seeds"])
    if not isinstance(given.get("data", {}), str | PathLike | Mapping):
        raise InputError(f"--data takes a path or a mapping with the content of a data YAML; got {given['data']!r}.")


def check_seeds(seeds: Sequence[Any]) -> list[int]:
    """The seeds of several runs.

    Raises:
        InputError: none, or anything but different whole numbers.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds or not all(map(_is_number, seeds)):
        raise InputError(f"--seeds takes different whole numbers, 0,1,2 or (0, 1, 2); got {seeds!r}.")
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds takes different whole numbers, each once and 0 or more; got {seeds!r}.")
    return list(seeds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_scoring(split: str, average: str | None, window: str | None) -> None:
    """Refuse options of an evaluation that do not exist.

    Raises:
        UnknownNameError: with those that do.
    """
    for name, value, known in (
        ("split", split, ("val", "test")),
        ("average", average, ("paper", "present", None)),
        ("window", window, ("original", "sliding", None)),
    ):
        if value not in known:
            raise unknown(f"--{name}", str(value), [item for item in known if item])


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
    if flag in ("start_from", "teacher"):
        return str(existing_run(value).absolute())
    amount = re.fullmatch(r"[\d./]+%?", value) if flag == "labels" else None
    if flag in ("labels", "weights") and not amount and Path(value).is_file():
        return str(Path(value).absolute())
    return value


def _is_published(text: str) -> bool:
    from semikit.data.published.catalogue import published_names

    return text.partition(":")[0] in published_names() and not Path(text).is_dir()


def compose(
    task: str,
    *,
    dataset: str | None = None,
    data: Path | Mapping[str, Any] | None = None,
    root: Path | None = None,
    config: Path | None = None,
    preset: str | None = None,
    above: Mapping[str, Any],
    processes: int = 1,
) -> dict[str, Any]:
    """All layers of a run's configuration, laid over one another; `processes` is how many the run is to have.

    Raises:
        InputError: when a name is not known, or the data are not said or said twice.
    """
    if dataset is not None and data is not None:
        raise InputError(f"both --dataset {dataset} and --data {data} were given; give one of them.")
    if config is not None and preset is not None:
        raise InputError(f"both --config {config} and --preset {preset} were given; give one of them.")
    if preset == AUTO and data is None:
        what = f"--dataset {dataset} has a recipe of its own" if dataset is not None else "none were given"
        raise InputError(
            f"--preset auto chooses by data of your own, --data, and {what}. Give --data, or leave out --preset auto."
        )
    own = _own_data(task, data, root) if data is not None else None
    if preset == AUTO and own is not None:
        from semikit.run.auto import compose_auto  # imports torch and timm, and opens the data

        return compose_auto(task, own, above, processes)
    raw = recipes.compose(task, dataset, preset, config, above, own)
    return raw if root is None or data is not None else at_root(raw, root)


def at_root(raw: dict[str, Any], root: Path) -> dict[str, Any]:
    """The same configuration with its published data set at another place.

    Raises:
        InputError: when its data are no published data set.
    """
    if not (raw.get("data") or {}).get("published"):
        raise InputError(
            f"--root {root} says where a published data set lies or where the paths of --data begin; give one of "
            "them (semikit data list), or leave --root out."
        )
    from semikit.files import at_home

    return recipes.merge(raw, {"data": {"published": {"root": str(at_home(root).absolute())}}})


def _own_data(task: str, data: Path | Mapping[str, Any], root: Path | None) -> dict[str, Any]:
    """The user's own data as the task reads them."""
    from semikit.files import no_such_file

    if isinstance(data, Mapping):
        return {"name": "data", "data": dict(TASKS.get(task).custom_data(data, root))}
    if not data.exists():  # before anything heavy is imported
        raise no_such_file(data)
    name = data.resolve().name if data.is_dir() else data.stem
    return {"name": name, "data": dict(TASKS.get(task).custom_data(data, root))}


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer.lr": 1e-4}` as `{"optimizer": {"lr": 1e-4}}`."""
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise InputError(f"settings takes a mapping such as {{'optimizer.lr': 1e-4}}; got {settings!r}.")
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        inner: Any = plain(value)
        for part in reversed(key.split(".")):
            inner = {part: inner}
        nested = recipes.merge(nested, inner)
    return nested


def plain(value: Any) -> Any:
    """Values as YAML and JSON hold them: paths are text, tuples lists.

    Raises:
        InputError: anything else, such as an array.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, PathLike):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise InputError(
        f"settings hold text, numbers, lists and mappings of them; got {value!r} ({type(value).__name__})."
    )


def _path(given: str | PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
