"""How many crops one process makes per second, through the loader that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, final

from torch import Tensor

from benchmarks.step.watch import Clock
from semikit.augment.settings import WeakSettings
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.samples import Samples
from semikit.errors import DataError
from semikit.registry import TASKS
from semikit.tasks._crops import Crops

BLOCK = 16


@final
@dataclass(frozen=True, slots=True)
class LoadingSpeed:
    """Crops of one stream: items per second (median over blocks of 16), bytes an item as it leaves the worker."""

    stream: str
    items_per_second: float
    bytes_per_item: int

    def as_plain(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)


def measure_loading(
    spec: Path, weak: WeakSettings, items: int, clock: Clock = perf_counter, task: str = "seg"
) -> list[LoadingSpeed]:
    """Speeds of the labelled and the unlabelled stream over the training images (or pairs) of the user's data, in this
    process.

    Raises:
        InputError: when the data are not as described, or no image has a mask.
    """
    measured: Any = TASKS.get(task)
    source = measured.open(measured.Data.model_validate(measured.custom_data(spec, None))).train
    everything = list(range(len(source)))
    labeled = [index for index in everything if source.has_target(index)]
    if not labeled:
        raise DataError(f"{spec}: no training image has a mask, so there is no labelled stream to measure.")
    found = []
    for stream, indices in (("labeled", labeled), ("unlabeled", everything)):
        found.append(_measure(stream, source, indices, weak, items, clock))
    return found


def _measure(
    stream: str, source: Samples, indices: Sequence[int], weak: WeakSettings, items: int, clock: Clock
) -> LoadingSpeed:
    make = Crops({stream: [(source, index) for index in indices]}, frozenset({"labeled"}), weak)
    blocks = max(1, items // BLOCK)
    batches: Any = iter(StepLoader([Stream(stream, len(indices), BLOCK)], make, seed=0, steps=range(blocks + 1)))
    batch = next(batches)[stream]  # the first block reads the folder and warms caches up
    seconds = []
    for _ in range(blocks):
        begun = clock()
        next(batches)
        seconds.append(clock() - begun)
    size = sum(part.nbytes for part in batch if isinstance(part, Tensor))
    return LoadingSpeed(stream, BLOCK / median(seconds), size // BLOCK)
