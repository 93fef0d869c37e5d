from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semikit.data.check import check_samples, parts_of
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.masked_images import DataSpec, open_folders
from semikit.data.samples import DataParts, Samples
from semikit.data.splits import choose
from semikit.errors import DataError


@dataclass(frozen=True)
class Made(Samples):
    """A source of names; some have masks."""

    names: tuple[str, ...]
    masked: frozenset[int]

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int, region: Any = None) -> Any:
        raise AssertionError("not opened")

    def target(self, index: int, region: Any = None) -> Any:
        raise AssertionError("not opened")

    def has_target(self, index: int) -> bool:
        return index in self.masked


def made(count: int, part: str = "train", masked: int | None = None) -> Made:
    return Made(tuple(f"{part}/{k:04d}" for k in range(count)), frozenset(range(count if masked is None else masked)))


VAL = made(5, "val")


def parts(train: Made, *unlabeled: Made) -> DataParts:
    return DataParts(train, unlabeled, VAL, None, ("a", "b"))


@given(st.data())
def test_labelled_and_unlabelled_part_everything(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 200))
    masked = data.draw(st.sets(st.integers(0, total - 1), min_size=1))
    extra = data.draw(st.lists(st.integers(1, 30), max_size=3))
    count = data.draw(st.integers(1, len(masked)))
    train = Made(made(total).names, frozenset(masked))
    seed = data.draw(st.integers(0, 2**31))
    split = choose(str(count), parts(train, *(made(k, f"extra{k}") for k in extra)), seed)
    assert len(split.labeled) == len(set(split.labeled)) == count
    assert set(split.labeled) <= masked
    assert not set(split.labeled) & set(split.unlabeled)
    assert sorted((*split.labeled, *split.unlabeled)) == list(range(total + sum(extra)))
    more = choose(str(data.draw(st.integers(count, len(masked)))), parts(train), seed)
    assert set(split.labeled) <= set(more.labeled)


@given(above=st.integers(1, 50), below=st.integers(1, 50), total=st.integers(1, 500))
def test_a_fraction_is_rounded(above: int, below: int, total: int) -> None:
    if above > below or round(total * above / below) == 0:
        return
    split = choose(f"{above}/{below}", parts(made(total + 7, masked=total)))
    assert abs(len(split.labeled) - total * above / below) <= 0.5
    assert split.masked == total


def test_known_counts() -> None:
    assert len(choose("1/8", parts(made(367))).labeled) == 46
    assert len(choose("1/16", parts(made(2975))).labeled) == 186
    assert len(choose("1/2", parts(made(2975))).labeled) == 1488


def test_a_seed_is_a_choice() -> None:
    first, again, other = (choose("20", parts(made(100)), seed).labeled for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first != tuple(range(20))


def test_without_labels_all_with_masks_are_labelled() -> None:
    split = choose(None, parts(made(10, masked=4)))
    assert (split.family, split.labeled, split.unlabeled) == ("all", (0, 1, 2, 3), (4, 5, 6, 7, 8, 9))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("11", "asks for 11 images, but only 10 of train have a mask"),
        ("0", "is 0 of 10 images with a mask; at least 1"),
        ("1/100", "is 0 of 10 images with a mask; at least 1"),
        ("1/0", "'1/0' is not a fraction between 0 and 1"),
        ("3/2", "'3/2' is not a fraction between 0 and 1"),
        (
            "1/x",
            r"'1/x': no such file, and neither a number nor a fraction\. Give a number \(46\), a fraction \(1/16, 10%",
        ),
        ("-3", "no such file"),
        ("150%", "'150%' is not a fraction between 0 and 1"),
        ("1.5", "'1.5' is not a fraction between 0 and 1"),
        ("ten%", "no such file"),
        ("lists/labeled.txt", "no such file"),
    ],
)
def test_wrong_options(labels: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        choose(labels, parts(made(12, masked=10)))


@pytest.mark.parametrize("labels", ["1/10", "10%", "0.1", ".1", "10.0%"])
def test_a_fraction_in_every_spelling(labels: str) -> None:
    of = parts(made(60, masked=50))
    assert choose(labels, of).labeled == choose("5", of).labeled


def test_no_mask_at_all() -> None:
    with pytest.raises(DataError, match="no image of train has a mask"):
        choose("1", parts(made(3, masked=0)))


@pytest.mark.parametrize("entry", ["city/b1", "city/b1.png", "b1", "b1.jpg", "/data/train/city/b1.png", "city/b1 "])
def test_a_list_names_images_in_many_ways(tmp_path: Path, entry: str) -> None:
    train = Made(("city/a1", "city/b1", "town/a1"), frozenset({0, 1, 2}))
    path = tmp_path / "list.txt"
    path.write_text(f"# chosen by hand\n\n{entry}\n")
    split = choose(str(path), parts(train))
    assert (split.family, split.labeled, split.unlabeled) == ("file", (1,), (0, 2))


@pytest.mark.parametrize("entry", ["a1", "a1.png", "images/a1.png"])
def test_a_whole_name_is_not_the_end_of_another(tmp_path: Path, entry: str) -> None:
    """The list that a run wrote of an image beside a folder that holds its namesake."""
    path = tmp_path / "list.txt"
    path.write_text(entry)
    assert choose(str(path), parts(Made(("a1", "unlabeled-1/a1"), frozenset({0})))).labeled == (0,)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("city/b2", r"no image of train is named 'city/b2'\. Did you mean 'city/b1'"),
        ("a1", r"'a1' fits 2 images: city/a1, town/a1\. Write the subfolder too"),
        ("b1\ncity/b1.png", r"'city/b1\.png' and 'b1' are the same image"),
        ("c1", "the image 'c1' has no mask"),
        ("val/0002", "'val/0002' is an image of val, not of train"),
        ("# nothing", "names no image"),
    ],
)
def test_wrong_lists(tmp_path: Path, lines: str, sentence: str) -> None:
    train = Made(("city/a1", "city/b1", "town/a1", "c1"), frozenset({0, 1, 2}))
    path = tmp_path / "list.txt"
    path.write_text(lines)
    with pytest.raises(DataError, match=sentence):
        choose(str(path), parts(train))


def test_masks_of_unlabelled_images_are_never_opened(
    folder: Path, spec: DataSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their masks are broken, and every mask that is opened is written down."""
    import semikit.data.masked_images as module

    opened: list[str] = []
    read = module.read_mask
    monkeypatch.setattr(
        module, "read_mask", lambda path, *more, **of: (opened.append(path.stem), read(path, *more, **of))[1]
    )
    listed = tmp_path / "list.txt"
    listed.write_text("train1\ntrain4\n")
    for k in (0, 2, 3, 5):
        (folder / f"train/masks/train{k}.png").write_text("broken")
    sources = open_folders(spec)
    split = choose(str(listed), sources)
    check_samples(parts_of(split, sources.val), 3)

    def make(stream: str, index: int, rng: np.random.Generator) -> Any:
        if stream == "unlabeled":
            return split.pool.image(split.unlabeled[index])[0]
        return sources.train.target(split.labeled[index])

    streams = [Stream("labeled", len(split.labeled), 2), Stream("unlabeled", len(split.unlabeled), 2)]
    loader: StepLoader[Any] = StepLoader(streams, make, 0, range(6))
    assert len(list(loader)) == 6
    assert set(opened) == {"train1", "train4", "val0", "val1", "val2"}


def test_a_list_that_a_run_wrote_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Whatever the names look like: a comment, a blank before it, a separator of lines of another alphabet."""
    train = Made(("#a", " lead", "a\u2028b", "plain"), frozenset(range(4)))
    path = tmp_path / "labeled.txt"
    path.write_text("# labelled\n" + "".join(f"{name}\n" for name in train.names), encoding="utf-8")
    assert choose(str(path), parts(train)).labeled == (0, 1, 2, 3)
