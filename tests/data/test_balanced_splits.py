from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semikit.data import manifest
from semikit.data.class_splits import held_out
from semikit.data.label_spec import folder_spec
from semikit.data.labeled_images import LabeledArrays, open_labeled
from semikit.data.published.class_sets import class_set, official_lists
from semikit.data.samples import DataParts, Official
from semikit.data.splits import Split, choose
from semikit.errors import DataError, UnknownNameError

NAMES = ("cat", "dog", "owl")


def made(part: str, sizes: list[int], unknown: int = 0) -> LabeledArrays:
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(unknown, -1)])
    labels = np.random.default_rng(0).permutation(labels)
    return LabeledArrays(part, np.zeros((len(labels), 2, 2, 3), np.uint8), labels)


def parts(sizes: list[int], unknown: int = 0, extra: int = 0, official: Official | None = None) -> DataParts:
    names = NAMES if len(sizes) == 3 else tuple(f"class {k}" for k in range(len(sizes)))
    more = (made("more", [0] * len(sizes), extra),) if extra else ()
    train, val = made("train", sizes, unknown), made("val", [2] * len(sizes))
    return DataParts(train, more, val, None, names, balanced=True, official=official)


def per_class(split: Split, of: DataParts) -> list[int]:
    return np.bincount(of.train.labels[list(split.labeled)], minlength=len(of.class_names)).tolist()


@given(st.data())
def test_a_number_is_balanced_and_unlabelled_is_everything(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=2, max_size=6))
    unknown, extra = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    each, seed = data.draw(st.integers(1, min(sizes))), data.draw(st.integers(0, 2**31))
    of = parts(sizes, unknown, extra)
    split = choose(str(each * len(sizes)), of, seed)
    assert per_class(split, of) == [each] * len(sizes)
    assert len(set(split.labeled)) == each * len(sizes)
    assert list(split.labeled) == sorted(split.labeled)
    assert list(split.unlabeled) == list(range(sum(sizes) + unknown + extra))
    assert (split.family, split.seed, split.masked) == ("random", seed, sum(sizes))
    apart = choose(str(each * len(sizes)), replace(of, labeled_apart=True), seed)
    assert apart.labeled == split.labeled
    assert sorted([*apart.labeled, *apart.unlabeled]) == list(split.unlabeled)
    more = choose(str(data.draw(st.integers(each, min(sizes))) * len(sizes)), of, seed)
    assert set(split.labeled) <= set(more.labeled)


def test_a_seed_is_a_choice() -> None:
    of = parts([50, 50, 50])
    first, again, other = (choose("30", of, seed).labeled for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_class_does_not_change_the_choice_in_others() -> None:
    """The images of a class are drawn from it alone."""
    labels = np.repeat([0, 1], 20)
    fewer = LabeledArrays("train", np.zeros((40, 2, 2, 3), np.uint8), labels)
    more = LabeledArrays("train", np.zeros((60, 2, 2, 3), np.uint8), np.concatenate([labels, np.ones(20, np.int64)]))
    chosen = [
        choose("10", DataParts(train, (), made("val", [1, 1]), None, ("a", "b"), balanced=True)).labeled[:5]
        for train in (fewer, more)
    ]
    assert chosen[0] == chosen[1]


@given(st.lists(st.integers(10, 60), min_size=2, max_size=5), st.integers(1, 9))
def test_a_fraction_is_taken_of_every_class(sizes: list[int], above: int) -> None:
    of = parts(sizes, unknown=3)
    counts = per_class(choose(f"{above}/10", of), of)
    assert sum(counts) == round(sum(sizes) * above / 10) or (sum(sizes) * above) % 10 == 5
    assert all(abs(count - size * above / 10) < 1 for count, size in zip(counts, sizes, strict=True))


def test_a_tenth() -> None:
    of = parts([100, 50, 30])
    assert per_class(choose("1/10", of), of) == [10, 5, 3]
    uneven = parts([14, 14, 12])
    assert per_class(choose("1/10", uneven), uneven) == [2, 1, 1]


def test_all_are_those_with_a_label() -> None:
    of = parts([4, 3, 2], unknown=5)
    split = choose("all", of)
    assert per_class(split, of) == [4, 3, 2]
    assert (split.family, len(split.unlabeled)) == ("all", 14)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, r"how many images are labelled\? Give --labels a number over all classes \(250\).*At most 12"),
        ("31", "labels 31 cannot be balanced over 3 classes; the nearest that can: 30, 33"),
        ("2", "labels 2 cannot be balanced over 3 classes; the nearest that can: 3"),
        ("0", "labels 0 leaves nothing; the fewest are 3, one of each class"),
        ("30", "asks for 10 of each of 3 classes, but 'owl' has 4. At most 12 can be labelled in balance"),
        ("1/10", r"labels '1/10' leaves no labelled image of 'owl' \(4\)\. Ask for more"),
        ("3/2", "labels '3/2' is not a fraction between 0 and 1"),
        ("1/0", "labels '1/0' is not a fraction between 0 and 1"),
        ("five%", "labels 'five%': no such file, and neither a number nor a fraction"),
        ("official:1%", "labels 'official:1%': these data have no official splits"),
    ],
)
def test_wrong_options(labels: str | None, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        choose(labels, parts([40, 30, 4]))


def listed(tmp_path: Path, text: str) -> str:
    path = tmp_path / "list.txt"
    path.write_text(text)
    return str(path)


def test_a_list(tmp_path: Path) -> None:
    split = choose(listed(tmp_path, "train/00007\n00002.png\n# no\ntrain/00003\n"), parts([5, 5, 5]))
    assert (split.labeled, split.family) == ((2, 3, 7), "file")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("val/00001", r"'val/00001' is an image of val, not of train; it must not be labelled"),
        ("train/0000x", r"no image of train is named 'train/0000x'\. Did you mean 'train/000"),
        ("train/00001\n00001", "are the same image; name each once"),
        ("", "names no image"),
    ],
)
def test_wrong_lists(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence):
        choose(listed(tmp_path, text), parts([5, 5, 5]))


def test_an_image_of_unknown_class_cannot_be_labelled(tmp_path: Path) -> None:
    of = parts([5, 5, 5], unknown=1)
    name = of.train.names[int(np.flatnonzero(of.train.labels == -1)[0])]
    with pytest.raises(DataError, match="has no label, so it cannot be labelled"):
        choose(listed(tmp_path, name), of)


def test_an_official_list(tmp_path: Path) -> None:
    known = replace(class_set("imagenet"), official={"1%": 2})
    of = parts([5, 5, 5], official=official_lists("imagenet", known, tmp_path))
    with pytest.raises(DataError, match=r"official:1% is read from .*1%\.txt, which is not there"):
        choose("official:1%", of)
    names = [of.train.names[k] for number in range(3) for k in np.flatnonzero(of.train.labels == number)[:2]]
    (tmp_path / "splits").mkdir()
    file = tmp_path / "splits/1%.txt"
    file.write_text("\n".join(f"{name}.JPEG" for name in names))
    split = choose("official:1%", of)
    assert (split.family, per_class(split, of)) == ("official", [2, 2, 2])
    file.write_text("\n".join(names[:-1]))
    with pytest.raises(DataError, match=r"is not the official list, .* 2 images of each class: 'owl' 1\. Another"):
        choose("official:1%", of)
    with pytest.raises(UnknownNameError, match="official split of imagenet"):
        choose("official:2%", of)


@pytest.mark.parametrize("entry", ["val/cat/1.png", "val/cat/1"])
def test_a_path_of_val_is_not_taken_for_a_name_of_train(entry: str, tmp_path: Path) -> None:
    """Both parts have a cat/1; the list says which one is meant."""
    for part, value in (("train", 0), ("val", 100)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(3):
                Image.new("RGB", (4, 4), (value + k, 0, 0)).save(tmp_path / part / name / f"{k}.png")
    of = open_labeled(folder_spec(tmp_path))
    with pytest.raises(DataError, match=rf"{entry!r} is an image of val, not of train; it must not be labelled"):
        choose(listed(tmp_path, entry), of)
    for fine in ("cat/1", "train/cat/1.png", str(tmp_path / "train/cat/1.png"), "/elsewhere/train/cat/1.png"):
        assert choose(listed(tmp_path, fine), of).labeled == (1,)


def test_the_record_of_a_split(tmp_path: Path) -> None:
    of = parts([5, 5, 5], extra=2)
    split = choose("6", of, 3)
    record = manifest.write(tmp_path, split)
    assert manifest.load(tmp_path) == record
    assert (record.counts.labeled, record.counts.unlabeled, record.counts.masked) == (6, 17, 15)
    assert (tmp_path / "labeled.txt").read_text().splitlines() == [of.train.names[k] for k in split.labeled]
    assert (tmp_path / "unlabeled.txt").read_text().splitlines()[-1] == "unlabeled-1/more/00001"
    again = choose(str(tmp_path / "labeled.txt"), of)
    assert again.labeled == split.labeled


def test_copies_within_train_may_be_held_out(tmp_path: Path) -> None:
    for name, value in (("cat", 0), ("dog", 90)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(6):
            Image.new("RGB", (4, 4), (value + k // 2, 0, 0)).save(tmp_path / "train" / name / f"{k}.png")
    of = held_out(open_labeled(folder_spec(tmp_path)), 6)
    assert len(choose("all", of).labeled) == 6


# ------------------------------------------------------------------------------------------------------- in proportion


def uneven(sizes: list[int], stratify: bool = True) -> DataParts:
    return replace(parts(sizes), stratify=stratify)


@given(st.data())
def test_a_number_that_cannot_be_balanced_is_drawn_in_proportion(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=2, max_size=6))
    of, seed = uneven(sizes), data.draw(st.integers(0, 2**31))
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    split = choose(str(count), of, seed)
    counts = per_class(split, of)
    assert sum(counts) == count
    assert min(counts) >= 1
    assert all(k <= size for k, size in zip(counts, sizes, strict=True))
    if count % len(sizes) == 0 and count // len(sizes) <= min(sizes):
        assert split.labeled == choose(str(count), uneven(sizes, stratify=False), seed).labeled
        assert split.notices == ()
        return
    assert "in proportion to the classes" in split.notices[0]
    order = np.argsort(sizes, kind="stable")
    assert (np.diff(np.array(counts)[order]) >= -1).all(), "a larger class has no fewer, but for rounding"
    more = choose(str(data.draw(st.integers(count, sum(sizes)))), of, seed)
    if more.notices:
        assert set(split.labeled) <= set(more.labeled)


@pytest.mark.parametrize(
    ("labels", "sizes", "notice"),
    [
        (
            "100", [5, 5000, 995],
            "labels 100 cannot be balanced over 3 classes; the nearest that can: 99, 102. 100 are labelled in "
            "proportion to the classes: cat 1 … dog 83",
        ),
        (
            "60", [5, 5000],
            "labels 60 asks for 30 of each of 2 classes, but 'class 0' has 5. 60 are labelled in proportion to the "
            "classes: class 0 1 … class 1 59",
        ),
        (
            "1%", [5, 5000],
            "labels '1%' leaves no labelled image of 'class 0' (5). 50 are labelled in proportion to the classes: "
            "class 0 1 … class 1 49",
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_choice_in_proportion(labels: str, sizes: list[int], notice: str) -> None:
    assert choose(labels, uneven(sizes)).notices == (notice,)


def test_what_is_refused_all_the_same() -> None:
    for labels in ("2", "6001"):
        with pytest.raises(DataError, match=f"labels {labels} "):
            choose(labels, uneven([5, 5000, 995]))
    with pytest.raises(DataError, match="cannot be balanced"):
        choose("100", uneven([5, 5000, 995], stratify=False))


def held(of: DataParts) -> list[int]:
    assert of.val is not None
    return np.bincount(of.val.labels, minlength=len(of.class_names)).tolist()


def test_validation_images_in_proportion() -> None:
    found = held_out(replace(uneven([5, 5000]), val=None), None)
    assert held(found) == [1, 499]
    assert "500 are held out in proportion to the classes: class 0 1 … class 1 499" in found.notices[0]
    assert held(held_out(uneven([5, 5000], stratify=False), None)) == [2, 2]
    assert held(held_out(uneven([1, 99]), None)) == [0, 10]
    assert held(held_out(uneven([30, 20, 10]), 7)) == [4, 2, 1]
    with pytest.raises(DataError, match="at most 57 can go"):
        held_out(uneven([30, 20, 10]), 58)


@given(st.lists(st.integers(2, 60), min_size=2, max_size=6))
def test_validation_images_in_balance_stay_what_they_were(sizes: list[int]) -> None:
    old, new = (held_out(uneven(sizes, stratify), None) for stratify in (False, True))
    if "in proportion" not in new.notices[0]:
        assert old.val is not None
        assert new.val is not None
        assert list(old.val.names) == list(new.val.names)
    else:
        assert min(sizes) * len(sizes) // 2 < sum(sizes) // 10
