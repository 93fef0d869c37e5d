"""Pairs with a mask of each date: land cover that becomes transitions, buildings and grades of damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.data.contents import sample_digests
from semikit.data.image_pairs import open_pair_folders
from semikit.data.pair_layouts import SECOND
from semikit.data.pair_spec import load_pairs
from semikit.data.samples import DataParts
from semikit.data.spec import refuse_unreachable
from semikit.errors import ConfigError, DataError, FileFault, InputError
from semikit.raster.region import Region
from semikit.run.data_check import task_of
from semikit.tasks.cd import ChangeDetection, PairData
from tests.helpers import georasters
from tests.helpers.pairs import save

COVER = ("unchanged", "ground", "house")
BEFORE = np.array([[0, 1, 1, 2, 0, 1]], np.uint8).repeat(6, 0)
AFTER = np.array([[0, 2, 1, 1, 2, 0]], np.uint8).repeat(6, 0)
COLOURS = np.array(list(SECOND.values()), np.uint8)
LAYOUT = {"images_a": "A", "images_b": "B", "masks_a": "masks_a", "masks_b": "masks_b"}
PLACES = tuple(LAYOUT.values())
ONE_MASK = {"train": {"images_a": "A", "images_b": "B", "masks": "m"}}
XBD = tuple(
    f"{folder}/{{}}_{date}_disaster{end}"
    for folder, end in (("images", ""), ("targets", "_target"))
    for date in ("pre", "post")
)


def write(part: Path, before: Any = BEFORE, after: Any = AFTER, layout: Sequence[str] = PLACES, k: int = 0) -> None:
    """A pair and its two masks, below the places of a layout."""
    dates = (np.full((6, 6, 3), value + k) for value in (10, 90))
    for place, values in zip(layout, (*dates, before, after), strict=True):
        save(part / (f"{place.format(k)}.png" if "{}" in place else f"{place}/{k}.png"), values)


def given(folder: Path, **more: Any) -> dict[str, Any]:
    return {"train": {key: str(folder / place) for key, place in LAYOUT.items()}, "val": 0.5, "classes": COVER, **more}


def opened(folder: Path, **more: Any) -> DataParts:
    return open_pair_folders(load_pairs(given(folder, **more)))


def labels(parts: DataParts) -> list[str | None]:
    """The class of each column, None where it does not count."""
    found, valid = parts.train.target(0)
    assert (found == found[0]).all()
    return [parts.class_names[k] if counts else None for k, counts in zip(found[0], valid[0], strict=True)]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("all", ["unchanged", "ground → house", "ground → ground", "house → ground", None, None]),
        ("differing", ["unchanged", "ground → house", "unchanged", "house → ground", None, None]),
        ([["ground", "house"]], ["unchanged", "ground → house", "unchanged", None, None, None]),
    ],
)
def test_land_cover_of_both_dates_becomes_transitions(tmp_path: Path, chosen: Any, expected: list[str | None]) -> None:
    write(tmp_path)
    parts = opened(tmp_path, transitions=chosen)
    assert labels(parts) == expected
    assert len(parts.class_names) == {"all": 5, "differing": 3}.get(str(chosen), 2)
    assert parts.train.target_files(0) == (tmp_path / "masks_a/0.png", tmp_path / "masks_b/0.png")
    assert parts.unused == []


def test_whole_maps_of_land_cover_need_no_unchanged_value(tmp_path: Path) -> None:
    write(tmp_path, np.where(BEFORE == 0, 7, BEFORE), np.where(AFTER == 0, 7, AFTER))
    parts = opened(tmp_path, transitions="differing", ignore=[7, 0])
    assert labels(parts) == [None, "ground → house", "unchanged", "house → ground", None, None]
    refuse_unreachable(load_pairs(given(tmp_path, transitions="differing", ignore=[0])))
    with pytest.raises(ConfigError, match=r"no mask value is of class 'unchanged' \(0\)"):
        refuse_unreachable(load_pairs(given(tmp_path, ignore=[0])))


def test_masks_in_colour_are_read_by_colour_and_maps_have_colours_of_their_own(tmp_path: Path) -> None:
    colours = np.array([[255, 255, 255], [9, 9, 9], [128, 0, 0]], np.uint8)
    for k in range(2):
        write(tmp_path, colours[BEFORE], colours[AFTER], k=k)
    stated = {"colors": dict(zip(COVER, colours.tolist(), strict=True))}
    assert labels(opened(tmp_path, **stated))[1:4] == ["ground → house", "ground → ground", "house → ground"]
    parts = ChangeDetection.open(PairData(folders=load_pairs(given(tmp_path, **stated))))
    assert parts.palette is not None
    assert len({tuple(colour) for colour in parts.palette[:5].tolist()}) == 5


def test_a_window_of_a_raster_is_that_of_both_masks(tmp_path: Path) -> None:
    for place, values in zip(LAYOUT.values(), (np.ones((3, 6, 6)), np.ones((3, 6, 6)), BEFORE, AFTER), strict=True):
        (tmp_path / place).mkdir()
        georasters.save(tmp_path / place / "0.tif", values.astype(np.uint8))
    train, region = opened(tmp_path).train, Region(1, 2, 3, 4)
    whole, part = train.target(0), train.target(0, region)
    assert all(np.array_equal(full[region.slices], cut) for full, cut in zip(whole, part, strict=True))


def test_buildings_and_grades(tmp_path: Path) -> None:
    write(tmp_path, np.where(BEFORE > 0, 255, 0), AFTER * 2)
    names = ("none", "intact", "minor", "major", "lost")
    parts = opened(tmp_path, classes=names, damage=True)
    assert labels(parts) == ["none", "lost", "minor", "minor", None, None]
    assert parts.class_names == names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transitions": [["ground", "lake"]]}, "unknown class in `transitions` 'lake'"),
        ({"classes": ["same", *map(str, range(17))]}, "17 classes have 289 transitions, and a map has 255 classes"),
        ({"damage": True, "transitions": "differing"}, "'transitions' is for masks of land cover of both dates"),
        ({"val": {"images_a": "A", "images_b": "B", "masks": "m"}}, "some parts have masks and others masks_a"),
        ({"train": {"images_a": "A", "images_b": "B", "masks_a": "m"}}, "give either masks, of the change, or both"),
        ({"train": {**LAYOUT, "masks": "m"}}, "give either masks, of the change, or both"),
        ({"classes": ["same", "ground", "ice -> lake"]}, "class 'ice -> lake' holds an arrow"),
        ({**ONE_MASK, "classes": ["same", "a -> b", "b -> a", "a→b"]}, "classes 'a -> b' and 'a→b' are one transition"),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, change: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_pairs({**given(tmp_path), **change})


def test_one_class_without_an_arrow_among_others_is_said(tmp_path: Path) -> None:
    write(tmp_path, layout=("A", "B", "m", "masks_b"))
    write(tmp_path, layout=("A", "B", "m", "masks_b"), k=1)
    masks = {key: str(tmp_path / place) for key, place in ONE_MASK["train"].items()}
    for last, said in (("b -> a", ()), ("other", ("class 'other' is no transition, while others are",))):
        spec = load_pairs({"train": masks, "val": 0.5, "classes": ["same", "a -> b", last]})
        assert tuple(notice.partition(" (")[0] for notice in open_pair_folders(spec).notices) == said


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, k=1)
    (tmp_path / "masks_b/1.png").unlink()
    with pytest.raises(DataError, match="train: 1 pairs have a mask of one date only: 1"):
        opened(tmp_path)
    save(tmp_path / "masks_b/1.png", np.zeros((5, 6)))
    with pytest.raises(FileFault, match="masks of two dates of other sizes"):
        opened(tmp_path).train.target(1)
    save(tmp_path / "masks_b/1.png", np.full((6, 6), 9))
    with pytest.raises(FileFault, match="mask value outside the classes 0 to 2"):
        opened(tmp_path).train.target(1)


def test_the_mask_of_the_second_date_is_followed_too(tmp_path: Path) -> None:
    write(tmp_path)
    train = opened(tmp_path).train
    before = sample_digests(train, 0)
    save(tmp_path / "masks_b/0.png", BEFORE)
    assert sample_digests(train, 0)[0] == before[0]
    assert sample_digests(train, 0)[1] != before[1]
    single = replace(train, two_masks=None, later_masks=())  # type: ignore[type-var]
    assert len(single.target_files(0)) == 1


class TestFolders:
    """What is understood without a YAML."""

    def test_second_by_its_colours(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            write(tmp_path / part, COLOURS[BEFORE], COLOURS[AFTER], ("im1", "im2", "label1", "label2"), k=len(part))
        stated = load_pairs(tmp_path)
        assert (stated.classes, stated.val) == (tuple(SECOND), 0.2)
        parts = open_pair_folders(stated)
        assert labels(parts)[1] == "water → ground"
        assert (len(parts.class_names), parts.unused, task_of(tmp_path)) == (37, [], "cd")
        assert open_pair_folders(load_pairs(tmp_path / "train")).class_names == parts.class_names

    def test_classes_by_a_list(self, tmp_path: Path) -> None:
        write(tmp_path / "train")
        with pytest.raises(DataError, match=r"nobody says which classes there are\. Masks of train hold 0, 1, 2\."):
            load_pairs(tmp_path)
        (tmp_path / "classes.txt").write_text("\n".join(COVER))
        assert labels(open_pair_folders(load_pairs(tmp_path)))[3] == "house → ground"

    def test_xbd(self, tmp_path: Path) -> None:
        for part in ("train", "hold"):
            write(tmp_path / part, (BEFORE > 0).astype(np.uint8), AFTER * 2, XBD, k=len(part))
        stated = load_pairs(tmp_path)
        assert (stated.damage, stated.classes[-1]) == (True, "destroyed")
        parts = open_pair_folders(stated)
        assert parts.val is not None
        assert (parts.val.names, parts.unused, task_of(tmp_path)) == (("4",), [], "cd")
        assert labels(parts) == ["no building", "destroyed", "minor damage", "minor damage", None, None]
