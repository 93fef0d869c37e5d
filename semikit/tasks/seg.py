"""Semantic segmentation: a class for every pixel, from few labelled and many unlabelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.data.file_patterns import list_place
from semikit.data.formats.mask_values import MaskValues
from semikit.data.masked_images import DataSpec, ImageFolder, MaskedImages, load_spec, open_folders, plain_images
from semikit.data.palette import palette
from semikit.data.samples import DataParts
from semikit.data.shards.decoders import PoolImage
from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource
from semikit.data.unused_files import unread
from semikit.inference.in_memory import Prediction, segment
from semikit.inference.scenes import SceneReader, SingleDates
from semikit.inference.windows import EvaluateSettings
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.weights.released import ReleasedCheckpoint
from semikit.settings.base import Settings
from semikit.tasks._data import SPLITS, SourceSettings, open_own, open_published
from semikit.tasks._pixel_task import PixelTask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@final
class PixelData(SourceSettings):
    """Where images and masks come from; one of `folders`, `published` and `shapes`."""

    KINDS = ("folders", "published", "shapes")

    folders: DataSpec | None = None
    """The user's own folders, as in the data YAML."""
    shapes: ShapesSettings | None = None
    """The built-in procedural images."""


@final
class Segmentation(PixelTask):
    """Semantic segmentation, `semikit train seg`."""

    Data: ClassVar[type[Settings]] = PixelData
    scenes: ClassVar[type[SceneReader]] = SingleDates
    titles: ClassVar[tuple[str, ...]] = ("image",)

    @classmethod
    def custom_data(cls, data: Path | Mapping[str, Any], root: Path | None) -> Mapping[str, Any]:
        """Folders and classes of a data YAML."""
        return {"folders": load_spec(data, root).model_dump(mode="json", exclude_none=True)}

    @classmethod
    def open(cls, data: PixelData) -> DataParts:
        """The user's folders, a published data set, or generated images.

        Raises:
            DataError: folders or prepared roots that are not as described.
        """
        if data.shapes is not None:
            train, val, test = (ShapesSource(data.shapes, name) for name in SPLITS)
            return DataParts(train, (), val, test, CLASS_NAMES, palette(len(CLASS_NAMES)))
        if data.published is not None:
            return open_published(data, data.published, _unlabeled)
        assert data.folders is not None
        parts = open_own(data, data.folders, "seg", lambda folder: ImageFolder(images=folder), open_folders, PoolImage)
        return replace(parts, palette=palette(len(parts.class_names), data.folders.drawn))

    @classmethod
    def build(cls, settings: ModelSettings, num_classes: int) -> Segmenter:
        """Encoder, decoder and classifier."""
        return build_segmenter(settings, num_classes)

    def metrics(self, num_classes: int, settings: EvaluateSettings) -> MetricCollection:
        """See `semikit.metrics.segmentation`."""
        from semikit.metrics.segmentation import segmentation_metrics

        return segmentation_metrics(num_classes, settings.average)

    @classmethod
    def released(cls, found: ReleasedCheckpoint, name: str) -> tuple[Network, dict[str, Any]]:
        """The network of one of the authors' checkpoints (its average where there is one), and its metadata.

        Such a file names no classes; they are numbered. With 19 of them (Cityscapes) windows of 798 pixels slide, as
        published.
        """
        network = build_segmenter(found.settings, found.num_classes)
        network.load_state_dict(found.teacher or found.student)
        cityscapes = found.num_classes == 19
        metadata = {
            "task": "seg",
            "name": name,
            "class_names": [f"class {number}" for number in range(found.num_classes)],
            "model": found.settings.model_dump(mode="json"),
            "evaluate": EvaluateSettings(window="sliding" if cityscapes else "original").model_dump(mode="json"),
            "crop": 798 if cityscapes else 518,
            "orientation": "viewer",
            "best": {"model": "teacher" if found.teacher else "student", "protocol": "paper", "epoch": found.epoch},
        }
        return network.eval(), metadata

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Prediction:
        """See `in_memory.segment`."""
        return segment(network, metadata, dates[0], inference)


def _unlabeled(folder: Path, values: MaskValues, key: str) -> MaskedImages:
    found = list_place(folder, key)
    return replace(plain_images(found.files, values), unused=tuple(unread(found, key)))


plugin = Segmentation
