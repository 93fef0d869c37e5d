"""Supplied files that are not used: none is lost in silence, and what nobody supplied is not spoken of."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.data.check import Part, check_samples
from semikit.data.image_pairs import open_pair_folders
from semikit.data.label_spec import LabelSpec, load_labels
from semikit.data.labeled_images import open_labeled
from semikit.data.leftovers import with_leftovers
from semikit.data.masked_images import load_spec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.data.samples import DataParts
from semikit.errors import DataError
from tests.helpers import icons, photos

PARTS = ("train", "val")


@pytest.fixture
def seg(tmp_path: Path) -> Path:
    """A root with three images and masks in each part."""
    for part in PARTS:
        for k in range(3):
            photos.save(tmp_path / f"{part}/images/{part}00{k}.jpg", np.full((6, 8, 3), k))
            photos.save(tmp_path / f"{part}/masks/{part}00{k}.png", np.full((6, 8), k % 2))
    return tmp_path


def opened(root: Path, **more: Any) -> DataParts:
    parts = {part: {"images": f"{part}/images", "masks": f"{part}/masks"} for part in PARTS}
    return open_folders(load_spec({**parts, "classes": ["a", "b"], **more}, root))


def told(parts: DataParts, root: Path) -> list[str]:
    return [str(one).replace(f"{root}/", "") for one in parts.unused]


class TestMasks:
    def test_all_are_used(self, seg: Path) -> None:
        photos.save(seg / "train/images/more.jpg", np.zeros((6, 8, 3)))  # without a mask: learned from as unlabelled
        assert opened(seg).unused == []

    @pytest.mark.parametrize(
        ("image", "mask", "kind"),
        [
            ("x.jpg", "X.png", "masks whose image's name differs in upper and lower case"),
            ("X.JPG", "x.png", "masks whose image's name differs in upper and lower case"),
            ("x.jpg", "x.jpg.png", "masks with the image's suffix in the name, or the other way round"),
            ("x.tif.jpg", "x.png", "masks with the image's suffix in the name, or the other way round"),
            ("a/x.jpg", "b/x.png", "masks whose image lies in another subfolder"),
            ("a/x.jpg", "x.png", "masks whose image lies in another subfolder"),
        ],
    )
    def test_the_likely_cause(self, seg: Path, image: str, mask: str, kind: str) -> None:
        photos.save(seg / "train/images" / image, np.zeros((6, 8, 3)))
        photos.save(seg / "train/masks" / mask, np.zeros((6, 8)))
        parts = opened(seg)
        name = Path(image).name
        assert [one.partition(". ")[0] for one in told(parts, seg)] == [
            f"train.masks: 1 not used, {kind}: train/masks/{mask} (image {name})"
        ]
        assert sum(parts.train.has_target(k) for k in range(len(parts.train))) == 3

    def test_composed_and_decomposed_letters(self, seg: Path) -> None:
        photos.save(seg / "train/images" / unicodedata.normalize("NFD", "höhe.jpg"), np.zeros((6, 8, 3)))
        photos.save(seg / "train/masks" / unicodedata.normalize("NFC", "höhe.png"), np.zeros((6, 8)))
        (text,) = told(opened(seg), seg)
        assert "1 not used, masks whose image's name is in another Unicode form" in text

    @pytest.mark.parametrize("suffix", ["PSD", "dng", "tga", "npy", "CR2", "jxl"])
    def test_an_image_that_is_not_read(self, seg: Path, suffix: str) -> None:
        (seg / f"train/images/x.{suffix}").write_bytes(b"")
        photos.save(seg / "train/masks/x.png", np.zeros((6, 8)))
        images, masks = told(opened(seg), seg)
        assert images.startswith(
            f"train.images: 1 not used, of a type that is not read (.{suffix.lower()}): train/images/x."
        )
        assert masks.startswith(
            "train.masks: 1 not used, masks whose image is of a type that is not read: train/masks/x.png"
        )

    def test_no_image_at_all(self, seg: Path) -> None:
        for k in range(5):
            photos.save(seg / f"val/masks/gone{k}.png", np.zeros((6, 8)))
        places = ", ".join(f"val/masks/gone{k}.png" for k in range(3))
        assert told(opened(seg), seg) == [
            f"val.masks: 5 not used, masks without an image: {places} and 2 more. "
            "Add the images, or take the masks away."
        ]

    def test_an_image_that_has_a_mask_is_not_the_cause(self, seg: Path) -> None:
        photos.save(seg / "train/masks/Train000.png", np.zeros((6, 8)))
        assert "masks without an image" in told(opened(seg), seg)[0]

    def test_label_files_among_them(self, seg: Path) -> None:
        for name in ("train000.json", "instances.json", "train001.txt", "classes.txt", "train002.xml", "area.geojson"):
            (seg / "train/masks" / name).write_text("")
        (text,) = told(opened(seg), seg)
        assert text.startswith("train.masks: 5 not used, label files that are no masks: train/masks/area.geojson, ")
        assert text.endswith("`semikit data convert LABELS --images IMAGES -o DIR` makes masks of label files.")

    def test_masks_of_a_type_that_is_not_read(self, seg: Path) -> None:
        (seg / "train/masks/x.npy").write_bytes(b"")
        assert told(opened(seg), seg)[0].startswith(
            "train.masks: 1 not used, of a type that is not read (.npy): train/"
        )

    def test_a_missing_mask_says_what_is_beside_it(self, seg: Path) -> None:
        (seg / "val/masks/val001.png").rename(seg / "val/masks/Val001.png")
        val = opened(seg).val
        assert val is not None
        with pytest.raises(
            DataError, match=r"image without mask: val001.*\n.*differs in upper and lower case: .*Val001"
        ):
            check_samples([Part("val", val, range(3), masks=True)], 2)


class TestPlacesOfSeveralParts:
    def test_one_folder_of_masks_for_all(self, seg: Path) -> None:
        for part in PARTS:
            for k in range(3):
                photos.save(seg / f"all/{part}00{k}.png", np.zeros((6, 8)))
        photos.save(seg / "all/gone.png", np.zeros((6, 8)))
        parts = {part: {"images": f"{part}/images", "masks": "all"} for part in PARTS}
        found = told(opened(seg, **parts), seg)
        assert found == [
            "train.masks: 1 not used, masks without an image: all/gone.png. Add the images, or take the masks away."
        ]

    def test_a_file_beside_images_of_several_parts_is_named_once(self, seg: Path) -> None:
        for part in PARTS:
            photos.save(seg / f"both/{part}.jpg", np.zeros((6, 8, 3)))
            photos.save(seg / f"both/{part}.png", np.zeros((6, 8)))
        (seg / "both/x.psd").write_bytes(b"")
        parts = {part: {"images": f"both/{part[0]}{{stem}}", "masks": f"both/{part[0]}{{stem}}.png"} for part in PARTS}
        (seg / "both/tx.psd").write_bytes(b"")
        assert [one.partition(". ")[0] for one in told(opened(seg, **parts), seg)] == [
            "train.images: 1 not used, of a type that is not read (.psd): both/tx.psd"
        ]


class TestWhatNobodySupplied:
    def test_is_not_spoken_of(self, seg: Path) -> None:
        names = "README LICENSE readme.md notes.txt Thumbs.db desktop.ini .DS_Store ._x.png x.aux.xml x.tfw x.ovr x.prj"
        for name in f"{names} train000.jgw train000.json classes.csv x.shp data.yaml".split():
            (seg / "train/images" / name).write_bytes(b"")
        assert opened(seg).unused == []

    def test_names_that_cannot_be_printed(self, seg: Path) -> None:
        for name in (b"\xff.psd", b"a\nb.psd"):
            (Path(os.fsdecode(os.fsencode(seg / "train/images") + b"/" + name))).write_bytes(b"")
        (text,) = told(opened(seg), seg)
        assert text.isprintable()
        assert r"a\nb.psd" in text
        assert r"\udcff.psd" in text

    def test_a_pipe_is_and_is_not_waited_for(self, seg: Path) -> None:
        os.mkfifo(seg / "train/images/x.png")
        assert "1 not used, no regular file (a pipe or a device): train/images/x.png" in told(opened(seg), seg)[0]


class TestOtherParts:
    def test_unlabelled_images(self, seg: Path) -> None:
        photos.save(seg / "more/x.jpg", np.zeros((6, 8, 3)))
        (seg / "more/y.psd").write_bytes(b"")
        (text,) = told(opened(seg, unlabeled="more"), seg)
        assert text.startswith("unlabeled[0].images: 1 not used, of a type that is not read (.psd): more/y.psd")

    def test_held_out_images_say_it_once(self, seg: Path) -> None:
        from semikit.data.hold_out import held_out_as_stated

        (seg / "train/images/y.psd").write_bytes(b"")
        spec = load_spec({"train": "train", "val": 0.4, "classes": ["a", "b"]}, seg)
        parts = held_out_as_stated(open_folders(spec), spec, None)
        assert len(parts.unused) == 1

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("TRAIN0.png", "1 whose partner's name differs in upper and lower case: .*train0.* \\(partner TRAIN0"),
            ("sub/train0.png", "1 whose partner lies in another subfolder: .*train0.* \\(partner train0"),
            ("train0.psd", "1 whose partner is of a type that is not read: .*train0.* \\(partner train0.psd"),
        ],
    )
    def test_a_partner_under_another_name(self, pair_data: Path, tmp_path: Path, name: str, kind: str) -> None:
        root = tmp_path / "pairs"
        shutil.copytree(pair_data.parent, root)
        (root / "train/B" / name).parent.mkdir(exist_ok=True)
        next((root / "train/B").glob("train0.*")).rename(root / "train/B" / name)
        with pytest.raises(DataError, match=f"no partner of the second date: train0.*{kind}"):
            open_pair_folders(load_pairs(root))

    def test_pairs(self, pair_data: Path, tmp_path: Path) -> None:
        root = tmp_path / "pairs"
        shutil.copytree(pair_data.parent, root)
        (root / "train/B/x.psd").write_bytes(b"")
        label = next((root / "train/label").iterdir())
        photos.save(root / "train/label" / f"gone{label.suffix}", np.zeros((6, 8)))
        found = told(open_pair_folders(load_pairs(root)), root)
        assert [one.partition(": train")[0] for one in found] == [
            "train.images_b: 1 not used, of a type that is not read (.psd)",
            "train.masks: 1 not used, masks without an image",
        ]


class TestFolderInPlaceOfADescription:
    """Folders in it that are no part by their name, and hold images, are named."""

    def said(self, parts: DataParts, folder: Path | None, root: Path) -> list[str]:
        return told(with_leftovers(parts, folder), root)

    def test_of_classes(self, tmp_path: Path) -> None:
        icons.write(tmp_path)
        shutil.copytree(tmp_path / "val", tmp_path / "valid")
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs/log.txt").write_text("")
        spec = load_labels(tmp_path)
        (text,) = self.said(open_labeled(spec), spec.folder, tmp_path)
        assert text.startswith(f"--data {tmp_path}: 1 not used, folders of images that are no part: valid. Parts are ")

    def test_of_masks(self, seg: Path) -> None:
        photos.save(seg / "extra/deep/x.png", np.zeros((6, 8)))
        spec = load_spec(seg)
        (text,) = self.said(open_folders(spec), spec.folder, seg)
        assert "1 not used, folders of images that are no part: extra. " in text

    def test_of_pairs(self, pair_data: Path, tmp_path: Path) -> None:
        root = tmp_path / "pairs"
        shutil.copytree(pair_data.parent, root)
        spec = load_pairs(root)
        assert self.said(open_pair_folders(spec), spec.folder, root) == []
        shutil.copytree(root / "test", root / "test2")
        (text,) = self.said(open_pair_folders(spec), spec.folder, root)
        assert "folders of images that are no part: test2. " in text

    def test_what_lies_beside_the_parts(self, seg: Path) -> None:
        for name in ("loose.png", "train/loose2.png", "train/more/x.png"):
            photos.save(seg / name, np.zeros((6, 8)))
        for name in ("train/x.nef", "shards/x-00.tar", "classes.txt"):
            (seg / name).parent.mkdir(exist_ok=True)
            (seg / name).write_bytes(b"background\nforeground\n")
        spec = load_spec(seg)
        images, raw = self.said(open_folders(spec), spec.folder, seg)
        assert "3 not used, images that lie in no part: loose.png, train/loose2.png, train/more/x.png. " in images
        assert "1 not used, of a type that is not read (.nef): train/x.nef. " in raw

    def test_beside_pairs(self, pair_data: Path, tmp_path: Path) -> None:
        root = tmp_path / "pairs"
        shutil.copytree(pair_data.parent, root)
        for name in ("loose.png", "train/C/x.png"):
            photos.save(root / name, np.zeros((6, 8)))
        spec = load_pairs(root)
        (text,) = self.said(open_pair_folders(spec), spec.folder, root)
        assert "2 not used, images that lie in no part: loose.png, train/C/x.png. " in text

    def test_beside_classes(self, tmp_path: Path) -> None:
        spec = load_labels(icons.write(tmp_path))
        photos.save(tmp_path / "loose.png", np.zeros((6, 8, 3)))
        (text,) = self.said(open_labeled(spec), tmp_path, tmp_path)
        assert "1 not used, images that lie in no part: loose.png. " in text

    def test_half_a_part(self, seg: Path) -> None:
        photos.save(seg / "test/masks/x.png", np.zeros((6, 8)))
        spec = load_spec(seg)
        (text,) = self.said(open_folders(spec), spec.folder, seg)
        assert "folders that are called like a part and are not laid out as one: test. A part holds both images" in text

    def test_of_a_description_nothing_else_is_asked(self, seg: Path) -> None:
        photos.save(seg / "extra/x.png", np.zeros((6, 8)))
        assert opened(seg).unused == []


class TestClasses:
    def test_files_that_are_not_read(self, tmp_path: Path) -> None:
        spec = load_labels(icons.write(tmp_path))
        (tmp_path / "train/red/x.psd").write_bytes(b"")
        (tmp_path / "train/y.psd").write_bytes(b"")
        found = told(open_labeled(spec), tmp_path)
        assert found[0].startswith("train: 2 not used, of a type that is not read (.psd): train/red/x.psd, train/y.psd")

    def test_a_class_of_files_that_are_not_read(self, tmp_path: Path) -> None:
        spec = load_labels(icons.write(tmp_path))
        (tmp_path / "train/teal").mkdir()
        (tmp_path / "train/teal/x.psd").write_bytes(b"")
        with pytest.raises(DataError, match=r"class folders without an image in .*: teal\. .* Not used: .*teal/x\.psd"):
            open_labeled(spec)

    def test_unlabelled_images_by_a_pattern(self, tmp_path: Path) -> None:
        icons.write(tmp_path)
        spec = load_labels({"train": "train", "unlabeled": "test/red/*.png"}, tmp_path)
        assert open_labeled(spec).unlabeled[0].names == ("0", "1")

    def table(self, root: Path, *rows: str) -> LabelSpec:
        icons.write(root)
        lines = "\n".join(["file,label", *rows])
        (root / "train.csv").write_text(lines)
        return load_labels({"train": {"images": "train", "labels": "train.csv"}}, root)

    def test_images_that_no_table_names(self, tmp_path: Path) -> None:
        found = told(open_labeled(self.table(tmp_path, "red/0.png,red", "blue/0.png,blue")), tmp_path)
        assert found == [
            "train.images: 22 not used, images that no table names: train/blue/1.png, train/blue/2.png, "
            "train/blue/3.png and 19 more. Add them to the table (with an empty label where it is not known), or list "
            "them in `unlabeled`."
        ]

    def test_images_of_another_part_are_used(self, tmp_path: Path) -> None:
        spec = self.table(tmp_path, "red/0.png,red", "blue/0.png,blue")
        used = [tmp_path / "train/red/0.png", tmp_path / "train/blue/0.png"]
        rest = sorted(path for path in (tmp_path / "train").rglob("*.png") if path not in used)
        (tmp_path / "rest.txt").write_text("\n".join(map(str, rest)))
        assert open_labeled(spec.model_copy(update={"unlabeled": (tmp_path / "rest.txt",)})).unused == []

    def test_a_table_written_on_windows(self, tmp_path: Path) -> None:
        train = open_labeled(self.table(tmp_path, r"red\0.png,red", r"blue\0.png,blue")).train
        assert [path.name for k in range(2) for path in train.files(k)] == ["0.png", "0.png"]
        assert list(train.names) == ["blue/0", "red/0"]

    def test_a_backslash_in_a_name_stays(self, tmp_path: Path) -> None:
        spec = self.table(tmp_path, r"red\0.png,red", "blue/0.png,blue")
        (tmp_path / "train" / r"red\0.png").write_bytes((tmp_path / "train/red/0.png").read_bytes())
        train = open_labeled(spec).train
        assert (tmp_path / "train" / r"red\0.png") in [path for k in range(2) for path in train.files(k)]

    def test_backslashes_that_lead_nowhere(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"names 1 of 2 files that are not there: .*red\\gone\.png"):
            open_labeled(self.table(tmp_path, r"red\gone.png,red", "blue/0.png,blue"))

    def test_other_letters(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"1 are there in other letters .*Red/0\.PNG is .*red/0\.png\."):
            open_labeled(self.table(tmp_path, "Red/0.PNG,red", "blue/0.png,blue"))

    def test_a_file_that_is_listed_twice(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        (tmp_path / "train/again").symlink_to(tmp_path / "train/red")
        with pytest.raises(DataError, match=r"names 2 images twice: red/0, again/0"):
            open_labeled(self.table(tmp_path, "red/0.png,red", "blue/0.png,blue", "again/0.png,red"))
