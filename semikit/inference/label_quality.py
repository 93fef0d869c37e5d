"""Labels that a network contradicts, pictures with two labels, and dates that are shifted against each other.

Confident learning (Northcutt et al. 2021, arXiv 1911.00068), for pixels as for whole images: a label counts as wrong
where another class is the most probable one, and at least as probable as it is on average where it is the label,
whatever threshold the network predicts with. K classes; S is (H, W) of pixels and () of whole images, which count as
one pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from semikit.inference.inspection import Examined
from semikit.metrics.confusion import count
from semikit.raster.connected import connected

_BORDER, _LEAST = 0.015, 2
"""What is as near to a border between labels does not count: part of the shorter side, and pixels at least."""
_SMALLEST = 0.001
"""Scores from which a label is doubted."""
_SIDE, _MAP = 16, 64
"""Sides of the small pictures and maps of labels by which images are compared."""
_ALIKE, _LEVELS, _DIFFERENT = 0.99, 20, 0.1
"""The same picture: least correlation, largest difference (of 255) of small pictures; other labels: share of pixels."""
SHIFTED, CLEAR = 2.0, 10.0
"""Pixels from which a shift counts; standard deviations that its peak is high."""


def average_confidence(every: Iterable[Examined], num_classes: int) -> Tensor:
    """How probable (K,) float32 each class is on average where it is the label; infinite where it never is."""
    sums = torch.zeros(2, num_classes, dtype=torch.float64)
    for found in every:
        counted = _counted(found).flatten()
        labels = found.labels.flatten()[counted].long()
        own = found.own.flatten()[counted].double()
        for row, weights in zip(sums, (own, torch.ones_like(own)), strict=True):
            row += torch.bincount(labels, weights, num_classes).cpu()
    return torch.where(sums[1] > 0, sums[0] / sums[1], torch.inf).float()


def suggested(found: Examined, thresholds: Tensor) -> Tensor:
    """The most probable class (*S) where it is as probable as on average, else -1, as near borders between labels."""
    classes = found.most.long()
    sure = found.surest >= thresholds.to(classes.device)[classes]
    return torch.where(sure & _counted(found), classes, -1)


def _counted(found: Examined) -> Tensor:
    """Where (*S) labels are valid and no other label, and none that is not valid, is near."""
    keys = torch.where(found.valid, found.labels.float(), -1.0).reshape(1, *(found.labels.shape or (1, 1)))
    near = max(_LEAST, round(_BORDER * min(keys.shape[1:])))
    low, high = -keys, keys
    for size in ((2 * near + 1, 1), (1, 2 * near + 1)):
        padding = (size[0] // 2, size[1] // 2)
        low, high = (F.max_pool2d(part, size, 1, padding) for part in (low, high))
    return found.valid & (high == -low).reshape(found.valid.shape)


@final
@dataclass(frozen=True, slots=True)
class Contradiction:
    """An image whose label is contradicted: its largest connected area of one label and one class of the network.

    `score` (0..1) is by how much the network's class is ahead of the label, summed over each area, and of these sums
    the root of the sum of squares as a share of all valid pixels: one large area counts more than many small ones.
    `confidence` is the mean in the largest area, `share` that of contradicted pixels.
    """

    index: int
    score: float
    label: int
    suggested: int
    confidence: float
    share: float


@final
@dataclass
class LabelAudit:
    """What is counted over images of `num_classes` classes, with the `thresholds` of `average_confidence`; `joint`
    (K, K) are labels and the network's classes where it is certain, `shifts` numbers of pairs with pixels (down, right)
    and how clear they are.
    """

    num_classes: int
    thresholds: Tensor
    shifts: list[tuple[int, int, int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.joint = torch.zeros(self.num_classes, self.num_classes, dtype=torch.long)
        self._contradictions: list[Contradiction] = []
        self._small: list[tuple[int, NDArray[np.int16], NDArray[np.int16]]] = []

    def add(self, found: Examined) -> None:
        """Count an image; one without a valid pixel counts nothing."""
        if not found.valid.any():
            return
        other = suggested(found, self.thresholds)
        self.joint += count(other.clamp(min=0), found.labels.long(), other >= 0, self.num_classes).cpu()
        self._small.append((found.index, *_small(found)))
        if len(found.dates) > 1:
            down, right, clear = phase_shift(found.dates, (found.valid & (found.labels == 0)).cpu().numpy())
            if np.hypot(down, right) > SHIFTED and clear >= CLEAR:
                self.shifts.append((found.index, down, right, clear))
        wrong = (other >= 0) & (other != found.labels)
        if wrong.any():
            self._contradictions.append(self._contradiction(found, other, wrong))

    def _contradiction(self, found: Examined, other: Tensor, wrong: Tensor) -> Contradiction:
        labels, sure = found.labels.long(), found.surest
        ahead = torch.where(wrong, sure - found.own, 0.0)
        pairs = torch.where(wrong, labels * self.num_classes + other, -1).reshape(labels.shape or (1, 1)).cpu().numpy()
        areas, first = connected(pairs)
        sums = np.bincount(areas.ravel(), ahead.float().cpu().numpy().ravel())
        largest = int(sums.argmax())
        label, suggestion = divmod(int(pairs.flat[first[largest]]), self.num_classes)
        confidence = float(sure.float().cpu().numpy().ravel()[areas.ravel() == largest].mean())
        valid = int(found.valid.sum())
        score = float(np.sqrt(np.square(sums).sum())) / valid
        return Contradiction(found.index, score, label, suggestion, confidence, int(wrong.sum()) / valid)

    def ranked(self) -> list[Contradiction]:
        """The worst first, without those of next to nothing."""
        return sorted((one for one in self._contradictions if one.score >= _SMALLEST), key=lambda one: -one.score)

    def noise(self) -> NDArray[np.float64]:
        """(K, K): of the labels of each class (row) the estimated share that should be each class (column); NaN of a
        class of which the network is certain nowhere.
        """
        joint = self.joint.double()
        return (joint / joint.sum(1, keepdim=True)).numpy()

    def duplicates(self) -> list[tuple[int, int, float]]:
        """Numbers of two images that look the same, and the share of their pixels with different labels, where that is
        more than a tenth; the most different first.
        """
        if not self._small:
            return []
        pictures = np.stack([picture for _, picture, _ in self._small])
        unit = F.normalize(torch.from_numpy(pictures - pictures.mean(1, keepdims=True)).float(), dim=1)
        found = list[tuple[int, int, float]]()
        for start in range(0, len(unit), 1024):
            alike = (unit[start : start + 1024] @ unit[start:].T >= _ALIKE).triu(1)
            for one, two in (alike.nonzero() + start).tolist():
                share = _different(self._small[one][2], self._small[two][2])
                if share > _DIFFERENT and np.abs(pictures[one] - pictures[two]).max() <= _LEVELS:
                    found.append((self._small[one][0], self._small[two][0], share))
        return sorted(found, key=lambda pair: -pair[2])


def _small(found: Examined) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """16 x 16 pixels of each date (N,) and at most 64 x 64 labels, -1 where not valid."""
    dates = [Image.fromarray(np.ascontiguousarray(date)) for date in found.dates]
    picture = [np.asarray(date.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.int16).ravel() for date in dates]
    labels = torch.where(found.valid, found.labels, -1).reshape(found.labels.shape or (1, 1)).cpu().numpy()
    rows, columns = (np.linspace(0, side - 1, min(side, _MAP)).astype(int) for side in labels.shape)
    return np.concatenate(picture), labels[np.ix_(rows, columns)].astype(np.int16)


def _different(labels: NDArray[np.int16], others: NDArray[np.int16]) -> float:
    if labels.shape != others.shape:
        return 0.0
    both = (labels >= 0) & (others >= 0)
    return float((labels != others)[both].mean()) if both.any() else 0.0


def phase_shift(dates: Sequence[NDArray[Any]], counted: NDArray[np.bool_]) -> tuple[int, int, float]:
    """By how many pixels (down, right) the second of two pictures (H, W, 3) lies off the first, by phase correlation of
    the pixels that are `counted` (H, W), and how many standard deviations its peak is high.
    """
    window = np.outer(*map(np.hanning, counted.shape)) * counted
    grey = (date.mean(axis=2) for date in dates)
    one, two = (np.fft.rfft2((date - np.average(date, weights=window + 1e-9)) * window) for date in grey)
    cross = one.conj() * two
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=counted.shape)
    place = np.unravel_index(int(surface.argmax()), surface.shape)
    down, right = (int((at + side // 2) % side - side // 2) for at, side in zip(place, counted.shape, strict=True))
    return down, right, round(float(surface.max() / (surface.std() + 1e-12)), 1)
