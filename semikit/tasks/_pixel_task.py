"""What tasks that give every pixel a class share: all but their network, their data, their scenes and their metric."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from semikit.core.batch import Requirements
from semikit.core.census import Census, PartCensus
from semikit.core.network import Network
from semikit.core.task import BatchLayout, Final, Inference, Predicted, Progress, Scores, Split
from semikit.data.check import Part, check_samples, missing_files, parts_of
from semikit.data.description import band_names, bands_notice, describe, differing_bands
from semikit.data.formats.rescale import BYTES, Scale
from semikit.data.header_notices import header_notices
from semikit.data.loading.decoded import decoded_scenes, kept_scenes, room
from semikit.data.notices import lossy_notice, missing_classes, rarest_notice, shift_notice, unscored_classes
from semikit.data.samples import DataParts, Samples, channels_of
from semikit.data.spec import refuse_unreachable
from semikit.data.splits import CALIBRATION
from semikit.data.watches import DataWatch
from semikit.errors import ConfigError, DataError, some
from semikit.files import make_folder
from semikit.inference.evaluation import PixelEvaluation
from semikit.inference.map_files import MapPredict
from semikit.inference.pictures import captioned, save_png
from semikit.inference.predict_maps import predict_maps
from semikit.inference.scenes import LARGE, SceneReader
from semikit.inference.windows import EvaluateSettings
from semikit.models.encoders.names import SENSORS
from semikit.models.settings import ModelSettings
from semikit.models.unused import freeze_unused
from semikit.models.weights.sensors import without_torchgeo
from semikit.settings.base import Settings
from semikit.tasks._crops import Crops, LabeledGround
from semikit.tasks._data import learned_orientation, orientation_of
from semikit.tasks._image_task import ImageTask
from semikit.tasks._pixels import PixelViewMaker, PixelViews
from semikit.tasks._training_data import LABELED, Pools, shared_name

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_BUILT = {"weights": "none", "lora": None}
"""Of a network whose weights lie beside its settings."""

_SPANS = (0.05, 12.0)
"""Of how many standard deviations a range of values is, where it has the units that weights were trained on."""

_CHECKED = {"labelled": 1000, "val": 200, "test": 200, CALIBRATION: 200}
"""Images of a published data set that are opened before training; `--dry-run` and `data verify` do more."""


def _large(source: Samples) -> list[int]:
    return [k for k in range(len(source)) if max(source.extent(k) or (0,)) > LARGE]


class PixelTask(ImageTask):
    """A task whose labels are maps (H, W). A task of this kind fills `open`, `build`, `metrics`, `titles`, `scenes`."""

    Model: ClassVar[type[Settings]] = ModelSettings
    Views: ClassVar[type[Settings]] = PixelViews
    Evaluate: ClassVar[type[Settings]] = EvaluateSettings
    Predict: ClassVar[type[Settings]] = MapPredict
    evaluation: PixelEvaluation
    titles: ClassVar[tuple[str, ...]]
    """What the pictures of an image are called."""
    scenes: ClassVar[type[SceneReader]]
    """What is predicted together, and how it is read."""

    @classmethod
    @abstractmethod
    def open(cls, data: Any) -> DataParts:
        """The sources that a section `data` names."""

    @classmethod
    @abstractmethod
    def build(cls, settings: ModelSettings, num_classes: int) -> Network:
        """A new network."""

    @abstractmethod
    def metrics(self, num_classes: int, settings: EvaluateSettings) -> MetricCollection:
        """What a network is scored by; see `semikit.metrics.scoring`."""

    def __init__(
        self, data: Any, views: PixelViews, evaluate: EvaluateSettings, layout: BatchLayout, requirements: Requirements
    ) -> None:
        if requirements.whole_images:
            raise ConfigError(
                "method.name: this method remembers features of images (simmatch, comatch), turns and mixes them "
                "(remixmatch) or picks them by their class (crest) and cannot do so for every pixel; it learns classes "
                "of whole images only. For pixels use freematch or softmatch, whose thresholds adapt, or unimatch_v2."
            )
        self._learn_from(parts := self.open(data), data, views, layout, requirements)
        assert parts.palette is not None
        self.evaluation = PixelEvaluation(
            parts.class_names, evaluate, views.weak.crop, parts.palette, self.metrics, self.titles,
            self.scenes.background,
        )  # fmt: skip
        self.held: tuple[float, float] | None = None
        self.scored_watch: DataWatch | None = None

    # -------------------------------------------------------------------------------------------- before training

    def network(self, settings: ModelSettings) -> Network:
        """A new network for the classes and bands of the data."""
        channels = self._channels()
        if settings.in_channels not in (3, channels):
            raise ConfigError(
                f"model.in_channels is {settings.in_channels}, but the images have {channels} channels. Leave it out."
            )
        self.model = self.fitted(settings.model_copy(update={"in_channels": channels}))
        of_sensor = settings.encoder.startswith(SENSORS)
        if of_sensor and settings.band_names is None:
            self.model = self.model.model_copy(update={"band_names": self._agreed_names()})
        network: Any = self.build(self.model, len(self.class_names))
        if of_sensor:
            self._normalise_as_sensor(network)
        crop, multiple = self.settings.weak.crop, network.multiple
        if crop % multiple:
            down = crop // multiple * multiple
            near = " or ".join(str(side) for side in (down, down + multiple) if side)
            raise ConfigError(
                f"crop {crop} is not a multiple of the patch of {settings.encoder}, {multiple}. Use {near}."
            )
        dates = [len(self.titles)] if len(self.titles) > 1 else []
        freeze_unused(network, (2, *dates, channels, crop, crop))
        self.statistics = {"mean": list(network.mean), "std": list(network.std)}
        self.maker = PixelViewMaker(
            self.settings, self.layout, self.requirements, network.mean, network.std, self.compile_views
        )
        return network  # type: ignore[no-any-return]

    def fitted(self, settings: ModelSettings) -> ModelSettings:
        """The settings with what the classes decide."""
        return settings

    def _normalise_as_sensor(self, network: Any) -> None:
        """Bring mean and std of a sensor's values, as the network has them from its weights, to the range in use."""
        scale = self.parts.scale or BYTES
        network.mean, network.std = scale.unit(network.mean, network.std)
        spans = [1 / deviation for deviation in network.std]
        if min(spans) < _SPANS[0] or max(spans) > _SPANS[1]:
            text = (
                f"values of {scale.text} span {min(spans):.3g} to {max(spans):.3g} standard deviations of those that "
                f"{self.model.encoder} was trained on, which had other units"
            )
            self.notices = [*self.notices, text]

    def _band_names(self) -> Mapping[tuple[str, ...], Path]:
        return band_names(self.learned.train, self.learned.split.labeled, self.parts.bands)

    def _agreed_names(self) -> tuple[str, ...] | None:
        """What all rasters call their bands, if they do.

        Raises:
            DataError: they differ.
        """
        found = self._band_names()
        if len(found) > 1:
            raise DataError(f"{differing_bands(found)}.")
        return next(iter(found), None)

    def _channels(self) -> int:
        return channels_of(self.learned.train, self.learned.split.labeled[0])

    def check(self, thorough: bool = False, resumed: bool = False) -> None:
        """Labelled, validation and test images with their masks; with `thorough` the unlabelled images too.

        Of a published data set every file has to be there, and a part of them is opened (with `thorough` all that are
        labelled). Afterwards `census` holds what was counted, and `notices` what a user should know of it.
        """
        published, learned = self.parts.published, self.learned
        if isinstance(self.settings.cache, Path):
            make_folder(self.settings.cache)
        if self.data.folders is not None and not resumed:
            refuse_unreachable(self.data.folders)
        parts = parts_of(learned.split, learned.val, learned.test)
        missing = missing_files(parts) if published else []
        if missing:
            raise DataError("; ".join(missing) + ". Run `semikit data verify`, then prepare the root again.")
        parts = [part for part in parts if part.masks or (thorough and not published)]
        if published and not thorough:
            parts = [part.sampled(_CHECKED[part.name]) for part in parts]
        parts = parts if thorough or published else learned.recorded(parts)
        watch = self._new_watch()
        watched = parts if watch is None else [watch.over(part) for part in parts]
        opened = check_samples(watched, len(self.class_names))
        self.census = Census(self.class_names, opened.counted)
        learned.record(opened.digests)
        pool_notices = learned.check_pool(self._channels())
        labelled = self.census.parts[0]
        if watch is not None:
            self.held = watch.ranges.held
            if not thorough:
                watch.look_at_some(parts_of(learned.split, learned.val)[1])
            watch.refuse(parts[0], resumed)
        found = (
            *self.unused,
            *self.parts.notices,
            *learned.overlaps(resumed),
            None if thorough else rarest_notice(labelled, self.class_names),  # a dry run shows the census
            missing_classes(labelled, self.class_names),
            unscored_classes(self.census),
            None if self.data.folders is None else shift_notice(self.census, self.data.folders.values),
            *header_notices(parts, orientation_of(self.data)),
            lossy_notice(parts),
            bands_notice(self._band_names(), self.parts.bands is not None),
            *(() if watch is None else watch.notices()),
            *self.data_notices(),
            *pool_notices,
        )
        self.notices = [notice for notice in found if notice is not None]

    def labelled_census(self) -> PartCensus:
        """What was counted by `check`, where that was all; else every labelled mask is opened."""
        counted = None if self.census is None else self.census.parts[0]
        if counted is not None and counted.opened == counted.images:
            return counted
        labelled, *_ = parts_of(self.learned.split, self.learned.val)
        return check_samples([labelled], len(self.class_names)).counted[0]

    def data_notices(self) -> Sequence[str]:
        """What else a user should know of the data before training."""
        large = [source.names[k] for source in (self.learned.val, self.learned.test) if source for k in _large(source)]
        if not large or self.evaluation.settings.window == "sliding":
            return []
        return [
            f"{len(large)} scored rasters ({some(large)}) have more than {LARGE} pixels a side and are evaluated as a "
            "whole; evaluate.window=sliding reads them window by window",
        ]

    def facts(self) -> Mapping[str, str]:
        """Sizes, bands, type and range of values, place on the map, and which scenes are decoded once."""
        learned = self.learned
        upright = orientation_of(self.data) != "stored"
        found = list(self._band_names())
        names = found[0] if len(found) == 1 else ()
        split, views, scale = learned.split, self.settings, self.parts.scale
        facts = describe(learned.train, split.labeled, self._channels(), scale, upright, names, self.held)
        scenes = [*split.labeled, *(split.unlabeled if self.requirements.unlabeled else ())]
        kept = kept_scenes(split.pool, scenes, views.weak.crop, room(views.cache, views.cache_gb))
        return {**facts, "decoded": kept} if kept else facts

    def settled(self, data: Any) -> Settings:
        """With the range of values that was sampled."""
        if data.folders is None or self.parts.scale is None:
            return data  # type: ignore[no-any-return]
        folders = data.folders.model_copy(update={"scale": self.parts.scale})
        return data.model_copy(update={"folders": folders})  # type: ignore[no-any-return]

    def metadata(self) -> Mapping[str, Any]:
        """Classes, network, inference and how pixels are read."""
        bands, scale = self.parts.bands, self.parts.scale
        return {
            "class_names": list(self.class_names),
            "palette": self.evaluation.palette[: len(self.class_names)].tolist(),
            "model": without_torchgeo(self.model).model_copy(update=_BUILT).model_dump(mode="json"),
            **self.statistics,
            "evaluate": self.evaluation.settings.model_dump(mode="json"),
            "crop": self.settings.weak.crop,
            "bands": None if bands is None else list(bands),
            "scale": None if scale is None else scale.model_dump(mode="json"),
            "orientation": learned_orientation(self.data),
        }

    @classmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Network:
        """The network of a weights file; what prediction reads later is validated now."""
        EvaluateSettings.model_validate(metadata["evaluate"])
        if metadata.get("scale") is not None:
            Scale.model_validate(metadata["scale"])
        if not isinstance(metadata["crop"], int):
            raise TypeError("crop: no number of pixels")
        network: Any = cls.build(ModelSettings.model_validate(metadata["model"]), len(metadata["class_names"]))
        network.mean, network.std = tuple(metadata["mean"]), tuple(metadata["std"])
        return network  # type: ignore[no-any-return]

    @classmethod
    def views_of(cls, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The training crop."""
        return {"weak": {"crop": metadata["crop"]}}

    @classmethod
    def predict(
        cls,
        networks: Sequence[Network],
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        out: Path,
        options: MapPredict,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        """Maps of classes of what `scenes` finds."""
        reader = cls.scenes.of(metadata, options)
        return predict_maps(networks, metadata, reader, sources, out, options, inference, progress)

    # --------------------------------------------------------------------------------------------------- training

    def batches(self, steps: range, workers: int, pin: bool) -> Iterator[Any]:
        """Raw crops, step by step."""
        views, crop = self.settings, self.settings.weak.crop
        with decoded_scenes(views.cache, views.cache_gb, crop, shared_name(self.run_folder)) as self.decoded:

            def make(pools: Pools) -> Crops:
                return Crops(pools, frozenset({LABELED}), views.weak, self._ground, self.decoded)

            options: dict[str, Any] = {"pin": pin, "bad_files": self.bad_files}
            yield from self.learned.batches(make, steps, workers, self.run_folder, self.layout.growth, **options)

    @cached_property
    def _ground(self) -> LabeledGround:
        sampling, learned = self.settings.sampling, self.learned
        if sampling == "by_class":
            return LabeledGround.by_class([(learned.train, index) for index in learned.split.labeled])
        return LabeledGround(touching=sampling == "uniform" and not self.parts.published)

    def evaluate(
        self,
        networks: Mapping[str, Network],
        split: Split,
        inference: Inference,
        final: Final | None = None,
    ) -> dict[str, Scores]:
        """The scores of every network, over each image once."""
        source = self.learned.scored(split)
        self.scored_watch = watch = self._new_watch()
        watched = source if watch is None else source.watched(watch.ranges, watch.masks)
        evaluation = self.evaluation if final is None else self.evaluation.at(final.threshold)
        return replace(evaluation, final=final).scores(networks, watched, inference)

    def _new_watch(self) -> DataWatch | None:
        """For the user's own data."""
        folders = self.data.folders
        return None if folders is None else DataWatch.of(self.parts, folders.values, folders.scale)

    def scored_notices(self, split: Split) -> Sequence[str]:
        """Turned masks, files of several images, and what was seen of values when they were scored."""
        source = self.learned.scored(split)
        part = Part(split, source, range(len(source)), masks=True)
        watched = () if self.scored_watch is None else self.scored_watch.notices()
        return [*header_notices([part], orientation_of(self.data)), *watched]

    def pictures(
        self, network: Network, folder: Path, inference: Inference, caption: str, threshold: float | None = None
    ) -> list[Path]:
        """Four validation images: input, truth, prediction, confidence."""
        folder.mkdir(exist_ok=True)
        path = folder / "validation.png"
        evaluation = self.evaluation.at(threshold)
        shown = evaluation.comparison({"prediction": network}, self.learned.val, inference, confidence=True)
        save_png(captioned(shown, caption), path)
        return [path]
