from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading, classes_of
from semikit.data.formats.colours import read_colours
from semikit.data.masked_images import load_spec, open_folders
from semikit.data.published.catalogue import read_published
from semikit.errors import ConfigError, DataError
from tests.helpers import label_files as lf


def voc(folder: Path, names: tuple[str, ...]) -> dict[str, lf.Mask]:
    made = {}
    pascal = read_published("pascal")
    for k, name in enumerate(names):
        lf.photo(folder / f"JPEGImages/{name}.jpg", seed=k)
        values = np.random.default_rng(k).choice([0, 1, 15, 20, 255], (12, 16)).astype(np.uint8)
        image = Image.fromarray(values)
        colours = np.zeros((256, 3), np.uint8)
        colours[:21] = pascal.palette
        colours[255] = (224, 224, 192)
        image.putpalette(colours.tobytes())
        (folder / "SegmentationClass").mkdir(exist_ok=True)
        image.save(folder / f"SegmentationClass/{name}.png")
        made[name] = values
    return made


def test_palette_masks_of_voc_keep_their_values_and_parts(tmp_path: Path) -> None:
    made = voc(tmp_path / "VOC2012", ("a", "b", "c"))
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    done = convert(Reading(tmp_path / "VOC2012"), tmp_path / "out")
    assert done.classes == read_published("pascal").classes
    for part, name in (("train", "a"), ("train", "b"), ("val", "c")):
        np.testing.assert_array_equal(lf.mask_of(tmp_path / f"out/masks/{part}/{name}.png"), made[name])
    assert (tmp_path / "out/images/val/c.jpg").samefile(tmp_path / "VOC2012/JPEGImages/c.jpg")


def test_with_a_label_map_the_colours_count_whatever_the_indices_are(tmp_path: Path) -> None:
    lf.photo(tmp_path / "set/JPEGImages/a.jpg")
    wanted = np.random.default_rng(1).integers(0, 3, (12, 16)).astype(np.uint8)
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
    (tmp_path / "set/SegmentationClass").mkdir()
    Image.fromarray(colours[wanted]).save(tmp_path / "set/SegmentationClass/a.png")
    (tmp_path / "set/labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\ntree:51,221,255::\n"
    )
    done = convert(Reading(tmp_path / "set"), tmp_path / "out")
    assert done.classes == ("background", "car", "tree")
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), wanted)


def test_indices_of_another_palette_are_not_taken_for_the_classes_of_voc(tmp_path: Path) -> None:
    voc(tmp_path / "set", ("a",))
    values = np.random.default_rng(0).integers(0, 2, (12, 16)).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.save(tmp_path / "set/SegmentationClass/a.png")
    with pytest.raises(ConfigError, match="the palette is not that of Pascal VOC"):
        convert(Reading(tmp_path / "set"), tmp_path / "out")
    done = convert(Reading(tmp_path / "set", classes=["background", "crack"]), tmp_path / "out")
    assert done.classes == ("background", "crack")
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), values)


def test_values_beyond_the_21_classes_are_counted(tmp_path: Path) -> None:
    voc(tmp_path / "set", ("b",))
    values = np.full((12, 16), 21, np.uint8)
    lf.photo(tmp_path / "set/JPEGImages/c.jpg")
    Image.fromarray(values).save(tmp_path / "set/SegmentationClass/c.png")
    with pytest.raises(DataError, match=r"21: 192 pixels.*labelmap\.txt"):
        convert(Reading(tmp_path / "set"), tmp_path / "out")


def test_colour_masks_become_class_numbers_and_unknown_colours_are_named(tmp_path: Path) -> None:
    wanted = np.random.default_rng(1).integers(0, 2, (12, 16)).astype(np.uint8)
    colours = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)
    lf.photo(tmp_path / "images/a.jpg")
    (tmp_path / "labels").mkdir()
    Image.fromarray(colours[wanted]).save(tmp_path / "labels/a.png")
    (tmp_path / "colors.yaml").write_text("sky: [70, 130, 180]\nroad: [128, 64, 128]\n")
    reading = Reading(tmp_path / "labels", colours=read_colours(tmp_path / "colors.yaml"), background="ignore")
    done = convert(reading, tmp_path / "out")
    assert done.classes == ("sky", "road")
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), wanted)
    with Image.open(tmp_path / "out/masks/a.png") as image:
        assert image.getpalette()[:6] == colours.reshape(-1).tolist()  # type: ignore[index]

    spec = load_spec(tmp_path / "out/data.yaml")
    assert spec.drawn == [(70, 130, 180), (128, 64, 128)]
    np.testing.assert_array_equal(open_folders(spec).train.target(0)[0], wanted)

    other = colours[wanted]
    other[0, :3] = (127, 64, 128)
    Image.fromarray(other).save(tmp_path / "labels/a.png")
    with pytest.raises(DataError, match=r"\[127, 64, 128\]: 3 pixels, nearest road \[128, 64, 128\]"):
        convert(reading, tmp_path / "out")
    (tmp_path / "colors.yaml").unlink()
    with pytest.raises(ConfigError, match="which colour is which class"):
        convert(Reading(tmp_path / "labels", format="colors"), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "sky: [70, 130, 180]\nroad: [128, 64, 128]\n"),
        ("b.yaml", "colors: {sky: [70, 130, 180], road: [128, 64, 128]}\n"),
        ("c.yaml", 'sky: "#4682b4"\nroad: "#804080"\n'),
        ("labelmap.txt", "# label:color\nsky:70,130,180::\nroad:128,64,128::\n"),
        ("label_colors.txt", "70 130 180\t sky\n128 64 128 road\n"),
        ("class_dict.csv", "name,r,g,b\nsky,70,130,180\nroad,128,64,128\n"),
    ],
)
def test_lists_of_colours_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_colours(tmp_path / name) == {"sky": (70, 130, 180), "road": (128, 64, 128)}


@pytest.mark.parametrize("text", ["sky: [70, 130]\n", "sky: [70, 130, 300]\n", "[]", "sky: blue\n"])
def test_other_lists_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DataError, match="no list of colours"):
        read_colours(tmp_path / "a.yaml")


def test_lists_of_voc_may_begin_with_a_mark_and_names_without_mask_are_counted(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2012", ("a", "b"))
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nx\n", encoding="utf-8-sig")
    (lists / "val.txt").write_text("b\n", encoding="utf-8-sig")
    done = convert(Reading(tmp_path / "VOC2012"), tmp_path / "out")
    assert (tmp_path / "out/masks/train/a.png").is_file()
    assert (tmp_path / "out/masks/val/b.png").is_file()
    assert "1 names in ImageSets/Segmentation are of no mask: x" in done.notices


def test_the_line_that_is_no_colour_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("sky: [70, 130, 180]\nroad: blue\n")
    with pytest.raises(DataError, match=r"road: blue is no colour\. Write a YAML"):
        read_colours(tmp_path / "a.yaml")


def test_classes_are_those_of_colours_where_a_description_has_no_others(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("colors: {sky: [70, 130, 180], road: [128, 64, 128]}\n")
    assert classes_of(str(tmp_path / "my.yaml")) == ["sky", "road"]
    (tmp_path / "my.yaml").write_text("train: images\n")
    with pytest.raises(DataError, match="none of the keys classes, names and colors"):
        classes_of(str(tmp_path / "my.yaml"))


def test_masks_of_camvid_with_the_list_of_colours_above_them_find_their_images(tmp_path: Path) -> None:
    colours = np.array([[70, 130, 180], [128, 64, 128]], np.uint8)
    made = {}
    for k, name in enumerate(("0", "city/1")):
        made[name] = np.random.default_rng(k).integers(0, 2, (12, 16)).astype(np.uint8)
        lf.photo(tmp_path / f"set/images/{name}.jpg", seed=k)
        path = tmp_path / f"set/labels/{name}_L.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours[made[name]]).save(path)
    (tmp_path / "set/class_dict.csv").write_text("name,r,g,b\nsky,70,130,180\nroad,128,64,128\n")
    for images in (tmp_path / "set/images", None):
        out = tmp_path / f"out{images is None}"
        convert(Reading(tmp_path / "set/labels", images=images, background="ignore"), out)
        for name, wanted in made.items():
            np.testing.assert_array_equal(lf.mask_of(out / f"masks/{name}.png"), wanted)
