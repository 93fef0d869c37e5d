"""What Python programs call; the command line calls the same. Errors are those of `semikit.errors`.

Nothing heavy is imported before it is needed: a mistyped name is answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semikit.errors import InputError
from semikit.registry import METHODS, TASKS
from semikit.run import recipes
from semikit.run.compose import asked, check_scoring
from semikit.run.finished import Run
from semikit.run.folder import existing_run

if TYPE_CHECKING:
    from semikit.core.task import Inference, Predicted, Scores
    from semikit.reports.budget import Budget
    from semikit.run.export import Exported
    from semikit.run.lifecycle import Plan
    from semikit.training.reporter import Reporter

Place = str | PathLike[str]
Progress = Callable[[str, int, int], None]
"""What is being done, how many parts of it are done, how many there are. Without one a notebook shows a bar of each."""


def train(
    task: str,
    *,
    data: Place | Mapping[str, Any] | None = None,
    dataset: str | None = None,
    root: Place | None = None,
    labels: str | int | None = None,
    unlabeled: Sequence[str] | str = (),
    fold: int | None = None,
    method: str | None = None,
    encoder: str | None = None,
    decoder: str | None = None,
    weights: str | None = None,
    accept_licence: bool | None = None,
    config: Place | None = None,
    preset: str | None = None,
    iterations: int | None = None,
    epochs: int | None = None,
    crop: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    protocol: str | None = None,
    eval_every: int | None = None,
    save_every: int | None = None,
    patience: int | None = None,
    log: str | None = None,
    start_from: Place | None = None,
    teacher: Place | None = None,
    workers: int | None = None,
    gpus: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    compile: bool | str | None = None,
    out: Place | None = None,
    resume: Place | None = None,
    accept_data_changes: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    reporter: Reporter | Callable[[], Reporter] | None = None,
) -> Run:
    """Train a model, as `semikit train` does; every keyword is a flag of it (for `--dry-run` see `plan`).

    `data` is a folder, a YAML file, or a mapping with the content of one (relative paths count from `root` or the
    current folder); `labels` a number, "1/8", "10%" or a file; `fold` which of the folds of the data (`folds: 5`) are
    the validation images; `settings` holds any other key, as `{"optimizer.lr": 1e-4}`;
    `seeds` trains once for each; `start_from` is a run or weights file whose best network training begins with,
    `teacher` one whose network gives the pseudo-labels in place of the EMA teacher;
    `resume` is a run folder or "last", with which only settings of the run may be given,
    and `accept_data_changes`, where labelled files were edited since it stopped;
    `gpus` starts as many processes. `reporter` follows the run (or what makes one, for each of several seeds); other
    processes than this one know none. Without one a notebook shows a bar and the scores, and a program writes lines to
    the standard error stream; `reporter=semikit.Reporter()` is silent.

    Raises:
        InputError: something that was given is wrong; RunError: the run could not go on.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    if reporter is not None and not callable(reporter) and not hasattr(reporter, "finished"):
        raise InputError(f"reporter takes a semikit.Reporter, or what makes one, not {reporter!r}.")
    raw, above = asked(**given)
    if gpus is not None and gpus > 1:
        from semikit.run.launch import train_in_processes

        return Run(*train_in_processes(raw, given))
    from semikit.run.lifecycle import begin, go_on
    from semikit.run.reporters import default_reporter

    def observer() -> Reporter:
        return default_reporter() if reporter is None else reporter() if callable(reporter) else reporter

    if resume is None:
        return Run(*begin(raw, _path(out), seeds, observer))
    return Run(*go_on(task, str(resume), above, observer, bool(accept_data_changes)))


def budget(
    task: str,
    *,
    labels: Sequence[int] | int,
    methods: Sequence[str] | str | None = None,
    seeds: Sequence[int] = (0,),
    out: Place | None = None,
    reporter: Callable[[], Reporter] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Budget:
    """How many labels are enough, as `semikit budget` says it: trains each method with each number of labels and each
    seed in `out` (default: runs/budget/NAME), unless that run is there already. `methods` are names of methods,
    NAME+lora with an encoder that is adapted by LoRA (default: supervised, unimatch_v2, and supervised+lora of a
    pretrained transformer). `options` are the other keywords of `train`, for all runs; `reporter` makes what follows
    each.

    Raises:
        InputError: something that was given is wrong, or `out` holds something else; RunError: a run could not go on.
    """
    from semikit.run.grid import grid_of, keywords

    given = _of_train(options, "budget", ("method", "seed", "resume", "accept_data_changes"))
    folder, missing, _ = grid_of(task, labels, methods, seeds, _path(out), **given)
    from semikit.run.lifecycle import one_of_many

    for done, key in enumerate(missing, 1):
        with one_of_many():
            train(task, **keywords(folder, key, given), reporter=reporter)
        if progress is not None:
            progress("{}, {} labels, seed {}".format(*key), done, len(missing))
    from semikit.reports.budget import write_budget

    return write_budget(folder)


def _of_train(options: Mapping[str, Any], verb: str, without: Sequence[str]) -> dict[str, Any]:
    """Keywords of `train` that were given (not None); others, and those of `without`, are refused."""
    strange = [name for name in options if name not in (train.__kwdefaults__ or {}) or name in without]
    if strange:
        raise InputError(f"{verb} takes the keywords of train without {', '.join(without)}; got {', '.join(strange)}.")
    return {name: value for name, value in options.items() if value is not None}


def plan(task: str, *, gpus: int = 1, time: bool = False, **options: Any) -> Plan:
    """What `train` with the same keywords would do: the data are read through, nothing is written. `time` trains a few
    steps, which are forgotten, and says how long the run takes on this machine.

    Raises:
        InputError: something that was given is wrong, with all faults of the data.
    """
    from semikit.run.lifecycle import plan as planned

    given = _of_train(options, "plan", ("resume", "reporter"))
    if time and gpus > 1:
        raise InputError(f"--time times one process; leave out --gpus {gpus}.")
    return planned(asked(task, **given, gpus=gpus)[0], gpus, time)


def evaluate(
    run: Place,
    *,
    data: Place | Mapping[str, Any] | None = None,
    dataset: str | None = None,
    root: Place | None = None,
    split: str = "val",
    average: str | None = None,
    window: str | None = None,
    threshold: float | str | Sequence[float | str] | None = None,
    objects: Sequence[str] | str | None = None,
    objects_min_pixels: int | None = None,
    ensemble: Sequence[Place] | Place = (),
    tta: str = "none",
    device: str | None = None,
    precision: str | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Scores of a run or weights file on a split ("val" or "test") of its own data, or of those given. A class (of
    change any) counts from the probability `threshold` on, "auto" is the best one for these images; `objects` are
    classes whose connected areas are scored too. Probabilities are averaged with those of the runs of `ensemble` and
    over the views of `tta`, as in prediction.

    Raises:
        InputError: no data known, other classes, or no such split.
    """
    check_scoring(split, average, window)
    from semikit.run.evaluate import score

    given = Path(data) if isinstance(data, str | PathLike) else data
    return score(
        existing_run(run), dataset=dataset, data=given, root=_path(root), split=split, average=average, window=window,
        threshold=threshold, objects=[objects] if isinstance(objects, str) else objects,
        objects_min_pixels=objects_min_pixels, ensemble=_runs(ensemble), tta=tta, device=device, precision=precision,
        progress=progress or _progress(),
    )[0]  # fmt: skip


def predict(
    run: Place,
    *sources: Place,
    out: Place,
    ensemble: Sequence[Place] | Place = (),
    device: str = "auto",
    precision: str = "fp32",
    progress: Progress | None = None,
    **options: Any,
) -> Predicted:
    """Predict files into files, as `semikit predict` does: `sources` are files, folders or patterns, for change
    detection two files or two folders; `options` are its flags (overlay=True, tta="flip", polygons="changes.gpkg" …).
    Probabilities are averaged with those of the runs of `ensemble`. Of several images those that cannot be read are
    `failed` in what comes back, and listed in errors.csv beside the results.

    Raises:
        InputError: an option that the task does not have, runs that do not fit each other, outputs that cannot be
            written; DataError: images that cannot be read or do not fit.
    """
    from semikit.run.load import load_ensemble
    from semikit.settings.messages import validate

    networks, metadata = load_ensemble([existing_run(run), *_runs(ensemble)])
    task = TASKS.get(metadata["task"])
    strange = [f"--{name.replace('_', '-')}" for name in options if name not in task.Predict.model_fields]
    if strange:
        known = ", ".join(f"--{name.replace('_', '-')}" for name in task.Predict.model_fields)
        raise InputError(f"a run of {metadata['task']} has no {', '.join(strange)}; it has {known}. Leave it out.")
    chosen, names = validate(task.Predict, options, "predict"), [str(source) for source in sources]
    done: Predicted = task.predict(
        networks, metadata, names, Path(out), chosen, _inference(device, precision), progress or _progress()
    )
    return done


def polygons(
    map_file: Place,
    *,
    out: Place,
    threshold: float | str | Sequence[float | str] | Mapping[str, float] = (),
    min_area: float = 0.0,
    simplify: float = 0.0,
    aoi: Place | None = None,
    areas: bool = False,
    map: Place | None = None,
) -> list[str]:
    """Polygons of a GeoTIFF that `predict` wrote, of classes or of probabilities, as `semikit polygons` does; returns
    notices. `areas` writes a table of areas beside `out`, `map` the map of classes that the polygons are drawn from.

    Raises:
        InputError: the file is no map, or outputs cannot be written; RunError: the disk is full.
    """
    from semikit.inference.map_files import MapPredict
    from semikit.inference.outlining import outline_map
    from semikit.raster.names import raster_name
    from semikit.settings.messages import validate

    given = {"threshold": threshold, "min_area": float(min_area), "simplify": float(simplify), "areas": areas}
    options = validate(MapPredict, {**given, "aoi": aoi, "polygons": Path(out)}, "polygons")
    return outline_map(raster_name(str(map_file)) or Path(map_file), Path(out), options, _path(map))


def report(
    runs: Place | Sequence[Place],
    *,
    out: Place = "report.html",
    images: int = 48,
    data: Place | None = None,
    root: Place | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write a page about a run, or several side by side, as `semikit report` does: one HTML file that needs no network.
    A folder of several seeds counts as one. Validation images are those of the run, or of `data` and `root`; at most
    `images` of them are shown. Returns what could not be shown.

    Raises:
        InputError: these are no runs, or runs of several tasks; the page cannot be written.
    """
    file = Path(out)
    if file.suffix.lower() not in (".html", ".htm") or not file.absolute().parent.is_dir():
        raise InputError(f"cannot write to {file}: give an .html file in a folder that is there, -o report.html.")
    if images < 0:
        raise InputError(f"--images {images}: give how many images the page shows, 0 for none.")
    from semikit.reports.page import write_report
    from semikit.reports.records import read_entries

    entries = read_entries(_runs(runs))
    return write_report(entries, file, images, _path(data), _path(root), device, progress or _progress())


def export(
    run: Place,
    *,
    format: str = "onnx",
    out: Place | None = None,
    input: str = "float",
    softmax: bool = False,
    fp16: bool = False,
    size: int | None = None,
    tool: str | None = None,
) -> Exported:
    """Write the network of a run for other programs, as `semikit export` does, and compare it with the original:
    `format` is "onnx" or "torch" (torch.export); the file takes values of 0..1 ("float"), 0..255 ("uint8") or what is
    "normalised" already; `tool` is `--for`.

    Raises:
        InputError: options that do not fit, a package that is not installed; RunError: torch cannot export the network,
            or what it exports predicts otherwise.
    """
    from semikit.run.export import ExportSettings, export_network
    from semikit.settings.messages import validate

    given = {"format": format, "input": input, "softmax": softmax, "fp16": fp16, "size": size, "tool": tool}
    return export_network(existing_run(run), _path(out), validate(ExportSettings, given, "export"))


def list_methods() -> list[str]:
    """Names for `method`."""
    return METHODS.names()


def list_models() -> list[str]:
    """Names for `encoder` that have a short name; any other timm encoder works by its timm name."""
    from semikit.models.encoders.names import ENCODERS

    return list(ENCODERS)


def list_datasets(task: str | None = None) -> list[str]:
    """Names for `dataset`, of one task if given."""
    return recipes.recipe_names("datasets", task)


def list_presets(task: str | None = None) -> list[str]:
    """Names for `preset`, of one task if given."""
    return recipes.recipe_names("presets", task)


def _progress() -> Progress:
    from semikit.run.reporters import default_progress

    return default_progress()


def _path(given: Place | None) -> Path | None:
    return None if given is None else Path(given)


def _runs(given: Sequence[Place] | Place) -> list[Path]:
    return [existing_run(one) for one in ([given] if isinstance(given, str | PathLike) else given)]


def _inference(device: str, precision: str) -> Inference:
    from semikit.training.device import choose_device, inference_on

    return inference_on(choose_device(device), precision)
