from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.shards.decoders import PoolImage, PoolPair, PoolRgb
from semikit.data.shards.tar_samples import Sample
from semikit.errors import FileFault


def encoded(values: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def tiff(values: Any) -> bytes:
    """Bands first."""
    import rasterio
    from rasterio import MemoryFile

    with MemoryFile() as file:
        shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
        with file.open(driver="GTiff", dtype=values.dtype, transform=rasterio.Affine(1, 0, 5, 0, -1, 9), **shape) as to:
            to.write(values)
        return bytes(file.read())


RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
BANDS = RNG.integers(0, 256, (5, 6, 8), np.uint8)
DEEP = RNG.integers(0, 10000, (4, 6, 8)).astype(np.uint16)


@pytest.mark.parametrize(("ending", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG"), ("jpeg", "JPEG")])
def test_photos(ending: str, kind: str) -> None:
    data = encoded(RGB, kind)
    sample = Sample("s.tar!a", {ending: data, "json": b"{}"})
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.array(image.convert("RGB"))
    image, valid = PoolImage()(sample)
    assert valid is None
    assert (image == wanted).all()
    assert (PoolRgb()(sample)[0] == wanted).all()


def test_rasters_from_memory() -> None:
    image, valid = PoolImage()(Sample("s.tar!a", {"tif": tiff(BANDS)}))
    assert valid is None
    assert (image == np.moveaxis(BANDS, 0, -1)).all()
    image, _ = PoolImage(bands=(3, 1))(Sample("s.tar!a", {"tiff": tiff(BANDS)}))
    assert (image == np.moveaxis(BANDS[[2, 0]], 0, -1)).all()
    image, _ = PoolImage(scale=((0.0,), (10000.0,)))(Sample("s.tar!a", {"tif": tiff(DEEP)}))
    assert np.abs(image - np.moveaxis(DEEP, 0, -1) * (255 / 10000)).max() <= 1


def test_pairs() -> None:
    a, b = RGB, RGB[::-1].copy()
    image, valid = PoolPair()(Sample("s.tar!a", {"a.png": encoded(a, "PNG"), "b.png": encoded(b, "PNG")}))
    assert valid is None
    assert (image == np.stack([a, b])).all()
    other = encoded(RGB[:3].copy(), "PNG")
    with pytest.raises(FileFault, match=r"dates of other sizes: s\.tar!a\.b\.png"):
        PoolPair()(Sample("s.tar!a", {"a.png": encoded(a, "PNG"), "b.png": other}))


@pytest.mark.parametrize(
    ("decode", "files", "told"),
    [
        (
            PoolImage(),
            {},
            "s.tar!a (none). Each sample needs one file NAME with one of .avif, .heic, .heif, .jpeg",
        ),
        (PoolImage(), {"png": b"", "jpg": b""}, "s.tar!a (2: jpg, png)"),
        (PoolPair(), {"a.png": b""}, "s.tar!a (none). Each sample needs one file NAME with one of .b.avif"),
        (PoolImage(), {"png": b"no image"}, "unreadable or truncated image: s.tar!a.png"),
        (PoolImage(), {"tif": b"<VRTDataset/>"}, "s.tar!a.tif (it is no TIFF)"),
        (PoolImage(), {"tif": b"II*\0nothing"}, "unreadable or truncated image: s.tar!a.tif ("),
        (PoolRgb(), {"png": b"\x89PNG"}, "unreadable or truncated image: s.tar!a.png"),
        (PoolImage(), {"tif": tiff(DEEP)}, "image of more than 8 bits: s.tar!a.tif (uint16)"),
        (PoolRgb(), {"tif": tiff(BANDS)}, "raster that has not three bands: s.tar!a.tif (5 bands)"),
        (PoolImage(bands=(6,)), {"tif": tiff(BANDS)}, "band missing: s.tar!a.tif"),
    ],
)
def test_what_is_wrong_is_named(decode: Any, files: dict[str, bytes], told: str) -> None:
    with pytest.raises(FileFault) as error:
        decode(Sample("s.tar!a", files))
    assert told in str(error.value)
    assert isinstance(error.value.file, (str, Path))


def test_a_cut_photo() -> None:
    data = encoded(RNG.integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    with pytest.raises(FileFault, match=r"truncated image: s\.tar!a\.jpg"):
        PoolRgb()(Sample("s.tar!a", {"jpg": data[: len(data) // 2]}))
