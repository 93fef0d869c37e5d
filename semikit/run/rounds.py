"""Methods that take several runs: those before a run's own are trained in its sub-folders (docs/design/0030)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from semikit.run.teacher import rounds_of
from semikit.training.checkpoint import snapshot_file
from semikit.training.device import choose_device, inference_on
from semikit.training.tracking import RESULTS

RELIABLE, STABILITY = "reliable.txt", "stability.csv"
"""Files of a round whose unlabelled images were ranked: the names of the reliable ones, and the score of each image."""


def train_rounds_before(
    config: Config,
    folder: Path,
    begin: Callable[[Mapping[str, Any], Path], Any],
    go_on: Callable[[Path], Any],
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
    if counts.unlabeled is None and any(one.reliable for one in rounds):
        raise ConfigError(
            f"{config.method_name} ranks every unlabelled image, but those of shards are not numbered. Use selftrain, "
            "or give the images as folders."
        )
    on_first(lambda: write_text(folder / "config.yaml", config.to_yaml(), RESUME))
    for one in rounds[:-1]:
        place = folder / one.folder
        if not _there(place / RESULTS):
            with _told_of_all(place, folder):
                _train(config, one, folder, begin, go_on)
        if one.reliable and not _there(place / RELIABLE):
            _rank(place, one.reliable)
    return True


def _there(file: Path) -> bool:
    """Whether the first process sees a file, for all."""
    return on_first(file.is_file)


def _train(
    config: Config,
    one: Round,
    folder: Path,
    begin: Callable[[Mapping[str, Any], Path], Any],
    go_on: Callable[[Path], Any],
) -> None:
    place = folder / one.folder
    if _there(place / "config.yaml"):
        go_on(place)
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
    if one.teachers:
        labels = [{"run": str((folder / name).absolute())} for name in one.teachers]
        raw = merge(raw, {"method": {"teacher": labels}})
    else:
        raw["method"] = {**kept, **raw["method"]}
    if one.only:
        raw = merge(raw, {"data": {"only": str((folder / one.only / RELIABLE).absolute())}})
    return raw


@contextmanager
def _told_of_all(place: Path, folder: Path) -> Iterator[None]:
    """Errors that say how a round is gone on with name the run that it is a part of."""
    try:
        yield
    except RunError as error:
        error.args = (str(error).replace(shell_word(place), shell_word(folder)),)
        raise


# ------------------------------------------------------------------------------------------------ which are reliable


def _rank(place: Path, share: float) -> None:
    """Rank the unlabelled images of a finished round by how stable the predictions of its snapshots are (ST++, eq. 4),
    and write the names of the reliable ones and a table; the processes share the images.
    """
    config = read_run_config(place, {})
    task: Any = build.build_task(config)
    inference = inference_on(choose_device(config.train.device), config.train.precision)
    files = [place / "weights" / snapshot_file(k) for k in range(1, config.train.snapshots + 1)]
    networks = [load_network(file)[0].to(inference.device) for file in files]
    split = task.learned.split
    labeled = set(split.labeled)
    indices = [index for index in split.unlabeled if index not in labeled]
    mine = [indices[k] for k in own_share(len(indices))]
    found = everywhere(list(zip(mine, _stability(task, networks, split.pool, mine, inference), strict=True)))
    names = split.pool.names
    ranked = sorted(found, key=lambda item: (*(-value for value in item[1]), item[0]))
    rows = [(names[index], f"{stability:.6f}", f"{sure:.6f}") for index, (stability, sure) in ranked]
    reliable = [row[0] for row in rows[: max(1, int(share * len(rows)))]]

    def write() -> None:
        write_table(place / STABILITY, [("image", "stability", "confidence"), *rows], "\n")
        write_text(place / RELIABLE, "".join(f"{name}\n" for name in reliable), RESUME)

    on_first(write)


def _stability(
    task: Any, networks: Sequence[Network], pool: Samples, indices: Sequence[int], inference: Inference
) -> Iterator[tuple[float, float]]:
    """Of each image how well the predictions of all networks agree with those of the last (0..1), and the mean
    confidence of that; one that cannot be read is the least stable.
    """
    classes, size = len(task.class_names), task.evaluation.settings.batch
    for start in range(0, len(indices), size):
        part = indices[start : start + size]
        try:
            yield from list(_agreement(task, networks, pool, part, inference, classes))
        except FileFault:
            for index in part:
                try:
                    yield from list(_agreement(task, networks, pool, [index], inference, classes))
                except FileFault:
                    yield -1.0, 0.0


def _agreement(
    task: Any, networks: Sequence[Network], pool: Samples, indices: Sequence[int], inference: Inference, classes: int
) -> Iterator[tuple[float, float]]:
    for seen in zip(*(task.evaluation.predictions(one, pool, indices, inference) for one in networks), strict=True):
        *earlier, (last, confidence) = seen
        scores = [mean_iou(before, last, classes) for before, _ in earlier]
        yield sum(scores) / len(scores), float(np.mean(confidence))


def mean_iou(one: NDArray[Any], other: NDArray[Any], classes: int) -> float:
    """The mean IoU (0..1) of two maps (*S) of classes, over those in either; of whole images whether they agree."""
    first, second = (torch.from_numpy(np.atleast_1d(np.asarray(values))).long()[None] for values in (one, other))
    values = iou(count(first, second, torch.ones_like(first, dtype=torch.bool), classes))
    return float(values[~values.isnan()].mean())
