"""Image classification: one class for every image, from few labelled and many unlabelled ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch

from semikit.core.batch import Labeled, Requirements, Unlabeled
from semikit.core.network import Network
from semikit.core.task import BatchLayout, Counts, Inference, Predicted, Progress, Scores, Split, Task
from semikit.data import manifest
from semikit.data.class_check import Looked, balance_told, check_images, refuse_other_size, spread
from semikit.data.class_sources import ClassSource
from semikit.data.class_spec import load_labels
from semikit.data.class_splits import choose_labeled
from semikit.data.loading.loader import StepLoader
from semikit.distributed.collectives import process_rank
from semikit.errors import ConfigError, InputError
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation
from semikit.inference.in_memory import Prediction, classify
from semikit.inference.pictures import confusion_picture, save_png
from semikit.inference.predict_classes import ClassPredict, predict_classes
from semikit.metrics.scoring import confusion_matrix, scores_of
from semikit.models.classifier import Classifier, ClassifierSettings, build_classifier
from semikit.models.unused import freeze_unused
from semikit.settings.base import Settings
from semikit.tasks._class_data import ClassData, open_classes
from semikit.tasks._class_views import ClassCrops, ClassViewMaker, ClassViews, numbers_of
from semikit.tasks._shards import look, pool_streams, shards_of, told
from semikit.tasks._streams import LABELED, SECOND, UNLABELED, streams

_CHECKED = 500
"""Images of each part of a published data set that are looked at before training."""


@final
class Classification(Task):
    """Image classification, `semikit train cls`."""

    Data: ClassVar[type[Settings]] = ClassData
    Model: ClassVar[type[Settings]] = ClassifierSettings
    Views: ClassVar[type[Settings]] = ClassViews
    Evaluate: ClassVar[type[Settings]] = ClassEvaluateSettings
    Predict: ClassVar[type[Settings]] = ClassPredict
    metric: ClassVar[str] = "top-1"
    per_class: ClassVar[str] = "top-1"
    any_labels: ClassVar[str] = "all"
    example: ClassVar[str] = "IMAGES -o predictions.csv"

    def __init__(
        self,
        data: ClassData,
        views: ClassViews,
        evaluate: ClassEvaluateSettings,
        layout: BatchLayout,
        requirements: Requirements,
    ) -> None:
        self.data, self.settings, self.layout, self.requirements = data, views, layout, requirements
        seed = layout.seed if data.split_seed is None else data.split_seed
        self.parts, self.val = parts, _ = open_classes(data, layout.on_test)
        self.class_names, self.train, self.test = parts.class_names, parts.train, parts.test
        self.evaluation = ClassEvaluation(parts.class_names, evaluate, views.size)
        self.split = choose_labeled(data.labels, parts, seed)
        if parts.pool is not None:
            self.split = replace(self.split, unlabeled=())
        self.scored: list[tuple[Network, torch.Tensor]] = []
        self.counts = Counts(
            labeled=len(self.split.labeled),
            unlabeled=len(self.split.unlabeled) if parts.pool is None else None,
            val=len(self.val),
            test=0 if parts.test is None else len(parts.test),
        )

    # -------------------------------------------------------------------------------------------- before training

    def network(self, settings: ClassifierSettings) -> Network:
        """A new network for the classes of the data."""
        self.model = settings
        network = build_classifier(settings, len(self.class_names))
        self.statistics = {"mean": list(network.mean), "std": list(network.std)}
        labels = torch.from_numpy(np.asarray(self.train.labels)[list(self.split.labeled)])
        truth = torch.from_numpy(np.asarray(self.split.pool.labels)[np.asarray(self.split.unlabeled, np.int64)])
        small, rows = self._small()
        self.side = (self.settings.size, self.settings.size) if small is None else tuple(small.shape[-2:])
        self.maker = ClassViewMaker(
            self.settings, self.layout, self.requirements, (network.mean, network.std), labels, truth, small, rows
        )
        freeze_unused(network, (2, settings.in_channels, *self.side))
        return network

    def _small(self) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """All images (N, C, H, W) uint8 where they are small, and which of them the numbers of each stream mean."""
        if self.settings.size is not None:
            return None, {}
        if self.parts.pool is not None:
            raise ConfigError(
                "views.size is not set, but images of shards are read while training. Say the side they are cropped "
                "to: views.size=224."
            )
        stored = self.split.pool.arrays()
        if stored is None:
            raise ConfigError(
                "views.size is not set, so all images have to be of one size of at most 96 pixels a side, and these "
                "are not. Say the side they are cropped to: views.size=224."
            )
        for part, source in (("val", self.val), ("test", self.test)):
            refuse_other_size(part, source, stored.shape[1:3])
        unlabeled = torch.tensor(self.split.unlabeled)
        rows = {LABELED: torch.tensor(self.split.labeled), UNLABELED: unlabeled, SECOND: unlabeled}
        return torch.from_numpy(stored).movedim(-1, 1), rows

    def check(self, thorough: bool = False) -> None:
        """Labelled and scored images, of a published data set some; with `thorough` all, and the unlabelled."""
        pool, taken = self.split.pool, set(self.split.labeled)
        looked = [Looked("labelled", pool, self.split.labeled), Looked("val", self.val, range(len(self.val)))]
        if self.test is not None:
            looked.append(Looked("test", self.test, range(len(self.test))))
        if thorough:
            looked.append(Looked("unlabelled", pool, [index for index in self.split.unlabeled if index not in taken]))
        elif self.parts.published:
            looked = [spread(part, _CHECKED) for part in looked]
        check_images(looked)
        self.notices = [*self.parts.notices, balance_told(self.split, self.class_names)]
        if self.parts.pool is not None:
            look(self.parts.pool, 3)
            self.notices.append(told(self.parts.pool, len(self.train) - len(self.split.labeled)))

    def manifest(self) -> Mapping[str, Any]:
        """The split as plain values."""
        return manifest.Manifest.of(self.split, shards_of(self.parts.pool)).model_dump(mode="json")

    def write_split(self, folder: Path) -> None:
        """Write split.json, labeled.txt and unlabeled.txt."""
        manifest.write(folder, self.split, shards_of(self.parts.pool))

    def metadata(self) -> Mapping[str, Any]:
        """Classes, network and how images are read."""
        return {
            "class_names": list(self.class_names),
            "model": self.model.model_copy(update={"weights": "none"}).model_dump(mode="json"),
            **self.statistics,
            "evaluate": self.evaluation.settings.model_dump(mode="json"),
            "size": self.settings.size,
            "side": list(self.side),
        }

    @classmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Classifier:
        """The network of a weights file; what prediction reads later is looked at now."""
        ClassEvaluateSettings.model_validate(metadata["evaluate"])
        if metadata["size"] is None and metadata["side"] is None:
            raise TypeError("size and side: one of them has to be a number of pixels")
        network = build_classifier(ClassifierSettings.model_validate(metadata["model"]), len(metadata["class_names"]))
        network.mean, network.std = tuple(metadata["mean"]), tuple(metadata["std"])
        return network

    @classmethod
    def views_of(cls, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The side images are cropped to."""
        return {"size": metadata["size"]}

    @classmethod
    def custom_data(cls, data: Path | Mapping[str, Any], root: Path | None) -> Mapping[str, Any]:
        """Folders and classes of a data YAML, or a folder of class folders."""
        return {"folders": load_labels(data, root).model_dump(mode="json", exclude_none=True)}

    # --------------------------------------------------------------------------------------------------- training

    def batches(self, steps: range, workers: int, pin: bool) -> Iterable[Any]:
        """Numbers of images that live on the device, or raw crops, step by step."""
        labeled, unlabeled = self.split.labeled, self.split.unlabeled
        pool = self.parts.pool
        shards = {} if pool is None else pool_streams(pool, self.layout, self.run_folder)
        found = streams(
            {LABELED: labeled, UNLABELED: unlabeled, SECOND: unlabeled, **shards}, self.layout, self.requirements
        )
        if self.settings.size is None:
            return numbers_of(found, self.layout.seed, steps)
        listed: list[tuple[ClassSource, int]] = [(self.split.pool, index) for index in unlabeled]
        of: list[tuple[ClassSource, int]] = [(self.train, index) for index in labeled]
        pools: dict[str, Any] = {LABELED: of, UNLABELED: listed, SECOND: listed, **shards}
        make = ClassCrops(pools, self.settings, self.requirements.strong_views)
        return StepLoader(found, make, self.layout.seed, steps, workers, pin=pin, bad_files=self.bad_files)

    def views(self, raw: Any, step: int, device: torch.device) -> tuple[Labeled, Unlabeled | None]:
        """Weak and strong views and normalisation, on the device."""
        return self.maker(raw, step, device)

    def evaluate(self, networks: Mapping[str, Network], split: Split, inference: Inference) -> dict[str, Scores]:
        """The scores of every network, over each image once."""
        source = self.val if split == "val" else self.test
        assert source is not None, split
        metrics = self.evaluation.metrics(networks, source, inference)
        if source is self.val and process_rank() == 0:  # which draws the pictures and forgets them
            self.scored = [(network, confusion_matrix(metrics[name])) for name, network in networks.items()]
        return {name: scores_of(found, self.class_names) for name, found in metrics.items()}

    def pictures(self, network: Network, folder: Path, inference: Inference) -> list[Path]:
        """The confusion matrix of the validation images, and some of them with their classes."""
        folder.mkdir(exist_ok=True)
        scored, self.scored = self.scored, []  # of this moment: the networks learn on
        matrix = next((matrix for known, matrix in scored if known is network), None)
        if matrix is None:
            matrix = confusion_matrix(self.evaluation.metrics({"best": network}, self.val, inference)["best"])
        shown = self.evaluation.comparison({"predicted": network}, self.val, inference)
        confusion = confusion_picture(matrix.cpu().numpy(), self.class_names)
        found = {"confusion.png": confusion, "validation.png": shown}
        for name, picture in found.items():
            save_png(picture, folder / name)
        return [folder / name for name in found]

    @classmethod
    def predict(
        cls,
        network: Network,
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        out: Path,
        options: ClassPredict,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        """A table of classes for a file, a folder or a glob.

        Raises:
            InputError: more than one source.
        """
        if len(sources) != 1:
            raise InputError(f"a run of cls predicts single images; give one source, not {len(sources)}.")
        return predict_classes(network, metadata, sources[0], out, options, inference, progress)

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Prediction:
        """See `in_memory.classify`."""
        return classify(network, metadata, dates[0], inference)


plugin = Classification
