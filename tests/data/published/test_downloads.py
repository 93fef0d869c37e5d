from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from semikit.data.published.catalogue import Download, downloads_of, published_names, read_downloads, read_published
from semikit.errors import UnknownNameError

NAMES = published_names()
FILES = [(name, file) for name in NAMES for file in read_downloads().files[name]]
COMMIT = "f6afb4dfca2d9dcbcee2307e97717954ca75c0ba"


def test_every_data_set_has_its_downloads() -> None:
    listed = ["ade20k", "cityscapes", "clcd", "coco", "dsifn", "levir", "levir-plus", "oscd", "pascal", "sysu", "whu"]
    assert sorted(read_downloads().files) == NAMES == listed


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda item: getattr(item, "name", item))
def test_what_can_be_fetched_has_an_address_and_the_rest_a_way(name: str, file: Download) -> None:
    assert file.what
    if file.digest is not None:
        assert file.source
    if not file.urls:
        assert re.search(r"https://\S+", str(file.by_hand))
        assert file.digest is None
    assert all(file.name in url or file.digest is not None for url in file.urls)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_theirs_alone(name: str) -> None:
    files = [file.name for file in read_downloads().files[name]]
    assert len(set(files)) == len(files)


def test_only_these_addresses_are_without_a_checksum() -> None:
    bare = [file.name for _, file in FILES if file.urls and file.digest is None]
    assert bare == ["LEVIR-CD.zip", "SegmentationClassAug.zip", "WHU-CD.zip"]


def test_optional_files_are_given_by_their_part_only() -> None:
    assert [file.name for file in downloads_of("coco")] == [
        "annotations_trainval2017.zip",
        "val2017.zip",
        "train2017.zip",
    ]
    assert [file.name for file in downloads_of("coco", ("unlabeled", "val"))] == ["val2017.zip", "unlabeled2017.zip"]


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown part of the downloads of coco 'unlabelled'. Did you mean"):
        downloads_of("coco", ("unlabelled",))
    with pytest.raises(UnknownNameError, match="unknown published data set 'koko'"):
        downloads_of("koko")


@pytest.mark.parametrize(
    "change",
    [
        {"urls": ["file:///etc/passwd"]},
        {"urls": ["ftp://x/a.zip"]},
        {"urls": []},
        {"by_hand": "Log in."},
        {"name": "../a.zip"},
        {"md5": "abc"},
        {"bytes": 0},
    ],
    ids=str,
)
def test_what_no_entry_may_say(change: dict[str, object]) -> None:
    entry = {"name": "a.zip", "what": "images", "part": "images", "urls": ["https://x/a.zip"]}
    assert Download.model_validate(entry).urls == ("https://x/a.zip",)
    with pytest.raises(ValidationError):
        Download.model_validate({**entry, **change})


# -------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize("name", [name for name in NAMES if read_published(name).splits])
def test_lists_and_official_splits_agree(name: str) -> None:
    published, lists = read_published(name), read_downloads().splits.of(name)
    folders = {split.replace("/", "_"): counts for split, counts in published.splits.items()}
    for folder, (labeled, unlabeled) in folders.items():
        assert lists[f"{folder}/labeled.txt"][1] == labeled
        if name != "coco":  # its unlabelled lists are the complement
            assert lists[f"{folder}/unlabeled.txt"][1] == unlabeled
    parts = {f"{part}.txt" for part in published.masked} if published.pairs else {"val.txt"}
    assert {path.partition("/")[0] for path in lists} - {"all"} == {*folders, *parts}
    assert lists["val.txt"][1] == published.counts["val"]
    for path, part in {
        "all/labeled.txt": "train",
        "all/train.txt": "train",
        "all/unlabeled.txt": "train_extra",
        "train.txt": "train",
        "test.txt": "test",
    }.items():
        if path in lists:
            assert lists[path][1] == published.counts[part]


def test_lists_of_change_detection_are_kept_too() -> None:
    lists = read_downloads().splits.lists
    assert len(lists) == 67
    for name, splits, train in (("levir", (356, 712, 1424, 2848), 7120), ("whu", (297, 594, 1189, 2378), 5947)):
        begin = f"remote-sensing/splits/{name}"
        for share, labeled in zip((5, 10, 20, 40), splits, strict=True):
            assert lists[f"{begin}/{share}%/labeled.txt"][1] == labeled
            assert lists[f"{begin}/{share}%/unlabeled.txt"][1] == train - labeled
        assert lists[f"{begin}/train.txt"][1] == train


def test_checksums_are_told_apart() -> None:
    digests = [digest for digest, _ in read_downloads().splits.lists.values()]
    assert len(set(digests)) == len(digests)


def test_addresses_of_a_list_name_one_commit() -> None:
    addresses = read_downloads().splits.addresses("remote-sensing/splits/levir/5%/labeled.txt")
    assert len(addresses) == 2
    for address in addresses:
        assert address.startswith("https://")
        assert COMMIT in address
        assert address.endswith("/5%25/labeled.txt")
        assert unquote(address).endswith("remote-sensing/splits/levir/5%/labeled.txt")
