from pathlib import Path

import numpy as np
import pytest

from semikit.data.conversion.convert import convert
from semikit.data.conversion.label_formats import Reading
from semikit.errors import FileFault
from tests.helpers import label_files as lf

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>tree</name></label><label><name>car</name></label></labels></task></meta>
"""


def save(path: Path, shapes: str, image: str = "a.png") -> Path:
    path.write_text(f'{HEAD}<image id="0" name="{image}" width="16" height="12">{shapes}</image></annotations>')
    return path


def test_polygons_boxes_ellipses_and_masks_lie_as_their_layers_do(tmp_path: Path) -> None:
    lf.photo(tmp_path / "images/a.png")
    spot = np.array([[1, 1, 0], [0, 1, 1]], bool)
    runs = ", ".join(map(str, lf.run_lengths(spot.reshape(-1))))
    shapes = f"""
    <box label="car" xtl="2" ytl="2" xbr="8" ybr="8" z_order="2"></box>
    <polygon label="tree" points="0,0;10,0;10,10;0,10" z_order="0"></polygon>
    <mask label="tree" rle="{runs}" left="3" top="4" width="3" height="2" z_order="3"></mask>
    <box label="car" xtl="10" ytl="4" xbr="16" ybr="6" rotation="90" z_order="1"></box>
    <ellipse label="tree" cx="13" cy="10" rx="2" ry="1" z_order="4"></ellipse>
    <polyline label="car" points="1,1;2,2" z_order="9"></polyline>
    """
    source = save(tmp_path / "annotations.xml", shapes)

    done = convert(Reading(source), tmp_path / "out")

    wanted = np.zeros((12, 16), np.uint8)
    wanted[:10, :10] = 1
    wanted[2:8, 12:14] = 2  # turned upright around its middle (13, 5)
    wanted[2:8, 2:8] = 2
    wanted[4:6, 3:6][spot] = 1
    rows, columns = np.mgrid[0:12, 0:16] + 0.5
    wanted[((columns - 13) / 2) ** 2 + (rows - 10) ** 2 <= 1] = 1
    np.testing.assert_array_equal(lf.mask_of(tmp_path / "out/masks/a.png"), wanted)
    assert done.classes == ("background", "tree", "car")
    assert any("1 shapes cover no area" in notice and "polyline" in notice for notice in done.notices)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<annotations><track></track></annotations>", "tracks of a video"),
        ("<annotations><image", "unreadable xml"),
        ("<data></data>", "first element data"),
        ('<annotations><image name="a.png" width="x" height="2"></image></annotations>', "damaged xml"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, text: str, what: str) -> None:
    lf.photo(tmp_path / "images/a.png")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(FileFault, match=what):
        convert(Reading(tmp_path / "a.xml", format="cvat"), tmp_path / "out")


def test_several_files_are_read_together_and_others_named(tmp_path: Path) -> None:
    source = tmp_path / "export"
    for folder, name, seed in (("job1", "a", 1), ("job2", "a", 2), ("val", "b", 3)):
        lf.photo(source / folder / f"images/{name}.png", seed=seed)
        box = '<box label="car" xtl="2" ytl="2" xbr="8" ybr="8" z_order="2"></box>'
        save(
            source / folder / "annotations.xml", box if folder != "job2" else box.replace("car", "tree"), f"{name}.png"
        )
    (source / "job1/other.xml").write_text("<annotation></annotation>")
    done = convert(Reading(source), tmp_path / "out")
    assert done.written == 3
    assert done.classes == ("background", "tree", "car")
    assert (lf.mask_of(tmp_path / "out/masks/train/job1/images/a.png") == 2).sum() == 36
    assert (lf.mask_of(tmp_path / "out/masks/train/job2/images/a.png") == 1).sum() == 36
    assert (tmp_path / "out/masks/val/b.png").is_file()
    assert any("1 xml files are not CVAT's" in notice and "other.xml" in notice for notice in done.notices)


def test_unlabelled_images_beside_the_folder_of_labelled_ones_are_learned_from(tmp_path: Path) -> None:
    source = save(tmp_path / "annotations.xml", '<polygon label="tree" points="0,0;10,0;10,10;0,10"/>', "city/a.png")
    for name in ("city/a", "b"):
        lf.photo(tmp_path / f"images/{name}.png")
    convert(Reading(source), tmp_path / "out")
    assert "images: ../images, masks" in (tmp_path / "out/data.yaml").read_text()
    assert (tmp_path / "out/masks/city/a.png").is_file()
