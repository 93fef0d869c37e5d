"""The number in the file is the number that is read, by the file's header; what is of 8 bits stays as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semikit.data.formats import photos
from semikit.data.formats.images import read_image, read_info, read_mask, read_rgb
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import BYTES, Scale
from semikit.data.formats.value_range import sampled_scale, watch_some
from semikit.data.image_pairs import ImagePairs
from semikit.data.masked_images import open_folders
from semikit.errors import DataError, FileFault
from tests.data.conftest import make_spec
from tests.helpers import georasters, stored

RNG = np.random.default_rng(3)
DEEP = RNG.integers(0, 65536, (6, 8, 3))
CLASSES = RNG.integers(0, 3, (6, 8, 1))


def test_16_bit_colour_goes_by_its_range_and_not_by_high_bytes(tmp_path: Path) -> None:
    path = stored.png(tmp_path / "a.png", DEEP % 4000, 16, stored.RGB)
    assert read_info(path).dtype == "uint16"
    image, _ = read_image(path, scale=((0,), (3999,)))
    np.testing.assert_array_equal(image, np.floor((DEEP % 4000) / 3999 * 255 + 0.5))
    assert sampled_scale([path], None) is not None


@pytest.mark.parametrize("depth", [2, 4])
def test_gray_masks_of_few_bits_hold_class_numbers(tmp_path: Path, depth: int) -> None:
    path = stored.png(tmp_path / "a.png", CLASSES, depth)
    np.testing.assert_array_equal(MaskValues(3).decode(read_mask(path), path)[0], CLASSES[..., 0])


def test_pgm_masks_hold_class_numbers_whatever_their_maximum(tmp_path: Path) -> None:
    for most in (2, 20, 1000):
        path = stored.pnm(tmp_path / f"{most}.pgm", CLASSES, most)
        np.testing.assert_array_equal(read_mask(path), CLASSES[..., 0])


def one_bit(folder: Path, values: NDArray[Any]) -> list[Path]:
    """The same mask in four containers."""
    picture = Image.fromarray((values * 255).astype(np.uint8)).convert("1")
    paths = [folder / name for name in ("pillow.png", "a.bmp", "pillow.tif")]
    for path in paths:
        picture.save(path)
    gdal = georasters.save(folder / "gdal.tif", values.astype(np.uint8), nbits=1)
    return [*paths, gdal, stored.png(folder / "gray.png", values[..., None], 1)]


def test_1_of_a_mask_of_one_bit_can_only_mean_changed(tmp_path: Path) -> None:
    values = RNG.integers(0, 2, (16, 16))
    exact = MaskValues(2, mapping=((255, 1),), exact=True)
    for path in one_bit(tmp_path, values):
        np.testing.assert_array_equal(exact.decode(read_mask(path), path)[0], values, err_msg=path.name)
        inverted = MaskValues(2, mapping=((0, 1), (255, 0)), exact=True)
        np.testing.assert_array_equal(inverted.decode(read_mask(path), path)[0], 1 - values, err_msg=path.name)
    whole = stored.png(tmp_path / "byte.png", values[..., None], 8)
    with pytest.raises(FileFault, match="mask value of a class that is stored otherwise"):
        exact.decode(read_mask(whole), whole)


def test_1_of_one_bit_that_is_shown_black_is_asked_about(tmp_path: Path) -> None:
    """As in a fax, whose stored 1 is black: which of both means changed nobody can tell."""
    values = RNG.integers(0, 2, (16, 16)).astype(np.uint8)
    fax = georasters.save(tmp_path / "fax.tif", values, nbits=1, photometric="MINISWHITE")
    palette = Image.fromarray(values)
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "palette.png", bits=1)
    for path in (fax, tmp_path / "palette.png"):
        np.testing.assert_array_equal(read_mask(path), values)
        np.testing.assert_array_equal(MaskValues(2).decode(read_mask(path), path)[0], values)
        with pytest.raises(FileFault, match="mask value of a class that is stored otherwise"):
            MaskValues(2, mapping=((255, 1),), exact=True).decode(read_mask(path), path)


@pytest.mark.parametrize("kind", ["int32", "float64", "uint16", "int16"])
def test_whole_numbers_of_a_byte_are_8_bits_in_any_type(tmp_path: Path, kind: str) -> None:
    values = RNG.integers(0, 256, (3, 12, 16)).astype(kind)
    values[:, 0, 0] = 0 if kind == "uint16" else -1
    path = georasters.save(tmp_path / "a.tif", values, nodata=values[0, 0, 0])
    wanted = np.where((values == values[0, 0, 0]).all(axis=0), 0, values)
    np.testing.assert_array_equal(read_image(path)[0], np.moveaxis(wanted, 0, 2))
    np.testing.assert_array_equal(read_rgb(path), np.moveaxis(wanted, 0, 2))
    assert sampled_scale([path], None) == BYTES
    np.testing.assert_array_equal(read_image(path, scale=BYTES.bounds)[0], np.moveaxis(wanted, 0, 2))
    byte = georasters.save(tmp_path / "b.tif", RNG.integers(0, 256, (3, 12, 16)).astype("uint8"))
    assert sampled_scale([byte, path], None) == BYTES, "beside real 8 bits too"
    deep = georasters.save(tmp_path / "c.tif", values.astype("float32") * 3.5 + 1, nodata=-9)
    assert sampled_scale([path, deep], None) not in (None, BYTES)
    fraction = georasters.save(tmp_path / "d.tif", np.full((3, 4, 4), 0.5, np.float32))
    assert sampled_scale([fraction], None) not in (None, BYTES)


def test_a_stated_range_that_affects_no_file_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"`scale` \(values 0 to 4000\) affects no file: the images of train, val are"):
        open_folders(make_spec(folder, scale={"min": 0, "max": 4000}))


def test_a_stated_range_that_affects_some_parts_is_noticed(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "val/images").iterdir():
        stored.png(path, RNG.integers(0, 4000, (12, 16, 3)), 16, stored.RGB)
    parts = open_folders(make_spec(folder, scale={"min": 0, "max": 4000}))
    assert len(parts.notices) == 1
    assert "does not affect all parts: the images of train" in parts.notices[0]
    for path in (folder / "train/images").iterdir():
        stored.png(path, RNG.integers(0, 4000, (12, 16, 3)), 16, stored.RGB)
    assert not open_folders(make_spec(folder, scale={"min": 0, "max": 4000})).notices


def test_other_bands_than_the_range_is_of_are_a_fault_of_the_file(tmp_path: Path) -> None:
    path = georasters.save(tmp_path / "a.tif", RNG.integers(0, 4000, (3, 8, 8)).astype("uint16"))
    four = ((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0))
    with pytest.raises(FileFault, match=r"other bands than the range of values: .*a\.tif \(3 bands, the range .* of 4"):
        read_image(path, scale=four)
    watched = RangeWatch(Scale(min=four[0], max=four[1]))
    with pytest.raises(FileFault, match="other bands"):
        read_image(path, scale=four, watch=watched)


class TestRange:
    LEARNED = Scale(min=877.0, max=1825.0)

    def watched(self, scale: Scale | None, *paths: Path) -> tuple[str, ...]:
        watch = RangeWatch(scale)
        for path in paths:
            read_image(path, scale=scale and scale.bounds, watch=watch)
        return watch.notices()

    def test_values_outside_of_it_are_noticed_with_both_ranges(self, tmp_path: Path) -> None:
        path = georasters.save(tmp_path / "a.tif", np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8))
        (notice,) = self.watched(self.LEARNED, path)
        assert notice.startswith("100% of the values lie outside of the range that was learned from, 877 to 1825; ")
        assert "these images hold 0 to 1: " in notice
        some = RangeWatch(self.LEARNED)
        watch_some([path], some, None)
        assert some.notices() == (notice,)

    def test_a_few_are_not(self, tmp_path: Path) -> None:
        values = np.full((1, 10, 10), 1000, np.uint16)
        values[0, 0, :9] = 4000
        values[0, 5] = 900
        assert not self.watched(self.LEARNED, georasters.save(tmp_path / "a.tif", values))
        values[0, 1, :2] = 4000
        assert self.watched(self.LEARNED, georasters.save(tmp_path / "b.tif", values))

    def test_values_that_are_all_alike_in_it_are_noticed(self, tmp_path: Path) -> None:
        path = georasters.save(tmp_path / "a.tif", np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8))
        (notice,) = self.watched(Scale(min=0.0, max=10000.0), path)
        assert "all lie within one of 255 parts of the range that was learned from, 0 to 10000" in notice

    def test_deep_values_for_a_model_of_8_bits(self, tmp_path: Path) -> None:
        byte = georasters.save(tmp_path / "a.tif", RNG.integers(0, 256, (3, 8, 8)).astype("int32"))
        assert not self.watched(None, byte)
        deep = georasters.save(tmp_path / "b.tif", RNG.integers(0, 4000, (3, 8, 8)).astype("int32"))
        (notice,) = self.watched(None, byte, deep)
        assert "the model was trained on 8-bit images" in notice
        assert "a.tif" not in notice

    def test_a_photo_of_8_bits_for_a_model_of_deep_values(self, tmp_path: Path) -> None:
        path = stored.png(tmp_path / "a.png", RNG.integers(0, 256, (8, 8, 3)), 8, stored.RGB)
        (notice,) = self.watched(self.LEARNED, path)
        assert notice.startswith(
            "photos of 8 bits are read as they are, while the model learned values from 877 to 1825"
        )
        assert not self.watched(BYTES, path)
        assert not self.watched(None, path)

    def test_shallow_ones_do_not_hide_others(self, tmp_path: Path) -> None:
        shallow = georasters.save(tmp_path / "a.tif", np.full((3, 8, 8), 200, np.uint8))
        other = georasters.save(tmp_path / "b.tif", np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 8, 8))
        first, second = self.watched(self.LEARNED, shallow, other)
        assert "these rasters hold 8 bits" in first
        assert str(other) not in first
        assert "these images hold 0 to 1: " in second
        assert str(shallow) not in second

    def test_two_dates_are_watched(self, tmp_path: Path) -> None:
        paths = [georasters.save(tmp_path / f"{k}.tif", np.full((3, 8, 8), 0.5, np.float32)) for k in "ab"]
        watch, scale = RangeWatch(self.LEARNED), self.LEARNED.bounds
        ImagePairs(("a",), (paths[0],), (paths[1],), (None,), MaskValues(2), None, scale, watch).image(0)
        assert all(str(path) in watch.notices()[0] for path in paths)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "avif", "tif"])
def test_files_of_several_images_are_counted(tmp_path: Path, kind: str) -> None:
    images = [Image.fromarray(np.full((12, 16, 3), 80 * k, np.uint8)) for k in range(3)]
    images[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=images[1:])
    assert read_info(tmp_path / f"a.{kind}").parts == 3
    images[0].save(tmp_path / f"b.{kind}")
    assert read_info(tmp_path / f"b.{kind}").parts == 1


def test_a_photo_with_previews_is_one_image(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((12, 16, 3), 80 * k, np.uint8)) for k in range(3)]
    images[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=images[1:])
    assert read_info(tmp_path / "a.jpg").parts == 1


class TestPhones:
    def test_heic_is_read_where_the_extra_is_installed(self, tmp_path: Path) -> None:
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
        Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(tmp_path / "a.heic")
        for table in (Image.OPEN, Image.MIME):
            table.pop("HEIF", None)
        Image.ID.remove("HEIF")
        image, _ = read_image(tmp_path / "a.heic")
        assert image.shape == (48, 64, 3)
        assert abs(int(image.mean()) - 200) < 3

    def test_without_it_the_message_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        (tmp_path / "a.HEIC").write_bytes(b"")
        with pytest.raises(FileFault, match=r'a\.HEIC\. Install what reads it \(pip install "semikit\[heic\]"\), or'):
            read_image(tmp_path / "a.HEIC")
        assert photos.missing_reader(Path("b.jpg")) == ""

    def test_avif_needs_a_pillow_that_has_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(photos.features, "check_module", lambda name: False)
        with pytest.raises(FileFault, match=r'pip install "pillow>=11\.3"'):
            read_image(tmp_path / "a.avif")


def test_damaged_exif_leaves_the_pixels_alone(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0XX*\0\0\0\0\0")
    assert read_info(tmp_path / "a.jpg").orientation == 1
    assert read_image(tmp_path / "a.jpg", upright=True)[0].shape == (12, 16, 3)


def test_rasters_first_read_by_several_threads(tmp_path: Path) -> None:
    """A module that one thread is importing was looked up by another, which wanted its names."""
    paths = [str(georasters.save(tmp_path / f"{k}.tif", np.zeros((3, 8, 8), np.uint8))) for k in range(2)]
    paths += [str(tmp_path / "none.png"), str(tmp_path / "none.tif")]
    code = """
import sys, threading, time
from importlib.machinery import PathFinder
from pathlib import Path
class Slow:  # an import that takes its time after the module is listed
    def find_spec(self, name, path, target=None):
        if name == "rasterio.errors":
            spec = PathFinder.find_spec(name, path)
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (time.sleep(0.5), run(module))
            return spec
sys.meta_path.insert(0, Slow())
from semikit.data.formats.images import read_image
from semikit.errors import FileFault
faults = []
def read(path):
    try:
        read_image(Path(path))
    except FileFault:
        pass
    except BaseException as error:
        faults.append(repr(error))
threads = [threading.Thread(target=read, args=(path,)) for path in sys.argv[1:]]
[(thread.start(), time.sleep(0.1)) for thread in threads]
[thread.join() for thread in threads]
print(faults)
"""
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
