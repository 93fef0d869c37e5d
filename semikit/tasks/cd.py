"""Change detection: a class of change for every pixel of two dates, from few labelled and many unlabelled pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.check import parts_of
from semikit.data.pair_spec import BINARY, load_pairs
from semikit.inference.in_memory import Prediction, detect_change
from semikit.inference.predict_pairs import PairPredict, predict_pairs
from semikit.inference.windows import EvaluateSettings
from semikit.models.settings import ModelSettings
from semikit.models.siamese import Siamese, build_siamese, siamese_state
from semikit.models.weights.released import ReleasedCheckpoint
from semikit.settings.base import Settings
from semikit.tasks._data import PixelSources
from semikit.tasks._pair_data import PairData, alignment_notices, change_palette, open_pairs, write_sample
from semikit.tasks._pixel_task import PixelTask

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


@final
class ChangeDetection(PixelTask):
    """Change detection between two dates, `semikit train cd`."""

    Data: ClassVar[type[Settings]] = PairData
    Predict: ClassVar[type[Settings]] = PairPredict
    metric: ClassVar[str] = "IoU"
    dates: ClassVar[tuple[int, str]] = (2, "two dates, the earlier first")
    example: ClassVar[str] = "BEFORE.tif AFTER.tif -o change.tif --overlay"
    titles: ClassVar[tuple[str, ...]] = ("date A", "date B")

    @classmethod
    def custom_data(cls, data: Path | Mapping[str, Any], root: Path | None) -> Mapping[str, Any]:
        """Folders and classes of a data YAML, or a folder of pairs."""
        return {"folders": load_pairs(data, root).model_dump(mode="json", exclude_none=True)}

    @classmethod
    def open(cls, data: PairData) -> PixelSources:
        """The user's folders, a published data set, or made scenes."""
        return open_pairs(data)

    @classmethod
    def build(cls, settings: ModelSettings, num_classes: int) -> Siamese:
        """A shared encoder, the difference of both dates, decoder and classifier."""
        return build_siamese(settings, num_classes)

    def told(self) -> Sequence[str]:
        """Also the pairs and masks that are brought onto the grid of the first date."""
        return [*alignment_notices(parts_of(self.split, self.val, self.test)), *super().told()]

    @staticmethod
    def metrics(num_classes: int, settings: EvaluateSettings) -> MetricCollection:
        """See `semikit.metrics.change`."""
        from semikit.metrics.change import change_metrics

        return change_metrics(num_classes, settings.average)

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
            "best": {"model": "teacher" if found.teacher else "student", "protocol": "paper", "epoch": found.epoch},
        }
        return network.eval(), metadata

    def samples(self, folder: Path) -> Sequence[Path]:
        """Two GeoTIFFs of one made scene: before.tif and after.tif."""
        return () if self.data.scenes is None else write_sample(self.data.scenes.seed, folder)

    @classmethod
    def predict(
        cls,
        network: Network,
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        out: Path,
        options: PairPredict,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        """Maps of change for two files or two folders."""
        return predict_pairs(network, metadata, sources, out, options, inference, progress)

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Prediction:
        """See `in_memory.detect_change`."""
        return detect_change(network, metadata, dates, inference)


plugin = ChangeDetection
