"""What is counted while the files of a data set are checked, and what its user is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.core.census import Census, PartCensus, percent
from semikit.data.check import Part, check_samples, examined, parts_of
from semikit.data.masked_images import DataSpec, open_folders
from semikit.data.notices import class_census, missing_classes, shift_notice, unscored_classes
from semikit.data.splits import choose
from semikit.errors import DataError
from tests.helpers import class_sets

Save = Callable[..., Path]
NAMES = ("sky", "road", "car")


def masks(save: Save, part: str, values: Sequence[Sequence[int]]) -> None:
    """Masks (12, 16) in which the given values take turns."""
    for k, of in enumerate(values):
        save(f"{part}/masks/{part}{k}.png", np.resize(np.array(of, np.uint8), (12, 16)))


def counted(spec: DataSpec, labels: str | None = None) -> tuple[PartCensus, ...]:
    sources = open_folders(spec)
    return check_samples(parts_of(choose(labels, sources), sources.val), spec.num_classes).counted


def refused(spec: DataSpec) -> str:
    with pytest.raises(DataError) as raised:
        counted(spec)
    return str(raised.value)


def test_images_and_pixels_of_each_class(save: Save, spec: DataSpec) -> None:
    masks(save, "train", [[0], [0, 1], [9, 9, 9, 0], [0], [2], [1]])
    masks(save, "val", [[0, 1], [0], [0]])
    labelled, val = counted(spec)
    assert labelled == PartCensus(
        name="labelled",
        images=6,
        opened=6,
        holding=(4, 2, 1),
        pixels=(192 + 96 + 48 + 192, 96 + 192, 192),
        ignored=144,
        channels=3,
    )
    assert (val.name, val.holding, val.pixels, val.ignored) == ("val", (3, 1, 0), (96 + 384, 96, 0), 0)
    assert labelled.shares == pytest.approx((528 / 1008, 288 / 1008, 192 / 1008))
    assert labelled.ignored_share == pytest.approx(144 / 1152)


def test_each_file_is_opened_once(spec: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    import semikit.data.masked_images as module

    opened: list[str] = []

    def noted(read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *more, **options: (opened.append(str(path)), read(path, *more, **options))[1]

    for name in ("read_image", "read_mask"):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    counted(spec)
    assert len(opened) == len(set(opened)) == 6 + 6 + 2 + 3 + 3


def test_a_sample_of_a_part_says_so(spec: DataSpec) -> None:
    train = open_folders(spec).train
    (part,) = check_samples([Part("labelled", train, range(6), masks=True).sampled(2)], 3).counted
    assert (part.images, part.opened) == (6, 2)
    assert missing_classes(PartCensus("labelled", 6, 2, (2, 0, 1)), NAMES) is None
    assert Census(NAMES, (part,)).table()[1] == ["all", "2 of 6", ""]


def test_the_table() -> None:
    labelled = PartCensus("labelled", 4, 4, (4, 2, 0), (900, 100, 0), 250)
    val = PartCensus("val", 2, 2, (2, 1, 1), (9999, 1, 0), 0)
    census = Census(NAMES, (labelled, val))
    assert census.table() == [
        ["class", "labelled", "pixels", "val", "pixels"],
        ["all", "4", "", "2", ""],
        ["sky", "4", "90.0 %", "2", "100.0 %"],
        ["road", "2", "10.0 %", "1", "< 0.1 %"],
        ["car", "0", "0 %", "1", "0 %"],
        ["ignored", "", "20.0 %", "", "0 %"],
    ]
    assert len({len(line) for line in census.lines()[1:]}) == 1
    assert percent(0.0004) == "< 0.1 %"
    assert census.plain()["labelled"] == {
        "images": 4,
        "opened": 4,
        "channels": None,
        "ignored_pixels": 250,
        "classes": {
            "sky": {"images": 4, "pixels": 900},
            "road": {"images": 2, "pixels": 100},
            "car": {"images": 0, "pixels": 0},
        },
    }


def test_of_many_classes_the_rarest_are_shown() -> None:
    names = tuple(f"c{k}" for k in range(60))
    table = Census(names, (PartCensus("labelled", 60, 60, tuple(range(60))),)).table()
    assert [row[0] for row in table] == ["class", "all", *names[:50], "and 10 more"]


def test_images_of_one_class_each(tmp_path: Path) -> None:
    from semikit.data.label_spec import folder_spec
    from semikit.data.labeled_images import open_labeled

    class_sets.folders(tmp_path, ("cat", "dog"), 16, 3, "train")
    class_sets.folders(tmp_path, ("cat",), 16, 2, "val")
    sources = open_labeled(folder_spec(tmp_path))
    split = choose("2", sources)
    labelled, _, val = parts_of(split, sources.val, masks=False)
    census = class_census([labelled, val], sources.class_names)
    assert [(part.name, part.holding, part.pixels) for part in census.parts] == [
        ("labelled", (1, 1), ()),
        ("val", (2, 0), ()),
    ]
    assert census.table() == [
        ["class", "labelled", "val"],
        ["all", "2", "2"],
        ["cat", "1", "2"],
        ["dog", "1", "0"],
    ]
    assert census.lines()[0] == "images of each class"
    assert unscored_classes(census) == (
        "no validation image holds class 'dog': it has no score there (shown as \N{EN DASH})"
    )


def test_a_class_in_no_labelled_image() -> None:
    assert missing_classes(PartCensus("labelled", 2, 2, (2, 1, 0)), NAMES) == (
        "no labelled image holds class 'car': it cannot be learned. "
        "Choose other labelled images (--seed, or --labels FILE) or more of them."
    )
    assert missing_classes(PartCensus("labelled", 2, 2, (1, 1, 1)), NAMES) is None


# --------------------------------------------------------------------------------------- classes stored as 1 to K


def test_classes_from_1_are_told_by_all_masks_together(
    save: Save, spec_of: Callable[..., DataSpec], folder: Path
) -> None:
    """Only one mask holds K; the first of those at fault holds 1 and 255."""
    masks(save, "train", [[1, 2], [1], [2], [1, 3], [2], [1]])
    masks(save, "val", [[1], [2], [1]])
    text = refused(spec_of(folder, ignore=[]))
    assert "If classes are stored as 1 to 3, add `mapping: {1: 0, 2: 1, 3: 2}`." in text
    masks(save, "train", [[1, 255], [1], [2], [1], [2], [1, 3]])
    text = refused(spec_of(folder, ignore=[]))
    assert "255: 96 pixels" in text
    assert text.endswith("If classes are stored as 1 to 3, add `mapping: {1: 0, 2: 1, 3: 2}` and `ignore: [255]`.")


def test_classes_from_1_with_255_and_without_the_last_are_asked_about(
    save: Save, spec_of: Callable[..., DataSpec], folder: Path
) -> None:
    masks(save, "train", [[255, 1], [1], [2], [1], [2], [1]])
    masks(save, "val", [[1], [2], [1]])
    text = refused(spec_of(folder, ignore=[]))
    assert (
        "add `ignore: [255]`. 0 does not occur: if classes are stored as 1 to 3, add `mapping: {1: 0, 2: 1, 3: 2}`"
        in text
    )
    masks(save, "val", [[1], [0], [1]])
    assert "if it is a class, `mapping: {255: 1}`" in refused(spec_of(folder, ignore=[]))


def test_the_last_class_is_a_hint_only_where_no_mask_holds_0(
    save: Save, spec_of: Callable[..., DataSpec], folder: Path
) -> None:
    masks(save, "train", [[1, 3], [0], [2], [1], [2], [1]])
    masks(save, "val", [[1], [2], [1]])
    assert "Add the missing names to `classes`" in refused(spec_of(folder, ignore=[]))


def test_0_may_be_ignored_where_classes_are_stored_from_1(
    save: Save, spec_of: Callable[..., DataSpec], folder: Path
) -> None:
    masks(save, "train", [[1, 3], [0, 1], [2], [1], [2], [1]])
    masks(save, "val", [[1], [2], [1]])
    assert "If classes are stored as 1 to 3, add `mapping: {1: 0, 2: 1, 3: 2}`." in refused(spec_of(folder, ignore=[0]))


def test_masks_without_0_are_asked_about(save: Save, spec_of: Callable[..., DataSpec], folder: Path) -> None:
    """Nothing is outside of the classes, but every class may be one too far."""
    masks(save, "train", [[1, 2], [1], [2], [1], [2], [1]])
    masks(save, "val", [[1], [2], [1]])
    spec = spec_of(folder)
    assert shift_notice(Census(NAMES, counted(spec)), spec.values) == (
        "no mask of labelled and val holds 0 ('sky'), only 1, 2. If classes are stored as 1 to 3, every one is taken "
        "for the next one: add `mapping: {1: 0, 2: 1, 3: 2}` to the data file"
    )
    masks(save, "val", [[1], [2], [0]])
    assert shift_notice(Census(NAMES, counted(spec)), spec.values) is None
    masks(save, "val", [[1], [2], [1]])
    shifted = spec_of(folder, mapping={1: 0, 2: 1, 3: 2})
    assert shift_notice(Census(NAMES, counted(shifted)), shifted.values) is None


def test_generated_images_are_counted_too() -> None:
    from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource

    source = ShapesSource(ShapesSettings(train=4, val=2, test=2), "train")
    found = examined([Part("labelled", source, range(4), masks=True)], len(CLASS_NAMES))
    assert found.problems == []
    assert (found.counted[0].images, found.counted[0].opened) == (4, 4)
    assert sum(found.counted[0].pixels) > 0
