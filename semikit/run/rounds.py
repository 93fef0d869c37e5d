"""Methods that take several runs: those before a run's own are trained in its sub-folders (docs/design/0030)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semikit.core.method import Round
from semikit.core.network import Network
from semikit.core.settings import MethodSettings
from semikit.core.task import Inference
from semikit.data.samples import Samples
from semikit.distributed.collectives import own_share, process_rank
from semikit.distributed.groups import everywhere, on_first
from semikit.errors import ConfigError, FileFault, RunError, SemikitError
from semikit.files import RESUME, shell_word, write_table, write_text
from semikit.metrics.confusion import count, iou
from semikit.run import build
from semikit.run.config import Config
from semikit.run.load import load_network
from semikit.run.recipes import merge
from semikit.run.resume import read_run_config
from semikit.run.teacher import PICKED, rounds_of
from semikit.training.checkpoint import snapshot_file
from semikit.training.device import choose_device, inference_on
from semikit.training.tracking import RESULTS

RELIABLE, STABILITY = "reliable.txt", "stability.csv"
"""Files of a round whose unlabelled images were ranked: the names of the reliable ones, and the score of each image."""
_Values = tuple[float, float]
_Row = tuple[str, float, float]
"""Name of an image and what was seen of it: stability or class, and confidence."""


def train_rounds_before(
    config: Config,
    folder: Path,
    begin: Callable[[Mapping[str, Any], Path], Any],
    go_on: Callable[[Path, Mapping[str, Any]], Any],
) -> bool:
    """Train the runs before a run's own, in sub-folders; those that are finished are left, one that was interrupted
    goes on. Returns whether the run's own has still to begin.

    From the start `config.yaml` lies in the folder, so that the whole is gone on with by `--resume`.

    Raises:
        InputError: what the last of them could not learn from; it is found before the first is trained.
    """
    rounds = rounds_of(config)
    if not rounds or _there(folder / "split.json"):
        return False
    counts = build.build_task(config).counts
    if counts.unlabeled is None and any(_makes(one) for one in rounds):
        remedy = "selftrain" if any(one.reliable for one in rounds) else "fixmatch"
        raise ConfigError(
            f"{config.method_name} ranks every unlabelled image, but those of shards are not numbered. Use {remedy}, "
            "or give the images as folders."
        )
    on_first(lambda: write_text(folder / "config.yaml", config.to_yaml(), RESUME))
    for one in rounds[:-1]:
        place = folder / one.folder
        if not _there(place / RESULTS):
            with _told_of_all(place, folder):
                _train(config, one, folder, begin, go_on)
        if (made := _makes(one)) and not _there(place / made):
            _rank(config, place, one)
    return True


def _makes(one: Round) -> str:
    """The file in which a round, once it is finished, says which unlabelled images the next one learns; "": none."""
    return RELIABLE if one.reliable else PICKED if one.picks is not None else ""


def _there(file: Path) -> bool:
    """Whether the first process sees a file, for all."""
    return on_first(file.is_file)


def _train(
    config: Config,
    one: Round,
    folder: Path,
    begin: Callable[[Mapping[str, Any], Path], Any],
    go_on: Callable[[Path, Mapping[str, Any]], Any],
) -> None:
    place = folder / one.folder
    if _there(place / "config.yaml"):
        go_on(place, _given(one, folder))
        return
    on_first(lambda: place.mkdir(exist_ok=True))
    try:
        begin(_settings(config, one, folder), place)
    except (SemikitError, KeyboardInterrupt):
        if process_rank() == 0 and not place.exists() and not list(folder.glob("*/config.yaml")):
            (folder / "config.yaml").unlink(missing_ok=True)  # nothing has begun
        raise


def _settings(config: Config, one: Round, folder: Path) -> dict[str, Any]:
    """The configuration of a round as plain values."""
    raw, seed = config.to_raw(), config.train.seed
    kept = {key: raw["method"][key] for key in MethodSettings.model_fields if key in raw["method"]}
    chosen = seed if raw["data"]["split_seed"] is None else raw["data"]["split_seed"]
    raw = merge(raw, {"data": {"split_seed": chosen}, "train": {"seed": seed + one.seeds}})
    raw = merge(raw, one.settings)
    if not one.teachers:
        raw["method"] = {**kept, **raw["method"]}
    return merge(raw, _given(one, folder))


def _given(one: Round, folder: Path) -> dict[str, Any]:
    """Where the networks and files lie that a round takes from those before, as plain values; the folder may have been
    moved since the round began.
    """
    place = folder.absolute()
    data = {"only": str(place / one.only / RELIABLE)} if one.only else {}
    data |= {"also_labeled": str(place / one.also / PICKED)} if one.also else {}
    labels = {"teacher": [{"run": str(place / name)} for name in one.teachers]} if one.teachers else {}
    return {"data": data, "method": labels}


@contextmanager
def _told_of_all(place: Path, folder: Path) -> Iterator[None]:
    """Errors that say how a round is gone on with name the run that it is a part of."""
    try:
        yield
    except RunError as error:
        error.args = (str(error).replace(shell_word(place), shell_word(folder)),)
        raise


# ------------------------------------------------------------------------ which unlabelled images the next one learns


def _rank(config: Config, place: Path, one: Round) -> None:
    """Rank the unlabelled images of a finished round, by how stable the predictions of its snapshots are (ST++, eq. 4)
    or by how sure its best network is, and write which are reliable or picked; the processes share the images.

    The images are those of the whole run, read as the round saw its own; what a round before picked is ranked anew.
    """
    known = read_run_config(place, {})
    task: Any = build.build_task(replace(config, views=known.views, evaluate=known.evaluate))
    inference, split = inference_on(choose_device(known.train.device), known.train.precision), task.learned.split
    weights = [place / "weights" / snapshot_file(k) for k in range(1, known.train.snapshots + 1)]
    networks = [load_network(path)[0].to(inference.device) for path in (weights if one.reliable else [place])]
    labeled, names = set(split.labeled), split.pool.names
    indices = [index for index in split.unlabeled if index not in labeled]
    mine = [indices[k] for k in own_share(len(indices))]
    seen = partial(_agreement if one.reliable else _predicted, task, networks, split.pool, inference)
    found = everywhere(list(zip(mine, _readable(seen, mine, task.evaluation.settings.batch), strict=True)))
    rows = [(names[index], *values) for index, values in found]
    if one.picks is None:
        on_first(lambda: _write_reliable(place, rows, one.reliable))
        return
    rates = sampling_rates(task.labelled_census().holding, one.picks)
    chosen = [(name, task.class_names[int(k)], f"{sure:.6f}") for name, k, sure in picked(rows, rates)]
    on_first(lambda: write_table(place / PICKED, [("image", "label", "confidence"), *chosen], "\n", durable=True))


def _readable(
    seen: Callable[[Sequence[int]], Iterator[_Values]], indices: Sequence[int], size: int
) -> Iterator[_Values]:
    """What is seen of each image, so many at a time; one that cannot be read is the least stable, and of no class."""
    for start in range(0, len(indices), size):
        part = indices[start : start + size]
        try:
            yield from list(seen(part))
        except FileFault:
            for index in part:
                try:
                    yield from list(seen([index]))
                except FileFault:
                    yield -1.0, 0.0


def _agreement(
    task: Any, networks: Sequence[Network], pool: Samples, inference: Inference, indices: Sequence[int]
) -> Iterator[_Values]:
    """Of each image how well the predictions of all networks agree with those of the last (0..1), and the mean
    confidence of that.
    """
    classes = len(task.class_names)
    for seen in zip(*(task.evaluation.predictions(one, pool, indices, inference) for one in networks), strict=True):
        *earlier, (last, confidence) = seen
        scores = [mean_iou(before, last, classes) for before, _ in earlier]
        yield sum(scores) / len(scores), float(np.mean(confidence))


def _predicted(
    task: Any, networks: Sequence[Network], pool: Samples, inference: Inference, indices: Sequence[int]
) -> Iterator[_Values]:
    """Of each image of one class what the network takes it for, and its confidence."""
    for label, confidence in task.evaluation.predictions(networks[0], pool, indices, inference):
        yield float(label), float(confidence)


def _write_reliable(place: Path, rows: Sequence[_Row], share: float) -> None:
    ranked = sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))
    table = [(name, f"{stability:.6f}", f"{sure:.6f}") for name, stability, sure in ranked]
    reliable = [row[0] for row in table[: max(1, int(share * len(table)))]]
    write_table(place / STABILITY, [("image", "stability", "confidence"), *table], "\n")
    write_text(place / RELIABLE, "".join(f"{name}\n" for name in reliable), RESUME)


def sampling_rates(counts: Sequence[int], power: float) -> list[float]:
    """For the classes with so many labels the share of the images taken for them that is picked:
    μ_l = (N_{L+1-l} / N_1) ** power of the l-th most frequent of L (CReST, section 3.2). Classes with as many labels
    share the mean of theirs.
    """
    ordered = sorted(counts, reverse=True)
    rates: dict[int, list[float]] = {}
    for number, mirrored in zip(ordered, reversed(ordered), strict=True):
        rates.setdefault(number, []).append((mirrored / ordered[0]) ** power)
    return [sum(rates[number]) / len(rates[number]) for number in counts]


def picked(rows: Sequence[_Row], rates: Sequence[float]) -> list[_Row]:
    """Of the images (name, class, confidence) taken for each class the surest, a share of them, rounded down."""
    found: list[_Row] = []
    for label, rate in enumerate(rates):
        ranked = sorted((row for row in rows if row[1] == label), key=lambda row: (-row[2], row[0]))
        found += ranked[: int(rate * len(ranked))]
    return found


def mean_iou(one: NDArray[Any], other: NDArray[Any], classes: int) -> float:
    """The mean IoU (0..1) of two maps (*S) of classes, over those in either; of whole images whether they agree."""
    first, second = (torch.from_numpy(np.atleast_1d(np.asarray(values))).long()[None] for values in (one, other))
    values = iou(count(first, second, torch.ones_like(first, dtype=torch.bool), classes))
    return float(values[~values.isnan()].mean())
