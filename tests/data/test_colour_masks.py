from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semikit.data.formats.colours import packed_pixels, read_colours
from semikit.data.formats.images import read_mask
from semikit.data.image_pairs import open_pair_folders
from semikit.data.masked_images import DataSpec, load_spec, open_folders
from semikit.data.pair_spec import load_pairs
from semikit.errors import ConfigError, DataError, FileFault
from semikit.raster.region import Region
from tests.helpers import label_files as lf
from tests.helpers import stored
from tests.helpers.georasters import save

SKY, ROAD, VOID = (70, 130, 180), (128, 64, 128), (0, 0, 0)
TEXT = """
train: {images: images, masks: masks}
val: {images: more/images, masks: more/masks}
colors: {sky: [70, 130, 180], road: [128, 64, 128]}
ignore_colors: [[0, 0, 0]]
"""


def drawn(classes: lf.Mask) -> Any:
    return np.array([SKY, ROAD, VOID], np.uint8)[classes]


def data(tmp_path: Path, text: str = TEXT) -> Path:
    for folder, seed in (("", 0), ("more/", 1)):
        lf.photo(tmp_path / f"{folder}images/a.png", seed=seed)
        lf.photo(tmp_path / f"{folder}masks/a.png")
    (tmp_path / "my.yaml").write_text(text)
    return tmp_path / "my.yaml"


@pytest.fixture
def classes() -> lf.Mask:
    return np.random.default_rng(3).integers(0, 3, (12, 16)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "tiff", "palette_tiff", "palette_pillow"])
def test_masks_in_colour_are_read_by_their_colours(tmp_path: Path, classes: lf.Mask, kind: str) -> None:
    yaml = data(tmp_path)
    path = tmp_path / "masks/a.png"
    image = Image.fromarray(drawn(classes))
    if kind == "rgb":
        image.save(path)
    elif kind == "rgba":
        image.putalpha(Image.fromarray(np.full((12, 16), 200, np.uint8)))
        image.save(path)
    elif kind == "palette":
        indices = Image.fromarray(2 - classes)  # the indices are other numbers than the classes
        indices.putpalette([*VOID, *ROAD, *SKY])
        indices.save(path)
    elif kind.startswith("palette_"):  # as a GIS and as Pillow write them
        path.unlink()
        path = path.with_suffix(".tif")
        if kind == "palette_tiff":
            save(path, 2 - classes, colormap={0: VOID, 1: ROAD, 2: SKY})
        else:
            indices = Image.fromarray(2 - classes)
            indices.putpalette([*VOID, *ROAD, *SKY])
            indices.save(path)
    else:
        path.unlink()
        save(tmp_path / "masks/a.tif", drawn(classes).transpose(2, 0, 1), crs=None)
    parts = open_folders(load_spec(yaml))
    labels, valid = parts.train.target(0)
    np.testing.assert_array_equal(valid, classes < 2)
    np.testing.assert_array_equal(labels, np.where(classes < 2, classes, 0))
    assert parts.class_names == ("sky", "road")


def test_masks_of_class_numbers_are_read_beside_them(tmp_path: Path, classes: lf.Mask) -> None:
    yaml = data(tmp_path, TEXT + "ignore: [2]\n")
    Image.fromarray(classes).save(tmp_path / "masks/a.png")
    labels, valid = open_folders(load_spec(yaml)).train.target(0)
    np.testing.assert_array_equal(valid, classes < 2)
    np.testing.assert_array_equal(labels, np.where(classes < 2, classes, 0))


def test_unknown_colours_are_counted_with_the_nearest_known_one(tmp_path: Path, classes: lf.Mask) -> None:
    yaml = data(tmp_path)
    pixels = drawn(classes)
    pixels[0, :3], pixels[1, 0] = (128, 64, 127), (1, 1, 1)
    Image.fromarray(pixels).save(tmp_path / "masks/a.png")
    with pytest.raises(FileFault) as found:
        open_folders(load_spec(yaml)).train.target(0)
    assert "[128, 64, 127]: 3 pixels, nearest road [128, 64, 128]" in str(found.value)
    assert "[1, 1, 1]: 1 pixels, nearest ignored [0, 0, 0]" in str(found.value)
    assert "`ignore_colors`" in str(found.value)


def test_masks_of_a_lossy_format_are_called_so(tmp_path: Path, classes: lf.Mask) -> None:
    yaml = data(tmp_path)
    (tmp_path / "masks/a.png").unlink()
    Image.fromarray(drawn(classes)).save(tmp_path / "masks/a.jpg", quality=60)
    with pytest.raises(FileFault, match=r"mask in a lossy format.*values that are no class.*[^ ] JPEG"):
        open_folders(load_spec(yaml)).train.target(0)
    Image.fromarray(classes * 100).save(tmp_path / "masks/a.jpg", quality=60)
    with pytest.raises(FileFault, match=r"mask in a lossy format.*values that are no class.*[^ ] JPEG"):
        open_folders(load_spec(yaml)).train.target(0)


def test_a_mask_in_colour_without_colors_says_how_they_are_given(tmp_path: Path, classes: lf.Mask) -> None:
    text = TEXT.replace("colors: {sky: [70, 130, 180], road: [128, 64, 128]}\nignore_colors: [[0, 0, 0]]",
                        "classes: [sky, road]")  # fmt: skip
    yaml = data(tmp_path, text)
    Image.fromarray(drawn(classes)).save(tmp_path / "masks/a.png")
    with pytest.raises(FileFault, match=r"`colors: \{road: \[128, 64, 128\]"):
        open_folders(load_spec(yaml)).train.target(0)


def test_pairs_are_read_by_colours_too(tmp_path: Path) -> None:
    for part in ("train", "val"):
        lf.photo(tmp_path / part / "A/a.png", seed=1)
        lf.photo(tmp_path / part / "B/a.png", seed=2)
        pixels = np.zeros((12, 16, 3), np.uint8)
        pixels[:4] = (255, 0, 0)
        (tmp_path / part / "label").mkdir()
        Image.fromarray(pixels).save(tmp_path / part / "label/a.png")
    (tmp_path / "my.yaml").write_text("train: train\nval: val\ncolors: {same: [0, 0, 0], new: [255, 0, 0]}\n")
    labels, valid = open_pair_folders(load_pairs(tmp_path / "my.yaml")).train.target(0)
    assert labels.sum() == 4 * 16
    assert valid.all()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("colors: {sky: [70, 130, 180], road: [70, 130, 180]}", r"twice: \[70, 130, 180\]"),
        ("colors: {sky: [70, 130, 180], road: [128, 64, 300]}", "less than or equal to 255"),
        ("colors: {sky: [70, 130, 180]}\nclasses: [sky, road]", "no colour for road"),
        ("colors: {sky: [70, 130, 180], raod: [1, 2, 3]}\nclasses: [sky]", "raod|at least 2"),
        ("classes: [sky, road]\nignore_colors: [[0, 0, 0]]", "'ignore_colors' is read with 'colors'"),
    ],
)
def test_colours_that_do_not_fit_are_refused(tmp_path: Path, line: str, text: str) -> None:
    yaml = data(tmp_path, f"train: {{images: images, masks: masks}}\nval: 0.2\n{line}\n")
    with pytest.raises(ConfigError, match=text):
        load_spec(yaml)


def test_what_is_written_into_a_configuration_is_read_back(tmp_path: Path) -> None:
    spec = load_spec(data(tmp_path))
    plain = spec.model_dump(mode="json", exclude_none=True)
    assert DataSpec.model_validate(plain) == spec
    assert spec.drawn == [SKY, ROAD]


def test_colours_may_be_written_in_hexadecimal(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        'train: {images: i, masks: m}\nval: 0.2\ncolors: {sky: "#4682B4", road: "#804080"}\n'
    )
    assert load_spec(tmp_path / "my.yaml").colors == {"sky": (70, 130, 180), "road": (128, 64, 128)}


def test_pictures_and_weights_have_the_colours(tmp_path: Path) -> None:
    from semikit.tasks.seg import PixelData, Segmentation

    parts = Segmentation.open(PixelData(folders=load_spec(data(tmp_path))))
    assert parts.palette is not None
    assert parts.palette[:2].tolist() == [list(SKY), list(ROAD)]


def test_masks_in_a_lossy_format_that_hold_classes_alone_are_told_of(tmp_path: Path) -> None:
    from semikit.data.check import Part
    from semikit.data.notices import lossy_notice

    yaml = data(tmp_path)
    (tmp_path / "masks/a.png").unlink()
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(tmp_path / "masks/a.jpg")
    train = open_folders(load_spec(yaml)).train
    notice = lossy_notice([Part("labelled", train, [0], masks=True), Part("unlabelled", train, [0])])
    assert notice is not None
    assert notice.startswith("1 masks are JPEG or WebP")


def test_deep_colours_are_answered_with_what_to_save(tmp_path: Path, classes: lf.Mask) -> None:
    yaml = data(tmp_path)
    stored.png(tmp_path / "masks/a.png", drawn(classes).astype(np.int64) * 257, 16, stored.RGB)
    parts = open_folders(load_spec(yaml))
    with pytest.raises(FileFault, match=r"colour mask of more than 8 bits: .*uint16.* Save it with 8 bits per channel"):
        parts.train.target(0)


def test_a_palette_of_a_raster_is_an_index_without_colours(tmp_path: Path, classes: lf.Mask) -> None:
    path = save(tmp_path / "a.tif", classes, colormap={0: VOID, 1: ROAD, 2: SKY})
    np.testing.assert_array_equal(read_mask(path), classes)
    window = Region(2, 3, 5, 6)
    wanted = packed_pixels(np.array([VOID, ROAD, SKY], np.uint8)[classes])
    np.testing.assert_array_equal(read_mask(path, window, colours=True), wanted[window.slices])


def test_a_list_of_colours_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "labelmap.txt").write_bytes("Straße:128,64,128::\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labelmap\.txt is not a text file in UTF-8"):
        read_colours(tmp_path / "labelmap.txt")
