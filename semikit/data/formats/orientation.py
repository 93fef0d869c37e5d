"""A camera's orientation (EXIF): pixels as a viewer shows them, and masks that are laid on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from semikit.errors import FileFault, mask_size_fault

Orientation = Literal["auto", "viewer", "stored"]
"""How masks lie on images that carry an orientation: on the image as a viewer shows it, on its pixels as stored (then
nothing is turned), or (auto) whichever size fits."""

_ON_SIDE = 5
"""From here on width and height change places."""


def turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W, …) as stored -> as a viewer shows them, by an EXIF orientation 1..8."""
    if orientation >= _ON_SIDE:
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns] if orientation > 1 else values


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) as stored -> as a viewer shows it."""
    return (size[1], size[0]) if orientation >= _ON_SIDE else size


def mask_orientation(
    mask: Path, mask_size: tuple[int, int], stored: tuple[int, int], orientation: int, stated: Orientation
) -> int:
    """By which orientation a mask is turned, so that it lies on its image as a viewer shows it; 1: it lies there.

    `mask_size` is that of the mask as stored, `stored` that of its image, which has this `orientation`; all (H, W).

    Raises:
        FileFault: it fits neither; or it fits both and nothing is stated.
    """
    if stated == "stored" or orientation == 1:
        return 1
    shown = turned_size(stored, orientation)
    if mask_size == shown and (stated == "viewer" or mask_size != stored):
        return 1
    if stated == "viewer" and mask_size == stored:
        remedy = "The image is shown turned (EXIF), the mask is not: leave `orientation` out, or say `stored`."
        raise mask_size_fault(mask, shown, mask_size, remedy)
    if mask_size != stored:
        raise mask_size_fault(mask, shown, mask_size)
    if mask_size != shown:
        return orientation
    kind = "mask that fits its image both turned and not turned"
    remedy = (
        "The image carries an EXIF orientation, and size does not tell whether its mask is turned too. Say in the data "
        "YAML on which masks were drawn: `orientation: viewer` (as programs show the photo) or `orientation: stored`. "
        "A plain folder is then described by a YAML file, `train: FOLDER/train` and `val: FOLDER/val`."
    )
    raise FileFault(kind, mask, f"EXIF orientation {orientation}", remedy)
