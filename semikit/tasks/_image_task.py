"""What the tasks share whose labelled and unlabelled images are chosen from sources, of pixels and of whole images."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from semikit.core.batch import Labeled, Requirements, Unlabeled
from semikit.core.network import Network
from semikit.core.task import BatchLayout, Inference, PartName, Task
from semikit.data.description import typical_side
from semikit.data.loading.decoded import DecodedScenes
from semikit.data.samples import DataParts, Samples
from semikit.tasks._data import orientation_of
from semikit.tasks._training_data import TrainingData


class ImageTask(Task, ABC):
    """A task of images in sources. `__init__` calls `_learn_from` and sets `evaluation`; `network` sets `maker`."""

    evaluation: Any
    """Scores networks over a source, and shows what they make of its images."""
    maker: Callable[[Any, int, torch.device], tuple[Labeled, Unlabeled | None]]
    """Turns what `batches` gives into views."""

    def _learn_from(
        self, parts: DataParts, data: Any, settings: Any, layout: BatchLayout, requirements: Requirements
    ) -> None:
        """Choose what is learned from."""
        self.parts, self.data, self.settings, self.layout, self.requirements = (
            parts,
            data,
            settings,
            layout,
            requirements,
        )
        self.class_names = parts.class_names
        self.learned = TrainingData(parts, data, layout, requirements)
        self.counts, self.unused = self.learned.counts, [str(one) for one in parts.unused]
        self.calibration = self.learned.split.calibration
        self.decoded = DecodedScenes(None)

    def typical_side(self) -> int:
        """The median of the labelled images' shorter sides."""
        return typical_side(*self.labeled(), orientation_of(self.data) != "stored")

    def manifest(self) -> Mapping[str, Any]:
        """The split as plain values."""
        return self.learned.manifest()

    def write_split(self, folder: Path) -> None:
        """Write split.json, labeled.txt and unlabeled.txt."""
        self.learned.write_split(folder)

    def news(self) -> Sequence[str]:
        """What became of the decoded images."""
        return self.decoded.news()

    def views(self, raw: Any, step: int, device: torch.device) -> tuple[Labeled, Unlabeled | None]:
        """Weak and strong views and normalisation, on the device; of pixels mixing, too."""
        return self.maker(raw, step, device)

    def passes(self, networks: Sequence[Network], inference: Inference) -> Iterator[int]:
        """Labelled images, unchanged."""
        return self.evaluation.passes(networks, *self.labeled(), inference)  # type: ignore[no-any-return]

    def labeled(self) -> tuple[Samples, Sequence[int]]:
        """See `Task.labeled`."""
        return self.learned.train, self.learned.split.labeled

    def examined(
        self, network: Network, split: PartName, inference: Inference, indices: Sequence[int] | None = None
    ) -> tuple[Sequence[str], Iterator[Any]]:
        """See `Task.examined`."""
        source = self.learned.scored(split)
        return source.names, self.evaluation.examined(network, source, inference, indices)
