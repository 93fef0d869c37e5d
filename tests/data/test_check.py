from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from semikit.data.check import Part, check_samples, examined, parts_of
from semikit.data.masked_images import DataSpec, open_folders
from semikit.data.splits import choose
from semikit.errors import DataError

Save = Callable[..., Path]


def problems(spec: DataSpec) -> list[str]:
    sources = open_folders(spec)
    return list(examined(parts_of(choose(None, sources), sources.val), spec.num_classes).problems)


def test_sound_data_pass_and_progress_is_told(spec: DataSpec) -> None:
    sources = open_folders(spec)
    parts = parts_of(choose("2", sources), sources.val, sources.val)
    assert [(part.name, len(part.indices)) for part in parts] == [
        ("labelled", 2),
        ("unlabelled", 6),
        ("val", 3),
        ("test", 3),
    ]
    told: list[tuple[int, int]] = []
    check_samples(parts, 3, lambda done, total: told.append((done, total)))
    assert told == [(k, 14) for k in range(1, 15)]


def test_truncated_images_are_found_in_every_part(folder: Path, spec: DataSpec) -> None:
    for name in ("train/images/train1", "train/images/train7", "val/images/val0", "val/masks/val1"):
        path = folder / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-60])
    found = problems(spec)
    assert [text.split(":")[0] for text in found] == ["labelled", "unlabelled", "val"]
    assert all("unreadable or truncated image" in text for text in found)
    assert "val0.png" in found[2]
    assert "val1.png" in found[2]


def test_images_without_masks_are_counted(folder: Path, spec: DataSpec) -> None:
    for k in range(2):
        (folder / f"val/masks/val{k}.png").unlink()
    assert problems(spec) == [
        "val: image without mask: val0, val1. Add a mask of the same name (the suffix may differ), "
        "or take the image out of the list."
    ]
    train = open_folders(spec).train
    (found,) = examined([Part("labelled", train, [*range(5), 6, 7, 6, 7], masks=True)], 3).problems
    assert found.startswith("labelled: image without mask: train6, train7, train6 and 1 more. ")


def test_another_size(save: Save, spec: DataSpec) -> None:
    save("train/masks/train2.png", np.zeros((16, 12), dtype=np.uint8))
    (found,) = problems(spec)
    assert "mask of another size than its image: train2 (image 16x12, mask 12x16 (width x height))" in found
    assert "export the masks again" in found


def test_values_outside_the_classes(save: Save, spec: DataSpec) -> None:
    for k in range(5):
        save(f"train/masks/train{k}.png", np.array([[0, 255]], dtype=np.uint8).repeat(12, 0).repeat(8, 1))
    (found,) = problems(spec)
    assert found.startswith("labelled: mask value outside the classes 0 to 2: ")
    assert found.count("255: 96 pixels") == 3
    assert "and 2 more. If 255 means" in found


def test_binary_masks_of_0_and_255(folder: Path, save: Save, spec_of: Callable[..., DataSpec]) -> None:
    for part, count in (("train", 6), ("val", 3)):
        for k in range(count):
            save(f"{part}/masks/{part}{k}.png", np.array([[0, 255]], dtype=np.uint8).repeat(12, 0).repeat(8, 1))
    spec = spec_of(folder, classes=["no", "yes"], ignore=[])
    assert all("Only 0 and 255 occur; if 255 is class 1, add `mapping: {255: 1}`." in text for text in problems(spec))
    assert problems(spec_of(folder, classes=["no", "yes"], ignore=[], mapping={255: 1})) == []


def test_colour_and_empty_masks(save: Save, spec: DataSpec) -> None:
    save("train/masks/train0.png", np.full((12, 16, 3), (0, 128, 0), dtype=np.uint8))
    save("train/masks/train1.png", np.full((12, 16), 9, dtype=np.uint8))
    save("val/masks/val0.png", np.full((12, 16), 9, dtype=np.uint8))
    colour, empty = problems(spec)
    assert colour.startswith("labelled: colour mask read as RGB: ")
    assert "train0.png (3 channels, 1 colours). " in colour
    assert empty.startswith("labelled: mask without a valid pixel: train1. ")


def test_nothing_to_score(save: Save, spec: DataSpec) -> None:
    for k in range(3):
        save(f"val/masks/val{k}.png", np.full((12, 16), 9, dtype=np.uint8))
    assert problems(spec) == ["val: masks of which no pixel counts: all. Check `ignore` and `mapping`."]


def test_numbers_of_channels(folder: Path, spec: DataSpec) -> None:
    import rasterio

    (folder / "train/images/train7.png").unlink()
    shape = {"count": 4, "height": 12, "width": 16, "dtype": "uint8", "transform": rasterio.Affine(1, 0, 5, 0, -1, 5)}
    with rasterio.open(
        folder / "train/images/train7.tif", "w", driver="GTiff", photometric="MINISBLACK", **shape
    ) as file:
        file.write(np.ones((4, 12, 16), dtype=np.uint8))
        file.colorinterp = [rasterio.enums.ColorInterp.undefined] * 4
    (found,) = problems(spec)
    assert found.startswith("unlabelled: image with another number of channels than most (3): train7 (4). Choose")


def test_all_problems_come_in_one_message(save: Save, spec: DataSpec) -> None:
    save("train/masks/train0.png", np.full((12, 16), 77, dtype=np.uint8))
    save("val/masks/val0.png", np.zeros((3, 3), dtype=np.uint8))
    sources = open_folders(spec)
    parts = parts_of(choose(None, sources), sources.val)
    with pytest.raises(DataError) as caught:
        check_samples(parts, 3)
    lines = str(caught.value).split("\n")
    assert lines[0] == "2 problems with the data:"
    assert lines[1].startswith("- labelled: mask value outside the classes 0 to 2: ")
    assert lines[2].startswith("- val: mask of another size than its image: val0 (image 16x12, mask 3x3")
    with pytest.raises(DataError, match=r"^val: mask of another size"):
        check_samples(parts[2:], 3)
