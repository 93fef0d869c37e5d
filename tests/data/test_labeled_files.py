from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semikit.data.formats.images import read_rgb
from semikit.data.labeled_images import LabeledArrays, LabeledFiles
from semikit.data.samples import Pool
from semikit.errors import FileFault
from tests.helpers import georasters


def files(*paths: Path) -> LabeledFiles:
    return LabeledFiles(tuple(path.stem for path in paths), paths, np.zeros(len(paths), np.int64))


def made(count: int, side: int = 4, part: str = "train", first: int = 0) -> LabeledArrays:
    data = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None]
    return LabeledArrays(part, np.broadcast_to(data, (count, side, side, 3)).copy(), np.arange(count) % 3)


RED = np.full((8, 8, 3), (200, 30, 30), np.uint8)


def saved(tmp_path: Path, mode: str) -> Path:
    path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
    image = Image.fromarray(RED)
    (image.quantize(8) if mode == "P" else image.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_other_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    image = read_rgb(saved(tmp_path, mode))
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_gray_is_repeated(mode: str, tmp_path: Path) -> None:
    image = read_rgb(saved(tmp_path, mode))
    assert image.shape == (8, 8, 3)
    assert (image == image[..., :1]).all()


def test_deep_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(path)
    with pytest.raises(FileFault, match=r"more than 8 bits: .*deep\.png \(uint16\)\. .*bring all of them to 0\.\.255"):
        read_rgb(path)


def test_rasters_need_three_bands(tmp_path: Path) -> None:
    def raster(bands: int) -> Any:
        return georasters.save(tmp_path / f"{bands}.tif", np.full((bands, 8, 8), 7, np.uint8))

    assert (read_rgb(raster(3)) == 7).all()
    with pytest.raises(FileFault, match=r"has not three bands: .*2\.tif \(2 bands\)"):
        read_rgb(raster(2))


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(FileFault, match=r"unreadable or truncated image: .*a\.jpg"):
        files(tmp_path / "a.jpg").image(0)


def noise(path: Path, height: int, width: int, seed: int) -> tuple[Path, NDArray[np.uint8]]:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_small_files_of_one_size_are_held_in_memory_in_order(tmp_path: Path) -> None:
    written = [noise(tmp_path / f"{k}.png", 20, 24, k) for k in range(1100)]
    found = files(*(path for path, _ in written)).arrays()
    assert found is not None
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.stack([pixels for _, pixels in written]))


def test_other_sizes_are_streamed(tmp_path: Path) -> None:
    first, second = noise(tmp_path / "0.png", 20, 24, 0)[0], noise(tmp_path / "1.png", 24, 20, 1)[0]
    assert files(first, second).arrays() is None
    assert files(noise(tmp_path / "2.png", 96, 96, 0)[0]).arrays() is not None
    assert files(noise(tmp_path / "3.png", 96, 97, 0)[0]).arrays() is None


def test_arrays_are_not_copied() -> None:
    source = made(5)
    assert source.arrays() is source.data
    assert np.shares_memory(source.image(2)[0], source.data)
    assert (source.image(2)[0] == 2).all()
    assert source.names == [f"train/0000{k}" for k in range(5)]
    assert source.files(0) == ()


def test_a_pool_puts_sources_behind_each_other() -> None:
    pool = Pool((made(5), made(1, first=50), made(4, first=100, part="more")))
    assert len(pool) == 10
    assert [int(pool.image(k)[0][0, 0, 0]) for k in range(10)] == [0, 1, 2, 3, 4, 50, 100, 101, 102, 103]
    assert pool.labels.tolist() == [0, 1, 2, 0, 1, 0, 0, 1, 2, 0]
    assert pool.names[4:7] == ["train/00004", "unlabeled-1/train/00000", "unlabeled-2/more/00000"]
    together = pool.arrays()
    assert together is not None
    assert together[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 50, 100, 101, 102, 103]


def test_a_pool_of_one_source_copies_nothing() -> None:
    source = made(3)
    assert Pool((source,)).arrays() is source.data


def test_a_pool_of_several_sizes_is_streamed(tmp_path: Path) -> None:
    assert Pool((made(3), made(2, side=5))).arrays() is None
    assert Pool((made(3), files(noise(tmp_path / "a.png", 97, 4, 0)[0]))).arrays() is None


def test_files_of_a_pool(tmp_path: Path) -> None:
    pool = Pool((made(2), files(tmp_path / "a.png")))
    assert pool.files(1) == ()
    assert pool.files(2) == (tmp_path / "a.png",)
