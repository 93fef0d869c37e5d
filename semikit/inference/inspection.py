"""A trained network image by image: what a page about a run shows beside its scores, in one pass over a split.

K classes; S is (H, W) of pixels and () of whole images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semikit.metrics.confusion import count, iou, occurring

_BINS = 15
_VALUES = 4_000_000
"""Probabilities that are kept of all images together, to fit a temperature."""
_TEMPERATURES = (0.05, 20.0)


@final
@dataclass(frozen=True, slots=True)
class Examined:
    """One image with its truth and what a network says of it, without the probabilities of all its classes.

    `dates` are pictures (H, W, 3) uint8, one for each date; `classes`, their probability `confidence`, that of the
    labels `own`, `most` probable classes, their probability `surest`, `labels` and `valid` are (*S), on the device of
    the network; `sampled` (N, K) are probabilities of some valid positions, and `known` (N,) their labels.
    """

    index: int
    dates: Sequence[NDArray[np.uint8]]
    classes: Tensor
    confidence: Tensor
    own: Tensor
    most: Tensor
    surest: Tensor
    labels: Tensor
    valid: Tensor
    sampled: Tensor
    known: Tensor

    @classmethod
    def of(
        cls, index: int, dates: Sequence[NDArray[np.uint8]], pieces: Iterable[tuple[Any, Tensor]],
        choose: Callable[[Tensor], Sequence[Tensor]], labels: Tensor, valid: Tensor, most_sampled: int,
    ) -> Examined:  # fmt: skip
        """From probabilities (K, *part) of parts of an image, each with its place: an index of (*S); `choose` gives
        classes and confidence. Positions are sampled at even distances.
        """
        shares = torch.empty((3, *labels.shape), device=labels.device)
        numbers = torch.empty((2, *labels.shape), dtype=torch.int32, device=labels.device)
        places = valid.flatten().nonzero()[:, 0]
        even = np.unique(np.linspace(0, max(len(places) - 1, 0), most_sampled).astype(np.int64))[: len(places)]
        chosen, sampled = torch.zeros_like(valid), []
        chosen.view(-1)[places[torch.from_numpy(even).to(places.device)]] = True
        for at, found in pieces:
            numbers[0][at], shares[0][at] = choose(found)
            shares[1][at] = found.gather(0, labels[at][None])[0]
            shares[2][at], numbers[1][at] = found.max(0)
            sampled.append((found[:, chosen[at]].T, labels[at][chosen[at]]))
        (classes, most), (confidence, own, surest) = numbers, shares
        drawn, known = map(torch.cat, zip(*sampled, strict=True))
        return cls(index, dates, classes, confidence, own, most, surest, labels, valid, drawn, known)


def most_sampled(num_classes: int, images: int) -> int:
    """Of how many positions of each image the probabilities are kept."""
    return max(1, _VALUES // (num_classes * max(images, 1)))


@final
@dataclass(frozen=True, slots=True)
class ImageRecord:
    """How well one image is predicted, all 0..1.

    `score` is the mean IoU of the classes in its truth (of change: of those in truth or prediction, 1 where there are
    none), of a whole image the probability of its class; `by_class` has it of each class of the truth. `confidence` is
    the mean over its valid positions, `right` the share of these that have the right class.
    """

    index: int
    score: float
    confidence: float
    right: float
    by_class: dict[int, float]


@final
@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence against the share that is right, both 0..1.

    `bins` (3, 15) float64 are the counts of positions, sums of confidence and numbers of right ones by confidence.
    `temperature` divides the logits so that the likelihood of these images' truth is greatest; `mended` is the
    calibration error with it, over the `sampled` positions that it was fitted on.
    """

    bins: NDArray[np.float64]
    error: float
    temperature: float
    mended: float
    sampled: int


@final
@dataclass
class Inspection:
    """What is counted over `images` images of `num_classes` classes; of change `background` is the class without."""

    num_classes: int
    images: int
    background: int | None = None
    records: list[ImageRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        from semikit.metrics.calibration import CalibrationError  # torchmetrics takes seconds to import

        self.matrix = torch.zeros(self.num_classes, self.num_classes, dtype=torch.long)
        self._error = CalibrationError(_BINS)
        # In one piece: many small ones among large ones that come and go would leave the memory in fragments.
        count = most_sampled(self.num_classes, self.images) * self.images
        self._shares = torch.zeros(count, self.num_classes)
        self._labels = torch.zeros(count, dtype=torch.long)
        self._sampled = 0

    def add(self, found: Examined) -> None:
        """Count an image; one without a valid position counts nothing."""
        valid = found.valid.flatten()
        if not valid.any():
            return
        labels = found.labels.flatten()[valid].long()
        right = found.classes.flatten()[valid].long() == labels
        matrix = count(found.classes.long(), found.labels.long(), found.valid, self.num_classes).cpu()
        self.matrix += matrix
        self._error.update(*(one.flatten()[valid].cpu() for one in (found.surest, found.most.long(), found.labels)))
        self._sample(found.sampled, found.known)
        by_class = self._by_class(matrix) if found.labels.ndim else {int(labels): float(found.own)}
        self.records.append(
            ImageRecord(
                found.index,
                float(np.mean(list(by_class.values()))) if by_class else 1.0,
                float(found.confidence.flatten()[valid].float().mean()),
                float(right.float().mean()),
                by_class,
            )
        )

    def _sample(self, shares: Tensor, labels: Tensor) -> None:
        """Keep probabilities (N, K) and classes (N,)."""
        kept = slice(self._sampled, self._sampled + len(labels))
        self._shares[kept], self._labels[kept] = shares.cpu(), labels.cpu()
        self._sampled += len(labels)

    def _by_class(self, matrix: Tensor) -> dict[int, float]:
        """IoU of the classes of one image that count for its score."""
        values, there = iou(matrix), occurring(matrix)
        if self.background is not None:
            there = ~values.isnan()
            there[self.background] = False
        return {int(k): float(values[k]) for k in there.nonzero()[:, 0]}

    def calibration(self) -> Calibration:
        """Over all valid positions; the temperature over some of each image, at even distances."""
        from semikit.metrics.calibration import CalibrationError

        logits = self._shares[: self._sampled].clamp(min=1e-12).log()
        labels = self._labels[: self._sampled]
        temperature = fitted_temperature(logits, labels)
        surest, most = (logits / temperature).softmax(1).max(1)
        mended = CalibrationError(_BINS)
        mended.update(surest, most, labels)
        error, after = (float(found.compute()["ECE"]) for found in (self._error, mended))
        return Calibration(self._error.sums.numpy(), error, temperature, after, len(labels))


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of logits (N, K), or log-probabilities, with which the classes (N,) are most likely
    (arXiv 1706.04599), within 0.05 and 20.
    """
    own = logits.gather(1, labels[:, None])[:, 0].mean()
    low, high = np.log(_TEMPERATURES)
    for _ in range(24):  # the slope of the likelihood over the inverse temperature has one zero
        middle = (low + high) / 2
        expected = ((logits / float(np.exp(middle))).softmax(1) * logits).sum(1).mean()
        low, high = (middle, high) if expected > own else (low, middle)
    return float(np.exp((low + high) / 2))


ORDERS = ("worst", "uncertain", "typical")


def ranked(records: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """The images in each of `ORDERS`: the lowest score first, the lowest confidence, those nearest to the median of
    both by rank.
    """
    worst = sorted(records, key=lambda one: (one.score, one.right))
    uncertain = sorted(records, key=lambda one: one.confidence)
    middle = (len(records) - 1) / 2
    off = {one.index: abs(k - middle) for k, one in enumerate(worst)}
    away = {one.index: abs(k - middle) for k, one in enumerate(uncertain)}
    typical = sorted(records, key=lambda one: off[one.index] + away[one.index])
    return dict(zip(ORDERS, (worst, uncertain, typical), strict=True))


def chosen(records: Sequence[ImageRecord], most: int) -> list[ImageRecord]:
    """At most so many images to show: half of them the first of each order, then the worst of each class in turn."""
    orders = list(ranked(records).values())
    classes = sorted({number for one in records for number in one.by_class})
    of_class = [
        sorted((one for one in records if number in one.by_class), key=lambda one, n=number: one.by_class[n])  # type: ignore[misc]
        for number in classes
    ]
    found: dict[int, ImageRecord] = {}
    for lists, limit in ((orders, (most + 1) // 2), (of_class, most), (orders, most)):
        for one in _in_turn(lists):
            if len(found) >= limit:
                break
            found.setdefault(one.index, one)
    return list(found.values())


def _in_turn(lists: Sequence[Sequence[ImageRecord]]) -> Iterable[ImageRecord]:
    """The first of each list, the second of each, and so on."""
    for place in range(max(map(len, lists), default=0)):
        yield from (one[place] for one in lists if place < len(one))
