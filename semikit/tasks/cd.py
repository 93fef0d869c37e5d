"""Change detection: a class of change for every pixel of two dates, from few labelled and many unlabelled pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.core.transitions import Transitions
from semikit.data.check import parts_of
from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs, image_pairs, open_pair_folders
from semikit.data.pair_grids import alignment_notices
from semikit.data.pair_spec import BINARY, PairImages, PairSpec, load_pairs
from semikit.data.palette import Palette, palette
from semikit.data.samples import DataParts
from semikit.data.shards.decoders import PoolPair
from semikit.data.synthetic.scenes import CLASS_NAMES, ScenesSettings, ScenesSource, write_sample
from semikit.inference.class_choice import AUTO
from semikit.inference.in_memory import Prediction, detect_change
from semikit.inference.scenes import DatePairs, SceneReader
from semikit.inference.windows import EvaluateSettings
from semikit.models.settings import ModelSettings
from semikit.models.siamese import Siamese, build_siamese, siamese_state
from semikit.models.weights.released import ReleasedCheckpoint
from semikit.settings.base import Settings
from semikit.tasks._data import SPLITS, SourceSettings, open_own, open_published
from semikit.tasks._pixel_task import PixelTask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_COLOURS = ((40, 44, 52), (229, 38, 110))
"""Unchanged and changed: dark and light, also for those who see no colours."""


@final
class PairData(SourceSettings):
    """Where pairs and masks come from; one of `folders`, `published` and `scenes`."""

    KINDS = ("folders", "published", "scenes")

    folders: PairSpec | None = None
    """The user's own folders, as in the data YAML."""
    scenes: ScenesSettings | None = None
    """The built-in procedural scenes."""


@final
class ChangeDetection(PixelTask):
    """Change detection between two dates, `semikit train cd`."""

    Data: ClassVar[type[Settings]] = PairData
    scenes: ClassVar[type[SceneReader]] = DatePairs
    dates: ClassVar[tuple[int, str]] = (2, "two dates, the earlier first")
    example: ClassVar[str] = "BEFORE.tif AFTER.tif -o change.tif --overlay"
    titles: ClassVar[tuple[str, ...]] = ("date A", "date B")

    @classmethod
    def custom_data(cls, data: Path | Mapping[str, Any], root: Path | None) -> Mapping[str, Any]:
        """Folders and classes of a data YAML, or a folder of pairs."""
        return {"folders": load_pairs(data, root).model_dump(mode="json", exclude_none=True)}

    @classmethod
    def open(cls, data: PairData) -> DataParts:
        """The user's folders, a published data set, or generated scenes.

        Raises:
            DataError: folders or prepared roots that are not as described.
        """
        if data.scenes is not None:
            train, val, test = (ScenesSource(data.scenes, name) for name in SPLITS)
            parts = DataParts(train, (), val, test, CLASS_NAMES)
        elif data.published is not None:
            return open_published(data, data.published, _unlabeled)
        else:
            assert data.folders is not None
            parts = open_own(data, data.folders, "cd", _folder, open_pair_folders, PoolPair)
        given = None if data.folders is None else data.folders.drawn
        count = len(parts.class_names)
        return replace(parts, palette=change_palette(count) if given is None else palette(count, given))

    @classmethod
    def build(cls, settings: ModelSettings, num_classes: int) -> Siamese:
        """A shared encoder, the difference of both dates, decoder and classifier."""
        return build_siamese(settings, num_classes)

    def data_notices(self) -> Sequence[str]:
        """Also the pairs and masks that are brought onto the grid of the first date."""
        parts = parts_of(self.learned.split, self.learned.val, self.learned.test)
        return [
            *alignment_notices((part.source, index) for part in parts for index in part.indices),
            *super().data_notices(),
        ]

    def metrics(self, num_classes: int, settings: EvaluateSettings) -> MetricCollection:
        """See `semikit.metrics.change`."""
        from semikit.metrics.change import change_metrics

        transitions, choose = Transitions.of(self.class_names), settings.threshold == AUTO
        return change_metrics(num_classes, settings.average, transitions, damage=self._damage, choose=choose)

    @property
    def _damage(self) -> bool:
        return self.data.folders is not None and self.data.folders.damage

    def fitted(self, settings: ModelSettings) -> ModelSettings:
        """From A to B is another class than from B to A, and a building that stays whole is no ground: a difference
        tells neither.
        """
        directed = self._damage or Transitions.of(self.class_names) is not None
        return settings if settings.ordered is not None else settings.model_copy(update={"ordered": directed})

    @classmethod
    def released(cls, found: ReleasedCheckpoint, name: str) -> tuple[Network, dict[str, Any]]:
        """The network of one of the authors' checkpoints (its average where there is one), and its metadata."""
        network = build_siamese(found.settings, found.num_classes)
        network.load_state_dict(siamese_state(found.teacher or found.student))
        metadata = {
            "task": "cd",
            "name": name,
            "class_names": list(BINARY),
            "palette": change_palette(found.num_classes)[: found.num_classes].tolist(),
            "model": found.settings.model_dump(mode="json"),
            "evaluate": EvaluateSettings().model_dump(mode="json"),
            "crop": 252,
            "orientation": "viewer",
            "best": {"model": "teacher" if found.teacher else "student", "protocol": "paper", "epoch": found.epoch},
        }
        return network.eval(), metadata

    def samples(self, folder: Path) -> Sequence[Path]:
        """Two GeoTIFFs of one generated scene: before.tif and after.tif."""
        return () if self.data.scenes is None else write_sample(self.data.scenes.seed, folder)

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Prediction:
        """See `in_memory.detect_change`."""
        return detect_change(network, metadata, dates, inference)


def change_palette(num_classes: int) -> Palette:
    """Colours (256, 3) uint8 of maps of change: the unchanged is dark, changes stand out."""
    colours = palette(num_classes)
    colours[:2] = _COLOURS
    return colours


def _folder(folder: Path) -> PairImages:
    return PairImages(images_a=folder / "A", images_b=folder / "B")


def _unlabeled(folder: Path, values: MaskValues, key: str) -> ImagePairs:
    return image_pairs(_folder(folder), values, key)


plugin = ChangeDetection
