"""A trained network on a data set: what `semikit evaluate` does once its flags are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semikit.core.network import Network
from semikit.core.task import Final, Inference, Progress, Scores, Task
from semikit.data.formats.rescale import BYTES, Scale
from semikit.errors import InputError
from semikit.inference.class_choice import AUTO, threshold_of
from semikit.registry import TASKS
from semikit.run import build, recipes
from semikit.run import load as trained
from semikit.run.begun import read_begun
from semikit.run.compose import at_root, compose
from semikit.run.config import Config, resolve
from semikit.run.results import weights_file
from semikit.settings.messages import validate
from semikit.training.device import choose_device, inference_on


def score(
    path: Path,
    *,
    dataset: str | None = None,
    data: Path | Mapping[str, Any] | None = None,
    root: Path | None = None,
    split: str = "val",
    device: str | None = None,
    precision: str | None = None,
    ensemble: Sequence[Path] = (),
    tta: str = "none",
    progress: Progress = lambda what, done, total: None,
    **evaluation: Any,
) -> tuple[Scores, dict[str, Any]]:
    """Scores, and all that a number needs beside it: data, split, images, weights, whose they are, how it was made.

    Without data given, the run's own. Probabilities are averaged over the runs of `ensemble` and the views of `tta`;
    `evaluation` are settings in place of the run's, None where its own stand.

    Raises:
        InputError: no data given and none known, other classes, or no such split; runs that do not fit each other.
    """
    networks, metadata = trained.load_ensemble([path, *ensemble])
    if tta != "none":
        validate(TASKS.get(metadata["task"]).Predict, {"tta": tta}, "evaluate")
    given = _given(**evaluation)
    threshold = given["threshold"] if "threshold" in given else threshold_of(metadata)
    if split == "test" and threshold == AUTO:
        raise InputError(
            "--threshold auto is chosen on the images that are scored, so not on test. Choose it on val, then give it: "
            "--split test --threshold P."
        )
    if given.get("objects") and threshold == AUTO:
        raise InputError(
            "--objects: objects are scored at one threshold, and --threshold auto tries many. Give the one that it "
            "finds: --threshold P."
        )
    raw = _raw(path, metadata["task"], dataset, data, root)
    config, task, inference = _opened(raw, metadata, {**given, **_given(threshold=threshold)}, device, precision)
    if split == "test" and not task.counts.test:
        raise InputError(f"{config.name} has no test split. Use --split val, or state `test:` in the data YAML.")
    network, *others = (one.to(inference.device).eval() for one in networks)
    final, inference = Final(others=others, tta=tta), replace(inference, progress=progress)
    scores = task.evaluate({"model": network}, split, inference, final)["model"]  # type: ignore[arg-type]
    best = metadata.get("best", {})
    return scores, {
        "task": config.task,
        "data": config.name,
        "split": split,
        "images": task.counts.val if split == "val" else task.counts.test,
        "evaluation": config.evaluate.model_dump(mode="json"),
        "model": best.get("model"),
        "protocol": best.get("protocol"),
        "iteration": best.get("iteration"),
        "checkpoint": weights_file(path),
        "ensemble": list(map(weights_file, ensemble)),
        "tta": tta,
        "notices": [*_range_notices(metadata, task.settled(config.data)), *task.scored_notices(split)],  # type: ignore[arg-type]
        "unused_files": list(task.unused),
    }


def open_run(
    path: Path, data: Path | None = None, root: Path | None = None, device: str | None = None, labels: str | None = None
) -> tuple[Task, Network, dict[str, Any], Inference]:
    """The best network of a run on its device, in eval mode, with its metadata, and the task with the run's own data or
    those given, of which `labels` says what is labelled, in place of the configuration.

    Raises:
        InputError: they are not there any more, or are no longer as described.
    """
    network, metadata = trained.load_network(path)
    raw = recipes.merge(_raw(path, metadata["task"], None, data, root), {"data": _given(labels=labels)})
    _, task, inference = _opened(raw, metadata, _given(threshold=threshold_of(metadata)), device)
    return task, network.to(inference.device).eval(), metadata, inference


def _opened(
    raw: dict[str, Any],
    metadata: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    device: str | None,
    precision: str | None = None,
) -> tuple[Config, Task, Inference]:
    """The data that `raw` describes, read as the model saw its own, and where it predicts them."""
    above: dict[str, Any] = {
        "method": {"name": "supervised"},
        "evaluate": {**metadata.get("evaluate", {}), **evaluation},
        "train": _given(device=device, precision=precision),
        "views": dict(TASKS.get(metadata["task"]).views_of(metadata)),
    }
    config = resolve(recipes.merge(_read_alike(raw, metadata), above))
    task = build.build_task(config)
    _same_classes(metadata["class_names"], task.class_names)
    return config, task, inference_on(choose_device(config.train.device), config.train.precision)


def _range_notices(metadata: Mapping[str, Any], data: Any) -> list[str]:
    """At most one: where values are read in another range than that the model learned from."""
    used = getattr(getattr(data, "folders", None), "scale", None)
    learned = Scale.model_validate(metadata.get("scale") or BYTES.model_dump())
    if used in (None, learned):
        return []
    return [f"values from {used.text} become 0 to 255, while the model learned from {learned.text}"]


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _same_classes(model: Sequence[str], data: Sequence[str]) -> None:
    """Raise where class k of the model is not class k of the data; a released checkpoint has numbers for names."""
    numbered = list(model) == [f"class {number}" for number in range(len(model))]
    if len(model) == len(data) and (numbered or list(model) == list(data)):
        return
    if len(model) != len(data):
        first = f"the model knows {len(model)} classes, the data {len(data)}: {', '.join(data)}."
    else:
        first = f"the classes of the data are not those of the model, in the same order: {', '.join(data)}."
    raise InputError(f"{first} The model's: {', '.join(model)}. Give data with the same classes in the same order.")


def _read_alike(raw: dict[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Bands and range of values as the model saw them, where the data's own description leaves them open; what says
    which unlabelled images it learned is left out, for it may lie elsewhere by now.
    """
    if not isinstance(raw.get("data"), dict):
        return raw  # refused when it is resolved
    data = {key: value for key, value in raw["data"].items() if key not in ("only", "also_labeled")}
    if isinstance(data.get("folders"), dict):
        given = {key: value for key, value in data["folders"].items() if value is not None}
        known = {key: metadata[key] for key in ("bands", "scale") if metadata.get(key) is not None}
        data["folders"] = {**known, **given}
    return {**raw, "data": data}


def _held_out_as_then(raw: dict[str, Any], task: str, folder: Path) -> dict[str, Any]:
    """The same data, of which what the run in `folder` held out is held out: by its fold, and in proportion or not."""
    if not (folder / "config.yaml").is_file():
        return raw
    own = recipes.read_yaml(folder / "config.yaml").get("data") or {}
    above: dict[str, Any] = {}
    if "stratify" in TASKS.get(task).Data.model_fields:
        above["stratify"] = own.get("stratify", False)
    if (raw["data"].get("folders") or {}).get("folds") is not None:
        above["fold"] = own.get("fold")
    return recipes.merge(raw, {"data": above})


def _raw(
    path: Path, task: str, dataset: str | None, data: Path | Mapping[str, Any] | None, root: Path | None
) -> dict[str, Any]:
    """The data's configuration: as given, or the run's own."""
    folder = path if path.is_dir() else path.parent.parent
    if dataset is None and data is None and root is not None and (folder / "config.yaml").is_file():
        return at_root(read_begun(folder), root)
    if any(given is not None for given in (dataset, data, root)):
        # No training image is read, so which are labelled does not matter; an official list may not even be there.
        above = {"labels": TASKS.get(task).any_labels}
        raw = compose(task, dataset=dataset, data=data, root=root, above={"data": above})
        return _held_out_as_then(raw, task, folder)
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{path} does not lie in a run folder; say on what to evaluate: --data FILE.yaml or --dataset NAME."
        )
    return read_begun(folder)
