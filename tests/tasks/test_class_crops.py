"""Crops of images of one class as a run makes them: of own photographs quickly, of published data sets exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from semikit.data import labeled_images
from semikit.run import build
from semikit.run.begun import as_begun
from semikit.run.config import resolve
from tests.helpers import class_sets, icons, tars

SIZE, SIDE = 16, 90


def photographs(folder: Path) -> None:
    """Of two classes, 90 pixels a side: a crop of 0.2 of the area shrinks to 16 pixels by 2.2 or more."""
    for part, each in (("train", 4), ("val", 2)):
        class_sets.folders(folder, ("a", "b"), SIDE, each, part, "jpg")


def config(folder: Path, data: dict[str, Any] | None = None, **views: Any) -> Any:
    parts = {part: {"images": str(folder / part)} for part in ("train", "val")}
    raw = icons.raw(folder / "data.yaml", views={"size": SIZE, **views})
    return resolve({**raw, "data": data or {"folders": {**parts, "classes": ["a", "b"]}, "labels": "4"}})


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what is read from files."""
    shapes: list[tuple[int, ...]] = []

    def noted(*given: Any, **options: Any) -> Any:
        image = original(*given, **options)
        shapes.append(image.shape)
        return image

    original = labeled_images.read_rgb
    monkeypatch.setattr(labeled_images, "read_rgb", noted)
    return shapes


def steps(task: Any, count: int) -> Iterator[dict[str, list[Tensor]]]:
    task.run_folder = task.bad_files = None
    yield from task.batches(range(count), 0, False)


def first_batch(task: Any) -> dict[str, list[Tensor]]:
    return next(steps(task, 1))


def test_own_photographs_are_reduced_while_training_and_read_whole_for_scores(
    tmp_path: Path, read: list[tuple[int, ...]]
) -> None:
    photographs(tmp_path)
    task = build.build_task(config(tmp_path))
    batch = first_batch(task)
    assert set(read) == {(SIDE // 2, SIDE // 2, 3)}
    assert [tuple(part[0].shape) for part in batch.values()] == [(4, 1, 3, SIZE, SIZE), (4, 3, 3, SIZE, SIZE)]
    read.clear()
    learned = task.learned  # type: ignore[attr-defined]
    for source in (learned.train, learned.val):
        source.image(0)
    assert set(read) == {(SIDE, SIDE, 3)}


def test_where_every_pixel_counts_the_crops_are_those_of_before(tmp_path: Path, read: list[tuple[int, ...]]) -> None:
    photographs(tmp_path)
    parts = {part: {"images": str(tmp_path / part)} for part in ("train", "val")}
    before = {"size": SIZE, "weak": {"flip": 0.0}, "crop": {"area": [1, 1], "ratio": [1, 1]}}
    raw = {**icons.raw(tmp_path / "data.yaml"), "data": {"folders": {**parts, "classes": ["a", "b"]}, "labels": "all"}}
    begun = as_begun({**raw, "views": before}, tmp_path)
    assert begun["views"]["decode"] == "exact"
    batch = first_batch(build.build_task(resolve(begun)))
    assert set(read) == {(SIDE, SIDE, 3)}
    crops, index = batch["labeled"]
    files = sorted(tmp_path.glob("train/*/*.jpg"))
    for crop, number in zip(crops, index.tolist(), strict=True):
        with Image.open(files[number]) as image:
            wanted = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(crop[0].movedim(0, -1).numpy(), wanted)


def test_what_a_run_from_before_says_itself_stays() -> None:
    for task, views in (("seg", {"sampling": "uniform"}), ("cls", {"decode": "auto"}), ("other", {})):
        assert as_begun({"task": task, "views": views}, Path())["views"] == views


def test_crops_of_published_data_sets_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[tuple[int, ...]]
) -> None:
    for part, each in (("train", 4), ("val", 2)):
        class_sets.folders(tmp_path, class_sets.WNIDS, SIDE, each, part, "jpg")
    published = {"published": {"name": "imagenet", "root": str(tmp_path)}, "labels": "6"}
    task = build.build_task(config(tmp_path, published))
    first_batch(task)
    assert set(read) == {(SIDE, SIDE, 3)}


def test_images_of_shards_are_reduced_too(tmp_path: Path) -> None:
    photographs(tmp_path)
    files = [(f"{k}.jpg", path.read_bytes()) for k, path in enumerate(sorted(tmp_path.glob("train/a/*.jpg")))]
    tars.write(tmp_path / "pool-0.tar", files)
    raw = config(tmp_path).to_raw()
    raw["data"]["folders"]["unlabeled"] = [{"shards": str(tmp_path / "pool-0.tar"), "shuffle": 2}]
    for decode, side in (("auto", SIDE // 2), ("exact", SIDE)):
        raw["views"]["decode"] = decode
        task: Any = build.build_task(resolve({key: value for key, value in raw.items() if key != "format"}))
        assert task.parts.pool.first()[0].shape == (side, side, 3)


@pytest.mark.parametrize("decode", ["auto", "exact"])
def test_photographs_that_find_room_are_decoded_once(decode: str, tmp_path: Path, read: list[tuple[int, ...]]) -> None:
    photographs(tmp_path)
    plain = build.build_task(config(tmp_path, decode=decode, cache="none"))
    batches = [list(steps(plain, 3))]
    assert len(read) == 3 * 8
    (tmp_path / "kept").mkdir()
    task = build.build_task(config(tmp_path, decode=decode, cache=str(tmp_path / "kept")))
    assert "8 photographs, about" in task.facts()["decoded"]
    read.clear()
    batches.append(list(steps(task, 3)))
    assert len(read) <= 2 * 8, "each when the room was asked for, and once"
    for one, other in zip(*batches, strict=True):
        for stream in ("labeled", "unlabeled"):
            assert all(torch.equal(a, b) for a, b in zip(one[stream], other[stream], strict=True))
    assert not task.news()
    assert not list((tmp_path / "kept").iterdir())
