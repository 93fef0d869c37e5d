"""JPEGs decoded at a half, quarter or eighth of their size: which are, how near they come, and never too small."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semikit.augment.weak import CropSettings, most_reduced, random_crop
from semikit.data.formats.images import read_rgb
from semikit.data.formats.orientation import turned
from semikit.data.labeled_images import LabeledFiles
from semikit.data.samples import Pool, Subset
from semikit.errors import FileFault
from tests.helpers.stored import exif

HEIGHT, WIDTH = 331, 450
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
BLOCKS = ((ROWS // 31 + COLUMNS // 43) % 5) * 40
SCENE = np.clip(
    np.stack([BLOCKS + ROWS // 4, BLOCKS + COLUMNS // 6, 200 - BLOCKS], -1)
    + np.random.default_rng(0).integers(-12, 13, (HEIGHT, WIDTH, 3)),
    0,
    255,
).astype(np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    "colour": {"subsampling": 2},
    "full colour": {"subsampling": 0},
    "progressive": {"progressive": True},
    "turned": {"exif": exif(6)},
    "mirrored": {"exif": exif(2)},
    "gray": {},
    "cmyk": {},
}


def saved(folder: Path, kind: str = "colour") -> Path:
    path = folder / f"{kind}.jpg"
    image = Image.fromarray(SCENE)
    image = image.convert({"gray": "L", "cmyk": "CMYK"}.get(kind, "RGB"))
    image.save(path, quality=92, **KINDS[kind])
    return path


def means(image: Any, side: int) -> Any:
    """Means of blocks that lie whole in the image."""
    height, width = (length // side for length in image.shape[:2])
    blocks = image[: height * side, : width * side].astype(float).reshape(height, side, width, side, 3)
    return blocks.mean((1, 3))


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_reduced_jpeg_shows_means_of_its_pixels(kind: str, side: int, tmp_path: Path) -> None:
    path = saved(tmp_path, kind)
    full, small = read_rgb(path), read_rgb(path, reduce=lambda size: side + 0.5)
    assert small.shape == (ceil(HEIGHT / side), ceil(WIDTH / side), 3)
    wanted = means(full, side)
    assert np.abs(small[: wanted.shape[0], : wanted.shape[1]] - wanted).mean() < 1.5
    if kind == "turned":
        np.testing.assert_array_equal(
            read_rgb(path, upright=True, reduce=lambda size: 9.0), turned(read_rgb(path, reduce=lambda size: 9.0), 6)
        )


def test_none_is_reduced_by_more_than_is_allowed(tmp_path: Path) -> None:
    path, asked = saved(tmp_path), []

    def height(factor: float) -> int:
        return read_rgb(path, reduce=lambda size: asked.append(size) or factor).shape[0]

    assert [height(factor) for factor in (0.3, 1.0, 1.99, 3.9, 7.9, 100.0)] == [331, 331, 331, 166, 83, 42]
    assert set(asked) == {(HEIGHT, WIDTH)}
    assert read_rgb(path).shape[0] == HEIGHT


def test_other_formats_are_read_as_they_are(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".webp", ".tif"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(SCENE).save(path)
        np.testing.assert_array_equal(read_rgb(path, reduce=lambda size: 8.0), read_rgb(path))
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((80, 80), 3000, np.uint16)).save(path)
    with pytest.raises(FileFault, match="more than 8 bits"):
        read_rgb(path, reduce=lambda size: 8.0)


def test_a_damaged_jpeg_is_found_at_any_size(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FileFault, match="truncated"):
        read_rgb(path, reduce=lambda size: 8.0)


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.3, 0.5), (2.0, 3.0), (1.0, 1.0)])
@pytest.mark.parametrize("area", [(0.2, 1.0), (0.01, 0.02), (1.0, 1.0)])
def test_no_crop_of_a_reduced_image_is_enlarged(
    ratio: tuple[float, float], area: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, size, parts = CropSettings(area=area, ratio=ratio), 32, []

    def noted(image: Any, box: tuple[float, ...], size: int) -> Any:
        parts.append((box[2] - box[0], box[3] - box[1]))
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr("semikit.augment.weak._resized", noted)
    reduced = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        height, width = (int(side) for side in rng.integers(60, 2500, 2))
        factor = most_reduced((height, width), size, settings)
        side = next(side for side in (8, 4, 2, 1) if side <= max(factor, 1))
        if side > 1:
            reduced += 1
            small = np.broadcast_to(np.uint8(0), (ceil(height / side), ceil(width / side), 3))
            random_crop(small, size, rng, settings, 0.5)
    assert reduced > 10
    assert min(min(part) for part in parts) >= size - 1, "but for rounding"


@pytest.mark.parametrize(("side", "size"), [(2, 100), (2, 75), (4, 60)])
def test_a_crop_of_a_reduced_image_is_near_that_of_the_whole(side: int, size: int, tmp_path: Path) -> None:
    path = saved(tmp_path)
    full, small = read_rgb(path), read_rgb(path, reduce=lambda _: float(side))
    everything = CropSettings(area=(1.0, 1.0), ratio=(0.2, 5.0))
    crop = random_crop(small, size, np.random.default_rng(0), everything, 0.0, quick=True).astype(int)
    exact = random_crop(full, size, np.random.default_rng(0), everything, 0.0).astype(int)
    assert np.abs(crop - exact).mean() < 3
    assert abs((crop - exact).mean()) < 0.5, "neither lighter nor moved"


def test_torch_resamples_as_pillow_does() -> None:
    settings = CropSettings()
    for seed in range(30):
        drawn, again = (np.random.default_rng(seed) for _ in range(2))
        crop = random_crop(SCENE, 48, drawn, settings, 0.5, quick=True).astype(int)
        exact = random_crop(SCENE, 48, again, settings, 0.5).astype(int)
        assert np.abs(crop - exact)[4:-4, 4:-4].max() <= 1
        assert drawn.random() == again.random(), "nothing else is drawn"


def test_what_is_mapped_read_only_is_cropped_alike_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    mapped = SCENE.copy()
    mapped.flags.writeable = False
    torch.set_warn_always(True)
    try:
        crops = [
            random_crop(image, 48, np.random.default_rng(0), CropSettings(), 0.5, quick=True)
            for image in (SCENE, mapped)
        ]
    finally:
        torch.set_warn_always(False)
    assert np.array_equal(*crops)
    assert not recwarn


def test_all_kinds_of_image_level_samples_are_reduced(tmp_path: Path) -> None:
    path = saved(tmp_path)
    files = LabeledFiles(("a",), (path,), np.zeros(1, np.int64))
    for source in (files, Subset(files, np.array([0])), Pool((files, files))):
        assert source.reduced(lambda size: 4.0).image(0)[0].shape == (83, 113, 3)
        assert source.reduced(lambda size: 4.0).reduced(None).image(0)[0].shape == SCENE.shape
    assert replace(files, upright=True).reduced(lambda size: 4.0).upright
