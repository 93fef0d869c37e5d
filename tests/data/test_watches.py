"""What is seen of all files while they are opened, of which a sample would miss the one that differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semikit.core.task import Inference
from semikit.errors import DataError
from semikit.run.build import build_task
from semikit.run.config import resolve
from tests.helpers import georasters, photos, stored
from tests.tasks.conftest import Pointwise

RNG = np.random.default_rng(7)
SIDE = 32


def seg(folder: Path, **folders: Any) -> Any:
    raw = photos.raw(folder / "data.yaml", "supervised")
    parts = {
        part: {"images": str(folder / part / "images"), "masks": str(folder / part / "masks")}
        for part in ("train", "val")
    }
    raw["data"] = {"folders": {**parts, "classes": ["a", "b", "c"], **folders}, "labels": "all"}
    return build_task(resolve(raw))


def masks(folder: Path, names: list[str], values: tuple[int, ...] = (0, 1, 2), **options: Any) -> None:
    for part in ("train", "val"):
        for name in names:
            stored.png(folder / part / "masks" / f"{name}.png", RNG.choice(values, (SIDE, SIDE, 1)), 8, **options)


def photo(path: Path, depth: int = 8) -> None:
    stored.png(path, RNG.integers(0, 1 << depth, (SIDE, SIDE, 3)), depth, stored.RGB)


def raster(path: Path, values: Any, dtype: str) -> None:
    georasters.save(path, np.asarray(values).astype(dtype))


NAMES = [f"{k:02}" for k in range(60)]
ODD = 6
"""Is not among 32 of 60."""


def write(folder: Path, usual: Callable[[Path], None], odd: Callable[[Path], None], part: str, suffix: str) -> None:
    for where in ("train", "val"):
        for k, name in enumerate(NAMES):
            (odd if k == ODD and where == part else usual)(folder / where / "images" / f"{name}{suffix}")
    masks(folder, NAMES)


@pytest.mark.parametrize(("kind", "part"), [("photo", "train"), ("photo", "val"), ("uint8", "val"), ("int16", "train")])
def test_one_image_of_more_bits_among_many_is_refused(tmp_path: Path, kind: str, part: str) -> None:
    shape = (3, SIDE, SIDE)
    if kind == "photo":
        write(tmp_path, photo, lambda path: photo(path, 16), part, ".png")
    else:
        deep = "uint16" if kind == "uint8" else kind
        usual = lambda path: raster(path, RNG.integers(0, 256, shape), kind)  # noqa: E731
        write(tmp_path, usual, lambda path: raster(path, RNG.integers(0, 4000, shape), deep), part, ".tif")
    task = seg(tmp_path)
    with pytest.raises(DataError, match=rf"{part}/images/06\.\w+ has values of more than 8 bits, .* `scale: "):
        task.check()
    task.check(resumed=True)
    assert any("8-bit images" in notice and "06." in notice for notice in task.notices)


@pytest.mark.parametrize("thorough", [True, False])
def test_one_raster_in_other_units_is_named(tmp_path: Path, thorough: bool) -> None:
    usual = lambda path: raster(path, RNG.integers(900, 1800, (3, SIDE, SIDE)), "float32")  # noqa: E731
    odd = lambda path: raster(path, RNG.random((3, SIDE, SIDE)), "float32")  # noqa: E731
    write(tmp_path, usual, odd, "val", ".tif")
    task = seg(tmp_path)
    task.check(thorough=thorough)
    (notice,) = [notice for notice in task.notices if "outside of the range" in notice]
    assert "val/images/06.tif" in notice


def test_an_evaluation_sees_all_that_it_reads(tmp_path: Path) -> None:
    usual = lambda path: raster(path, RNG.integers(900, 1800, (3, SIDE, SIDE)), "float32")  # noqa: E731
    odd = lambda path: raster(path, RNG.random((3, SIDE, SIDE)), "float32")  # noqa: E731
    write(tmp_path, usual, odd, "val", ".tif")
    task = seg(tmp_path, mapping={2: 2, 7: 1})
    task.evaluate({"model": Pointwise(1)}, "val", Inference(torch.device("cpu"), nullcontext))
    assert ["06.tif" in notice for notice in task.scored_notices("val")] == [True, False]
    assert "no mask holds 7" in task.scored_notices("val")[1]


def test_photos_of_8_and_of_16_bits_together_are_said(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for k, name in enumerate(NAMES[:4]):
            photo(tmp_path / part / "images" / f"{name}.png", 16 if k % 2 else 8)
    masks(tmp_path, NAMES[:4])
    task = seg(tmp_path)
    task.check()
    assert any(notice.startswith("photos of 8 bits are read as they are, while") for notice in task.notices)


class TestMapping:
    def task(self, folder: Path, depth: int = 8, **folders: Any) -> Any:
        for part in ("train", "val"):
            for name in NAMES[:4]:
                photo(folder / part / "images" / f"{name}.png")
                stored.png(folder / part / "masks" / f"{name}.png", RNG.integers(0, 3, (SIDE, SIDE, 1)), depth)
        return seg(folder, **folders)

    @pytest.mark.parametrize(
        "stated", [{"mapping": {85: 2, 170: 1}}, {"mapping": {85: 1}, "ignore": [170]}, {"mapping": {99: 1}}]
    )
    def test_one_that_fits_no_mask_is_refused(self, tmp_path: Path, stated: dict[str, Any]) -> None:
        with pytest.raises(
            DataError, match=r"`mapping: \{.*no mask holds .* Masks hold 0, 1, 2, by the numbers stored"
        ):
            self.task(tmp_path, **stated).check()

    def test_a_run_on_spread_values_is_not_gone_on_with_and_others_are(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no mask holds 85, 170"):
            self.task(tmp_path / "a", 2, mapping={85: 2, 170: 1}).check(resumed=True)
        task = self.task(tmp_path / "b", mapping={99: 1})
        task.check(resumed=True)
        assert any("no mask holds 99" in notice for notice in task.notices)

    def test_a_value_that_no_mask_holds_beside_others_is_said(self, tmp_path: Path) -> None:
        task = self.task(tmp_path, mapping={2: 0, 7: 1}, classes=["a", "b"])
        task.check()
        (notice,) = [notice for notice in task.notices if "`mapping" in notice]
        assert notice.startswith("`mapping: {7: 1}`: no mask holds 7, while what holds 1 is read as")

    def test_rare_classes_and_what_is_ignored_may_be_missing(self, tmp_path: Path) -> None:
        stated = {"classes": ["a", "b", "c", "d"], "mapping": {0: 0, 1: 1, 2: 2, 9: 3}, "ignore": [255]}
        task = self.task(tmp_path, **stated)
        task.check()
        assert not any("mapping" in notice for notice in task.notices)

    def test_masks_that_are_not_labelled_count(self, tmp_path: Path) -> None:
        self.task(tmp_path)
        stored.png(tmp_path / "train/masks/03.png", RNG.choice([0, 99], (SIDE, SIDE, 1)), 8)
        raw = photos.raw(tmp_path / "data.yaml", "supervised")
        parts = {part: str(tmp_path / part) for part in ("train", "val")}
        (tmp_path / "three.txt").write_text("00\n01\n02\n")
        folders = {**parts, "classes": ["a", "b", "c"], "mapping": {99: 1}}
        raw["data"] = {"folders": folders, "labels": str(tmp_path / "three.txt")}
        task: Any = build_task(resolve(raw))
        task.check()
        assert not any("99" in notice for notice in task.notices)
