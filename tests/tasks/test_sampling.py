"""Where labelled crops are cut: on labelled ground, and by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from semikit.augment.settings import WeakSettings
from semikit.core.rng import rng_for
from semikit.data.class_blocks import ClassBlocks
from semikit.data.formats.mask_values import MaskValues
from semikit.data.image_pairs import ImagePairs
from semikit.data.masked_images import MaskedImages
from semikit.data.samples import Samples
from semikit.run import build
from semikit.run.begun import as_begun
from semikit.run.config import resolve
from semikit.tasks._crops import Crops, LabeledGround
from tests.helpers import georasters
from tests.helpers.equality import differences

VALUES = MaskValues(3, ignore=(255,))
WEAK = WeakSettings(crop=32, scale=(0.5, 2.0))
TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
SIZE = (300, 400)


def rare(index: int) -> NDArray[np.uint8]:
    """Of class 2 there are 0.1 % of the pixels, in the first of three masks alone; of class 1 half of them."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 200:] = 1
    if index == 0:
        labels[201:213, 71:101] = 2
    return labels


def image(index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def png(path: Path, values: NDArray[np.uint8]) -> Path:
    Image.fromarray(values).save(path)
    return path


def tif(path: Path, values: NDArray[np.uint8], **options: Any) -> Path:
    bands = values if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return georasters.save(path.with_suffix(".tif"), bands, **TILED, **options)


Save = Callable[..., Path]


def seg(folder: Path, save: Save, masks: list[NDArray[np.uint8]]) -> Samples:
    names = tuple(map(str, range(len(masks))))
    images = tuple(save(folder / f"{name}.png", image(k)) for k, name in enumerate(names))
    return MaskedImages(names, images, tuple(save(folder / f"m{k}.png", m) for k, m in enumerate(masks)), VALUES)


def cd(folder: Path, save: Save, masks: list[NDArray[np.uint8]]) -> Samples:
    first = seg(folder, save, masks)
    assert isinstance(first, MaskedImages)
    after = tuple(save(folder / f"b{k}.png", image(k + 10)) for k in range(len(masks)))
    return ImagePairs(first.names, first.images, after, first.masks, VALUES)


WAYS = [(seg, png), (cd, tif), *(pytest.param(*way, marks=pytest.mark.long) for way in ((seg, tif), (cd, png)))]
"""How the labels of each task are stored."""


def maker(source: Samples, sampling: str = "uniform") -> Crops:
    labeled = [(source, index) for index in range(len(source))]
    ground = LabeledGround.by_class(labeled) if sampling == "by_class" else LabeledGround(sampling == "uniform")
    return Crops({"labeled": labeled}, frozenset({"labeled"}), WEAK, ground)


def crops(make: Crops, count: int = 120) -> list[tuple[Any, ...]]:
    pool = len(make.pools["labeled"])  # type: ignore[arg-type]
    return [make("labeled", step % pool, rng_for(0, "weak/labeled", step, 0)) for step in range(count)]


def share(found: list[tuple[Any, ...]], number: int) -> float:
    return float(np.mean([(valid & (labels == number)).any() for _, valid, _, labels in found]))


@pytest.mark.parametrize(("task", "save"), WAYS)
def test_a_class_of_a_thousandth_of_the_pixels_is_met(
    task: Callable[[Path, Save, list[Any]], Samples], save: Save, tmp_path: Path
) -> None:
    masks = [rare(index) for index in range(3)]
    assert sum((mask == 2).sum() for mask in masks) == 0.001 * 3 * 300 * 400
    source = task(tmp_path, save, masks)
    before, after = crops(maker(source)), crops(maker(source, "by_class"))
    assert share(before, 2) < 0.05
    assert 0.3 < share(after, 2) < 0.6, "a third, and those of other classes beside it"
    assert all(index == 0 for _, valid, index, labels in after if (valid & (labels == 2)).any())
    assert {index for _, _, index, _ in after} == {0, 1, 2}
    assert len({pixels.tobytes() for pixels, *_ in after}) > 100, "the places differ"


def test_every_crop_holds_the_class_that_was_drawn_also_one_pixel_at_half_size(tmp_path: Path) -> None:
    labels = np.zeros(SIZE, np.uint8)
    for row, column in ((0, 0), (299, 399), (150, 201)):
        labels[row, column] = 2
    make = maker(seg(tmp_path, png, [labels]), "by_class")
    held = [number for step in range(80) for number in [make.ground.drawn(0, rng_for(0, "weak/labeled", step, 0))[1]]]
    for number, (_, valid, _, found) in zip(held, crops(make, 80), strict=True):
        assert (valid & (found == number)).any()
    assert 25 < held.count(2) < 55


@pytest.mark.parametrize(("task", "save"), WAYS)
def test_crops_touch_labelled_ground(
    task: Callable[[Path, Save, list[Any]], Samples], save: Save, tmp_path: Path
) -> None:
    labels = np.full(SIZE, 255, np.uint8)
    labels[280:290, 10:30] = 1
    source = task(tmp_path, save, [labels])
    before, after = crops(maker(source, "anywhere")), crops(maker(source))
    assert np.mean([valid.any() for _, valid, _, _ in before]) < 0.2
    for old, new in zip(before, after, strict=True):
        assert new[1].any()
        assert set(np.unique(new[3][new[1]])) == {1}
        if old[1].any():
            assert all(np.array_equal(a, b) for a, b in zip(old, new, strict=True)), "others stay as they were"


def test_pixels_without_data_are_no_labelled_ground(tmp_path: Path) -> None:
    values, labels = image(0), np.zeros(SIZE, np.uint8)
    values[:, :390] = 0
    values[:, 390:] |= 1
    labels[:10, :10] = labels[290:, 395:] = 2
    image_file, mask = tif(tmp_path / "a", values, nodata=0), tif(tmp_path / "m", labels)
    source = MaskedImages(("a",), (image_file,), (mask,), VALUES)
    for sampling in ("uniform", "by_class"):
        found = crops(maker(source, sampling), 30)
        assert all(valid.any() for _, valid, _, _ in found)
    assert share(found, 2) > 0.3


def test_blocks_are_those_of_the_whole_mask_however_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], p=[0.001, 0.002, 0.01, 0.987], size=(1100, 1500))
    labels = labels.astype(np.uint8)
    source = seg(tmp_path, tif, [])
    source = MaskedImages(("a",), (tif(tmp_path / "a", labels),), (tif(tmp_path / "m", labels),), VALUES)
    monkeypatch.setattr("semikit.data.samples._TILE", 331)
    found = ClassBlocks.of(source, 0)
    assert found.side == 47
    for number in range(3):
        held = {block for block in range(24 * 32) if (labels[found.region(block).slices] == number).any()}
        assert set(found.holding(number).tolist()) == held
    assert len(found.holding(None)) <= 24 * 32
    assert not len(found.holding(7))
    assert sum(bits.nbytes for bits in found.bits.values()) == 3 * 96


def test_another_image_stands_in_for_one_that_cannot_be_read(tmp_path: Path) -> None:
    ground = maker(seg(tmp_path, png, [np.zeros(SIZE, np.uint8)] * 3), "by_class").ground
    assert {ground.drawn(index, np.random.default_rng(1))[0] for index in range(3)} == {0, 1, 2}


@pytest.mark.parametrize("task", ["seg", "cd"])
@pytest.mark.parametrize("sampling", ["uniform", "by_class"])
def test_batches_do_not_depend_on_workers_cache_or_the_step_they_begin_at(
    task: str, sampling: str, small: dict[str, tuple[ModuleType, Path]], tmp_path: Path
) -> None:
    module, data = small[task]
    raw = module.raw(data)
    views = {**raw["views"], "sampling": sampling, "weak": {**raw["views"]["weak"], "crop": 16}}

    def made(cache: str) -> Any:
        found = build.build_task(resolve({**raw, "views": {**views, "cache": cache}}))
        found.check()
        return found

    plain = list(made("none").batches(range(4), 0, False))
    kept = made(str(tmp_path))
    assert not differences(plain, list(kept.batches(range(4), 2, False)))
    assert not differences(plain[2:], list(kept.batches(range(2, 4), 0, False)))
    assert not list(tmp_path.iterdir())
    assert "decoded" in kept.facts()
    assert "decoded" not in made("none").facts()
    assert not kept.news()


def test_a_run_that_was_begun_before_cuts_its_crops_as_it_did(tmp_path: Path) -> None:
    assert as_begun({"task": "seg", "views": {"weak": {}}}, tmp_path)["views"] == {"weak": {}, "sampling": "anywhere"}
    known = {"task": "cd", "views": {"sampling": "by_class"}}
    assert as_begun(known, tmp_path) == known
    assert "sampling" not in as_begun({"task": "cls", "views": {}}, tmp_path)["views"]


def test_a_published_data_set_is_cut_as_published(small: dict[str, tuple[ModuleType, Path]]) -> None:
    module, data = small["seg"]
    for published in (False, True):
        task: Any = build.build_task(resolve(module.raw(data)))
        task.parts = replace(task.parts, published=published)
        assert task._ground.touching is not published
