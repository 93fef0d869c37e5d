import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coder

from semikit.data.conversion.convert import Converted, convert
from semikit.data.conversion.label_formats import Reading
from semikit.data.masked_images import load_spec, open_folders
from semikit.errors import DataError, FileFault
from tests.helpers import label_files as lf


def converted(tmp_path: Path, source: Path, **options: object) -> Converted:
    return convert(Reading(source, images=tmp_path / "images", **options), tmp_path / "out")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_holes_runs_and_crowds_become_the_masks_drawn_by_hand(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    ring = np.zeros((12, 16), bool)
    ring[1:9, 1:9] = True
    ring[3:6, 3:6] = False  # a hole
    crowd = np.zeros((12, 16), bool)
    crowd[9:12, 0:16] = True
    packed = coder.encode(np.asfortranarray(ring.astype(np.uint8)))
    two = [[10, 1, 14, 1, 14, 4, 10, 4], [11, 3, 15, 3, 15, 6, 11, 6]]
    annotations = [
        {"image_id": 1, "category_id": 20, "segmentation": {**packed, "counts": packed["counts"].decode()}},
        {"image_id": 1, "category_id": 10, "segmentation": two},
        {
            "image_id": 1,
            "category_id": 10,
            "iscrowd": 1,
            "segmentation": {"size": [12, 16], "counts": lf.plain_runs(crowd)},
        },
        {"image_id": 1, "category_id": 10, "segmentation": [[3.6, 3.6, 5.4, 3.6, 5.4, 5.4, 3.6, 5.4]]},  # in the hole
        {"image_id": 1, "category_id": 20, "segmentation": [[12, 10, 18, 10, 18, 14, 12, 14]]},  # leaves the image
    ]
    source = lf.coco(tmp_path / "labels.json", [("a.png", 12, 16)], annotations, ["car", "tree"])

    done = converted(tmp_path, source)

    wanted = np.zeros((12, 16), np.uint8)
    wanted[crowd] = 1
    wanted[ring] = 2
    wanted[1:4, 10:14] = 1
    wanted[3:6, 11:15] = 1
    wanted[4, 4] = 1  # its centre 4.5 lies between 3.6 and 5.4, as 3.5 and 5.5 do not
    wanted[10:12, 12:16] = 2
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), wanted)
    assert done.classes == ("background", "car", "tree")
    assert (tmp_path / "out/classes.txt").read_text() == "background\ncar\ntree\n"


def test_of_overlapping_areas_the_smaller_lies_on_top_in_whatever_order(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    large = {"image_id": 1, "category_id": 10, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    small = {"image_id": 1, "category_id": 20, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]}
    wanted = np.zeros((12, 16), np.uint8)
    wanted[:10, :10] = 1
    wanted[2:5, 2:5] = 2
    for k, order in enumerate(([large, small], [small, large])):
        source = lf.coco(tmp_path / f"{k}.json", [("a.png", 12, 16)], order, ["field", "house"])
        convert(Reading(source, images=tmp_path / "images"), tmp_path / f"out{k}")
        np.testing.assert_array_equal(lf.mask_of(tmp_path / f"out{k}/masks/a.png"), wanted)


def test_a_box_without_an_outline_does_not_count_and_is_told(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    annotations = [
        {"image_id": 1, "category_id": 10, "bbox": [1, 1, 4, 4], "segmentation": []},
        {"image_id": 1, "category_id": 10, "segmentation": [[8, 8, 10, 8, 10, 10, 8, 10]]},
        {"image_id": 1, "category_id": 10, "segmentation": [[8, 8, 10, 8]]},
    ]
    source = lf.coco(tmp_path / "labels.json", [("a.png", 12, 16)], annotations, ["car"])
    done = converted(tmp_path, source)
    wanted = np.zeros((12, 16), np.uint8)
    wanted[1:5, 1:5] = 255
    wanted[8:10, 8:10] = 1
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), wanted)
    assert [notice[:40] for notice in done.notices] == [
        "1 annotations are boxes without an outli",
        "1 annotations enclose nothing (fewer tha",
    ]

    only = lf.coco(tmp_path / "boxes.json", [("a.png", 12, 16)], annotations[:1], ["car"])
    with pytest.raises(DataError, match="holds boxes only"):
        converted(tmp_path, only)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"category_id": 30}, "unknown category"),
        ({"image_id": 7}, "image that is not listed"),
        ({"segmentation": {"size": [16, 12], "counts": [192]}}, "run lengths of 12x16, image 16x12"),
        ({"segmentation": {"size": [12, 16], "counts": [5]}}, "sum up to 5 pixels"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], text: str) -> None:
    lf.photo(tmp_path / "images/a.png")
    item = {"image_id": 1, "category_id": 10, "segmentation": [[1, 1, 4, 1, 4, 4]], **change}
    source = lf.coco(tmp_path / "labels.json", [("a.png", 12, 16)], [item], ["car"])
    with pytest.raises(FileFault, match=text):
        converted(tmp_path, source)


def test_files_named_train_and_val_become_parts_over_one_folder_of_images(tmp_path: Path) -> None:

    for name in "abc":
        lf.photo(tmp_path / f"images/{name}.png")
    item = {"image_id": 1, "category_id": 10, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]}
    for part, name in (("train", "a"), ("val", "b")):
        lf.coco(tmp_path / f"labels/instances_{part}.json", [(f"{name}.png", 12, 16)], [item], ["car"])
    converted(tmp_path, tmp_path / "labels")
    parts = open_folders(load_spec(tmp_path / "out/data.yaml"))
    assert list(parts.train.names) == ["a", "c"]
    assert [parts.train.has_target(k) for k in range(2)] == [True, False]
    assert parts.val is not None
    assert list(parts.val.names) == ["b"]
    labels, valid = parts.val.target(0)
    assert valid.all()
    assert labels.sum() == 9


def test_sizes_that_a_file_does_not_say_are_those_of_the_images(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    square = np.zeros((12, 16), bool)
    square[6:8, 6:8] = True
    items = [
        {"image_id": 1, "category_id": 10, "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]},
        {"image_id": 1, "category_id": 10, "segmentation": {"size": [12, 16], "counts": lf.plain_runs(square)}},
    ]
    source = lf.coco(tmp_path / "labels.json", [("a.png", 12, 16)], items, ["car"])
    raw = json.loads(source.read_text())
    raw["images"] = [{"id": 1, "file_name": "a.png"}]
    source.write_text(json.dumps(raw))
    converted(tmp_path, source)
    assert lf.mask_of(tmp_path / "out/masks/a.png").sum() == 9 + 4


BOX = {"image_id": 1, "category_id": 10, "segmentation": [[0, 0, 5, 0, 5, 5, 0, 5]]}


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("{part}/_annotations.coco.json", "{part}/{part}.png"),  # Roboflow
        ("annotations/instances_{part}2017.json", "{part}2017/{part}.png"),  # COCO
        ("{part}/result.json", "{part}/images/{part}.png"),  # Label Studio
    ],
)
def test_parts_and_images_are_found_by_the_folders_of_usual_exports(tmp_path: Path, label: str, image: str) -> None:
    for part in ("train", "valid", "test"):
        lf.photo(tmp_path / "set" / image.format(part=part))
        lf.coco(tmp_path / "set" / label.format(part=part), [(f"{part}.png", 12, 16)], [BOX], ["car"])
    convert(Reading(tmp_path / "set"), tmp_path / "out")
    parts = open_folders(load_spec(tmp_path / "out/data.yaml"))
    assert parts.val is not None
    assert parts.test is not None
    assert (parts.train.names, parts.val.names, parts.test.names) == (("train",), ("valid",), ("test",))


def test_images_of_one_part_in_two_places_are_asked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        lf.photo(tmp_path / f"set/{name}/{name}.png")
        lf.coco(tmp_path / f"set/{name}/labels.json", [(f"{name}.png", 12, 16)], [BOX], ["car"])
    with pytest.raises(DataError, match="--images DIR"):
        convert(Reading(tmp_path / "set"), tmp_path / "out")
    assert convert(Reading(tmp_path / "set", images=tmp_path / "set"), tmp_path / "out").written == 2


@pytest.mark.parametrize("format", ["auto", "coco"])
def test_captions_and_key_points_beside_outlines_are_named_and_left_out(tmp_path: Path, format: str) -> None:
    lf.photo(tmp_path / "images/a.png")
    lf.coco(tmp_path / "labels/instances_train.json", [("a.png", 12, 16)], [BOX], ["car"])
    lf.coco(tmp_path / "labels/person_keypoints_train.json", [("a.png", 12, 16)], [BOX], ["person"])
    points = json.loads((tmp_path / "labels/person_keypoints_train.json").read_text())
    points["categories"][0]["keypoints"] = ["nose"]
    (tmp_path / "labels/person_keypoints_train.json").write_text(json.dumps(points))
    caption = {"images": [], "annotations": [{"image_id": 1, "caption": "a car"}]}
    (tmp_path / "labels/captions_train.json").write_text(json.dumps(caption))
    done = converted(tmp_path, tmp_path / "labels", format=format)
    assert done.classes == ("background", "car")
    assert any("2 json files" in text and "captions_train.json" in text for text in done.notices)


def test_without_any_outlines_of_coco_the_keys_are_said(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    (tmp_path / "captions.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(FileFault, match="it needs the keys images, annotations, categories"):
        converted(tmp_path, tmp_path / "captions.json", format="coco")


def test_a_category_that_is_text_is_named_as_such(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    lf.coco(tmp_path / "a.json", [("a.png", 12, 16)], [{**BOX, "category_id": "10"}], ["car"])
    with pytest.raises(FileFault, match=r"'10' is text, where the categories have numbers; there are 10: car"):
        converted(tmp_path, tmp_path / "a.json")
