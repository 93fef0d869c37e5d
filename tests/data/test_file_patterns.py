"""Which files a pattern means, and which pattern is advised where names of masks are not those of their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.data.file_patterns import list_place
from semikit.data.image_pairs import open_pair_folders
from semikit.data.masked_images import MaskedImages, load_spec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.samples import DataParts
from semikit.errors import DataError
from tests.helpers import photos

VAL = {"images": "val/images", "masks": "val/masks"}


def files(root: Path, *names: str) -> None:
    """Small images; each has a gray of its own."""
    for k, name in enumerate(names):
        photos.save(root / name, np.full((6, 8), k % 2))


def opened(root: Path, train: Any, **more: Any) -> DataParts:
    files(root, "val/images/v.png", "val/masks/v.png")
    return open_folders(load_spec({"train": train, "val": VAL, "classes": ["a", "b"], **more}, root))


def matched(source: Any, root: Path) -> dict[str, tuple[str, str | None]]:
    """Name -> image and mask, below the root."""
    assert isinstance(source, MaskedImages)
    short = [None if path is None else path.relative_to(root).as_posix() for path in (*source.images, *source.masks)]
    half = len(source)
    return dict(zip(source.names, zip(short[:half], short[half:], strict=True), strict=True))  # type: ignore[arg-type]


class TestMasks:
    @pytest.mark.parametrize(
        "masks", ["labels/{stem}_mask.png", "labels/*_mask.png", "labels/{stem}_mask", "labels/{stem}_mask.*"]
    )
    def test_an_addition(self, tmp_path: Path, masks: str) -> None:
        files(tmp_path, "images/1.jpg", "images/2.jpg", "labels/1_mask.png", "labels/1.png", "labels/1_other.png")
        parts = opened(tmp_path, {"images": "images", "masks": masks})
        assert matched(parts.train, tmp_path) == {
            "1": ("images/1.jpg", "labels/1_mask.png"),
            "2": ("images/2.jpg", None),
        }
        assert parts.unused == []

    def test_in_the_folder_of_the_images(self, tmp_path: Path) -> None:
        files(tmp_path, "data/1.png", "data/1_mask.png", "data/2.png", "data/3_mask.png")
        parts = opened(tmp_path, {"images": "data", "masks": "data/{stem}_mask.png"})
        assert matched(parts.train, tmp_path) == {"1": ("data/1.png", "data/1_mask.png"), "2": ("data/2.png", None)}
        (unused,) = parts.unused
        assert str(unused).startswith(f"train.masks: 1 not used, masks without an image: {tmp_path}/data/3_mask.png.")

    @pytest.mark.parametrize("images", ["data/{stem}.png", "data/*.png", "data/{name}.png"])
    def test_both_by_patterns(self, tmp_path: Path, images: str) -> None:
        files(tmp_path, "data/1.png", "data/1_mask.png", "data/2.PNG", "data/2_mask.PNG", "data/other.bmp")
        parts = opened(tmp_path, {"images": images, "masks": "data/{stem}_mask.png"})
        assert matched(parts.train, tmp_path) == {
            "1": ("data/1.png", "data/1_mask.png"),
            "2": ("data/2.PNG", "data/2_mask.PNG"),
        }

    def test_what_nearly_fits_is_named(self, tmp_path: Path) -> None:
        files(tmp_path, "d/1_img.png", "d/1_mask.png", "d/1_img.jpg", "d/2_img.png", "d/2_Mask.png", "d/3_Img.png")
        files(tmp_path, "d/4_img.jpg")
        parts = opened(tmp_path, {"images": "d/{stem}_img.png", "masks": "d/{stem}_mask.png"})
        assert matched(parts.train, tmp_path)["2"] == ("d/2_img.png", None)
        named = {one.part: [path.name for path, _ in one.files] for one in parts.unused}
        assert named == {"train.images": ["3_Img.png", "4_img.jpg"], "train.masks": ["2_Mask.png"]}
        assert "would fit but for upper and lower case or the suffix" in str(parts.unused[0])

    def test_one_stem_and_two_suffixes(self, tmp_path: Path) -> None:
        files(tmp_path, "data/1.jpg", "data/1.png")
        with pytest.raises(
            DataError, match=r'two files of one name: .*say which files are meant .*data/\{stem\}\.jpg"'
        ):
            opened(tmp_path, {"images": "data", "masks": "elsewhere"})
        parts = opened(tmp_path, {"images": "data/{stem}.jpg", "masks": "data/{stem}.png"})
        assert matched(parts.train, tmp_path) == {"1": ("data/1.jpg", "data/1.png")}

    def test_subfolders(self, tmp_path: Path) -> None:
        files(tmp_path, "i/a/1.png", "i/b/1.png", "m/a/1_gt.png", "m/b/1_gt.png")
        parts = opened(tmp_path, {"images": "i", "masks": "m/{name}_gt.png"})
        assert matched(parts.train, tmp_path) == {
            "a/1": ("i/a/1.png", "m/a/1_gt.png"),
            "b/1": ("i/b/1.png", "m/b/1_gt.png"),
        }

    def test_masks_in_one_folder_of_images_in_several(self, tmp_path: Path) -> None:
        files(tmp_path, "i/a/1.png", "i/b/2.png", "m/1_gt.png", "m/2_gt.png")
        parts = opened(tmp_path, {"images": "i", "masks": "m/{stem}_gt.png"})
        assert matched(parts.train, tmp_path) == {
            "a/1": ("i/a/1.png", "m/1_gt.png"),
            "b/2": ("i/b/2.png", "m/2_gt.png"),
        }

    def test_a_mask_for_two_images(self, tmp_path: Path) -> None:
        files(tmp_path, "i/a/1.png", "i/b/1.png", "m/1_gt.png")
        with pytest.raises(DataError, match=r"m/1_gt\.png would belong to both a/1 and b/1. Write \{name\}"):
            opened(tmp_path, {"images": "i", "masks": "m/{stem}_gt.png"})

    def test_cityscapes(self, tmp_path: Path) -> None:
        for city in ("aachen", "bonn"):
            name = f"{city}_000000_000019"
            files(tmp_path, f"leftImg8bit/train/{city}/{name}_leftImg8bit.png")
            files(tmp_path, *(f"gtFine/train/{city}/{name}_gtFine_{kind}.png" for kind in ("color", "labelIds")))
        train = {
            "images": "leftImg8bit/train/{name}_leftImg8bit.png",
            "masks": "gtFine/train/{name}_gtFine_labelIds.png",
        }
        source = opened(tmp_path, train).train
        assert source.names == ("aachen/aachen_000000_000019", "bonn/bonn_000000_000019")
        assert [source.has_target(k) for k in range(2)] == [True, True]

    def test_the_name_as_a_folder_and_again(self, tmp_path: Path) -> None:
        files(tmp_path, "s/one/one_x.png", "s/two/two_x.png", "s/two/one_x.png", "s/one/gt.png")
        parts = opened(tmp_path, {"images": "s/{stem}/{stem}_x.png", "masks": "s/{stem}/gt.png"})
        assert matched(parts.train, tmp_path) == {
            "one": ("s/one/one_x.png", "s/one/gt.png"),
            "two": ("s/two/two_x.png", None),
        }

    def test_a_folder_that_is_called_like_a_pattern(self, tmp_path: Path) -> None:
        files(tmp_path, "{stem}/1.png", "m/1.png")
        assert opened(tmp_path, {"images": "{stem}", "masks": "m"}).train.names == ("1",)

    def test_unlabelled_images_by_a_pattern(self, tmp_path: Path) -> None:
        files(tmp_path, "i/1.png", "m/1.png", "more/1.jpg", "more/1_mask.png")
        parts = opened(tmp_path, {"images": "i", "masks": "m"}, unlabeled="more/{stem}.jpg")
        assert parts.unlabeled[0].names == ("1",)

    @pytest.mark.parametrize("place", ["i/{stem}*.png", "i/{stem}/{name}.png"])
    def test_one_kind_of_place(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "i").mkdir()
        with pytest.raises(DataError, match=r"use one of \{stem\}, \{name\} and \*"):
            list_place(tmp_path / place, "train.masks")

    def test_no_such_folder(self, tmp_path: Path) -> None:
        (tmp_path / "labels").mkdir()
        with pytest.raises(
            DataError, match=r"train\.masks: no image fits .*no such folder: .*lables.* folders: labels"
        ):
            list_place(tmp_path / "lables/{stem}.png", "train.masks")

    def test_a_mask_among_the_images_of_another_part(self, tmp_path: Path) -> None:
        files(tmp_path, "i/1.png", "more/1_mask.png", "more/2.png")
        for more in ({}, {"allow_overlap": True}):
            with pytest.raises(DataError, match=r"1_mask\.png is a mask of train and an image of unlabeled\[0\]"):
                opened(tmp_path, {"images": "i", "masks": "more/{stem}_mask.png"}, unlabeled="more", **more)

    def test_masks_through_a_link_among_the_images(self, tmp_path: Path) -> None:
        files(tmp_path, "i/1.png", "more/1.png", "more/2.png")
        (tmp_path / "m").symlink_to(tmp_path / "more")
        with pytest.raises(DataError, match=r"m/1\.png is a mask of train and an image of unlabeled\[0\]"):
            opened(tmp_path, {"images": "i", "masks": "m"}, unlabeled="more")


class TestAdvice:
    """Where no mask fits by its name, the line that would bring them together is in the message, and it works."""

    @pytest.mark.parametrize(
        ("images", "masks", "line"),
        [
            ("i/{}.jpg", "m/{}_mask.png", "m/{stem}_mask.png"),
            ("i/{}.jpg", "m/{}-GT.png", "m/{stem}-GT.png"),
            ("i/{}.jpg", "m/mask_{}.png", "m/mask_{stem}.png"),
            ("i/{}.jpg", "m/{}_L.png", "m/{stem}_L.png"),
            ("i/c/{}.jpg", "m/c/{}_labelIds.png", "m/{name}_labelIds.png"),
            ("i/c/{}.jpg", "m/{}_seg.png", "m/{stem}_seg.png"),
            ("i/c/{}.jpg", "m/{}.png", "m/{stem}.png"),
            ("i/{}.jpg", "m/train/{}.png", "m/train/{stem}.png"),
            ("i/{}.jpg", "m/train/{}_gt.png", "m/train/{stem}_gt.png"),
        ],
    )
    def test_of_masks(self, tmp_path: Path, images: str, masks: str, line: str) -> None:
        for k in ("1", "10", "2"):
            files(tmp_path, images.format(k), masks.format(k))
        told = rf'3 masks fit where train says masks: "{tmp_path}/{line}"'
        with pytest.raises(DataError) as raised:
            opened(tmp_path, {"images": "i", "masks": "m"})
        assert told in str(raised.value)
        source = opened(tmp_path, {"images": "i", "masks": f"{tmp_path}/{line}"}).train
        assert all(source.has_target(k) for k in range(3))

    def test_of_both(self, tmp_path: Path) -> None:
        for name in ("aachen/aachen_000000_000019", "aachen/aachen_000001_000019", "bonn/bonn_000000_000019"):
            kinds = ("color", "instanceIds", "labelIds")
            files(tmp_path, f"i/{name}_leftImg8bit.png", *(f"m/{name}_gtFine_{kind}.png" for kind in kinds))
        told = f'images: "{tmp_path}/i/{{name}}_leftImg8bit.png", masks: "{tmp_path}/m/{{name}}_gtFine_labelIds.png"'
        with pytest.raises(DataError) as raised:
            opened(tmp_path, {"images": "i", "masks": "m"})
        assert told in str(raised.value)

    def test_of_one_folder_for_both(self, tmp_path: Path) -> None:
        files(tmp_path, *(f"data/{k}.png" for k in range(20)), "data/1_mask.png", "data/2_mask.png")
        told = f'images and masks are the same folder, .*such as masks: "{tmp_path}/data/{{stem}}_mask.png"'
        with pytest.raises(DataError, match=told.replace("{", r"\{")):
            opened(tmp_path, {"images": "data", "masks": "data"})

    def test_of_names_that_have_nothing_in_common(self, tmp_path: Path) -> None:
        files(tmp_path, "i/cat.png", "m/dog.png")
        with pytest.raises(DataError, match=r"A mask has its image's name .* in the same subfolder\.$"):
            opened(tmp_path, {"images": "i", "masks": "m"})

    def test_of_letters(self, tmp_path: Path) -> None:
        files(tmp_path, "i/train1.png", "i/train2.png", "m/Train1.png", "m/Train2.png")
        with pytest.raises(
            DataError, match=r"2 masks whose image's name differs in upper and lower case: .*Train1\.png"
        ):
            opened(tmp_path, {"images": "i", "masks": "m"})

    def test_of_label_files(self, tmp_path: Path) -> None:
        files(tmp_path, "i/1.png")
        for name in ("1.json", "2.json"):
            (tmp_path / "m").mkdir(exist_ok=True)
            (tmp_path / "m" / name).write_text("{}")
        with pytest.raises(
            DataError, match=r"no image in .*It holds label files \(1\.json, 2\.json\)\. `semikit data conv"
        ):
            opened(tmp_path, {"images": "i", "masks": "m"})


class TestPairs:
    def test_three_kinds_of_files_in_one_folder(self, tmp_path: Path) -> None:
        for k in "12":
            for part in ("d", "v"):
                photos.save(tmp_path / part / f"{k}_A.png", np.zeros((6, 8, 3)))
                photos.save(tmp_path / part / f"{k}_B.png", np.ones((6, 8, 3)))
        files(tmp_path, "d/1_gt.png", "v/1_gt.png", "v/2_gt.png")
        parts = {
            part: {
                "images_a": f"{d}/{{stem}}_A.png",
                "images_b": f"{d}/{{stem}}_B.png",
                "masks": f"{d}/{{stem}}_gt.png",
            }
            for part, d in (("train", "d"), ("val", "v"))
        }
        train = open_pair_folders(load_pairs(parts, tmp_path)).train
        assert train.names == ("1", "2")
        assert [path.name for path in train.files(0)] == ["1_A.png", "1_B.png"]
        assert (train.has_target(0), train.has_target(1)) == (True, False)

    def test_masks_in_the_folder_of_the_first_date(self, tmp_path: Path) -> None:
        for date in "AB":
            photos.save(tmp_path / date / "1.png", np.full((6, 8, 3), ord(date)))
        files(tmp_path, "A/1_mask.png")
        part = {"images_a": "A", "images_b": "B", "masks": "A/{stem}_mask.png"}
        train = open_pair_folders(load_pairs({"train": part, "val": 0.5}, tmp_path)).train
        assert (train.names, train.has_target(0)) == (("1",), True)

    def test_the_line_that_fits(self, tmp_path: Path) -> None:
        for date in "AB":
            photos.save(tmp_path / date / "1.png", np.full((6, 8, 3), ord(date)))
        files(tmp_path, "m/1_mask.png")
        part = {"images_a": "A", "images_b": "B", "masks": "m"}
        with pytest.raises(DataError, match=rf'no pair has a mask.* masks: "{tmp_path}/m/\{{stem\}}_mask\.png"'):
            open_pair_folders(load_pairs({"train": part, "val": 0.5}, tmp_path))
