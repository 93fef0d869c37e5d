"""What Python programs call; the command line calls the same. Errors are those of `semikit.errors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Scores
from semikit.errors import InputError
from semikit.inference.in_memory import Prediction
from semikit.registry import METHODS, TASKS
from semikit.run import recipes
from semikit.run.compose import compose, flag_overrides
from semikit.run.evaluate import score
from semikit.run.folder import existing_run
from semikit.run.lifecycle import begin, go_on
from semikit.run.load import load_network
from semikit.settings.messages import validate
from semikit.training.device import autocast, choose_device
from semikit.training.reporter import Reporter
from semikit.training.tracking import read_rows

Place = str | PathLike[str]
Progress = Callable[[str, int, int], None]
"""What is being done, how many parts of it are done, how many there are."""


@final
@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, and what `results.json` holds."""

    folder: Path
    results: Mapping[str, Any]

    @property
    def scores(self) -> Scores:
        """Those of the best network: on the test images where they were read, else on those it was chosen on."""
        metric = self.results["metric"]
        if "test" in self.results:
            test = dict(self.results["test"])
            per_class, class_scores = test.pop("per_class"), test.pop("class_scores", {})
            return Scores(metric, test.pop(metric), per_class, test, class_scores)
        class_scores = self.results.get("class_scores", {})
        return Scores(metric, self.results["best"]["value"], self.results["per_class"], class_scores=class_scores)

    @property
    def history(self) -> list[dict[str, float]]:
        """The rows of `results.csv`, one an evaluation."""
        return read_rows(self.folder)

    def load(self, device: str = "auto") -> Model:
        """The best network of the run."""
        return load(self.folder, device)


@final
class Model(nn.Module):
    """A trained network that takes images as people have them. `class_names` are in the order of their numbers."""

    def __init__(self, network: Network, metadata: Mapping[str, Any], inference: Inference) -> None:
        super().__init__()
        self.network = network
        self.metadata = dict(metadata)
        self.inference = inference
        self.class_names = tuple(metadata["class_names"])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W), of two dates (B, 2, C, H, W), -> logits (B, K, *S)."""
        logits: Tensor = self.network(images)
        return logits

    def predict(self, image: Any, second: Any = None) -> Prediction | list[Prediction]:
        """What the model says of an image; change detection takes two, the earlier first.

        An image is a path, a PIL image or an array (H, W, C) uint8. A list of them (two lists for two dates) gives a
        list.

        Raises:
            InputError: one date too many or too few, lists of unequal length, an array of another shape or type.
            DataError: a file that cannot be read or does not fit the model.
        """
        dates = (image,) if second is None else (image, second)
        if not isinstance(image, list):
            return self._predict(dates)
        if any(not isinstance(date, list) or len(date) != len(image) for date in dates):
            raise InputError("lists of two dates have to have equal lengths, one image of the later for each earlier.")
        return [self._predict(pair) for pair in zip(*dates, strict=True)]

    def _predict(self, dates: Sequence[Any]) -> Prediction:
        task = TASKS.get(self.metadata["task"])
        count, what = task.dates
        if len(dates) != count:
            raise InputError(f"a model of {self.metadata['task']} predicts {what}; it was given {len(dates)}.")
        found: Prediction = task.predict_in_memory(self.network, self.metadata, dates, self.inference)
        return found


def train(
    task: str,
    *,
    data: Place | Mapping[str, Any] | None = None,
    dataset: str | None = None,
    root: Place | None = None,
    labels: str | int | None = None,
    unlabeled: Sequence[str] | str = (),
    method: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    weights: str | None = None,
    config: Place | None = None,
    preset: str | None = None,
    iterations: int | None = None,
    epochs: int | None = None,
    crop: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    protocol: str | None = None,
    eval_every: int | None = None,
    save_every: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    out: Place | None = None,
    resume: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Train a model, as `semikit train` does; every keyword is a flag of it.

    `data` is a folder, a YAML file, or a mapping with the content of one (relative paths count from `root` or the
    current folder); `labels` a number, "1/8" or a file; `settings` holds any other key, as `{"optimizer.lr": 1e-4}`;
    `resume` a run folder or "last", with which only settings of the run may be given. `reporter` follows the run.

    Raises:
        InputError: something that was given is wrong; RunError: the run could not go on.
    """
    TASKS.check(task)
    names = [unlabeled] if isinstance(unlabeled, str) else list(unlabeled)
    given = {
        "labels": None if labels is None else str(labels), "unlabeled": names, "method": method, "encoder": encoder,
        "decoder": decoder, "weights": weights, "iterations": iterations, "epochs": epochs, "crop": crop,
        "batch": batch,
        "seed": seed, "protocol": protocol, "eval_every": eval_every, "save_every": save_every, "workers": workers,
        "device": device, "precision": precision, "compile": compile,
    }  # fmt: skip
    above = recipes.merge(flag_overrides(given, task), _nested(settings or {}))

    def observer() -> Reporter:
        return Reporter() if reporter is None else reporter

    if resume is not None:
        _only_with_a_new_run(data=data, dataset=dataset, root=root, config=config, preset=preset, out=out)
        results = go_on(task, str(resume), above, observer)
    else:
        raw = compose(
            task,
            dataset=dataset,
            data=Path(data) if isinstance(data, str | PathLike) else data,
            root=_path(root),
            config=_path(config),
            preset=preset,
            above=above,
        )
        results = begin(raw, _path(out), None, observer)
    return Run(Path(results["checkpoint"]["path"]).parents[1], results)


def load(path: Place, device: str = "auto", precision: str = "fp32") -> Model:
    """A trained model from a run folder (its best network), a weights file, or the authors' checkpoint.

    Raises:
        WeightsError: there is nothing to load, or it cannot be read.
    """
    network, metadata = load_network(existing_run(path))
    return Model(network, metadata, _inference(device, precision)).eval()


def evaluate(
    run: Place,
    *,
    data: Place | Mapping[str, Any] | None = None,
    dataset: str | None = None,
    root: Place | None = None,
    split: str = "val",
    average: str | None = None,
    window: str | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Scores:
    """Scores of a run or weights file on a split ("val" or "test") of its own data, or of those given.

    Raises:
        InputError: no data known, other classes, or no such split.
    """
    settings = {key: value for key, value in (("average", average), ("window", window)) if value}
    train = {key: value for key, value in (("device", device), ("precision", precision)) if value}
    given = Path(data) if isinstance(data, str | PathLike) else data
    return score(existing_run(run), dataset, given, _path(root), split, settings, train)[0]


def predict(
    run: Place,
    *sources: Place,
    out: Place,
    device: str = "auto",
    precision: str = "fp32",
    progress: Progress = lambda what, done, total: None,
    **options: Any,
) -> Predicted:
    """Predict files into files, as `semikit predict` does: `sources` are a file, folder or pattern, for change
    detection two files or two folders; `options` are its flags (overlay=True, polygons="changes.gpkg" …).

    Raises:
        InputError: an option that the task does not have, outputs that cannot be written; DataError: images that cannot
            be read or do not fit.
    """
    network, metadata = load_network(existing_run(run))
    task = TASKS.get(metadata["task"])
    strange = [f"--{name.replace('_', '-')}" for name in options if name not in task.Predict.model_fields]
    if strange:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in task.Predict.model_fields)
        raise InputError(f"a run of {metadata['task']} has no {', '.join(strange)}; it has {known}. Leave it out.")
    chosen, names = validate(task.Predict, options, "predict"), [str(source) for source in sources]
    done: Predicted = task.predict(network, metadata, names, Path(out), chosen, _inference(device, precision), progress)
    return done


def list_methods() -> list[str]:
    """Names for `method`."""
    return METHODS.names()


def list_models() -> list[str]:
    """Names for `encoder` that have a short name; any other timm encoder works by its timm name."""
    from semikit.models.encoders.catalogue import ENCODERS

    return list(ENCODERS)


def list_datasets(task: str | None = None) -> list[str]:
    """Names for `dataset`, of one task if given."""
    return recipes.recipe_names("datasets", task)


def list_presets(task: str | None = None) -> list[str]:
    """Names for `preset`, of one task if given."""
    return recipes.recipe_names("presets", task)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer.lr": 1e-4}` as `{"optimizer": {"lr": 1e-4}}`."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        inner: Any = json.loads(json.dumps(value))
        for part in reversed(key.split(".")):
            inner = {part: inner}
        nested = recipes.merge(nested, inner)
    return nested


def _only_with_a_new_run(**given: object) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise InputError(f"resume takes data and recipe from the run; leave out {', '.join(wrong)}.")


def _path(given: Place | None) -> Path | None:
    return None if given is None else Path(given)


def _inference(device: str, precision: str) -> Inference:
    where = choose_device(device)
    return Inference(where, autocast(where, precision))
