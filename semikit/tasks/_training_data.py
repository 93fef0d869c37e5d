"""What a run learns from and is scored on: the samples of each part, which are labelled, and the batches of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from semikit.core.batch import Requirements
from semikit.core.schedules import Growth
from semikit.core.task import BatchLayout, Counts, PartName
from semikit.data import contents, manifest
from semikit.data.calibration import with_calibration
from semikit.data.check import LABELLED, Part, parts_of
from semikit.data.duplicates import overlap_notices
from semikit.data.formats.photos import Reduce
from semikit.data.loading.loader import Make, StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.samples import DataParts, Samples
from semikit.data.shards.pool import ShardStream
from semikit.data.shards.tar_files import COUNTS, ShardCounts
from semikit.data.splits import choose, of_these, with_labels
from semikit.distributed.collectives import own_positions, process_count
from semikit.errors import FileFault
from semikit.tasks._data import SourceSettings

LABELED, UNLABELED = "labeled", "unlabeled"
SECOND = "second"
"""Name of the stream CutMix partners come from where a method needs a batch of their own."""

Pools = Mapping[str, Sequence[tuple[Samples, int]] | ShardStream]
"""The images of each stream, as (samples, index among them)."""


@final
class TrainingData:
    """The parts of a data set, their split, and what a step reads: labelled, unlabelled and, where the method needs it,
    a second unlabelled batch.

    Raises:
        DataError: labelled images that cannot be chosen as asked.
    """

    def __init__(
        self, parts: DataParts, settings: SourceSettings, layout: BatchLayout, requirements: Requirements
    ) -> None:
        val = parts.test if parts.val is None else parts.val
        assert val is not None
        self.parts, self.layout, self.requirements = parts, layout, requirements
        self.train, self.val, self.test = parts.train, val, parts.test
        self.split = choose(settings.labels, parts, layout.seed if settings.split_seed is None else settings.split_seed)
        if settings.only is not None:
            self.split = of_these(self.split, settings.only)
        if requirements.held_out:
            group = getattr(getattr(settings, "folders", None), "group", None)
            self.split = with_calibration(self.split, parts, requirements.held_out, group)
        if (also := getattr(settings, "also_labeled", None)) is not None:
            self.split = with_labels(self.split, also, parts.class_names)
        self.shards = () if parts.pool is None else parts.pool.shards
        self.contents: dict[str, contents.Contents] = {}
        self.counts = Counts(
            labeled=len(self.split.labeled) + len(self.split.also),
            unlabeled=len(self.split.unlabeled) if parts.pool is None else None,
            val=len(val),
            test=0 if parts.test is None else len(parts.test),
        )

    def scored(self, split: PartName) -> Samples:
        """The images of a part that there is."""
        source = {"train": self.train, "val": self.val, "test": self.test}[split]
        assert source is not None, split
        return source

    def recorded(self, parts: Iterable[Part]) -> list[Part]:
        """The same parts of one's own data; what the files hold that are learned from with their labels, and that the
        best network is chosen on, is to be digested.
        """
        chosen = "test" if self.layout.on_test and self.test is not None else "val"
        return [replace(part, recorded=part.name in (LABELLED, chosen)) for part in parts]

    def record(self, digests: Mapping[str, Mapping[int, tuple[str, str]]]) -> None:
        """Keep what these files hold, by part and number, for the manifest."""
        for part in parts_of(self.split, self.val, self.test):
            found = digests.get(part.name, {})
            record = contents.recorded(part.source, part.indices, found, self.parts.class_names)
            if record is not None:
                self.contents[part.name] = record

    def manifest(self) -> Mapping[str, Any]:
        """The split as plain values."""
        return manifest.Manifest.of(self.split, self.shards, self.contents).model_dump(mode="json")

    def write_split(self, folder: Path) -> None:
        """Write split.json, labeled.txt and unlabeled.txt."""
        manifest.write(folder, self.split, self.shards, self.contents)

    def overlaps(self, resumed: bool) -> list[str]:
        """What is to be told of pictures of one's own data that are there more than once; those of a published set are
        as they were published (tiles of WHU-CD repeat).

        Raises:
            DataError: some are learned from and scored on; not where that is allowed or a run was begun so.
        """
        return [] if self.parts.published else overlap_notices(self.parts, not (resumed or self.parts.allow_overlap))

    def check_pool(self, channels: int) -> list[str]:
        """Open the first image of shards, which has to have as many channels as train; returns notices for the user.

        Raises:
            DataError: it cannot be read, or has another number of channels.
        """
        pool = self.parts.pool
        if pool is None:
            return []
        image, _ = pool.first()
        if image.shape[-1] != channels:
            remedy = "Choose the same with `bands: [...]`."
            detail = f"{image.shape[-1]}, those of train {channels}"
            raise FileFault("images of shards with another number of channels", pool.shards[0].place, detail, remedy)
        unused = len(self.train) - len(self.split.labeled)
        rest = f"; {unused} images of train that are not labelled are not learned from" if unused else ""
        return [
            f"unlabelled images come out of {len(pool.shards)} shards alone{rest}. Of these only the first image was "
            "opened; an epoch is a pass over the labelled images"
        ]

    def batches(
        self,
        make: Callable[[Pools], Make[Any]],
        steps: range,
        workers: int,
        folder: Path | None,
        growth: Growth | None = None,
        reduce: Reduce | None = None,
        **options: Any,
    ) -> StepLoader[Any]:
        """The batches of `steps`; `make` of the images of each stream makes one item in a worker.

        `folder` is the run's, where it is known how many images shards hold; `growth` that of the unlabelled batch.
        `reduce` says by what factor images of one
        class that lie in files may be reduced. `options` are those of `StepLoader`.
        """
        train, pool = self.train.reduced(reduce), self.split.pool.reduced(reduce)
        unlabeled = [(pool, index) for index in self.split.unlabeled]
        pools: dict[str, Any] = {
            LABELED: [(train, index) for index in self.split.labeled] + [(pool, index) for index in self.split.also],
            UNLABELED: unlabeled,
            SECOND: unlabeled,
        }
        if self.parts.pool is not None:
            counts = ShardCounts.read(None if folder is None else folder / COUNTS)
            for name in (UNLABELED, SECOND):
                pools[name] = ShardStream(self.parts.pool, self.layout.seed, name, self.layout.unlabeled_batch, counts)
        return StepLoader(self.streams(pools, growth), make(pools), self.layout.seed, steps, workers, **options)

    def streams(self, pools: Mapping[str, Sized | ShardStream], growth: Growth | None = None) -> list[Stream]:
        """The streams of a step, of which this process makes its share."""
        batches = {LABELED: self.layout.batch}
        if self.requirements.unlabeled:
            batches[UNLABELED] = self.layout.unlabeled_batch
        if self.requirements.partner_batch:
            batches[SECOND] = self.layout.unlabeled_batch
        growing = {name: None if name == LABELED else growth for name in batches}
        return [
            Stream(name, _length(pools[name]), batch, own_positions(batch), growing[name])
            for name, batch in batches.items()
        ]


def shared_name(run_folder: Path | None) -> str | None:
    """What all processes of a run call a folder that they share; None: there is only one process."""
    if process_count() == 1:
        return None
    return hashlib.blake2b(str(Path(run_folder or "-").absolute()).encode(), digest_size=8).hexdigest()


def _length(pool: Sized | ShardStream) -> int | None:
    return None if isinstance(pool, ShardStream) else len(pool)
