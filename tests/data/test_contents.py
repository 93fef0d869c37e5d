"""What the files of labelled images hold, as a run keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from semikit.data.check import Part, check_samples
from semikit.data.contents import Contents, file_digest, recorded, sample_digests
from semikit.data.masked_images import DataSpec, open_folders

NAMES = ("a", "b", "c", "d")


def test_digests_are_those_of_the_files(folder: Path, spec: DataSpec) -> None:
    train = open_folders(spec).train
    image, mask = (file_digest(folder / f"train/{part}/train2.png")[:16] for part in ("images", "masks"))
    assert sample_digests(train, 2) == (image, mask)
    assert sample_digests(train, 7)[1] == ""
    found = check_samples([Part("labelled", train, [4, 2], masks=True, recorded=True)], 3).digests["labelled"]
    assert found == {index: sample_digests(train, index) for index in (2, 4)}
    record = recorded(train, [4, 2], found, spec.classes)
    assert record is not None
    assert (record.names[1], record.images[1], record.labels[1]) == ("train2", image, mask)
    assert recorded(train, [4, 3], found, spec.classes) is None
    assert recorded(train, [], {}, spec.classes) is None
    assert check_samples([Part("labelled", train, [4, 2], masks=True)], 3).digests == {}


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        ("wxyz", "1111", []),
        ("wxyz", "1211", ["1 labels (b)"]),
        ("Wxyz", "2222", ["1 images (a)", "4 labels (a, b, c and 1 more)"]),
    ],
)
def test_what_changed_is_named(images: str, labels: str, told: list[str]) -> None:
    before = Contents.of(NAMES, "wxyz", "1111")
    assert Contents.of(NAMES, images, labels).changes(before, "") == told


def test_images_that_came_and_went_are_named() -> None:
    now = Contents.of("abce", "wxyz", "1112")
    assert now.changes(Contents.of(NAMES, "wxyz", "2111"), " of val") == [
        "1 labels of val (a)",
        "1 images of val that are gone (d)",
        "1 images of val that are new (e)",
    ]
