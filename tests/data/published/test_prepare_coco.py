from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semikit.data.formats.images import read_mask
from semikit.data.published.prepare import PrepareReport
from semikit.data.published.prepared import read_list
from semikit.data.published.preparers import coco as _instances
from semikit.errors import ConfigError, DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]


def test_masks_are_drawn(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("coco", miniature("coco"))
    root = tmp_path / "root"
    assert report.record.counts == {"train": 8, "val": 3, "unlabeled": 4}
    assert "11 drawn from instances, the first in the file on top, crowds included" in report.record.masks
    assert read_list(root, "train")[0] == ("train2017/000000000001.jpg", "masks/000000000001.png")
    for number, (_, classes, _) in miniatures.coco_scenes("val")[1:]:
        drawn = read_mask(root / f"masks/{number:012d}.png")
        # Pillow fills the pixels on the outline at the right and below too.
        assert (drawn == classes).mean() > 0.9
        assert set(np.unique(drawn)) == {0, 1, 2, 3}


def test_the_first_instance_is_on_top(run: Run, tmp_path: Path) -> None:
    text = miniatures.instances("val")
    box = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
    number = text["images"][1]["id"]
    over = [{"image_id": number, "category_id": k, "segmentation": [box]} for k in (90, 1)]
    text["annotations"] = [*over, *text["annotations"]]
    files = {**miniatures.coco_images("val"), "annotations/instances_val2017.json": json.dumps(text).encode()}
    run("coco", miniatures.packed(tmp_path / "source", files))
    assert (read_mask(tmp_path / f"root/masks/{number:012d}.png")[10:30, 10:30] == 80).all()


def test_crowds_and_images_without_instances(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("coco", miniature("coco"))
    assert not read_mask(tmp_path / "root/masks/000000000002.png").any()
    crowd = read_mask(tmp_path / "root/masks/000000000001.png") == 80
    assert crowd[:, -2:].any()
    assert not crowd[:, :-2].any()


def test_a_compressed_code_and_a_sliver_are_drawn(run: Run, tmp_path: Path) -> None:
    from pycocotools import mask as coder

    wanted = np.zeros(miniatures.SIZE, dtype=np.uint8)
    wanted[5:9, 50:] = 1
    code = coder.encode(np.asfortranarray(wanted))
    packed = {"size": list(code["size"]), "counts": code["counts"].decode()}
    text = miniatures.instances("val")
    number = text["images"][0]["id"]
    text["annotations"] = [
        {"image_id": number, "category_id": 1, "segmentation": packed},
        {"image_id": number, "category_id": 2, "segmentation": [[1.0, 1.0, 9.0, 9.0]]},
    ]
    files = {**miniatures.coco_images("val"), "instances_val2017.json": json.dumps(text).encode()}
    run("coco", miniatures.packed(tmp_path / "source", files))
    np.testing.assert_array_equal(read_mask(tmp_path / f"root/masks/{number:012d}.png"), wanted)


def test_the_authors_masks_need_no_annotations(
    run: Run, miniature: Miniature, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    report = run("coco", miniature("coco-authors"))
    assert report.record.counts == {"train": 8, "val": 3}
    assert report.record.masks.startswith("11 as given")
    with pytest.raises(ConfigError, match=r"semikit\[coco\]"):
        run("coco", miniature("coco"), tmp_path / "other")


def test_only_missing_masks_are_drawn(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    run("coco", miniature("coco"))
    masks = tmp_path / "root/masks"
    kept = (masks / "000000000003.png").stat().st_mtime_ns
    (masks / "000000000004.png").unlink()
    report = run("coco", miniature("coco"))
    assert report.record.masks.startswith("10 as given; 1 drawn")
    assert (masks / "000000000003.png").stat().st_mtime_ns == kept


def test_many_masks_are_drawn_by_several_processes(
    run: Run, miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("coco", miniature("coco"), tmp_path / "alone")
    monkeypatch.setattr(_instances, "_FEW", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    run("coco", miniature("coco"))
    for mask in (tmp_path / "alone/masks").iterdir():
        assert (tmp_path / "root/masks" / mask.name).read_bytes() == mask.read_bytes()


def test_some_images_are_a_part(run: Run, tmp_path: Path) -> None:
    images = dict(list(miniatures.coco_images("train").items())[:3])
    text = json.dumps(miniatures.instances("train")).encode()
    report = run("coco", miniatures.packed(tmp_path / "source", {**images, "instances_train2017.json": text}))
    assert report.record.counts == {"train": 3}
    assert "a part: 3 of 118287 training images; official lists will be refused" in report.notices


def test_an_image_that_the_annotations_do_not_know(run: Run, tmp_path: Path) -> None:
    extra = {"val2017/000000000777.jpg": miniatures.encoded(miniatures.scene(1)[0], "JPEG")}
    text = json.dumps(miniatures.instances("val")).encode()
    files = {**miniatures.coco_images("val"), **extra, "instances_val2017.json": text}
    with pytest.raises(DataError, match=r"val: 1 of 4 images have no mask \(val2017/000000000777\.jpg\)"):
        run("coco", miniatures.packed(tmp_path / "source", files))
    assert not (tmp_path / "root").exists()


def test_maps_of_coco_stuff_are_not_masks(run: Run, tmp_path: Path) -> None:
    stuff = {f"val2017/{k:012d}.png": miniatures.encoded(m[1], "PNG") for k, m in miniatures.coco_scenes("val")}
    with pytest.raises(DataError, match=r"val: 3 of 3 images have no mask.*COCO-Stuff \(171 classes\)"):
        run("coco", miniatures.packed(tmp_path / "source", {**miniatures.coco_images("val"), **stuff}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text["categories"].pop(), "79 categories are not the 80 things"),
        (lambda text: text.pop("categories"), "KeyError: 'categories'"),
        (lambda text: text["annotations"][-1]["segmentation"].update(size=[3, 4]), r"a region of it \[3, 4\]"),
    ],
)
def test_other_annotations(run: Run, tmp_path: Path, change: Callable[[dict], object], told: str) -> None:
    text = miniatures.instances("val")
    change(text)
    files = {**miniatures.coco_images("val"), "instances_val2017.json": json.dumps(text).encode()}
    with pytest.raises(DataError, match=f"instances_val2017.json: no instance annotations.*{told}"):
        run("coco", miniatures.packed(tmp_path / "source", files))


def test_truncated_annotations(run: Run, tmp_path: Path) -> None:
    files = {**miniatures.coco_images("val"), "instances_val2017.json": b'{"images": [{"id'}
    with pytest.raises(DataError, match=r"Fetch annotations_trainval2017\.zip again"):
        run("coco", miniatures.packed(tmp_path / "source", files))
