"""Whatever was written into a file is read from it: bit depths, modes, containers, orientations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from semikit.data.formats.images import read_image, read_info, read_mask, read_values
from semikit.errors import FileFault
from tests.helpers import georasters, stored

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SIDES = st.integers(1, 9)
SEEDS = st.integers(0, 2**31)
ORIENTATIONS = st.integers(1, 8)
PNG = st.sampled_from([(colour, depth) for colour, depths in stored.DEPTHS.items() for depth in depths])


def drawn(seed: int, height: int, width: int, channels: int, most: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, most + 1, (height, width, channels))


def shown(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """As Pillow turns a picture, channel by channel."""
    if orientation == 1:
        return values
    turned = []
    for channel in np.moveaxis(values, 2, 0):
        image = Image.fromarray(channel.astype(np.int32))
        image.getexif()[0x0112] = orientation
        turned.append(np.array(ImageOps.exif_transpose(image)))
    return np.stack(turned, axis=2)


@QUICK
@given(kind=PNG, height=SIDES, width=SIDES, seed=SEEDS, orientation=ORIENTATIONS, behind=st.booleans())
def test_png(
    tmp_path: Path, kind: tuple[int, int], height: int, width: int, seed: int, orientation: int, behind: bool
) -> None:
    colour, depth = kind
    values = drawn(seed, height, width, stored.CHANNELS[colour], 2**depth - 1)
    path = stored.png(tmp_path / "a.png", values, depth, colour, orientation, behind)
    info = read_info(path)
    assert (info.size, info.orientation) == ((height, width), orientation)
    assert info.dtype == ("uint16" if depth == 16 else "uint8")
    assert info.shown == shown(values, orientation).shape[:2]
    if values.shape[2] == 1:
        np.testing.assert_array_equal(read_mask(path), values[..., 0])
        np.testing.assert_array_equal(read_mask(path, orientation=orientation), shown(values, orientation)[..., 0])
    else:
        with pytest.raises(FileFault, match="colour mask"):
            read_mask(path)
    if colour == stored.PALETTE:
        return
    picture = values[..., :3] if values.shape[2] > 2 else values[..., :1].repeat(3, 2)
    if depth < 8:
        picture = picture * (255 // (2**depth - 1))
    np.testing.assert_array_equal(read_values(path)[0], picture)
    np.testing.assert_array_equal(read_values(path, data=path.read_bytes())[0], picture)
    np.testing.assert_array_equal(read_values(path, upright=True)[0], shown(picture, orientation))


@QUICK
@given(most=st.integers(1, 65535), colour=st.booleans(), plain=st.booleans(), height=SIDES, width=SIDES, seed=SEEDS)
def test_pgm_and_ppm(tmp_path: Path, most: int, colour: bool, plain: bool, height: int, width: int, seed: int) -> None:
    values = drawn(seed, height, width, 3 if colour else 1, most)
    path = stored.pnm(tmp_path / f"a.{'ppm' if colour else 'pgm'}", values, most, plain)
    info = read_info(path)
    assert (info.size, info.dtype) == ((height, width), "uint16" if most > 255 else "uint8")
    if not colour:
        np.testing.assert_array_equal(read_mask(path), values[..., 0])
    if most >= 255:
        np.testing.assert_array_equal(read_values(path)[0], values if colour else values.repeat(3, 2))


@QUICK
@given(depth=st.sampled_from([1, 4, 8]), height=SIDES, width=SIDES, seed=SEEDS)
def test_bmp(tmp_path: Path, depth: int, height: int, width: int, seed: int) -> None:
    values = drawn(seed, height, width, 1, 2**depth - 1)
    np.testing.assert_array_equal(read_mask(stored.bmp(tmp_path / "a.bmp", values, depth)), values[..., 0])


@QUICK
@given(
    kind=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", 1, 2, 4]),
    height=SIDES,
    width=SIDES,
    bands=st.integers(1, 4),
    seed=SEEDS,
)
def test_rasters(tmp_path: Path, kind: str | int, height: int, width: int, bands: int, seed: int) -> None:
    most = 2**kind - 1 if isinstance(kind, int) else 127 if kind == "int8" else 255 if kind == "uint8" else 30000
    width += 8 if isinstance(kind, int) else 0  # GDAL writes zeros where a packed row is shorter than a byte
    values = drawn(seed, height, width, bands, most)
    packed = {"nbits": kind} if isinstance(kind, int) else {}
    written = np.moveaxis(values, 2, 0).astype("uint8" if isinstance(kind, int) else kind)
    path = georasters.save(tmp_path / "a.tif", written, photometric="MINISBLACK", **packed)
    if bands == 1:
        np.testing.assert_array_equal(read_mask(path), values[..., 0])
    if kind != 1:
        np.testing.assert_array_equal(read_values(path)[0], values if bands > 1 else values.repeat(3, 2))
        if most <= 255:
            np.testing.assert_array_equal(read_image(path)[0], values if bands > 1 else values.repeat(3, 2))


@QUICK
@given(
    container=st.sampled_from(["jpg", "webp", "png", "avif"]),
    mode=st.sampled_from(["RGB", "L"]),
    orientation=ORIENTATIONS,
    height=SIDES,
    width=SIDES,
    seed=SEEDS,
)
def test_photos_are_turned_as_pillow_turns_them(
    tmp_path: Path, container: str, mode: str, orientation: int, height: int, width: int, seed: int
) -> None:
    path = tmp_path / f"a.{container}"
    values = drawn(seed, height, width, 3, 255).astype(np.uint8)
    Image.fromarray(values).convert(mode).save(path, exif=stored.exif(orientation))
    with Image.open(path) as image:
        wanted = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        plain = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path, upright=True)[0], wanted)
    np.testing.assert_array_equal(read_image(path)[0], plain)
    assert read_info(path).shown == wanted.shape[:2]


@QUICK
@given(
    kind=st.sampled_from(["uint8", "uint16", "int16"]),
    height=st.integers(4, 12),
    width=st.integers(4, 12),
    bands=st.integers(1, 4),
    seed=SEEDS,
)
def test_jpeg_2000_and_virtual_rasters(
    tmp_path: Path, kind: str, height: int, width: int, bands: int, seed: int
) -> None:
    import rasterio.shutil

    values = drawn(seed, height, width, bands, 255 if kind == "uint8" else 30000)
    wanted = values if bands > 1 else values.repeat(3, 2)
    plain = georasters.save(tmp_path / "a.tif", np.moveaxis(values, 2, 0).astype(kind), photometric="MINISBLACK")
    options: dict[str, Any] = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    for path, how in ((tmp_path / "a.jp2", options), (tmp_path / "a.vrt", {"driver": "VRT"})):
        rasterio.shutil.copy(plain, path, **how)
        np.testing.assert_array_equal(read_values(path)[0], wanted, err_msg=path.name)
        if bands == 1:
            np.testing.assert_array_equal(read_mask(path), values[..., 0])
    np.testing.assert_array_equal(read_values(Path("s!a.tif"), data=plain.read_bytes())[0], wanted)
