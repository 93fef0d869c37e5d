"""Memory of features: with a place for each image of a list (N rows and a last one that nobody reads), or of the last
images of a run, in all or of each class.
"""

from __future__ import annotations

from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semikit.core.rng import rng_for
from semikit.distributed.collectives import gather_over_processes


def places(index: Tensor, chosen: Tensor, size: int) -> Tensor:
    """Where each image of a step is written, (B,) int64: its number `index`, or `size` where it is not `chosen`.

    An image that comes more than once is written once, the last time it is chosen, so that the order in which a device
    writes does not matter.
    """
    assert index.shape == chosen.shape, (index.shape, chosen.shape)
    aimed = torch.where(chosen, index, size)
    order = torch.arange(1, len(index) + 1, device=index.device)
    last = torch.zeros(size + 1, dtype=torch.long, device=index.device).scatter_reduce_(0, aimed, order, "amax")
    return torch.where(last.gather(0, aimed) == order, aimed, size)


@final
class FeatureBank(nn.Module):
    """Features (N, D) of length 1 and labels (N,) of the labelled images (Zheng et al. 2022, SimMatch, section 3.3).

    A row keeps `momentum` of itself when it is written. `across` normalises what was averaged over the images of the
    step instead of over the features, as USB does: then rows have lengths other than 1. Images that were not written
    yet are like nobody.
    """

    rows: Tensor
    labels: Tensor
    seen: Tensor

    def __init__(self, size: int, width: int, momentum: float, across: bool, seed: int) -> None:
        super().__init__()
        self.momentum = momentum
        self.across = across
        drawn = rng_for(seed, "bank").standard_normal((size + 1, width), dtype=np.float32)
        self.register_buffer("rows", F.normalize(torch.from_numpy(drawn), dim=1))
        self.register_buffer("labels", torch.zeros(size + 1, dtype=torch.long))
        self.register_buffer("seen", torch.zeros(size + 1, dtype=torch.bool))

    def similarity(self, features: Tensor, temperature: float) -> Tensor:
        """Features (B, D) -> logarithm of their similarity to each image, (B, N): a softmax over the images.

        The rows are copied: they may be written before the gradient is taken.
        """
        # The smallest number, not -inf: before any image is written the softmax has to be uniform, not NaN.
        similarity = features @ self.rows[:-1].clone().t() / temperature
        return similarity.masked_fill(~self.seen[:-1], torch.finfo(similarity.dtype).min).log_softmax(dim=1)

    def by_image(self, probabilities: Tensor) -> Tensor:
        """Probabilities (B, K) of classes -> for each image that of its class, (B, N)."""
        return probabilities.index_select(1, self.labels[:-1])

    def by_class(self, values: Tensor, num_classes: int) -> Tensor:
        """Values (B, N) of images, added up for each class, (B, K)."""
        zeros = values.new_zeros(len(values), num_classes)
        return zeros.index_add(1, self.labels[:-1], values)

    @torch.no_grad()
    def write(self, index: Tensor, features: Tensor, labels: Tensor, chosen: Tensor) -> None:
        """Remember the images of a step, over all processes: index (B,), features (B, D), labels (B,), chosen (B,)."""
        index, features, labels, chosen = map(gather_over_processes, (index, features, labels, chosen))
        if self.momentum > 0:
            mixed = self.momentum * self.rows[index] + (1 - self.momentum) * features
            features = F.normalize(mixed, dim=0 if self.across else 1)
        where = places(index, chosen, len(self.rows) - 1)
        self.rows.index_copy_(0, where, features.to(self.rows.dtype))
        self.labels.index_copy_(0, where, labels)
        self.seen.index_fill_(0, where, True)


@final
class FeatureQueue(nn.Module):
    """Features (N, D) of length 1 and probabilities (N, K) of the last N images (Li et al. 2021, CoMatch).

    `written` () int64 counts all images so far, those without a valid position among them, which are like nobody.
    """

    rows: Tensor
    probabilities: Tensor
    seen: Tensor
    written: Tensor

    def __init__(self, size: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("probabilities", torch.zeros(size, num_classes))
        self.register_buffer("seen", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    def full(self) -> Tensor:
        """Whether every row was written, () bool."""
        return self.written >= len(self.rows)

    def average(self, features: Tensor, temperature: float) -> Tensor:
        """Features (B, D) -> the probabilities (B, K) of what is remembered, averaged by similarity."""
        similarity = features @ self.rows.t() / temperature
        return similarity.masked_fill(~self.seen, torch.finfo(similarity.dtype).min).softmax(dim=1) @ self.probabilities

    @torch.no_grad()
    def write(self, features: Tensor, probabilities: Tensor, valid: Tensor) -> None:
        """Remember images in place of the oldest: features (B, D), probabilities (B, K), valid (B,) bool, of the total
        batch of all processes.
        """
        size, count = len(self.rows), len(features)
        last = min(size, count)
        places = (self.written + torch.arange(count - last, count, device=features.device)) % size
        self.rows.index_copy_(0, places, features[-last:].to(self.rows.dtype))
        self.probabilities.index_copy_(0, places, probabilities[-last:].to(self.rows.dtype))
        self.seen.index_copy_(0, places, valid[-last:])
        self.written += count


@final
class ClassQueues(nn.Module):
    """The last `size` features of each of K classes, and their mean: of labelled images (Oh et al. 2022, DASO), or
    channels over positions (Wang et al. 2024, AllSpark).

    `rows` (K · size + 1, D) end with one that nobody reads; `written` (K,) int64 counts all features of a class so far.
    """

    rows: Tensor
    written: Tensor

    def __init__(self, num_classes: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(num_classes * size + 1, width))
        self.register_buffer("written", torch.zeros(num_classes, dtype=torch.long))

    def means(self) -> Tensor:
        """The mean features of each class, (K, D); zeros of one that was not seen yet."""
        count = self.written.clamp(max=self.size).unsqueeze(1)
        filled = torch.arange(self.size, device=count.device) < count
        return (self.by_class() * filled.unsqueeze(2)).sum(dim=1) / count.clamp(min=1)

    def by_class(self) -> Tensor:
        """The features of each class, (K, size, D); zeros where there are none yet."""
        return self.rows[:-1].view(len(self.written), self.size, -1)

    @torch.no_grad()
    def write(self, features: Tensor, labels: Tensor, chosen: Tensor) -> None:
        """Remember features of a step, over all processes, in place of the oldest of their class: features (B, D),
        labels (B,), chosen (B,).
        """
        features, labels, chosen = map(gather_over_processes, (features, labels, chosen))
        of_class = torch.zeros(len(labels), len(self.written), dtype=torch.long, device=labels.device)
        of_class.scatter_(1, labels.unsqueeze(1), chosen.long().unsqueeze(1))
        count = of_class.sum(dim=0)
        number = (of_class.cumsum(dim=0) * of_class).sum(dim=1) - 1  # among the chosen ones of its class
        last = chosen & (number >= count[labels] - self.size)
        place = labels * self.size + (self.written[labels] + number) % self.size
        self.rows.index_copy_(0, torch.where(last, place, len(self.rows) - 1), features.to(self.rows.dtype))
        self.written += count
