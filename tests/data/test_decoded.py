"""Scenes that are decoded once: the same crops, bounded, shared, and gone at the end."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.augment.settings import WeakSettings
from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs
from semikit.data.labeled_images import LabeledFiles
from semikit.data.loading.decoded import (
    DecodedScenes,
    decoded_photographs,
    decoded_scenes,
    kept_photographs,
    kept_scenes,
    room,
)
from semikit.data.masked_images import MaskedImages
from semikit.data.samples import Samples
from semikit.errors import FileFault
from semikit.tasks._crops import Crops
from tests.helpers import georasters
from tests.helpers.stored import exif

CROP = 32
WEAK = WeakSettings(crop=CROP, scale=(0.5, 2.0))
VALUES = MaskValues(4, ignore=(255,))
RNG = np.random.default_rng(0)
RGB, LATER = RNG.integers(0, 256, (2, 150, 210, 3), dtype=np.uint8)
LABELS = RNG.choice(np.array([0, 1, 2, 3, 255], np.uint8), (150, 210))
DEEP = {"nodata": 0, "compress": "deflate", "blockysize": 8}
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}


def saved(path: Path, values: Any, **options: Any) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def photo(folder: Path) -> Samples:
    return MaskedImages(("a",), (saved(folder / "a.png", RGB),), (saved(folder / "m.png", LABELS),), VALUES)


def gray_photo(folder: Path) -> Samples:
    image = saved(folder / "a.jpg", RGB[..., 0], exif=exif(6))
    return MaskedImages(("a",), (image,), (saved(folder / "m.png", LABELS),), VALUES, bands=(1,), orientation="stored")


def turned_photo(folder: Path) -> Samples:
    image, mask = saved(folder / "a.jpg", RGB, exif=exif(6)), saved(folder / "m.png", np.rot90(LABELS, -1).copy())
    return MaskedImages(("a",), (image,), (mask,), VALUES, orientation="viewer")


def pair(folder: Path) -> Samples:
    dates = [(saved(folder / f"{k}.png", values),) for k, values in enumerate((RGB, LATER))]
    return ImagePairs(("a",), *dates, (saved(folder / "m.png", LABELS),), VALUES)


def deep(folder: Path, name: str, **options: Any) -> Path:
    values = np.random.default_rng(len(name)).integers(0, 3000, (4, 150, 210)).astype(np.uint16)
    values[:, :40, :70] = 0
    return georasters.save(folder / f"{name}.tif", values, **{**DEEP, **options})


SCALE = ((0.0,), (3000.0,))


def striped_raster(folder: Path) -> Samples:
    mask = georasters.save(folder / "m.tif", LABELS, blockysize=8)
    return MaskedImages(("a",), (deep(folder, "a"),), (mask,), VALUES, scale=SCALE)


def striped_pair(folder: Path) -> Samples:
    mask = georasters.save(folder / "m.tif", LABELS, blockysize=8)
    return ImagePairs(("a",), (deep(folder, "a"),), (deep(folder, "bb"),), (mask,), VALUES, scale=SCALE)


def pair_on_two_grids(folder: Path) -> Samples:
    later, mask = deep(folder, "bb", origin=(400103.0, 5799951.0)), georasters.save(folder / "m.tif", LABELS)
    return ImagePairs(("a",), (deep(folder, "a"),), (later,), (mask,), VALUES, scale=SCALE)


KINDS = [photo, gray_photo, turned_photo, pair, striped_raster, striped_pair, pair_on_two_grids]


def crops(source: Samples, decoded: DecodedScenes, count: int = 16) -> list[tuple[Any, ...]]:
    make = Crops({"labeled": [(source, 0)]}, frozenset({"labeled"}), WEAK, decoded=decoded)
    return [make("labeled", 0, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_the_same_bit_for_bit(kind: Callable[[Path], Samples], tmp_path: Path) -> None:
    source, folder = kind(tmp_path), tmp_path / "kept"
    folder.mkdir()
    before, decoded = crops(source, DecodedScenes(None)), DecodedScenes(folder, 10**9, 1)
    for _ in range(2):
        for mine, theirs in zip(before, crops(source, decoded), strict=True):
            assert all(np.array_equal(a, b) and type(a) is type(b) for a, b in zip(mine, theirs, strict=True))
    assert sorted(item.name for item in folder.iterdir()) == ["image-0.npy", "target-0.npy"]
    assert not decoded.news()


def test_what_is_kept_is_not_opened_again(tmp_path: Path) -> None:
    source = pair(tmp_path)
    with decoded_scenes(tmp_path, 1.0, CROP) as decoded:
        before = crops(source, decoded)
        for path in (*source.files(0), *source.target_files(0)):
            path.unlink()
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(before, crops(source, decoded), strict=True))
        (folder,) = tmp_path.glob("semikit-decoded-*")
    assert not folder.exists()


def test_tiled_rasters_and_small_images_are_read_as_before(tmp_path: Path) -> None:
    mask = georasters.save(tmp_path / "m.tif", LABELS, **TILED)
    source = MaskedImages(("a",), (deep(tmp_path, "a", **TILED),), (mask,), VALUES, scale=SCALE)
    small = photo(tmp_path)
    with decoded_scenes(tmp_path, 1.0, CROP) as decoded:
        crops(source, decoded)
        crops(small, DecodedScenes(decoded.folder, 10**9, 150 * 210 + 1))
        assert decoded.folder is not None
        assert not list(decoded.folder.iterdir())
    place = (tmp_path, 10**9)
    said = f"about 1 of 1 scenes, 0.00019 GB, are decoded once and kept in {tmp_path} meanwhile, at most 1 GB"
    assert kept_scenes(small, [0], CROP, place) == f"{said} (views.cache, views.cache_gb)"
    assert not kept_scenes(source, [0], CROP, place)
    assert not kept_scenes(small, [0], 150, place)
    assert not kept_scenes(small, [0], CROP, None)


def test_a_striped_raster_is_decoded_band_by_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = striped_raster(tmp_path)
    before = crops(source, DecodedScenes(None))
    monkeypatch.setattr("semikit.data.loading.decoded._BAND", 37 * 210)
    with decoded_scenes(tmp_path, 1.0, CROP) as decoded:
        after = crops(source, decoded)
    assert all(np.array_equal(a, b) for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True))


def test_where_the_room_ends_others_are_decoded_for_every_crop_and_that_is_said_once(tmp_path: Path) -> None:
    source, folder = photo(tmp_path), tmp_path / "kept"
    folder.mkdir()
    before, decoded = crops(source, DecodedScenes(None)), DecodedScenes(folder, 150 * 210 * 5, 1)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(before, crops(source, decoded), strict=True))
    assert sorted(item.name for item in folder.iterdir()) == ["image-0.npy", "limit"], "the target had no room"
    (said,) = decoded.news()
    assert "views.cache_gb" in said
    assert not decoded.news()


def test_a_scene_without_room_keeps_no_smaller_one_out(tmp_path: Path) -> None:
    folder, source = tmp_path / "kept", photo(tmp_path)
    folder.mkdir()
    assert isinstance(source, MaskedImages)
    small = saved(tmp_path / "b.png", RGB[:64, :64])
    both = replace(source, names=("a", "b"), images=(*source.images, small), masks=(None, None))
    decoded = DecodedScenes(folder, 150 * 210, 1)
    assert np.array_equal(decoded.image(both, 0, None)[0], RGB)
    assert np.array_equal(decoded.image(both, 1, None)[0], RGB[:64, :64])
    assert sorted(item.name for item in folder.iterdir()) == ["image-1.npy", "limit"]


def test_a_file_that_cannot_be_read_is_its_own_fault(tmp_path: Path) -> None:
    source, folder = photo(tmp_path), tmp_path / "kept"
    folder.mkdir()
    data = source.files(0)[0].read_bytes()
    source.files(0)[0].write_bytes(data[: len(data) // 2])
    decoded = DecodedScenes(folder, 10**9, 1)
    for _ in range(2):
        with pytest.raises(FileFault, match="truncated"):
            decoded.image(source, 0, None)
    assert not list(folder.iterdir())
    assert not decoded.news()


def test_a_disk_that_is_full_ends_nothing(tmp_path: Path) -> None:
    source, folder = photo(tmp_path), tmp_path / "kept"
    folder.mkdir()
    before, decoded = crops(source, DecodedScenes(None)), DecodedScenes(folder, 10**9, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        after = crops(source, decoded)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(before, after, strict=True))
    assert [item.name for item in folder.iterdir()] == ["unwritable"]
    (said,) = decoded.news()
    assert "cannot be written" not in said
    assert "views.cache" in said
    assert not decoded.news()


def test_without_a_folder_to_write_to_nothing_is_kept_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert room(tmp_path / "file" / "below", 1.0) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", _no_space)
        with decoded_scenes(tmp_path, 1.0, CROP) as decoded:
            assert decoded.folder is None
            assert len(decoded.news()) == 1
            assert not decoded.news()


def _no_space(**options: Any) -> str:
    raise OSError(28, "No space left on device")


def test_what_a_killed_run_left_goes_with_the_next_start(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    with decoded_scenes(tmp_path, 1.0, CROP) as decoded:
        assert decoded.folder is not None
        name = decoded.folder.name
        dead = tmp_path / name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
        dead.mkdir()
        (dead / "image-0.npy").write_bytes(b"1")
        with decoded_scenes(tmp_path, 1.0, CROP):
            assert decoded.folder.exists()
            assert not dead.exists()
    assert not list(tmp_path.iterdir())


def test_processes_of_one_run_share_a_folder_that_is_theirs_alone(tmp_path: Path) -> None:
    with decoded_scenes(tmp_path, 1.0, CROP, "run") as one, decoded_scenes(tmp_path, 1.0, CROP, "run") as other:
        assert one.folder == other.folder
        assert one.folder is not None
        assert one.folder.stat().st_mode & 0o077 == 0
        with decoded_scenes(tmp_path, 1.0, CROP, "another") as apart:
            assert apart.folder not in (None, one.folder)
        one.folder.chmod(0o777)
        with decoded_scenes(tmp_path, 1.0, CROP, "run") as strange:
            assert strange.folder is None


def test_room_is_a_quarter_of_what_is_free_at_most(tmp_path: Path) -> None:
    assert room("none", 1.0) is None
    assert room(tmp_path, 0.001) == (tmp_path, 10**6)
    found = room(tmp_path, 1e9)
    assert found is not None
    assert found[1] < 10**18


def photographs(folder: Path, count: int) -> LabeledFiles:
    paths = tuple(saved(folder / f"{k}.jpg", np.roll(RGB, 9 * k, 1), exif=exif(6)) for k in range(count))
    return LabeledFiles(tuple(path.stem for path in paths), paths, np.zeros(count, np.int64), upright=True)


def test_photographs_of_one_class_are_the_same_and_not_opened_again(tmp_path: Path) -> None:
    source = photographs(tmp_path, 2)
    before = [source.image(index)[0] for index in range(2)]
    with decoded_photographs(source, range(2), tmp_path, 1.0) as decoded:
        for _ in range(2):
            for index, image in enumerate(before):
                found = decoded.photograph(source, index)
                assert np.array_equal(found, image)
                assert found.flags.c_contiguous
                assert not found.flags.writeable, "a private copy counts as memory, which may be refused"
                source.paths[index].unlink(missing_ok=True)
        (folder,) = tmp_path.glob("semikit-decoded-*")
    assert not folder.exists()


def test_photographs_are_kept_where_all_find_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, size = photographs(tmp_path, 4), RGB.nbytes
    source.paths[1].write_bytes(b"no picture")
    said = kept_photographs(source, range(4), tmp_path, 4 * size / 1e9)
    assert said.startswith(f"4 photographs, about {4 * size / 1e9:.2g} GB, are decoded once and kept in {tmp_path}")
    assert not kept_photographs(source, range(4), tmp_path, 3.9 * size / 1e9)
    assert not kept_photographs(source, range(4), "none", 1.0)
    with decoded_photographs(source, range(4), tmp_path, 3.9 * size / 1e9) as decoded:
        assert decoded.folder is None
        assert np.array_equal(decoded.photograph(source, 0), source.image(0)[0])
    monkeypatch.setattr("semikit.data.loading.decoded._MEMORY", 1e-9)
    assert not kept_photographs(source, range(4), tmp_path, 1.0), "more than its share of the memory"


def test_no_more_is_kept_than_the_limit_and_what_is_there_is_rarely_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, images = tmp_path / "kept", np.arange(500 * 48, dtype=np.uint32).view(np.uint8)[: 500 * 48]
    folder.mkdir()
    source = LabeledFiles(("a",) * 500, (saved(tmp_path / "a.png", images[:48].reshape(4, 4, 3)),) * 500, np.zeros(500))
    counted: list[Path] = []

    def used(place: Path) -> int:
        counted.append(place)
        return sum(item.stat().st_size for item in place.iterdir())

    monkeypatch.setattr("semikit.data.loading.decoded._used", used)
    each = 48 + 128
    for decoded in (one := DecodedScenes(folder, 400 * each), other := DecodedScenes(folder, 400 * each)):
        for index in range(250):
            decoded.photograph(source, index + 250 * (decoded is other))
    assert len(one.refused) + len(other.refused) == pytest.approx(100, abs=2)
    assert sum(item.stat().st_size for item in folder.iterdir()) <= 400 * each
    assert len(counted) < 350, "more often only where the room ends"
