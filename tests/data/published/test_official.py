from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from semikit.data.published import official
from semikit.data.published.archives import members
from semikit.data.published.catalogue import Downloads, read_downloads, read_published
from semikit.data.published.official import labeled_images, list_file, shuffled, split_name
from semikit.data.published.prepared import Pair, Prepared, Record, write_list
from semikit.errors import DataError, UnknownNameError


def pairs_of(count: int) -> list[Pair]:
    return [(f"JPEGImages/{k:04}.jpg", f"SegmentationClass/{k:04}.png") for k in range(count)]


def make(root: Path, name: str, pairs: list[Pair], counts: dict[str, int] | None = None) -> Prepared:
    """A root whose record says that it is whole."""
    published = read_published(name)
    write_list(root, "train", pairs)
    return Prepared(published, root, Record(dataset=name, counts=counts or published.counts, masks="made"))


LINES = ["JPEGImages/0007.jpg SegmentationClass/0007.png", "JPEGImages/0002.jpg SegmentationClass/0002.png"]
TILES = ["whucd_00004.png", "whucd_00002.png"]
OTHERS = ["JPEGImages/0001.jpg SegmentationClass/0001.png"]


@pytest.fixture(params=["", "\n"], ids=["no end of line", "end of line"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Official lists, as files that end with a newline or without."""

    def digest(*lines: str) -> list[Any]:
        return [hashlib.sha256(("\n".join(lines) + request.param).encode()).hexdigest(), len(lines)]

    lists = {
        "remote-sensing/splits/whu/20%/labeled.txt": digest(*TILES),
        "splits/whu/20%/labeled.txt": digest(*TILES[::-1]),
        "splits/pascal/92/labeled.txt": digest(*LINES),
        "splits/pascal/183/labeled.txt": digest(*OTHERS),
        "splits/cityscapes/1_8/unlabeled.txt": digest(*LINES, *OTHERS),
    }
    made = Downloads.model_validate({"files": {}, "splits": {"urls": [], "lists": lists}})
    monkeypatch.setattr(official, "read_downloads", lambda: made)


@pytest.fixture
def pascal(tmp_path: Path) -> Prepared:
    list_file(tmp_path, "92").parent.mkdir(parents=True)
    return make(tmp_path, "pascal", pairs_of(10))


# ---------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("text", ["official:1/16", "1/16", "official:1_16", "1_16"])
def test_a_split_by_name(text: str) -> None:
    assert split_name(text, read_published("cityscapes")) == "1/16"


def test_an_unknown_split() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown official split of pascal '1/16'.* Known: 1464, 183, 366, 732, 92"
    ):
        split_name("official:1/16", read_published("pascal"))


# -------------------------------------------------------------------------------------------------------- fetched lists


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\n".join(LINES) + "\n",
        "\r\n".join(LINES) + "\r\n",
        "\ufeff" + "\n\n".join(f"  {line.replace(' ', chr(9))} " for line in LINES) + "\n\n",
    ],
    ids=["no end of line", "plain", "CRLF", "spaces and empty lines"],
)
def test_a_list_in_its_own_order(pascal: Prepared, text: str) -> None:
    list_file(pascal.path, "92").write_bytes(text.encode())
    assert labeled_images(pascal, "official:92") == ["JPEGImages/0007.jpg", "JPEGImages/0002.jpg"]


@pytest.mark.usefixtures("known")
def test_a_list_of_pairs_names_one_file_of_them(tmp_path: Path) -> None:
    prepared = make(tmp_path, "whu", [(f"A/whucd_{k:05}.png", f"label/whucd_{k:05}.png") for k in range(9)])
    assert list_file(tmp_path, "20%") == tmp_path / "splits/20%/labeled.txt"
    list_file(tmp_path, "20%").parent.mkdir(parents=True)
    list_file(tmp_path, "20%").write_text("\n".join(TILES) + "\n")
    assert labeled_images(prepared, "official:20%") == ["A/whucd_00004.png", "A/whucd_00002.png"]
    assert [prepared.published.named(image) for image in labeled_images(prepared, "20%")] == [
        "whucd_00004",
        "whucd_00002",
    ]
    list_file(tmp_path, "20%").write_text("\n".join(TILES[::-1]))
    with pytest.raises(DataError, match=r"the official list remote-sensing/splits/whu/20%/labeled\.txt has 1189 and"):
        labeled_images(prepared, "20%")


@pytest.mark.usefixtures("known")
def test_a_list_that_is_missing(pascal: Prepared) -> None:
    with pytest.raises(
        DataError, match=r"official:92: no list .*92/labeled\.txt.* semikit data fetch pascal --splits --root"
    ):
        labeled_images(pascal, "92")


WRONG = {
    "another split": (OTHERS, "is the official list splits/pascal/183/labeled.txt: it has 1 entries"),
    "another data set": ([*LINES, *OTHERS], "is the official list splits/cityscapes/1_8/unlabeled.txt"),
    "another order": (LINES[::-1], "is no official list of PASCAL VOC 2012, augmented: it has 2 entries"),
    "nothing": ([], "is no official list of PASCAL VOC 2012, augmented: it has 0 entries"),
}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("case", WRONG)
def test_a_list_that_is_not_the_official_one(pascal: Prepared, case: str) -> None:
    lines, told = WRONG[case]
    list_file(pascal.path, "92").write_text("\n".join(lines))
    with pytest.raises(DataError) as error:
        labeled_images(pascal, "92")
    assert told in str(error.value)
    assert "the official list splits/pascal/92/labeled.txt has 92 " in str(error.value)
    assert f"semikit data fetch pascal --splits --root {pascal.path}" in str(error.value)


@pytest.mark.usefixtures("known")
def test_a_list_that_is_no_text(pascal: Prepared) -> None:
    list_file(pascal.path, "92").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"is not a text file\. Delete it and run"):
        labeled_images(pascal, "92")


@pytest.mark.usefixtures("known")
def test_images_the_root_does_not_have(tmp_path: Path) -> None:
    list_file(tmp_path, "92").parent.mkdir(parents=True)
    list_file(tmp_path, "92").write_text("\n".join(LINES))
    prepared = make(tmp_path, "pascal", pairs_of(7))
    with pytest.raises(DataError, match=r"1 of 2 images of the list are not among .*: JPEGImages/0007\.jpg\. "):
        labeled_images(prepared, "92")


def test_a_root_that_is_not_as_published_has_no_official_lists(tmp_path: Path) -> None:
    prepared = make(tmp_path, "whu", [("A/train_r000_c000.png", "label/train_r000_c000.png")])
    own = prepared.record.model_copy(update={"own": "tiles of another cutting"})
    with pytest.raises(DataError, match=r"official:20%: .* is not as published \(tiles of another cutting\), so no"):
        labeled_images(Prepared(prepared.published, tmp_path, own), "20%")


def test_a_part_of_a_data_set_has_no_official_lists(tmp_path: Path) -> None:
    prepared = make(tmp_path, "pascal", pairs_of(10), {"train": 1464})
    with pytest.raises(DataError, match=r"only a part of .*\(train 1464 of 10582, val 0 of 1449 images\)"):
        labeled_images(prepared, "official:92")


# ------------------------------------------------------------------------------------------------------ generated lists


def test_a_generated_list_needs_no_file(tmp_path: Path) -> None:
    pairs = [(f"images/training/{k:05}.jpg", f"annotations/training/{k:05}.png") for k in range(1000)]
    prepared = make(tmp_path, "ade20k", pairs[::-1])
    found = labeled_images(prepared, "1/64")
    assert len(found) == 316
    assert labeled_images(prepared, "1/32")[:316] == found
    assert found[:3] == [line.partition(" ")[0] for line in shuffled(pairs)][:3]
    assert found != sorted(found)


# ------------------------------------------------------------------------------------------------- the published files

ARCHIVE = Path(os.environ.get("SEMIKIT_TEST_DATA", "")) / "official-splits.tar.xz"


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {member.name: member.read() for member in members(ARCHIVE)}


def lines_of(content: bytes) -> list[str]:
    return content.decode().splitlines()


@pytest.mark.real_data("official-splits.tar.xz")
def test_every_file_is_known(files: dict[str, bytes]) -> None:
    got = {path: (hashlib.sha256(content).hexdigest(), len(lines_of(content))) for path, content in files.items()}
    assert got == dict(read_downloads().splits.lists)


@pytest.mark.real_data("official-splits.tar.xz")
@pytest.mark.parametrize("split", read_published("ade20k").splits)
def test_generated_lists_are_the_published_ones(files: dict[str, bytes], tmp_path: Path, split: str) -> None:
    pairs = [tuple(line.split(" ")) for line in lines_of(files["splits/ade20k/all/labeled.txt"])]
    prepared = make(tmp_path, "ade20k", pairs)  # type: ignore[arg-type]
    order, count = shuffled(pairs), prepared.published.splits[split][0]  # type: ignore[arg-type]
    folder = f"splits/ade20k/{split.replace('/', '_')}"
    assert "\n".join(order[:count]).encode() == files[f"{folder}/labeled.txt"].rstrip(b"\n")
    assert "\n".join(order[count:]).encode() == files[f"{folder}/unlabeled.txt"].rstrip(b"\n")
    assert labeled_images(prepared, split) == [line.split()[0] for line in order[:count]]


TRAIN = {"pascal": "all/labeled.txt", "cityscapes": "all/train.txt", "ade20k": "all/labeled.txt"}


@pytest.mark.real_data("official-splits.tar.xz")
@pytest.mark.parametrize("name", TRAIN)
def test_unlabelled_is_the_complement(files: dict[str, bytes], name: str) -> None:
    train = set(lines_of(files[f"splits/{name}/{TRAIN[name]}"]))
    val = set(lines_of(files[f"splits/{name}/val.txt"]))
    for split, counts in read_published(name).splits.items():
        folder = f"splits/{name}/{split.replace('/', '_')}"
        labeled, unlabeled = (set(lines_of(files[f"{folder}/{part}labeled.txt"])) for part in ("", "un"))
        assert (len(labeled), len(unlabeled)) == counts
        assert unlabeled == train - labeled
        assert labeled <= train
        assert not labeled & val


@pytest.mark.real_data("official-splits.tar.xz")
@pytest.mark.parametrize("name", ["levir", "whu"])
def test_lists_of_pairs(files: dict[str, bytes], name: str) -> None:
    published = read_published(name)
    parts = {part: lines_of(files[f"{published.lists}/{part}.txt"]) for part in published.counts}
    assert {part: len(set(lines)) for part, lines in parts.items()} == published.counts
    assert len({line for lines in parts.values() for line in lines}) == sum(published.counts.values())
    smaller: set[str] = set()
    for split, counts in published.splits.items():
        labeled, unlabeled = (
            set(lines_of(files[f"{published.lists}/{split}/{kind}.txt"])) for kind in ("labeled", "unlabeled")
        )
        assert (len(labeled), len(unlabeled)) == counts
        assert unlabeled == set(parts["train"]) - labeled
        assert smaller < labeled < set(parts["train"]), "nested"
        smaller = labeled


@pytest.mark.real_data("official-splits.tar.xz")
def test_complements_of_coco(files: dict[str, bytes]) -> None:
    published = read_published("coco")
    for split, (labeled, unlabeled) in published.splits.items():
        lines = lines_of(files[f"splits/coco/{split.replace('/', '_')}/labeled.txt"])
        assert len(set(lines)) == len(lines) == labeled
        assert published.counts["train"] - len(lines) == unlabeled


@pytest.mark.real_data("official-splits.tar.xz")
@pytest.mark.parametrize("name", ["pascal", "cityscapes", "coco"])
def test_published_lists_are_read(files: dict[str, bytes], tmp_path: Path, name: str) -> None:
    splits = read_published(name).splits
    texts = {split: files[f"splits/{name}/{split.replace('/', '_')}/labeled.txt"] for split in splits}
    pairs = {tuple(line.split(" ")) for text in texts.values() for line in lines_of(text)}
    prepared = make(tmp_path, name, list(pairs))  # type: ignore[arg-type]
    for split, text in texts.items():
        list_file(tmp_path, split).parent.mkdir(parents=True)
        list_file(tmp_path, split).write_bytes(text.replace(b"\n", b" \r\n") + b"\r\n")
        images = labeled_images(prepared, f"official:{split}")
        assert images == [line.split()[0] for line in lines_of(text)]
        assert len(images) == splits[split][0]
