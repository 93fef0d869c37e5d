from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.published.catalogue import read_downloads, read_published
from semikit.data.published.official import labeled_images
from semikit.data.published.prepare import PrepareReport, prepare
from semikit.data.published.prepared import BEGUN, open_prepared, read_list
from semikit.data.published.preparers.levir import official_names
from semikit.data.published.verify import verify
from semikit.errors import DataError
from tests.helpers import miniatures

Run = Callable[..., PrepareReport]
Miniature = Callable[[str], Path]
KINDS = ("A", "B", "label")


class Killed(BaseException):
    pass


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareReport]:
    """A root that was cut from scenes, and what was told; nobody may change it."""
    source, root = tmp_path_factory.mktemp("zips"), tmp_path_factory.mktemp("roots") / "levir"
    miniatures.make("levir", source)
    return root, prepare("levir", source, root, quiet)


# ------------------------------------------------------------------------------------------------------------ cutting


def test_scenes_are_cut_row_by_row(cut: tuple[Path, PrepareReport]) -> None:
    root, report = cut
    assert report.record.counts == {"train": 32, "val": 16, "test": 16}
    assert report.record.masks == "64 tiles cut from scenes of 1024x1024"
    for name, made in miniatures.scenes("train").items():
        for number in range(1, 17):
            top, left = (number - 1) // 4 * 256, (number - 1) % 4 * 256
            for kind in KINDS:
                tile = read(root / f"{kind}/{name}_{number}.png")
                np.testing.assert_array_equal(tile, made[kind][top : top + 256, left : left + 256])
    assert len(list(root.glob("*/*.png"))) == 3 * 64


def test_lists_have_the_official_order(cut: tuple[Path, PrepareReport]) -> None:
    names = [name for name, _ in read_list(cut[0], "val")]
    first = [f"A/val_1_{number}.png" for number in (*range(10, 17), *range(1, 10))]
    assert names == first
    assert read_list(cut[0], "test")[7] == ("A/test_1_1.png", "label/test_1_1.png")


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_the_rule_of_the_order_gives_the_published_lists(part: str) -> None:
    names = official_names(part, read_published("levir"))
    digest, count = read_downloads().splits.of("levir")[f"{part}.txt"]
    assert len(names) == count
    assert hashlib.sha256("".join(f"{name}.png\n" for name in names).encode()).hexdigest() == digest


def test_a_part_of_the_scenes_is_told(cut: tuple[Path, PrepareReport]) -> None:
    assert cut[1].notices == [
        "a part: 32 of 7120 training images; official lists will be refused",
        "a part: 16 of 1024 validation images; official lists will be refused",
        "a part: 16 of 2048 test images; official lists will be refused",
    ]
    told = "only a part of LEVIR-CD, tiles of 256 (train 32 of 7120, val 16 of 1024, test 16 of 2048 images)"
    with pytest.raises(DataError) as error:
        labeled_images(open_prepared("levir", cut[0]), "official:5%")
    assert told in str(error.value)


def test_pairs_are_read(cut: tuple[Path, PrepareReport]) -> None:
    source = open_prepared("levir", cut[0]).source("test")
    made = miniatures.scenes("test")["test_1"]
    assert source.names[7] == "test_1_1"
    images, valid = source.image(7)
    np.testing.assert_array_equal(images, np.stack([made["A"], made["B"]])[:, :256, :256])
    assert valid is None
    labels, counted = source.target(7)
    np.testing.assert_array_equal(labels, made["label"][:256, :256] // 255)
    assert counted.all()


@pytest.mark.parametrize("after", [1, 5])
def test_killed_and_gone_on_with(
    after: int, cut: tuple[Path, PrepareReport], miniature: Miniature, tmp_path: Path
) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if what == "cutting scenes" and done == after:
            raise Killed

    root = tmp_path / "root"
    with pytest.raises(Killed):
        prepare("levir", miniature("levir"), root, progress)
    assert (root / BEGUN).exists()
    done = {path: path.stat().st_mtime_ns for path in root.glob("*/*.png")}
    assert len(done) == 16 * after
    assert prepare("levir", miniature("levir"), root, quiet).record == cut[1].record
    assert {path: path.stat().st_mtime_ns for path in done} == done
    for path in cut[0].rglob("*.*"):
        assert (root / path.relative_to(cut[0])).read_bytes() == path.read_bytes()


def test_a_second_run_cuts_nothing(cut: tuple[Path, PrepareReport], miniature: Miniature, tmp_path: Path) -> None:
    root = tmp_path / "levir"
    shutil.copytree(cut[0], root)
    told: set[str] = set()
    report = prepare("levir", miniature("levir"), root, lambda what, done, total: told.add(what))
    assert "cutting scenes" not in told
    assert report.record == cut[1].record
    assert prepare("levir", root, root, quiet).record == cut[1].record


def test_labels_of_0_and_1_become_0_and_255(run: Run, tmp_path: Path) -> None:
    made = miniatures.change(3)
    run(
        "levir",
        miniatures.packed(tmp_path / "source", miniatures.trio("val_1", {**made, "label": made["label"] // 255})),
    )
    tile = read(tmp_path / "root/label/val_1_1.png")
    np.testing.assert_array_equal(tile, made["label"][:256, :256])


def test_labels_of_tiles_become_0_and_255_once(run: Run, tmp_path: Path) -> None:
    made = miniatures.change(3, 256, 256)
    files = miniatures.trio("val_1_1", {**made, "label": made["label"] // 255})
    source = miniatures.packed(
        tmp_path / "source", {name.replace(".png", ".PNG"): data for name, data in files.items()}
    )
    run("levir", source)
    label = tmp_path / "root/label/val_1_1.png"
    np.testing.assert_array_equal(read(label), made["label"])
    written = label.stat().st_mtime_ns
    assert "0 files laid out" in " ".join(run("levir", source).lines)
    assert label.stat().st_mtime_ns == written


def test_other_labels_are_refused(run: Run, tmp_path: Path) -> None:
    made = miniatures.change(3)
    smeared = np.where(made["label"] == 255, 250, 3).astype(np.uint8)
    source = miniatures.packed(tmp_path / "source", miniatures.trio("val_1", {**made, "label": smeared}))
    with pytest.raises(DataError, match=r"other values than two: .*label/val_1\.png \(values 3, 250\)\. Give the orig"):
        run("levir", source)


# --------------------------------------------------------------------------------------------------------- which part


def test_zips_without_folders_of_their_own(run: Run, tmp_path: Path) -> None:
    for part, name in (("train", "scene"), ("test", "other")):
        miniatures.packed(tmp_path / f"source/{part}.zip", miniatures.trio(name, miniatures.change(1)))
    report = run("levir", tmp_path / "source")
    assert report.record.counts == {"train": 16, "test": 16}
    assert read_list(tmp_path / "root", "test")[0] == ("A/other_10.png", "label/other_10.png")


def test_the_folder_decides_and_not_the_name(run: Run, tmp_path: Path) -> None:
    files = {
        **miniatures.trio("test_1", miniatures.change(1), "train/"),
        **miniatures.trio("val_1", miniatures.change(2)),
    }
    report = run("levir", miniatures.packed(tmp_path / "source", files))
    assert report.record.counts == {"train": 16, "val": 16}
    told = "16 tiles are in other parts than published or have other names: test_1_1 in train, test_1_10 in train, "
    assert told in report.record.own
    assert report.notices == [f"not as published: {report.record.own}; official lists will be refused"]
    with pytest.raises(DataError, match=r"official:5%: .* is not as published \(16 tiles are in other parts"):
        labeled_images(open_prepared("levir", tmp_path / "root"), "5%")
    again = run("levir", tmp_path / "root")
    assert again.record == report.record, "in the root its own lists say which part a tile is of"


def test_a_scene_in_two_parts(run: Run, tmp_path: Path) -> None:
    made = miniatures.change(1)
    files = {**miniatures.trio("train_1", made, "train/"), **miniatures.trio("train_1", made, "test/")}
    with pytest.raises(DataError, match=r"train_1\.png lies in both train/ and test/|in both test/ and train/"):
        run("levir", miniatures.packed(tmp_path / "source", files))


def test_a_part_nobody_tells(run: Run, tmp_path: Path) -> None:
    source = miniatures.packed(tmp_path / "source", miniatures.tiles(["a", "b"]))
    with pytest.raises(DataError, match=r"of 2 neither folder nor name says .* \(a, b\)\. Give train\.zip"):
        run("levir", source)


# --------------------------------------------------------------------------------------------------------------- tiles


def test_tiles_are_taken_as_they_are(run: Run, miniature: Miniature, tmp_path: Path) -> None:
    report = run("levir", miniature("levir-tiles"))
    assert report.record.counts == {"train": 8, "val": 3, "test": 2}
    assert report.record.masks == "13 tiles as given"
    assert report.record.own == ""
    given = miniatures.tiles(["train_1_1"])
    for name, content in given.items():
        assert (tmp_path / "root" / name).read_bytes() == content


def test_tiles_in_folders_of_parts(run: Run, tmp_path: Path) -> None:
    files = {f"LEVIR-CD256/val/{name}": content for name, content in miniatures.tiles(["val_1_1", "val_2_1"]).items()}
    assert run("levir", miniatures.packed(tmp_path / "source", files)).record.counts == {"val": 2}


def test_another_size(run: Run, tmp_path: Path) -> None:
    source = miniatures.packed(
        tmp_path / "source", miniatures.trio("train_1", miniatures.change(1, 512, 512), "train/")
    )
    told = r"source: train/A/train_1\.png \(512x512 .*Give files of 1024x1024 \(scenes\) or 256x256 \(tiles\)"
    with pytest.raises(DataError, match=told):
        run("levir", source)
    assert not (tmp_path / "root").exists()


def test_files_of_a_pair_that_differ_in_size(run: Run, tmp_path: Path) -> None:
    made = {**miniatures.change(1), "label": miniatures.change(1, 256, 256)["label"]}
    source = miniatures.packed(tmp_path / "source", miniatures.trio("train_1", made))
    with pytest.raises(DataError, match=r"files of one pair that differ in size: .*label/train_1\.png \(256x256"):
        run("levir", source)


def test_no_png(run: Run, tmp_path: Path) -> None:
    files = {**miniatures.tiles(["train_1_1"]), "B/train_1_1.png": b"\xff\xd8 a photo"}
    with pytest.raises(DataError, match=r"no PNG: .*B/train_1_1\.png"):
        run("levir", miniatures.packed(tmp_path / "source", files))


def test_a_date_that_is_missing(run: Run, tmp_path: Path) -> None:
    files = miniatures.tiles(["train_1_1", "train_1_2", "train_1_3"])
    del files["B/train_1_2.png"], files["label/train_1_3.png"]
    told = (
        r"1 of 3 pairs have no file in B/ \(train_1_2\); 1 of 3 pairs have no file in label/ \(train_1_3\)\. Give train"
    )
    with pytest.raises(DataError, match=told):
        run("levir", miniatures.packed(tmp_path / "source", files))
    assert not (tmp_path / "root").exists()


def test_a_damaged_scene(run: Run, tmp_path: Path) -> None:
    files = miniatures.trio("train_1", miniatures.change(1))
    files["B/train_1.png"] = files["B/train_1.png"][:200]
    with pytest.raises(DataError, match=r"unreadable, truncated or far too large image: .*B/train_1\.png"):
        run("levir", miniatures.packed(tmp_path / "source", files))


# ---------------------------------------------------------------------------------------------------------- real images


@pytest.mark.long
@pytest.mark.real_data("levir-cd")
def test_nine_real_scenes(run: Run, tmp_path: Path) -> None:
    source = Path(os.environ["SEMIKIT_TEST_DATA"]) / "levir-cd"
    report = run("levir", source)
    root = tmp_path / "root"
    assert report.record.counts == {"train": 96, "val": 16, "test": 32}
    assert "80 tiles are in other parts than published" in report.record.own
    for kind in KINDS:
        scene = read(source / f"train/{kind}/train_1.png")
        np.testing.assert_array_equal(read(root / f"{kind}/train_1_7.png"), scene[256:512, 512:768])
    found = verify("levir", root, True, quiet)
    assert found.problems == []
    assert "opened 144 of 144 masks; 2 of 2 classes occur in them" in found.lines
