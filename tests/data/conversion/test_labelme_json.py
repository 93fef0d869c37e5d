import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from semikit.errors import DataError, FileFault
from tests.helpers import label_files as lf


def save(path: Path, shapes: list[dict[str, Any]], image: str, **more: Any) -> Path:
    made = {"version": "5.4", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": "AAAA", **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imageHeight": 12, "imageWidth": 16, **made}))
    return path


def shape(label: str, points: list[list[float]], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, **more}


def test_polygons_rectangles_circles_and_masks_become_the_mask_drawn_by_hand(tmp_path: Path) -> None:
    lf.photo(tmp_path / "a.png")
    spot = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(spot * 255).save(buffer, format="PNG")
    shapes = [
        shape("tree", [[-5, -5], [4, -5], [4, 4], [-5, 4]]),  # partly outside of the image
        shape("car", [[2, 2], [6, 2], [6, 6], [2, 6]], kind=None),  # files of old versions name no type
        shape("house", [[14, 10], [8, 7]], "rectangle"),
        shape("car", [[11.5, 3.5], [11.5, 5.0]], "circle"),
        shape("tree", [[1, 8], [3, 10]], "mask", mask=base64.b64encode(buffer.getvalue()).decode()),
        shape("__ignore__", [[15, 0], [16, 0], [16, 12], [15, 12]]),
        shape("tree", [[1, 1], [9, 9]], "line"),
    ]
    save(tmp_path / "a.json", shapes, "a.png")

    done = convert(Reading(tmp_path), tmp_path.with_name("out"))

    wanted = np.zeros((12, 16), np.uint8)
    wanted[:4, :4] = 3
    wanted[2:6, 2:6] = 1
    wanted[7:10, 8:14] = 2
    rows, columns = np.mgrid[0:12, 0:16]
    wanted[np.hypot(rows + 0.5 - 3.5, columns + 0.5 - 11.5) <= 1.5] = 1
    wanted[8:11, 1:4][spot > 0] = 3
    wanted[:, 15] = 255
    np.testing.assert_array_equal(lf.mask_of(tmp_path.with_name("out") / "masks/a.png"), wanted)
    assert done.classes == ("background", "car", "house", "tree")
    assert any("1 shapes cover no area" in notice and "shape 7 (line)" in notice for notice in done.notices)


def test_the_label_called_background_is_class_0_and_labels_txt_gives_the_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part, name in (("train", "a"), ("val", "b")):
        lf.photo(data / part / f"{name}.png")
        square = [[1, 1], [4, 1], [4, 4], [1, 4]]
        shapes = [shape("tree", square), shape("_background_", [[1, 1], [2, 1], [2, 2], [1, 2]])]
        save(data / part / f"{name}.json", shapes, f"..\\{part}\\{name}.png")
    (data / "labels.txt").write_text("__ignore__\n_background_\ntree\ncar\n")
    done = convert(Reading(data), tmp_path / "out")
    assert done.classes == ("_background_", "tree", "car")
    assert (lf.mask_of(tmp_path / "out/masks/train/a.png") == 1).sum() == 8
    assert (tmp_path / "out/masks/val/b.png").is_file()
    text = (tmp_path / "out/data.yaml").read_text()
    assert "train: {images: ../data/train, masks: masks/train}" in text
    assert "val: {images: ../data/val, masks: masks/val}" in text


@pytest.mark.parametrize("points", [[[1]], "x", [[1, 2]], [["a", "b"], ["c", "d"]]])
def test_a_damaged_file_is_named(tmp_path: Path, points: Any) -> None:
    lf.photo(tmp_path / "a.png")
    save(tmp_path / "a.json", [shape("x", points, "circle")], "a.png")
    with pytest.raises(FileFault, match=r"damaged LabelMe json.*a\.json"):
        convert(Reading(tmp_path), tmp_path.with_name("out"))


def test_json_of_another_kind_among_them_is_named(tmp_path: Path) -> None:
    lf.photo(tmp_path / "a.png")
    save(tmp_path / "a.json", [], "a.png")
    (tmp_path / "b.json").write_text("[1")
    with pytest.raises(FileFault, match=r"unreadable json.*b\.json"):
        convert(Reading(tmp_path), tmp_path.with_name("out"))
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(FileFault, match=r"no LabelMe json.*b\.json"):
        convert(Reading(tmp_path), tmp_path.with_name("out"))


def test_labels_of_a_photo_on_its_side_lie_as_a_viewer_shows_it(tmp_path: Path) -> None:
    from semikit.data.masked_images import load_spec, open_folders

    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (16, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", exif=exif)
        save(tmp_path / f"{name}.json", [shape("tree", [[0, 0], [5, 0], [5, 3], [0, 3]])], f"{name}.jpg")
    out = tmp_path.with_name("out")
    convert(Reading(tmp_path), out)
    train = open_folders(load_spec(out / "data.yaml")).train
    image, _ = train.image(0)
    labels, _ = train.target(0)
    assert image.shape[:2] == labels.shape == (12, 16)
    assert labels[:3, :5].all()
    assert labels.sum() == 15


def test_paths_of_another_machine_lead_to_the_image_beside_the_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in "ab":
        lf.photo(data / f"{name}.png", seed=ord(name))
        save(data / f"{name}.json", [shape("tree", [[0, 0], [5, 0], [5, 3], [0, 3]])], f"C:\\data\\{name}.png")
    assert convert(Reading(data), tmp_path / "out").written == 2


def test_of_images_of_one_name_each_has_the_labels_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part, width in (("train", 5), ("val", 4)):
        lf.photo(data / part / "a.png", seed=width)
        square = [[0, 0], [width, 0], [width, 3], [0, 3]]
        save(data / part / "a.json", [shape("tree", square)], "a.png")
    convert(Reading(data, images=data), tmp_path / "out")
    for part, width in (("train", 5), ("val", 4)):
        assert (lf.mask_of(tmp_path / f"out/masks/{part}/{part}/a.png") == 1).sum() == 3 * width
    (tmp_path / "labels").mkdir()
    (data / "train/a.json").rename(tmp_path / "labels/a.json")
    with pytest.raises(DataError, match=r"The labels name a\.png \(of that name are several: train/a, val/a\)"):
        convert(Reading(tmp_path / "labels", images=data), tmp_path / "two")
