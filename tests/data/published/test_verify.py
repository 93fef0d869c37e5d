from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.published import verify as module
from semikit.data.published.catalogue import read_published
from semikit.data.published.prepare import prepare
from semikit.data.published.prepared import RECORD, read_list
from semikit.data.published.verify import VerifyReport, diagnose, verify
from semikit.errors import DataError

Root = Callable[[str], Path]


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def look(root: Path, *, every: bool = False) -> VerifyReport:
    return verify(root.name.partition("-")[0], root, every, quiet)


def masks(root: Path) -> list[Path]:
    parts = read_published(root.name.partition("-")[0]).masked
    return [root / mask for part in parts for _, mask in read_list(root, part) if mask is not None]


@pytest.mark.parametrize(
    "form",
    [
        *("pascal", "pascal-sbd", "pascal-authors", "cityscapes", "cityscapes-authors"),
        *("ade20k", "ade20k-authors", "coco", "coco-authors", "levir-tiles", "whu"),
    ],
)
def test_a_sound_root(prepared_root: Root, form: str) -> None:
    root = prepared_root(form)
    report = look(root)
    published = read_published(root.name.partition("-")[0])
    assert report.problems == []
    assert f"train: 8 of {published.counts['train']} images" in report.lines
    masks, classes = (13, 2) if published.pairs else (11, 4 + (form[0] == "a") + (form == "coco"))
    assert f"opened {masks} of {masks} masks; {classes} of" in "\n".join(report.lines)
    assert any("official lists will be refused" in notice for notice in report.notices)


def test_official_lists_that_are_there(prepared_root: Root) -> None:
    root = prepared_root("pascal")
    assert look(root).lines[-1] == "official lists in splits/: none"
    (root / "splits/183").mkdir(parents=True)
    (root / "splits/183/labeled.txt").write_text("x\n")
    report = look(root)
    assert report.lines[-1] == "official lists in splits/: 183"
    assert "splits/183/labeled.txt is no official list of PASCAL VOC 2012" in report.problems[0]


def test_missing_files_are_named(prepared_root: Root) -> None:
    root = prepared_root("ade20k")
    for mask in masks(root)[:4]:
        mask.unlink()
    (root / read_list(root, "train")[6][0]).write_bytes(b"")
    (problem,) = look(root).problems
    assert problem.startswith(
        "train: 5 of 16 files are missing or empty: annotations/training/ADE_train_00000001.png, "
    )
    assert "ADE_train_00000003.png and 2 more. Run `semikit data prepare ade20k" in problem


def test_a_list_that_lost_a_line(prepared_root: Root) -> None:
    root = prepared_root("coco")
    lines = (root / "lists/val.txt").read_text().splitlines()
    (root / "lists/val.txt").write_text("\n".join(lines[:2]))
    assert any("lists/val.txt has 2 lines, 3 were prepared" in problem for problem in look(root).problems)


@pytest.mark.parametrize("state", ["nowhere", "empty", "begun"])
def test_no_prepared_root(tmp_path: Path, prepared_root: Root, state: str) -> None:
    if state == "begun":
        root = prepared_root("pascal")
        (root / RECORD).unlink()
        (root / ".preparing").touch()
    else:
        root = tmp_path / "pascal"
        if state == "empty":
            root.mkdir()
    told = {"nowhere": "no folder", "empty": "was not run", "begun": "was begun and not finished"}
    with pytest.raises(DataError, match=told[state]):
        look(root)


def test_a_root_of_another_data_set(prepared_root: Root) -> None:
    with pytest.raises(DataError, match="prepared for pascal, not for coco"):
        verify("coco", prepared_root("pascal"), False, quiet)


def test_masks_as_colours(prepared_root: Root) -> None:
    root = prepared_root("pascal")
    for mask in masks(root)[:2]:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(mask)
    (problem,) = look(root).problems
    assert problem.startswith("2 files: colour mask read as RGB: ")
    assert "Remove the file and prepare again" in problem


def test_a_mask_of_another_size_and_a_damaged_one(prepared_root: Root) -> None:
    root = prepared_root("cityscapes")
    first, second, *_ = masks(root)
    Image.fromarray(np.zeros((64, 48), np.uint8)).save(first)
    second.write_bytes(second.read_bytes()[:60])
    problems = look(root).problems
    assert any("mask of another size than its image" in p and "image 64x48, mask 48x64" in p for p in problems)
    assert any("1 files: unreadable or truncated image" in p and second.name in p for p in problems)


def written(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """The problems once all masks are changed."""
    for mask in masks(root):
        with Image.open(mask) as image:
            values = np.array(image)
        Image.fromarray(change(values).astype(np.uint8)).save(mask)
    return look(root).problems


def test_label_ids_instead_of_train_ids(prepared_root: Root) -> None:
    table = np.zeros(256, np.uint8)
    table[:4], table[255] = (7, 11, 23, 26), 0
    (problem,) = written(prepared_root("cityscapes"), lambda values: table[values])
    assert "hold values that are neither a class (0 to 18) nor 255: 23, 26 in gtFine/train/" in problem
    assert "They are labelIds (0-33), not trainIds" in problem


def test_ade_masks_that_were_not_converted(prepared_root: Root) -> None:
    (problem,) = written(prepared_root("ade20k"), lambda values: values + np.uint8(1))
    assert "150" in problem
    assert "They are the originals" in problem


def test_ade_masks_converted_twice(prepared_root: Root) -> None:
    (problem,) = written(prepared_root("ade20k"), lambda values: values - np.uint8(1))
    assert "254 comes of converting twice" in problem


def test_maps_of_coco_stuff(prepared_root: Root) -> None:
    (problem,) = written(prepared_root("coco"), lambda values: values + np.uint8(91))
    assert "maps of COCO-Stuff (171 classes)" in problem


@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_one_object(prepared_root: Root, top: int) -> None:
    (problem,) = written(prepared_root("pascal"), lambda values: np.where(values == 1, top, 0))
    assert f"all 11 masks hold nothing but 0 and {top}" in problem


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values // 255, "13 masks hold other values than 0 and 255: 1 in label/train_1_1.png, "),
        (lambda values: values // 255 * 250, "13 masks hold other values than 0 and 255: 250 in label/"),
        (lambda values: values // 255 // 255, "all 13 masks hold nothing but 0: nothing could be learned from them"),
    ],
)
def test_masks_of_change(prepared_root: Root, change: Callable[[np.ndarray], np.ndarray], told: str) -> None:
    (problem,) = written(prepared_root("levir-tiles"), change)
    assert told in problem


def test_a_second_date_that_is_missing_or_of_another_size(prepared_root: Root) -> None:
    root = prepared_root("levir-tiles")
    (root / "B/val_1_2.png").unlink()
    Image.new("RGB", (128, 256)).save(root / "B/train_1_5.png")
    lost, size = look(root).problems
    assert lost.startswith("val: 1 of 9 files are missing or empty: B/val_1_2.png. Run `semikit data prepare levir")
    assert size.startswith("1 files: mask of another size than its image: label/train_1_5.png (image 128x256, mask 256")


def diagnosed(name: str, *masks: set[int]) -> list[str]:
    return diagnose(read_published(name), {f"{k}.png": frozenset(values) for k, values in enumerate(masks)})


def test_causes_told_by_values() -> None:
    assert diagnosed("ade20k", *[{0, 3, 149}] * 99) == []
    assert "255 occurs in none of 100 masks" in diagnosed("ade20k", *[{0, 3, 149}] * 100)[0]
    assert "Some are originals" in diagnosed("ade20k", {0, 150}, {4, 255})[0]
    assert "255 seems to have been written as 254" in diagnosed("pascal", {0, 3, 254})[0]
    assert "prepare again from the original archives" in diagnosed("pascal", {0, 38, 255}, {1})[0]
    assert diagnosed("coco", {0, 80}, {255}) == []
    assert diagnosed("levir", *[{0, 255}] * 9, {0}, {255}) == []
    assert diagnosed("levir", *[{0}] * 7) == [], "so few may well be unchanged"
    assert "hold 1 for what changed, as after a division by 255" in diagnosed("whu", {0, 1}, {0})[0]
    assert "masks of 0 and 1 are mixed with" in diagnosed("whu", {0, 1}, {0, 255})[0].lower()
    assert "Values between come of JPEG" in diagnosed("levir", {0, 1, 2, 3, 253, 254, 255})[0]
    names = diagnose(read_published("cityscapes"), {"gtFine/train/a/b_gtFine_labelIds.png": frozenset({0, 7})})
    assert "1 masks are labelIds by their names" in names[0]


def test_masks_are_sampled_evenly(prepared_root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root = prepared_root("pascal")
    monkeypatch.setattr(module, "_SAMPLED", 3)
    damaged = masks(root)[1]
    damaged.write_bytes(b"x")
    assert "opened 3 of 11 masks" in "\n".join(look(root).lines)
    assert look(root).problems == []
    assert look(root, every=True).problems != []


def test_an_empty_mask_is_drawn_again(prepared_root: Root, miniature: Callable[[str], Path]) -> None:
    root = prepared_root("coco")
    (root / "masks/000000000001.png").write_bytes(b"")
    assert "Run `semikit data prepare" in look(root).problems[0]
    prepare("coco", miniature("coco"), root, lambda what, done, total: None)
    assert not look(root).problems


def test_images_are_opened_with_all(prepared_root: Root) -> None:
    root = prepared_root("levir-tiles")
    image = root / "B" / masks(root)[2].name
    image.write_bytes(image.read_bytes()[:200])
    assert look(root).problems == []
    (told,) = look(root, every=True).problems
    assert told.startswith(f"1 files: unreadable or truncated image: {image}")
    assert "Remove the file and prepare again" in told


def test_an_unreadable_mask_is_to_be_removed(prepared_root: Root, miniature: Callable[[str], Path]) -> None:
    root = prepared_root("pascal")
    mask = masks(root)[0]
    mask.write_bytes(mask.read_bytes()[:40])
    assert "Remove the file and prepare again from" in look(root).problems[0]
    mask.unlink()
    prepare("pascal", miniature("pascal"), root, lambda what, done, total: None)
    assert not look(root).problems
