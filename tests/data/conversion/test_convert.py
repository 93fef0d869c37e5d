import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading, classes_of
from semikit.data.conversion.labels import Areas, Bytes, Numbers, Size
from semikit.errors import ConfigError, DataError, UnknownNameError
from tests.helpers import label_files as lf

SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]
OTHER = [[2, 2, 6, 2, 6, 6, 2, 6]]


def labels(tmp_path: Path, outlines: dict[str, list[list[int]]], names: tuple[str, ...] = ("car", "tree")) -> Reading:
    items = [
        {"image_id": k, "category_id": 10, "segmentation": outline}
        for k, outline in enumerate(outlines.values(), start=1)
    ]
    for name in outlines:
        lf.photo(tmp_path / f"images/{name}.png")
    source = lf.coco(tmp_path / "labels.json", [(f"{name}.png", 12, 16) for name in outlines], items, names)
    return Reading(source, images=tmp_path / "images")


def test_a_second_run_keeps_what_is_right_and_redoes_what_was_labelled_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = convert(labels(tmp_path, {"a": SQUARE, "b": SQUARE}), out)
    assert (first.written, first.kept) == (2, 0)
    stamp = (out / "masks/a.png").stat().st_mtime_ns
    again = convert(labels(tmp_path, {"a": SQUARE, "b": OTHER}), out)
    assert (again.written, again.kept) == (1, 1)
    assert (out / "masks/a.png").stat().st_mtime_ns == stamp
    assert (lf.mask_of(out / "masks/b.png") == 1).sum() == 16


def test_a_mask_that_belongs_to_no_label_any_more_is_named(tmp_path: Path) -> None:
    convert(labels(tmp_path, {"a": SQUARE, "b": SQUARE}), tmp_path / "out")
    done = convert(labels(tmp_path, {"a": SQUARE}), tmp_path / "out")
    assert any("belong to no label now" in notice and "b.png" in notice for notice in done.notices)


def test_what_is_not_ours_or_was_changed_by_hand_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    lf.photo(out / "masks/a.png")
    before = (out / "masks/a.png").read_bytes()
    with pytest.raises(DataError, match="not written by this command"):
        convert(labels(tmp_path, {"a": SQUARE}), out)
    assert (out / "masks/a.png").read_bytes() == before

    second = tmp_path / "second"
    convert(labels(tmp_path, {"a": SQUARE}), second)
    with Image.open(second / "masks/a.png") as image:
        text = image.info
        edited = np.array(image)
    edited[0, 0] = 2
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("semikit-labels", text["semikit-labels"])
    Image.fromarray(edited).save(second / "masks/a.png", pnginfo=info)
    assert convert(labels(tmp_path, {"a": SQUARE}), second).kept == 1
    with pytest.raises(DataError, match="was changed after it was written"):
        convert(labels(tmp_path, {"a": OTHER}), second)


def test_an_edited_yaml_is_kept_and_a_foreign_one_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reading = labels(tmp_path, {"a": SQUARE})
    convert(reading, out)
    path = out / "data.yaml"
    path.write_text(path.read_text() + "bands: [1, 2, 3]\n")
    done = convert(reading, out)
    assert any("was edited" in notice for notice in done.notices)
    assert "bands" in path.read_text()
    path.write_text("train: {}\n")
    with pytest.raises(DataError, match="not written by this command"):
        convert(reading, out)


def test_classes_come_in_the_order_that_is_given_and_others_do_not_count(tmp_path: Path) -> None:
    reading = labels(tmp_path, {"a": SQUARE})
    given = Reading(reading.source, images=reading.images, classes=["sky", "tree", "background"])
    done = convert(given, tmp_path / "out")
    mask = lf.mask_of(tmp_path / "out/masks/a.png")
    assert done.classes == ("sky", "tree", "background")
    assert sorted(np.unique(mask).tolist()) == [2, 255]
    assert any("none of the classes" in notice and "car" in notice for notice in done.notices)
    with pytest.raises(ConfigError, match="has no class 'background'"):
        convert(Reading(reading.source, images=reading.images, classes=["car", "tree"]), tmp_path / "two")


def test_pixels_in_no_area_do_not_count_where_that_is_asked_for(tmp_path: Path) -> None:
    reading = labels(tmp_path, {"a": SQUARE})
    done = convert(Reading(reading.source, images=reading.images, background="ignore"), tmp_path / "out")
    assert done.classes == ("car", "tree")
    mask = lf.mask_of(tmp_path / "out/masks/a.png")
    assert (mask == 0).sum() == 9
    assert (mask == 255).sum() == 12 * 16 - 9


def test_classes_are_read_from_text_lists_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\n\nb\n")
    (tmp_path / "my.yaml").write_text("classes: {1: b, 0: a}\n")
    assert classes_of("a, b") == ["a", "b"]
    assert classes_of(str(tmp_path / "names.txt")) == ["a", "b"]
    assert classes_of(str(tmp_path / "my.yaml")) == ["a", "b"]
    with pytest.raises(DataError, match="no such file"):
        classes_of("missing.txt")


def test_labels_of_images_that_are_not_there_are_counted_and_of_another_size_refused(tmp_path: Path) -> None:
    reading = labels(tmp_path, {"a": SQUARE, "b": SQUARE})
    (tmp_path / "images/b.png").unlink()
    done = convert(reading, tmp_path / "out")
    assert any(notice.startswith("1 labelled images are not in") and "b.png" in notice for notice in done.notices)
    lf.photo(tmp_path / "images/a.png", 24, 32)
    with pytest.raises(DataError, match=r"labels of 16x12, .*a\.png 32x24"):
        convert(reading, tmp_path / "two")


def test_names_of_windows_and_of_folders_find_their_images(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/city/a.png")
    item = {"image_id": 1, "category_id": 10, "segmentation": SQUARE}
    for name in ("C:\\data\\city\\a.jpg", "a.jpg", "city/a.png"):
        source = lf.coco(tmp_path / "labels.json", [(name, 12, 16)], [item], ["car"])
        convert(Reading(source, images=tmp_path / "images"), tmp_path / "out")
    assert (tmp_path / "out/masks/city/a.png").is_file()


def test_areas_that_cover_all_leave_no_background_and_that_is_said(tmp_path: Path) -> None:
    reading = labels(tmp_path, {"a": [[0, 0, 16, 0, 16, 12, 0, 12]]})
    done = convert(reading, tmp_path / "out")
    assert any("no pixel is of class 'background'" in notice for notice in done.notices)
    assert not any("no pixel" in notice for notice in convert(reading, tmp_path / "out").notices)


def test_masks_among_the_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="masks would be taken for images"):
        convert(labels(tmp_path, {"a": SQUARE}), tmp_path / "images/out")


def test_a_list_of_classes_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.txt").write_text("mine\n")
    with pytest.raises(DataError, match=r"classes\.txt was not written by this command"):
        convert(labels(tmp_path, {"a": SQUARE}), tmp_path / "out")
    assert (tmp_path / "out/classes.txt").read_text() == "mine\n"
    assert not (tmp_path / "out/masks").exists()


def test_an_image_that_moves_to_another_part_has_one_link(tmp_path: Path) -> None:
    for name in "abc":
        lf.photo(tmp_path / f"images/{name}.png", seed=ord(name))
    item = {"image_id": 1, "category_id": 10, "segmentation": SQUARE}
    for train, val in (("a", "b"), ("b", "a")):
        lf.coco(tmp_path / "labels/train.json", [(f"{train}.png", 12, 16)], [item], ["car"])
        lf.coco(tmp_path / "labels/val.json", [(f"{val}.png", 12, 16)], [item], ["car"])
        convert(Reading(tmp_path / "labels", images=tmp_path / "images"), tmp_path / "out")
        assert {path.stem for path in (tmp_path / "out/images/train").iterdir()} == {train, "c"}
        assert {path.stem for path in (tmp_path / "out/images/val").iterdir()} == {val}


def test_classes_do_not_get_other_numbers_than_an_edited_yaml_has(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(labels(tmp_path, {"a": SQUARE}, ("car", "tree")), out)
    path = out / "data.yaml"
    path.write_text(path.read_text().replace("val: 0.2", "val: 0.25"))
    before = (out / "masks/a.png").read_bytes()
    with pytest.raises(DataError, match="they were background, car, tree; the labels have background, bike, car now"):
        convert(labels(tmp_path, {"a": OTHER}, ("bike", "car")), out)
    assert (out / "masks/a.png").read_bytes() == before
    assert (out / "classes.txt").read_text() == "background\ncar\ntree\n"
    reading = labels(tmp_path, {"a": OTHER}, ("bike", "car"))
    kept = Reading(reading.source, images=reading.images, classes=["background", "car", "tree"])
    assert convert(kept, out).classes == ("background", "car", "tree")


def test_masks_do_not_go_to_folders_that_an_edited_yaml_does_not_name(tmp_path: Path) -> None:
    item = {"image_id": 1, "category_id": 10, "segmentation": SQUARE}
    for name in "ab":
        lf.photo(tmp_path / f"images/{name}.png", seed=ord(name))
    reading = Reading(tmp_path / "labels", images=tmp_path / "images")
    lf.coco(tmp_path / "labels/train.json", [("a.png", 12, 16)], [item], ["car"])
    convert(reading, tmp_path / "out")
    path = tmp_path / "out/data.yaml"
    path.write_text(path.read_text() + "bands: [1, 2, 3]\n")
    lf.coco(tmp_path / "labels/val.json", [("b.png", 12, 16)], [item], ["car"])
    with pytest.raises(DataError, match="names masks, and masks would be written to masks/train, masks/val now"):
        convert(reading, tmp_path / "out")
    assert not (tmp_path / "out/masks/train").exists()


def test_that_no_pixel_is_background_is_seen_of_all_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mask is compared while another one is written."""

    class Slow(np.ndarray):  # type: ignore[type-arg]
        def __eq__(self, other: object) -> object:  # type: ignore[override]
            for _ in range(500):
                if (tmp_path / "out/masks/b.png").exists():
                    break
                time.sleep(0.01)
            time.sleep(0.1)
            return np.asarray(self) == other

    real = Areas.drawn

    def drawn(self: Areas, size: Size, numbers: Numbers) -> Bytes:
        mask = real(self, size, numbers)
        return mask if (mask == 0).any() else mask.view(Slow)

    monkeypatch.setattr(Areas, "drawn", drawn)
    done = convert(labels(tmp_path, {"a": [[0, 0, 16, 0, 16, 12, 0, 12]], "b": SQUARE}), tmp_path / "out")
    assert not any("no pixel is of class" in notice for notice in done.notices)


def test_masks_that_an_editor_saved_anew_are_kept_and_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(labels(tmp_path, {"a": SQUARE, "b": SQUARE}), out)
    edited = lf.mask_of(out / "masks/a.png")
    edited[0, 0] = 2
    Image.fromarray(edited).save(out / "masks/a.png")  # without the text that says what it was made from
    done = convert(labels(tmp_path, {"a": OTHER, "b": OTHER}), out)
    assert (done.written, done.kept) == (1, 1)
    np.testing.assert_array_equal(lf.mask_of(out / "masks/a.png"), edited)
    assert any("edit by hand, and are kept" in notice and "a.png" in notice for notice in done.notices)
    with pytest.raises(DataError, match="the numbers of background, car, tree"):
        convert(labels(tmp_path, {"a": OTHER}, ("bike", "car")), out)


def with_empty(tmp_path: Path) -> Reading:
    for name in "abc":
        lf.photo(tmp_path / f"images/{name}.png", seed=ord(name))
    item = {"image_id": 1, "category_id": 10, "segmentation": SQUARE}
    lf.coco(tmp_path / "labels/train.json", [("a.png", 12, 16), ("b.png", 12, 16)], [item], ["car"])
    lf.coco(tmp_path / "labels/val.json", [("c.png", 12, 16)], [], ["car"])
    return Reading(tmp_path / "labels", images=tmp_path / "images")


def test_images_without_shapes_are_counted(tmp_path: Path) -> None:
    done = convert(with_empty(tmp_path), tmp_path / "out")
    assert done.written == 3
    assert any(
        "2 images have no shapes, all their pixels are of class 'background': b.png, c.png" in notice
        for notice in done.notices
    )
    done = convert(replace(with_empty(tmp_path), background="ignore", classes=["car", "tree"]), tmp_path / "two")
    assert any("2 images have no shapes, none of their pixels counts" in notice for notice in done.notices)


def test_images_without_shapes_stay_unlabelled_where_that_is_asked_for(tmp_path: Path) -> None:
    reading = replace(with_empty(tmp_path), empty="unlabeled")
    done = convert(reading, tmp_path / "out")
    assert done.written == 2
    assert not (tmp_path / "out/masks/train/b.png").exists()
    assert (tmp_path / "out/images/train/b.png").exists()
    assert (lf.mask_of(tmp_path / "out/masks/val/c.png") == 0).all()
    assert any("1 images of train have no shapes and stay unlabelled: b.png" in notice for notice in done.notices)
    assert any("1 images have no shapes, all their pixels" in notice and "c.png" in notice for notice in done.notices)
    with pytest.raises(UnknownNameError, match=r"unknown --empty 'no'.*background, unlabeled"):
        convert(replace(reading, empty="no"), tmp_path / "two")
    lf.coco(tmp_path / "labels/val.json", [("b.png", 12, 16), ("c.png", 12, 16)], [], ["car"])
    with pytest.raises(DataError, match="no image holds a shape"):
        convert(replace(reading, source=tmp_path / "labels/val.json"), tmp_path / "two")


def test_the_yaml_counts_the_masks_that_were_written(tmp_path: Path) -> None:
    reading = labels(tmp_path, {"a": SQUARE, "b": SQUARE})
    (tmp_path / "images/b.png").unlink()
    convert(reading, tmp_path / "out")
    assert "labelled images: train 1." in (tmp_path / "out/data.yaml").read_text()


def test_what_a_killed_conversion_left_is_taken_away(tmp_path: Path) -> None:
    left = tmp_path / "out/masks/city/.a.png.4711.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    convert(labels(tmp_path, {"a": SQUARE}), tmp_path / "out")
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "- a\n", "train: {images: x, masks: masks}\n"])
def test_a_yaml_of_whatever_content_is_kept_where_it_is_ours_and_else_refused(tmp_path: Path, text: str) -> None:
    out, reading = tmp_path / "out", labels(tmp_path, {"a": SQUARE})
    convert(reading, out)
    head, _, _ = (out / "data.yaml").read_text().partition("\n")
    (out / "data.yaml").write_text(f"{head}\n{text}")
    assert any("was edited" in notice for notice in convert(reading, out).notices)
    (out / "data.yaml").write_text(text or "#\n")
    with pytest.raises(DataError, match="not written by this command"):
        convert(labels(tmp_path, {"a": SQUARE}, ("bike", "car")), out)
