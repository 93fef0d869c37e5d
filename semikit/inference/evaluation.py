"""Scores and pictures of tasks that label pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semikit.core.batch import to_device
from semikit.core.network import Network
from semikit.core.task import Final, Inference, Scores
from semikit.data.check import Part, missing_files, size_fault, target_of
from semikit.data.formats.images import is_raster, read_grid
from semikit.data.palette import Palette
from semikit.data.samples import Mask, Samples, spread
from semikit.distributed.collectives import own_share
from semikit.errors import ConfigError, DataError, unknown
from semikit.inference.class_choice import AUTO, ClassChoice, change_of
from semikit.inference.ensemble import Ensemble, Views
from semikit.inference.inspection import Examined, most_sampled
from semikit.inference.pictures import displayed, heat, sheet, sheet_legend, striped_outside
from semikit.inference.streamed import Coverage, Piece, predicted, whole
from semikit.inference.windows import (
    EvaluateSettings,
    grouped,
    normalized,
    predict_scores,
    probabilities,
    read_ahead,
    readable_batches,
    together,
)
from semikit.metrics.scoring import nothing_counted, scored, scores_of
from semikit.raster.region import Region, middle
from semikit.settings.base import one_or_many

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Bytes = NDArray[np.uint8]

_SHOWN = 768
"""Side of the part of a raster that a picture shows, pixels."""
_EXAMINED = 2048
"""Side of the part of a raster that is examined, pixels."""
_EXAMPLES = 4
"""Images of a picture."""
_LEGEND = 24
"""Classes up to which a legend names all of them."""


@final
@dataclass(frozen=True)
class PixelEvaluation:
    """How networks that label pixels are scored and shown: classes, settings, training crop, colours, the metrics for a
    number of classes, what the pictures of an image are called, the class that is no change, and what a final
    evaluation has, which also scores objects beside pixels.

    Raises:
        InputError: a class of `objects` that is none, a threshold that does not fit.
    """

    class_names: tuple[str, ...]
    settings: EvaluateSettings
    crop: int
    palette: Palette
    metrics: Callable[[int, EvaluateSettings], MetricCollection]
    titles: tuple[str, ...] = ("image",)
    background: int | None = None
    final: Final | None = None

    def __post_init__(self) -> None:
        for name in self.settings.objects or ():
            if name not in self.class_names:
                raise unknown("class in evaluate.objects", name, self.class_names)
        if self.choice.leaves_gaps(len(self.class_names)) or (self.chooses and self.background is None):
            raise ConfigError(
                f"evaluate.threshold {self.settings.threshold}: P and auto are thresholds of change. Segmentation "
                "takes CLASS=P, not of all classes, so that every pixel has one. Leave it out, or name a class."
            )

    @property
    def chooses(self) -> bool:
        """Whether a threshold is chosen."""
        return self.settings.threshold == AUTO

    @cached_property
    def choice(self) -> ClassChoice:
        """Which class a pixel gets, where no threshold is chosen."""
        given = () if self.chooses else one_or_many(self.settings.threshold)
        return ClassChoice.of(given, self.class_names, self.background, "evaluate.threshold")

    def at(self, threshold: float | None) -> PixelEvaluation:
        """The same with a threshold in place of one that would be chosen."""
        if threshold is None or not self.chooses:
            return self
        return replace(self, settings=self.settings.model_copy(update={"threshold": threshold}))

    def _new_metrics(self) -> MetricCollection:
        count, names = len(self.class_names), self.settings.objects
        metrics = self.metrics(count, self.settings)
        if names is None:
            names = () if self.background is None else self.class_names[self.background + 1 :]
        if self.final is not None and names and not self.chooses:
            from semikit.metrics.objects import ObjectScores

            chosen = [self.class_names.index(name) for name in names]
            metrics.add_metrics(ObjectScores(count, chosen, self.settings.objects_min_pixels))
        return metrics

    def scores(self, networks: Mapping[str, Network], source: Samples, inference: Inference) -> dict[str, Scores]:
        """Scores of each network over all images of a source, each counted once, at its own size.

        Processes share the images without padding their number, and every one of them gets the scores of all.

        Raises:
            DataError: when no pixel of any mask is valid, or a file is at fault.
        """
        missing = missing_files([Part("scored images", source, range(len(source)), masks=True)])
        if missing:
            raise DataError(f"{missing[0]}.")
        mine, sliding = own_share(len(source)), self.settings.window == "sliding"
        streamed = [k for k in mine if sliding and source.extent(k) is not None]
        whole = sorted({*mine} - {*streamed})
        images = read_ahead(
            lambda k: (*_labeled_image(source, whole[k]), self._from_above(source, whole[k])), len(whole)
        )
        groups = chain(streamed, grouped(images, self._together, lambda item: (item[0].shape, item[3])))
        batches: Iterator[Any] = inference.followed(groups, _images_in, len(mine))

        def outputs(network: Network, batch: Any) -> Iterator[Mapping[str, Any]]:
            if isinstance(batch, int):
                return self._streamed(network, source, batch, inference)
            by = self._whole if self._together(batch[0]) else self._parts
            return by(network, batch, inference)

        found = scored(networks, self._new_metrics, inference.device, batches, outputs)
        if any(map(nothing_counted, found.values())):
            raise DataError("nothing to score: no pixel of any mask is valid. Check `ignore` and `mapping`.")
        return {name: scores_of(metrics, self.class_names) for name, metrics in found.items()}

    def _together(self, item: tuple[Any, ...]) -> int:
        """How many images like one are scored together; 0: it has too many pixels, and is scored part by part."""
        return min(self.settings.batch, together(item[1].shape, len(self.class_names)))

    def _whole(self, network: Network, batch: Sequence[Any], inference: Inference) -> Iterator[Mapping[str, Tensor]]:
        """What is scored of images of one size, which are read whole."""
        images, labels, valid, above = (np.stack(part) for part in zip(*batch, strict=True))
        if self.final is not None and self.final.averages:
            scores = self._ensemble(network, inference, bool(above[0])).wholes(images, self.settings, self.crop)
        else:
            with torch.no_grad(), inference.autocast():
                inputs = normalized(network, images, inference.device)
                scores = predict_scores(network, inputs, self.settings, self.crop)
                if self.chooses or not self.choice.is_most_probable:
                    scores = probabilities(scores, self.settings)
        yield {**self._decided(scores.movedim(1, 0)), **_truth(labels, valid, inference.device)}

    def _ensemble(self, network: Network, inference: Inference, from_above: bool) -> Ensemble:
        """The network with those that are averaged with it, and the views."""
        final = self.final or Final()
        return Ensemble((network, *final.others), inference, Views.of(final.tta, from_above))

    def _from_above(self, source: Samples, index: int) -> bool:
        """Whether an image is mirrored top to bottom too, as `predict` has it: a raster with a place, of change all."""
        files = source.files(index)
        if self.final is None or not self.final.averages or not all(map(is_raster, files)):
            return False
        return bool(files) and (self.background is not None or read_grid(files[0]).transform is not None)

    def _decided(self, scores: Tensor) -> dict[str, Tensor]:
        """The class (*S) of pixels by probabilities (K, *S), or scores where the highest wins; to choose a threshold,
        what `ChosenThreshold` takes.
        """
        if not self.chooses:
            return {"predicted": scores.argmax(0) if self.choice.is_most_probable else self.choice(scores)[0].long()}
        assert self.background is not None
        changed, kind = change_of(scores, self.background)
        return {"predicted": scores.argmax(0), "changed": changed, "kind": kind}

    def _streamed(
        self, network: Network, source: Samples, index: int, inference: Inference
    ) -> Iterator[Mapping[str, Any]]:
        """What is scored of a raster, part by part; only windows of it are read."""
        extent = source.extent(index)
        assert extent is not None
        windows = Coverage.published(extent, self.settings, self.crop)
        ensemble = self._ensemble(network, inference, self._from_above(source, index))
        for piece in predicted(lambda region: source.image(index, region), ensemble, windows):
            labels, valid = source.target(index, piece.region)
            if labels.shape != piece.valid.shape:
                raise size_fault(source, index, (*extent, 1), labels.shape)
            yield self._scored(piece, labels, valid & piece.valid, extent)

    def _parts(self, network: Network, batch: Sequence[Any], inference: Inference) -> Iterator[Mapping[str, Any]]:
        """What is scored of an image that is read whole, part by part."""
        ((image, labels, valid, above),) = batch
        for piece in whole(image, None, self._ensemble(network, inference, above), self.settings, self.crop):
            place = piece.region.slices
            yield self._scored(piece, labels[place], valid[place], labels.shape)

    def _scored(self, piece: Piece, labels: Bytes, valid: Mask, size: tuple[int, ...]) -> Mapping[str, Any]:
        truth = _truth(labels, valid, piece.probabilities.device)
        return {**self._decided(piece.probabilities), **truth, "place": (piece.region, size)}

    def passes(
        self, networks: Sequence[Network], source: Samples, indices: Sequence[int], inference: Inference
    ) -> Iterator[int]:
        """Images of a source through networks as they are scored, of a large raster its middle; how many at a time."""

        def image_of(k: int) -> Any:
            extent = source.extent(k)
            return source.image(k, None if extent is None else middle(extent, _SHOWN))[0]

        for images, count in readable_batches(image_of, spread(indices, self.settings.precise_bn), self.settings.batch):
            for network in networks:
                with torch.no_grad(), inference.autocast():
                    inputs = normalized(network, images, inference.device)
                    predict_scores(network, inputs, self.settings, self.crop)
            yield count

    def examined(
        self, network: Network, source: Samples, inference: Inference, chosen: Sequence[int] | None = None
    ) -> Iterator[Examined]:
        """Images of a source one by one, predicted as they are scored; of large rasters the middle."""
        ensemble, device = Ensemble((network,), inference), inference.device
        indices = range(len(source)) if chosen is None else chosen
        sampled = most_sampled(len(self.class_names), len(indices))

        def read(place: int) -> tuple[Any, Any, Any]:
            extent = source.extent(indices[place])
            large = extent is not None and max(extent) > _EXAMINED
            return _labeled_image(source, indices[place], middle(extent, _EXAMINED) if extent and large else None)

        for index, (image, labels, valid) in zip(indices, read_ahead(read, len(indices)), strict=True):
            parts = whole(image, None, ensemble, self.settings, self.crop)
            pieces = ((one.region.slices, one.probabilities) for one in parts)
            truth = _truth(labels, valid, device)
            yield Examined.of(index, displayed(image), pieces, self.choice, truth["labels"], truth["valid"], sampled)

    def predictions(
        self, network: Network, source: Samples, indices: Sequence[int], inference: Inference
    ) -> Iterator[tuple[Bytes, NDArray[np.float32]]]:
        """Classes (H, W) of images and their probability; no target is read. Of large rasters the middle."""

        def read(place: int) -> Bytes:
            extent = source.extent(indices[place])
            large = extent is not None and max(extent) > _EXAMINED
            return source.image(indices[place], middle(extent, _EXAMINED) if extent and large else None)[0]

        yield from (self._shown(network, image, inference) for image in read_ahead(read, len(indices)))

    def comparison(
        self,
        networks: Mapping[str, Network],
        source: Samples,
        inference: Inference,
        confidence: bool = False,
        thresholds: Mapping[str, float | None] | None = None,
    ) -> Image.Image:
        """A few images and their truth beside the prediction of each network, titled by its name; with `confidence`
        that of the last one too. `thresholds` are those that were chosen for networks.
        """
        rows, present, everything = [], set[int](), True
        for index in spread(range(len(source)), _EXAMPLES):
            extent = source.extent(index)  # of a raster its middle is shown
            region = None if extent is None else middle(extent, _SHOWN)
            image, seen = source.image(index, region)
            labels, valid = target_of(source, index, image.shape, region)
            valid = valid if seen is None else valid & seen
            predictions = [
                self.at((thresholds or {}).get(name))._shown(network, image, inference)
                for name, network in networks.items()
            ]
            every = [(labels, valid), *((classes, seen) for classes, _ in predictions)]
            rows.append([*displayed(image), *(striped_outside(self.palette[ids], where) for ids, where in every)])
            if confidence:
                rows[-1].append(striped_outside(heat(predictions[-1][1]), seen))
            everything &= bool(valid.all())
            present.update(*(np.unique(classes[where]).tolist() for classes, where in every))
        titles = (*self.titles, "truth", *networks, *(["confidence"] if confidence else []))
        legend = sheet_legend(self._legend(present), ignored=not everything, confidence=confidence)
        return sheet(rows, titles, legend)

    def _shown(self, network: Network, image: Bytes, inference: Inference) -> tuple[Bytes, NDArray[np.float32]]:
        """Classes and confidence (H, W) of an image."""
        classes, confidence = np.empty(image.shape[-3:-1], np.uint8), np.empty(image.shape[-3:-1], np.float32)
        for piece in whole(image, None, Ensemble((network,), inference), self.settings, self.crop):
            found, sure = self.choice(piece.probabilities)
            classes[piece.region.slices] = found.cpu().numpy()
            confidence[piece.region.slices] = sure.float().cpu().numpy()
        return classes, confidence

    def _legend(self, present: set[int]) -> list[tuple[str, Bytes]]:
        """All classes, or where they are many those that are shown."""
        many = len(self.class_names) > _LEGEND
        return [
            (self.class_names[k], self.palette[k]) for k in (sorted(present) if many else range(len(self.class_names)))
        ]


def _images_in(batch: Any) -> int:
    """A large raster is one, by its number."""
    return 1 if isinstance(batch, int) else len(batch)


def _truth(labels: Bytes, valid: NDArray[np.bool_], device: torch.device) -> Mapping[str, Tensor]:
    """What a metric's `update` takes of the truth, on the device."""
    truth, counted = to_device((torch.from_numpy(labels), torch.from_numpy(valid)), device)
    return {"labels": truth.long(), "valid": counted}


def _labeled_image(source: Samples, index: int, region: Region | None = None) -> tuple[Any, Any, Any]:
    image, seen = source.image(index, region)
    labels, valid = target_of(source, index, image.shape, region)
    return image, labels, valid if seen is None else valid & seen
