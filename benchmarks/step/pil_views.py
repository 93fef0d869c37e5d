"""Views of small images made one by one with PIL, as a data loader of the field makes them; the draws are semikit's."""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmarks.step.class_workload import SIDE, ClassWorkload, Raw
from benchmarks.step.pil_augment import Picture, pil_randaugment
from semikit.augment.normalise import channel_statistics
from semikit.augment.randaugment import draw_boxes, draw_operations
from semikit.augment.resampling import draw_shifts
from semikit.augment.settings import RandAugmentSettings
from semikit.core.rng import rng_for
from semikit.tasks._class_views import ClassViews
from semikit.tasks._training_data import LABELED, UNLABELED

Drawn = npt.NDArray[np.generic]


@final
class PilViews:
    """Weak and strong views, (B, C, S, S) normalised, contiguous, on the host; each image is read, changed, scaled and
    stacked.
    """

    def __init__(self, workload: ClassWorkload) -> None:
        views = workload.config.views
        assert isinstance(views, ClassViews)
        self.settings, self.seed = views, workload.config.train.seed
        self.pictures = workload.images.permute(0, 2, 3, 1).cpu().numpy()
        self.mean, self.std = channel_statistics(workload.network.mean, workload.network.std)
        self.strong_views = workload.maker.requirements.strong_views

    def __call__(self, raw: Raw, step: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Labelled images, weak views, strong views of the numbers `raw` at a step."""
        strong = tuple(self._batch(raw, UNLABELED, step, 1 + view) for view in range(self.strong_views))
        return self._batch(raw, LABELED, step, 0), self._batch(raw, UNLABELED, step, 0), strong

    def _batch(self, raw: Raw, stream: str, step: int, view: int) -> Tensor:
        numbers = raw[stream][0].tolist()
        shifts = draw_shifts(
            rng_for(self.seed, f"shift/{stream}", step, view), len(numbers), (SIDE, SIDE), self.settings.weak
        )
        placed = [self._placed(n, *shift) for n, shift in zip(numbers, shifts.tolist(), strict=True)]
        if view:
            strong, rng = self.settings.strong, rng_for(self.seed, "strong", step, view - 1)
            assert isinstance(strong, RandAugmentSettings), strong
            op, value = draw_operations(rng, len(numbers), (SIDE, SIDE), strong)
            box = draw_boxes(rng, len(numbers), (SIDE, SIDE), strong)
            placed = augmented(placed, op, value, box, strong.fill)
        return torch.stack([self._tensor(picture) for picture in placed])

    def _placed(self, number: int, flip: int, down: int, right: int) -> Picture:
        picture = Image.fromarray(self.pictures[number])
        if flip:
            picture = ImageOps.mirror(picture)
        margin = int(SIDE * self.settings.weak.shift)
        wide = np.pad(np.asarray(picture), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
        left, top = margin - right, margin - down
        return Image.fromarray(wide).crop((left, top, left + SIDE, top + SIDE))

    def _tensor(self, picture: Picture) -> Tensor:
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return (image.to(torch.float32) / 255 - self.mean) / self.std


def augmented(
    pictures: list[Picture], op: Drawn, value: Drawn, box: Drawn, fill: tuple[int, int, int]
) -> list[Picture]:
    """RandAugment of each picture by its own draws, in a loop."""
    drawn = zip(pictures, op.tolist(), value.tolist(), box.tolist(), strict=True)
    return [pil_randaugment(*one, fill) for one in drawn]
