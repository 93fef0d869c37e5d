from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from semikit.data.formats.mask_values import MaskValues
from semikit.data.masked_images import MaskedImages
from semikit.data.reduced import VOID, copy_reduced
from tests.helpers.photos import save

HALVES = np.repeat([[0, 1]], 60, 0).repeat(40, 1)
"""A mask of 60 x 80 pixels: class 0 on the left, 1 on the right."""


def source(folder: Path, *names: str, mask: object = HALVES) -> MaskedImages:
    labels = np.asarray(mask)
    for name in names:
        save(folder / "images" / f"{name}.png", np.stack([labels * 200] * 3, -1))
        save(folder / "masks" / f"{name}.png", labels)
    images, masks = (tuple(folder / kind / f"{name}.png" for name in names) for kind in ("images", "masks"))
    return MaskedImages(names, images, masks, MaskValues(2, ignore=(9,)))


def test_image_and_mask_are_reduced_alike(tmp_path: Path) -> None:
    mask = HALVES.copy()
    mask[:20] = 9
    done: list[int] = []
    made = copy_reduced(
        source(tmp_path, "city/a", "b", mask=mask), [0], tmp_path / "out", 20, True, lambda: done.append(1)
    )
    assert (made, len(done)) == ([], 1)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["images/city/a.png", "masks/city/a.png"]
    with Image.open(tmp_path / "out/masks/city/a.png") as stored:
        labels = np.asarray(stored)
    expected = np.repeat([[0, 1]], 15, 0).repeat(10, 1)
    expected[:5] = VOID
    assert np.array_equal(labels, expected)
    with Image.open(tmp_path / "out/images/city/a.png") as stored:
        assert (stored.mode, stored.size) == ("RGB", (20, 15))


def test_small_images_are_not_enlarged_and_masks_stay_closed(tmp_path: Path) -> None:
    given = source(tmp_path, "a")
    (tmp_path / "masks/a.png").write_bytes(b"never read")
    assert copy_reduced(given, [0], tmp_path / "out", 500, False, lambda: None) == []
    assert not (tmp_path / "out/masks").exists()
    with Image.open(tmp_path / "out/images/a.png") as stored:
        assert np.array_equal(np.asarray(stored), given.image(0)[0])


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    given = source(tmp_path, "a", "b")
    (tmp_path / "images/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (fault,) = copy_reduced(given, [0, 1], tmp_path / "out", 20, True, lambda: None)
    assert str(tmp_path / "images/a.png") in str(fault)
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["b.png"]


def test_rasters_of_many_bands_are_no_photographs(tmp_path: Path) -> None:
    given = source(tmp_path, "a")
    two = MaskedImages(given.names, given.images, given.masks, given.values, bands=(1, 2))
    (fault,) = copy_reduced(two, [0], tmp_path / "out", 20, True, lambda: None)
    assert "image that is no photograph: a (2 bands). Choose three of them with `bands: [3, 2, 1]`" in str(fault)
