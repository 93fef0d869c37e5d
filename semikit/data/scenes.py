"""Made aerial scenes at two dates: buildings come and go, everything else differs too; nothing is downloaded.

Every pair is a pure function of (seed, split, index, size). The label is true where the footprint of a building
appeared or disappeared, on the grid of date A. No change, though the pixels differ: season, crops, light, shadows,
haze, cars, trees that grow, pads of soil or asphalt that come and go, repainted roofs, and a date B that lies up to
1.5 pixels off.
"""

from __future__ import annotations

from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from semikit.core.draws import draw
from semikit.core.settings import Settings
from semikit.data.regions import Region
from semikit.data.scenery.blocks import draw_plan
from semikit.data.scenery.light import draw_light, photograph
from semikit.data.scenery.paint import Canvas, Clouds, footprints, paint
from semikit.data.scenery.plan import MARGIN
from semikit.errors import DataError

Split = Literal["train", "val", "test"]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

CLASS_NAMES = ("unchanged", "changed")

_SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
_SHIFT = 1.5


@final
class ScenesSettings(Settings):
    """The built-in data set `shapes-cd`: how large, how many, which seed."""

    size: int = Field(default=96, ge=32, le=512)
    """Side of the square images, in pixels; a larger image shows more buildings, not larger ones."""
    train: int = Field(default=400, ge=1)
    """Pairs in the training split, labelled and unlabelled together."""
    val: int = Field(default=60, ge=1)
    """Pairs in the validation split."""
    test: int = Field(default=100, ge=1)
    """Pairs in the test split."""
    seed: int = Field(default=0, ge=0)
    """Seed of the generator; another seed gives other scenes of the same kind."""


@final
class ScenesSource:
    """One split of `shapes-cd`; pairs are made when first asked for and kept (63 KiB each at 96 pixels).

    Raises:
        DataError: when the split is not one of train, val, test.
    """

    def __init__(self, settings: ScenesSettings, split: Split) -> None:
        if split not in _SPLITS:
            raise DataError(f"shapes-cd has no split {split!r}; choose one of {', '.join(_SPLITS)}.")
        self.settings = settings
        self.split: Split = split
        self.names = [f"{split}-{index:05d}" for index in range(getattr(settings, split))]
        self._made: dict[int, Pair] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_made": {}}

    def image(self, index: int, region: Region | None = None) -> tuple[NDArray[np.uint8], None]:
        """Both dates (2, H, W, 3) uint8, of the region if one is given, and None: all pixels are valid."""
        pair = self._scene(index)[0]
        return (pair if region is None else pair[:, *region.slices]).copy(), None

    def mask(self, index: int, region: Region | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Labels (H, W) uint8, 1 where changed, and valid (H, W) bool, true everywhere."""
        labels = self._scene(index)[1]
        labels = (labels if region is None else labels[region.slices]).copy()
        return labels, np.ones(labels.shape, dtype=bool)

    def has_mask(self, index: int) -> bool:
        """True: every made pair has its labels."""
        return 0 <= index < len(self)

    def extent(self, index: int) -> None:
        """None: a made scene has no place on a map."""

    def files(self, index: int) -> tuple[()]:
        """None at all: a made scene is read from no file."""
        return ()

    def _scene(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)} in shapes-cd/{self.split}")
        if index not in self._made:
            self._made[index] = make_pair(self.settings.seed, self.split, index, self.settings.size)
        return self._made[index]


def make_pair(seed: int, split: Split, index: int, size: int) -> Pair:
    """Both dates (2, size, size, 3) uint8 and the labels (size, size) uint8; depends on the arguments alone."""
    rng = draw(seed, "shapes-cd", _SPLITS[split], index)
    plan = draw_plan(rng, size)
    clouds = Clouds(rng, size)
    down, right = rng.uniform(-_SHIFT, _SHIFT, 2).tolist()
    canvases = Canvas(size, (0.0, 0.0)), Canvas(size, (down, right))
    images = []
    for date, canvas in enumerate(canvases):
        paint(plan, date, clouds, canvas)
        images.append(photograph(canvas, draw_light(rng), rng))
    return np.stack(images), footprints(plan, canvases[0])[MARGIN:-MARGIN, MARGIN:-MARGIN].copy()
