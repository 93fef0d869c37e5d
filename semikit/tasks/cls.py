"""Image classification: one class for every image, from few labelled and many unlabelled ones."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from pydantic import Field

from semikit.core.batch import Requirements
from semikit.core.census import PartCensus
from semikit.core.network import Network
from semikit.core.task import BatchLayout, Final, Inference, Predicted, Progress, Scores, Split
from semikit.data.check import Part, check_samples, parts_of, refuse_other_size
from semikit.data.class_splits import held_out
from semikit.data.description import describe
from semikit.data.formats.photos import Reduce
from semikit.data.header_notices import header_notices
from semikit.data.hold_out import held_out_as_stated
from semikit.data.label_spec import LabelSpec, load_labels
from semikit.data.labeled_images import open_labeled, unlabeled_files
from semikit.data.leftovers import with_leftovers
from semikit.data.loading.decoded import decoded_photographs, kept_photographs
from semikit.data.notices import balance_notice, class_census
from semikit.data.published.class_sets import PublishedImages, open_published_images
from semikit.data.samples import DataParts, Samples, refuse_overlap
from semikit.data.shards.decoders import PoolRgb
from semikit.data.shards.pool_spec import pool_among
from semikit.data.synthetic.class_shapes import ClassShapesSettings, open_shapes
from semikit.distributed.collectives import process_rank
from semikit.errors import ConfigError
from semikit.files import make_folder
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation
from semikit.inference.in_memory import Prediction, classify
from semikit.inference.pictures import captioned, confusion_picture, save_png
from semikit.inference.predict_classes import ClassPredict, predict_classes
from semikit.metrics.scoring import confusion_matrix, scores_of
from semikit.models.classifier import Classifier, ClassifierSettings, build_classifier
from semikit.models.unused import freeze_unused
from semikit.settings.base import Location, Settings
from semikit.tasks._class_views import ClassCrops, ClassViewMaker, ClassViews, numbers_of
from semikit.tasks._data import SourceSettings, learned_orientation, orientation_of, with_pool
from semikit.tasks._image_task import ImageTask
from semikit.tasks._training_data import LABELED, SECOND, UNLABELED, Pools, shared_name

_CHECKED = 500
"""Images of each part of a published data set that are opened before training."""


@final
class ClassData(SourceSettings):
    """Where labelled images come from; one of `folders`, `published` and `shapes`."""

    KINDS = ("folders", "published", "shapes")

    folders: LabelSpec | None = None
    """The user's own images, as in the data YAML."""
    published: PublishedImages | None = None  # type: ignore[assignment]
    """A published data set."""
    validation: int | None = Field(None, ge=1)
    """Images of train held out to choose the best on, in balance, where there are none for that and it is not chosen on
    the test images (`--protocol paper`); null: a tenth, at most 5000."""
    stratify: bool = False
    """Whether labelled and validation images of one's own data are drawn in proportion to the classes, at least one of
    each, where they cannot be balanced; false, as in runs that do not say it: refused, and only as many validation
    images as the smallest class allows."""
    labeled_as_unlabeled: bool = True
    """Whether labelled images are learned from as unlabelled ones too, as the field has it (CoMatch's code for ImageNet
    does not)."""
    also_labeled: Location | None = None
    """A table `image,label` of unlabelled images (names of a run's unlabeled.txt) that are learned with that label, too
    (what a generation of CReST picked); shares and weights of classes count the labelled images alone. Columns are
    separated by comma, semicolon or tab."""
    shapes: ClassShapesSettings | None = None
    """The built-in procedural images."""


@final
class Classification(ImageTask):
    """Image classification, `semikit train cls`."""

    Data: ClassVar[type[Settings]] = ClassData
    Model: ClassVar[type[Settings]] = ClassifierSettings
    Views: ClassVar[type[Settings]] = ClassViews
    Evaluate: ClassVar[type[Settings]] = ClassEvaluateSettings
    Predict: ClassVar[type[Settings]] = ClassPredict
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
        if requirements.pixels:
            raise ConfigError(
                "method.name: this method mixes or compares parts of images and learns classes of pixels only (seg, "
                "cd). For classes of whole images use unimatch_v2 or fixmatch; mean_teacher is nearest to cutmix_seg."
            )
        self.reduce = None if data.folders is None else views.reduction
        self._learn_from(open_classes(data, layout.on_test, self.reduce), data, views, layout, requirements)
        self.evaluation = ClassEvaluation(self.class_names, evaluate, views.size)
        if requirements.every_image and self.counts.unlabeled is None:
            raise ConfigError(
                "method.name: flexmatch keeps the label of every unlabelled image, but those of shards are not "
                "numbered. Use freematch or softmatch, whose thresholds adapt too, or give the images as folders."
            )
        self.scored: list[tuple[weakref.ref[Network], torch.Tensor]] = []

    # -------------------------------------------------------------------------------------------- before training

    def network(self, settings: ClassifierSettings) -> Network:
        """A new network for the classes of the data."""
        self.model = settings
        network = build_classifier(settings, len(self.class_names))
        self.statistics = {"mean": list(network.mean), "std": list(network.std)}
        split = self.learned.split
        own = np.asarray(self.learned.train.labels)[list(split.labeled)]
        labels = torch.from_numpy(np.append(own, np.array([*split.also.values()], np.int64)))
        truth = torch.from_numpy(np.asarray(split.pool.labels)[np.asarray(split.unlabeled, np.int64)])
        small, rows = self._small()
        self.side = (self.settings.size, self.settings.size) if small is None else tuple(small.shape[-2:])
        self.maker = ClassViewMaker(
            self.settings, self.layout, self.requirements, (network.mean, network.std), labels, truth, small, rows,
            self.compile_views,
        )  # fmt: skip
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
        split = self.learned.split
        stored = split.pool.arrays()
        if stored is None:
            raise ConfigError(
                "views.size is not set, so all images have to be of one size of at most 96 pixels a side, and these "
                "are not. Say the side they are cropped to: views.size=224."
            )
        for part, source in (("val", self.learned.val), ("test", self.learned.test)):
            refuse_other_size(part, source, stored.shape[1:3])
        unlabeled = torch.tensor(split.unlabeled)
        rows = {LABELED: torch.tensor([*split.labeled, *split.also]), UNLABELED: unlabeled, SECOND: unlabeled}
        return torch.from_numpy(stored).movedim(-1, 1), rows

    def check(self, thorough: bool = False, resumed: bool = False) -> None:
        """Labelled and scored images, of a published data set some; with `thorough` all, and the unlabelled."""
        learned, split = self.learned, self.learned.split
        if isinstance(self.settings.cache, Path):
            make_folder(self.settings.cache)
        labelled, unlabelled, *scored = parts_of(split, learned.val, learned.test, masks=False)
        self.census = class_census([labelled, *scored], self.class_names)
        opened = [labelled, *scored]
        if thorough:
            taken = set(split.labeled)
            rest = [index for index in split.unlabeled if index not in taken]
            opened.append(replace(unlabelled, indices=rest))
        elif self.parts.published:
            opened = [part.sampled(_CHECKED) for part in opened]
        opened = opened if thorough or self.parts.published else learned.recorded(opened)
        found = check_samples(opened, len(self.class_names), one_size=self.settings.size is None)
        learned.record(found.digests)
        self.notices = [
            *self.unused,
            *self.parts.notices,
            *split.notices,
            *learned.overlaps(resumed),
            balance_notice(split, self.class_names),
            *header_notices(opened, orientation_of(self.data)),
            *learned.check_pool(3),
        ]

    def facts(self) -> Mapping[str, str]:
        """Sizes and type of values, and whether photographs are decoded once."""
        views, upright = self.settings, orientation_of(self.data) != "stored"
        facts = describe(self.learned.train, self.learned.split.labeled, 3, None, upright)
        kept = "" if views.size is None else kept_photographs(*self._read(), views.cache, views.cache_gb)
        also = len(self.learned.split.also)
        given = {"also labelled": f"{also} unlabelled images, by a table"} if self.data.also_labeled else {}
        return {**facts, **given, "decoded": kept} if kept else {**facts, **given}

    def labelled_census(self) -> PartCensus:
        """The labelled images of each class."""
        labelled, *_ = parts_of(self.learned.split, self.learned.val, masks=False)
        return class_census([labelled], self.class_names).parts[0]

    def metadata(self) -> Mapping[str, Any]:
        """Classes, network and how images are read."""
        return {
            "class_names": list(self.class_names),
            "model": self.model.model_copy(update={"weights": "none"}).model_dump(mode="json"),
            **self.statistics,
            "evaluate": self.evaluation.settings.model_dump(mode="json"),
            "size": self.settings.size,
            "side": list(self.side),
            "orientation": learned_orientation(self.data),
        }

    @classmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Classifier:
        """The network of a weights file; what prediction reads later is validated now."""
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
        learned = self.learned
        if self.settings.size is None:
            labeled, unlabeled = range(learned.counts.labeled), learned.split.unlabeled
            numbered = learned.streams({LABELED: labeled, UNLABELED: unlabeled, SECOND: unlabeled}, self.layout.growth)
            return numbers_of(numbered, self.layout.seed, steps)

        return self._crops(steps, workers, pin)

    def _crops(self, steps: range, workers: int, pin: bool) -> Iterator[Any]:
        """Raw crops of images in files, which are kept decoded where all find room."""
        views, learned, options = self.settings, self.learned, {"pin": pin, "bad_files": self.bad_files}
        with decoded_photographs(*self._read(), views.cache, views.cache_gb, shared_name(self.run_folder)) as decoded:
            self.decoded = decoded

            def make(pools: Pools) -> ClassCrops:
                return ClassCrops(pools, views, self.requirements.strong_views, self.reduce is not None, decoded)

            growth = self.layout.growth
            yield from learned.batches(make, steps, workers, self.run_folder, growth, self.reduce, **options)

    def _read(self) -> tuple[Samples, list[int]]:
        """The images that are learned from, as they are cropped, and their numbers."""
        split = self.learned.split
        read = {*split.labeled, *split.also, *(split.unlabeled if self.requirements.unlabeled else ())}
        return split.pool.reduced(self.reduce), sorted(read)

    def evaluate(
        self,
        networks: Mapping[str, Network],
        split: Split,
        inference: Inference,
        final: Final | None = None,
    ) -> dict[str, Scores]:
        """The scores of every network, over each image once."""
        source = self.learned.scored(split)
        metrics = self.evaluation.metrics(networks, source, inference, final)
        if source is self.learned.val and process_rank() == 0:  # which draws the pictures and forgets them
            self.scored = [
                (weakref.ref(network), confusion_matrix(metrics[name])) for name, network in networks.items()
            ]
        return {name: scores_of(found, self.class_names) for name, found in metrics.items()}

    def scored_notices(self, split: Split) -> Sequence[str]:
        """Files of several images."""
        source = self.learned.scored(split)
        return header_notices([Part(split, source, range(len(source)))], orientation_of(self.data))

    def pictures(
        self, network: Network, folder: Path, inference: Inference, caption: str, threshold: float | None = None
    ) -> list[Path]:
        """The confusion matrix of the validation images, and some of them with their classes."""
        folder.mkdir(exist_ok=True)
        scored, self.scored = self.scored, []  # of this moment: the networks learn on
        matrix = next((matrix for known, matrix in scored if known() is network), None)
        if matrix is None:
            matrix = confusion_matrix(self.evaluation.metrics({"best": network}, self.learned.val, inference)["best"])
        shown = self.evaluation.comparison({"predicted": network}, self.learned.val, inference)
        confusion = confusion_picture(matrix.cpu().numpy(), self.class_names)
        found = {"confusion.png": confusion, "validation.png": shown}
        for name, picture in found.items():
            save_png(captioned(picture, caption), folder / name)
        return [folder / name for name in found]

    @classmethod
    def predict(
        cls,
        networks: Sequence[Network],
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        out: Path,
        options: ClassPredict,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        """A table of classes for files, folders or globs."""
        return predict_classes(networks, metadata, sources, out, options, inference, progress)

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Prediction:
        """See `in_memory.classify`."""
        return classify(network, metadata, dates[0], inference)


def open_classes(data: ClassData, on_test: bool, reduce: Reduce | None = None) -> DataParts:
    """The data set a configuration names, with images to choose the best on; `on_test`: these are the test images.
    `reduce` says by what factor images of shards may be reduced.

    Raises:
        DataError: folders, tables or roots that are not as described.
    """
    parts = _opened(data, reduce)
    parts = replace(parts, stratify=data.stratify and not parts.published, labeled_apart=not data.labeled_as_unlabeled)
    return held_out(parts, data.validation) if parts.val is None and not (on_test and parts.test) else parts


def _opened(data: ClassData, reduce: Reduce | None) -> DataParts:
    if data.shapes is not None:
        return open_shapes(data.shapes)
    places = tuple(Path(text).absolute() for text in data.unlabeled)
    if data.folders is not None:
        folders, shards = pool_among(data.folders.unlabeled, data.unlabeled)
        parts = open_labeled(data.folders.model_copy(update={"unlabeled": (*folders, *places)}))
        return with_pool(
            held_out_as_stated(with_leftovers(parts, data.folders.folder), data.folders, data.fold),
            shards,
            PoolRgb(upright=data.folders.orientation != "stored", reduce=reduce),
        )
    assert data.published is not None
    parts = open_published_images(data.published)
    more = {f"--unlabeled {place}": unlabeled_files(place, f"--unlabeled {place}") for place in places}
    refuse_overlap({**replace(parts, unlabeled=()).named(), **more})
    return replace(parts, unlabeled=(*parts.unlabeled, *more.values()))


plugin = Classification
