from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from semikit.data import manifest
from semikit.data.class_splits import held_out
from semikit.data.hold_out import group_keys, held_out_as_stated
from semikit.data.image_pairs import open_pair_folders
from semikit.data.label_spec import load_labels
from semikit.data.labeled_images import open_labeled
from semikit.data.masked_images import DataSpec, load_spec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.samples import DataParts
from semikit.data.splits import choose
from semikit.errors import ConfigError, DataError
from tests.helpers.photos import save

MASKED = {"images": "images", "masks": "masks"}


def frames(folder: Path, sequences: dict[str, int], unmasked: int = 0) -> None:
    """So many frames of each sequence, all but the last `unmasked` of each with a mask."""
    for name, count in sequences.items():
        for k in range(count):
            save(folder / "images" / f"{name}_{k:03d}.png", np.full((4, 4, 3), k))
            if k < count - unmasked:
                save(folder / "masks" / f"{name}_{k:03d}.png", np.zeros((4, 4)))


def spec(folder: Path, **keys: Any) -> DataSpec:
    text = yaml.safe_dump({"train": MASKED, "classes": ["a", "b"], **keys})
    (folder / "data.yaml").write_text(text)
    return load_spec(folder / "data.yaml")


def opened(folder: Path, fold: int | None = None, **keys: Any) -> DataParts:
    stated = spec(folder, **keys)
    return held_out_as_stated(open_folders(stated), stated, fold)


def names(parts: DataParts) -> tuple[list[str], list[str], list[str]]:
    assert parts.val is not None
    return list(parts.train.names), list(parts.val.names), list(parts.test.names) if parts.test else []


def test_a_share_of_the_images_with_a_mask_is_held_out(tmp_path: Path) -> None:
    frames(tmp_path, {"a": 30}, unmasked=10)
    parts = opened(tmp_path, val=0.2, test=0.1)
    train, val, test = names(parts)
    assert (len(train), len(val), len(test)) == (24, 4, 2)
    assert sorted([*train, *val, *test]) == sorted(f"a_{k:03d}" for k in range(30))
    assert all(int(name[2:]) < 20 for name in [*val, *test])
    assert parts.notices == (
        "2 of 20 images of train with a mask are held out as test (test: 0.1; the same ones for every seed)",
        "4 of 18 images of train with a mask are held out as val (val: 0.2; the same ones for every seed)",
    )


def test_what_is_held_out_depends_on_no_seed_and_is_recorded(tmp_path: Path) -> None:
    frames(tmp_path, {"a": 30}, unmasked=10)
    parts = opened(tmp_path, val=0.2)
    first, second = (choose("4", opened(tmp_path, val=0.2), seed) for seed in (0, 1))
    assert first.labeled != second.labeled
    assert first.held_out == second.held_out == {"val": tuple(names(parts)[1])}
    assert first.masked == 16
    assert not set(first.held_out["val"]) & {first.pool.names[k] for k in [*first.labeled, *first.unlabeled]}
    record = manifest.write(tmp_path, first)
    assert manifest.load(tmp_path) == record
    other = manifest.Manifest.of(choose("4", opened(tmp_path, val=0.4), 0))
    assert any("4 val images held out of train, now 8" in line for line in manifest.difference(record, other))
    assert "held_out" not in manifest.Manifest.of(choose("4", own_val(tmp_path), 0)).model_dump()


def own_val(folder: Path) -> DataParts:
    save(folder / "val" / "images" / "v.png", np.full((4, 4, 3), 200))
    save(folder / "val" / "masks" / "v.png", np.zeros((4, 4)))
    return opened(folder, val="val")


def test_few_change_sides_when_images_are_added(tmp_path: Path) -> None:
    frames(tmp_path, {"a": 50})
    before = set(names(opened(tmp_path, val=0.2))[1])
    frames(tmp_path, {"a": 60})
    after = set(names(opened(tmp_path, val=0.2))[1])
    assert len(before) == 10
    assert len(after) == 12
    assert len(before & after) >= 7


def test_frames_of_a_group_stay_together(tmp_path: Path) -> None:
    frames(tmp_path, {"seq1": 6, "seq2": 6, "seq3": 6, "seq4": 6, "seq5": 6}, unmasked=2)
    parts = opened(tmp_path, val=0.2, group="{stem:4}")
    train, val, _ = names(parts)
    (held,) = {name[:4] for name in val}
    assert len(val) == 4
    assert len(train) == 24
    assert not any(name.startswith(held) for name in train)
    assert parts.notices == (
        "4 of 20 images of train with a mask in 5 groups ('{stem:4}') are held out as val (val: 0.2; the same ones for "
        "every seed); they are 1 of these groups, of which 2 images without a mask or label are not used",
    )


@pytest.mark.parametrize(
    ("group", "keys"),
    [
        ("{stem:3}", ["000", "abc"]),
        ("{folder}", ["city/one", "."]),
        ("{folder:4}-{stem:1}", ["city-0", ".-a"]),
        (r"(\d+)$", ["01", "7"]),
        (r"^[^_]+", ["city/one/00001", "abc"]),
    ],
)
def test_a_group_is_told_from_the_name(group: str, keys: list[str]) -> None:
    assert group_keys(["city/one/00001_01", "abc_7"], group) == keys


def test_a_name_without_a_group_is_named() -> None:
    with pytest.raises(DataError, match=r"group '_\(.\)': 1 of 2 images have no group: b\. The expression"):
        group_keys(["a_1", "b"], "_(.)")


def test_groups_in_a_table(tmp_path: Path) -> None:
    frames(tmp_path, {"a": 4})
    (tmp_path / "groups.csv").write_text("file,group\na_000.png,x\na_001.png,x\na_002.png,y\na_003,y\n")
    _, val, _ = names(opened(tmp_path, val=0.5, group="groups.csv"))
    assert val in (["a_000", "a_001"], ["a_002", "a_003"])
    (tmp_path / "groups.csv").write_text("a_000.png,x\na_001.png,x\n")
    with pytest.raises(DataError, match=r"2 of 4 images have no group: a_002, a_003\. Add a line file,group for each"):
        opened(tmp_path, val=0.5, group="groups.csv")
    (tmp_path / "groups.csv").write_bytes("a_000.png,gr\xf6n\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"groups\.csv is not a text file in UTF-8"):
        opened(tmp_path, val=0.5, group="groups.csv")


def test_folds_are_parts_of_the_images_with_a_mask(tmp_path: Path) -> None:
    frames(tmp_path, {"a": 15}, unmasked=3)
    every = [opened(tmp_path, fold, folds=5) for fold in range(5)]
    vals = [names(parts)[1] for parts in every]
    assert sorted(map(len, vals)) == [2, 2, 2, 3, 3]
    assert sorted(name for val in vals for name in val) == [f"a_{k:03d}" for k in range(12)]
    assert all(not set(names(parts)[0]) & set(names(parts)[1]) for parts in every)
    assert "(fold 3 of the folds 0 to 4; the same ones for every seed)" in every[3].notices[0]


@pytest.mark.parametrize(
    ("keys", "fold", "sentence"),
    [
        ({"folds": 5}, None, "folds: 5: which of them are the validation images"),
        ({"folds": 5}, 5, "--fold 5: folds: 5 are counted from 0 to 4"),
        ({"folds": 7}, 0, "folds: 7 need as many images with a mask or label, or groups of them; train has 6"),
        ({"val": 0.5}, 1, "--fold 1 was given, but the data are in no folds"),
        ({"val": 0.5, "group": "{stem:1}"}, None, r"val: 0.5 cannot be held out of 6 images .* in 1 groups"),
    ],
)
def test_what_cannot_be_held_out(tmp_path: Path, keys: dict[str, Any], fold: int | None, sentence: str) -> None:
    frames(tmp_path, {"a": 6})
    with pytest.raises(DataError, match=sentence):
        opened(tmp_path, fold, **keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"val": 1.5}, "less than 1"),
        ({"val": 0.2, "folds": 5}, "folds: 5 and val both say which images validate; keep one"),
        ({}, "key 'val': missing; give images with masks .* a share of train"),
        ({"val": 0.2, "group": "(a"}, "is no regular expression"),
        ({"val": 0.2, "group": "{name:3}"}, r"may hold \{stem\}"),
        ({"val": MASKED, "group": "{stem:3}"}, "group is for images that are held out of train"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        spec(tmp_path, **keys)


def test_plain_texts_are_folders(tmp_path: Path) -> None:
    stated = spec(tmp_path, train="tr", val="va", unlabeled=["more", {"images": "yet"}])
    assert (stated.train.images, stated.train.masks) == (tmp_path / "tr/images", tmp_path / "tr/masks")
    assert [part.images for part in stated.unlabeled] == [tmp_path / "more", tmp_path / "yet"]
    assert spec(tmp_path, val="va", unlabeled="more").unlabeled[0].images == tmp_path / "more"
    again = DataSpec.model_validate(spec(tmp_path, val=0.2, group="g.csv").model_dump(mode="json", exclude_none=True))
    assert again == spec(tmp_path, val=0.2, group="g.csv")
    assert again.group == tmp_path / "g.csv"


def test_pairs_are_held_out_too(tmp_path: Path) -> None:
    for k in range(10):
        for date in "AB":
            save(tmp_path / "train" / date / f"{k}.png", np.full((4, 4, 3), k + (date == "A") * 50))
        save(tmp_path / "train" / "label" / f"{k}.png", np.zeros((4, 4)))
    stated = load_pairs(tmp_path)  # a folder with train/ alone
    train, val, _ = names(held_out_as_stated(open_pair_folders(stated), stated, None))
    assert (len(train), len(val)) == (8, 2)
    text = {"train": str(tmp_path / "train"), "folds": 5, "unlabeled": str(tmp_path / "train")}
    assert load_pairs(text).unlabeled[0].images_b == tmp_path / "train" / "B"
    (tmp_path / "dev").mkdir()
    with pytest.raises(DataError, match="has no val/, only dev, train"):
        load_pairs(tmp_path)
    (tmp_path / "dev").rename(tmp_path / "valid")
    assert load_pairs(tmp_path).val.images_a == tmp_path / "valid" / "A"  # type: ignore[union-attr]


def classes(folder: Path, sizes: dict[str, int]) -> None:
    for name, count in sizes.items():
        for k in range(count):
            save(folder / "train" / name / f"{name[0]}{k:02d}.png", np.full((4, 4, 3), k))


def test_every_class_gives_its_part(tmp_path: Path) -> None:
    classes(tmp_path, {"cat": 40, "dog": 10, "owl": 2, "emu": 1})
    stated = load_labels({"train": str(tmp_path / "train"), "val": 0.25})
    parts = held_out_as_stated(open_labeled(stated), stated, None)
    assert parts.val is not None
    assert np.bincount(parts.val.labels, minlength=4).tolist() == [10, 2, 0, 1]
    folded = load_labels({"train": str(tmp_path / "train"), "folds": 3})
    counts = [
        np.bincount(part.labels, minlength=4)
        for fold in range(3)
        if (part := held_out_as_stated(open_labeled(folded), folded, fold).val) is not None
    ]
    assert np.sum(counts, axis=0).tolist() == [40, 10, 1, 2]
    assert all((count[:2] >= [13, 3]).all() for count in counts)


def test_a_test_share_beside_the_usual_validation_images_is_recorded(tmp_path: Path) -> None:
    classes(tmp_path, {"cat": 40, "dog": 40})
    stated = load_labels({"train": str(tmp_path / "train"), "test": 0.25})
    parts = held_out(held_out_as_stated(open_labeled(stated), stated, None), None)
    split = choose("10", parts)
    assert {part: len(names) for part, names in split.held_out.items()} == {"val": 6, "test": 20}
    learned = {split.pool.names[k] for k in split.unlabeled}
    assert not learned & {name for names in split.held_out.values() for name in names}
