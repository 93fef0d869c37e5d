from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semikit.data.formats.images import image_size, read_image, read_info, read_mask
from semikit.data.formats.rescale import percentiles, to_uint8
from semikit.errors import FileFault

Save = Callable[..., Path]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)


def raster(path: Path, values: NDArray[Any], **profile: Any) -> Path:
    """Writes (bands, H, W)."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        count, height, width = values.shape
        shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as file:
            file.write(values)
    return path


def test_rasters_without_a_place_are_read_behind_any_filter_of_warnings(tmp_path: Path) -> None:
    import warnings

    from rasterio.errors import NotGeoreferencedWarning

    path = raster(tmp_path / "a.tif", np.full((5, 6, 8), 700, np.uint16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        warnings.simplefilter("error")
        assert read_image(path)[0].shape == (6, 8, 5)
        count = len(warnings.filters)
        read_image(path)
        assert len(warnings.filters) == count


def test_rgb_is_read_as_stored_and_writable(save: Save) -> None:
    image, valid = read_image(save("a.png", RGB))
    assert valid is None
    assert image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


def test_gray_palette_alpha_and_cmyk_become_rgb(save: Save, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save("g.png", GRAY))[0], np.repeat(GRAY[..., None], 3, 2))
    alpha = np.dstack([RGB, GRAY])
    np.testing.assert_array_equal(read_image(save("a.png", alpha))[0], RGB)
    palette = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png", transparency=bytes(range(100, 148)))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png")[0], np.array(palette.convert("RGB")))
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "c.jpg")
    assert read_image(tmp_path / "c.jpg")[0].shape == (6, 8, 3)


def test_bands_choose_among_rgb(save: Save) -> None:
    path = save("a.png", RGB)
    np.testing.assert_array_equal(read_image(path, bands=(3, 1))[0], RGB[..., [2, 0]])
    with pytest.raises(FileFault, match=r"band missing: .*a\.png \(asked for bands \[4\], it has 3\)"):
        read_image(path, bands=(4,))


def test_16_bit_png_goes_by_scale_or_percentiles(save: Save) -> None:
    deep = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    path = save("d.png", deep)
    assert read_info(path).dtype == "uint16"
    stated = read_image(path, scale=((0,), (47000,)))[0]
    np.testing.assert_array_equal(stated[..., 0], np.floor(deep / 47000 * 255 + 0.5).astype(np.uint8))
    sampled = read_image(path)[0]
    assert sampled.min() == 0
    assert sampled.max() == 255
    assert 100 < sampled.mean() < 155


def test_scale_leaves_8_bit_photos_alone(save: Save) -> None:
    np.testing.assert_array_equal(read_image(save("a.png", RGB), scale=((0,), (10000,)))[0], RGB)


def test_the_orientation_of_a_camera_is_told_not_applied(save: Save) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save("a.jpg", RGB, exif=exif)
    assert read_image(path)[0].shape == (6, 8, 3)
    assert read_info(path).orientation == 6
    assert read_info(save("b.png", RGB, exif=exif)).size == (6, 8)


def test_raster_bands_scale_and_nodata(tmp_path: Path) -> None:
    values = np.stack([np.full((4, 5), 100 * k, dtype=np.uint16) for k in range(1, 6)])
    values[:, 0, 0] = 0
    values[0, 1, 1] = 0
    path = raster(tmp_path / "r.tif", values, nodata=0)
    image, valid = read_image(path, bands=(3, 2, 1), scale=((0,), (500,)))
    assert image.shape == (4, 5, 3)
    np.testing.assert_array_equal(image[3, 3], np.array([153, 102, 51]))
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[0, 0]], "nodata in one band alone is a value"
    assert read_image(path)[0].shape == (4, 5, 5)
    assert image_size(path) == (4, 5)
    with pytest.raises(FileFault, match="band missing"):
        read_image(path, bands=(6,))


def test_float_raster_with_nan(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 20, dtype=np.float32).reshape(1, 4, 5)
    values[0, 2, 2] = np.nan
    image, valid = read_image(raster(tmp_path / "f.tif", values), scale=((-1.0,), (1.0,)))
    assert image.shape == (4, 5, 3)
    assert (image[0, 0, 0], image[-1, -1, 2], image[2, 2, 1]) == (0, 255, 0)
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[2, 2]]


def test_alpha_of_a_raster_is_its_mask(tmp_path: Path) -> None:
    from rasterio.enums import ColorInterp

    values = np.full((4, 3, 3), 7, dtype=np.uint8)
    values[3] = 255
    values[3, 0, 0] = 0
    path = raster(tmp_path / "a.tif", values, photometric="RGB", alpha="YES")
    image, valid = read_image(path)
    assert image.shape == (3, 3, 3)
    assert ColorInterp.alpha.name == "alpha"
    assert valid is not None
    assert valid.sum() == 8


def test_8_bit_raster_stays_as_it_is_unless_scaled(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", np.moveaxis(RGB, 2, 0))
    image, valid = read_image(path)
    assert valid is None
    np.testing.assert_array_equal(image, RGB)
    assert read_image(path, scale=((0,), (51,)))[0][RGB == 10].tolist() == [50] * int((RGB == 10).sum())


def test_masks_keep_their_values(save: Save, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mask(save("g.png", GRAY)), GRAY)
    palette = Image.fromarray(GRAY % 4)
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png"), GRAY % 4)
    np.testing.assert_array_equal(read_mask(save("d.png", GRAY.astype(np.uint16) * 200)), GRAY.astype(np.uint16) * 200)
    Image.fromarray(GRAY % 2 * 255).convert("1").save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), GRAY % 2)
    np.testing.assert_array_equal(read_mask(raster(tmp_path / "r.tif", GRAY[None], nodata=0)), GRAY)
    floats = raster(tmp_path / "f.tif", GRAY[None].astype(np.float32))
    np.testing.assert_array_equal(read_mask(floats), GRAY)


def test_a_colour_mask_is_refused(save: Save, tmp_path: Path) -> None:
    two = np.where(RGB > 127, 255, 0).astype(np.uint8)
    with pytest.raises(FileFault, match=r"colour mask read as RGB: .*c\.png \(3 channels, . colours\)\. Say which"):
        read_mask(save("c.png", two))
    with pytest.raises(FileFault, match="Its channels are equal: save one of them"):
        read_mask(save("e.png", np.repeat(GRAY[..., None], 3, 2)))
    with pytest.raises(FileFault, match="colour mask read as RGB"):
        read_mask(raster(tmp_path / "r.tif", np.moveaxis(RGB, 2, 0)))
    with pytest.raises(FileFault, match=r"no whole numbers: .*f\.tif \(float32\)"):
        read_mask(raster(tmp_path / "f.tif", np.full((1, 3, 3), 0.5, dtype=np.float32)))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
def test_truncated_and_foreign_files_are_named(save: Save, tmp_path: Path, name: str) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(name, noise) if not name.endswith("tif") else raster(tmp_path / name, np.moveaxis(noise, 2, 0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileFault, match=rf"unreadable or truncated image: .*{name}.* Replace the file or take it out"):
        read_image(path)
    path.write_text("this is not an image")
    for read in (read_image, read_mask, image_size):
        with pytest.raises(FileFault, match=f"unreadable or truncated image: .*{name}"):
            read(path)  # type: ignore[operator]
    path.unlink()
    with pytest.raises(FileFault, match=r"\(No such file or directory\)"):
        read_image(path)


def test_size_needs_no_pixels(save: Save) -> None:
    path = save("a.png", RNG.integers(0, 256, (64, 48, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:500])
    assert image_size(path) == (64, 48)


def test_photos_do_without_rasterio(save: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert read_image(save("a.png", RGB))[0].shape == (6, 8, 3)
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(FileFault, match=r"rasters need rasterio.*pip install rasterio"):
        read_image(tmp_path / "a.tif")


def test_rescaling_ignores_invalid_pixels() -> None:
    values = np.array([[[0.0], [10.0]], [[20.0], [1e9]]])
    valid = np.array([[True, True], [True, False]])
    low, high = percentiles(values, valid)
    assert (low[0], high[0]) == pytest.approx((0.4, 19.6))
    assert to_uint8(values, None, valid)[..., 0].tolist() == [[0, 128], [255, 0]]
    assert percentiles(np.full((2, 2, 1), 3.0), None) == ([3.0], [4.0])
    assert percentiles(np.full((2, 2, 1), np.nan), None) == ([0.0], [1.0])


def test_a_fault_survives_pickling() -> None:
    import pickle

    fault = FileFault("kind", Path("a.png"), "detail", "Do this.")
    assert str(pickle.loads(pickle.dumps(fault))) == str(fault) == "kind: a.png (detail). Do this."


def test_a_tiff_by_another_name_is_turned_once_and_its_pages_are_counted(tmp_path: Path) -> None:
    values = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    image, tag = Image.fromarray(values), Image.Exif()
    tag[0x0112] = 6
    path = tmp_path / "a.png"
    image.save(path, format="TIFF", save_all=True, append_images=[image], exif=tag)
    assert read_info(path).parts == 2
    np.testing.assert_array_equal(read_image(path, upright=True)[0], np.rot90(values, -1))
    assert image_size(path, upright=True) == (8, 6)
