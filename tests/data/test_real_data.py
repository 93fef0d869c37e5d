from __future__ import annotations

from pathlib import Path

import pytest

from semikit.data.check import check_samples, parts_of
from semikit.data.masked_images import load_spec, open_folders
from semikit.data.notices import missing_classes
from semikit.data.splits import choose

CAMVID = """
train: {images: "${SEMIKIT_TEST_DATA}/camvid/train/images", masks: "${SEMIKIT_TEST_DATA}/camvid/train/masks"}
val: {images: "${SEMIKIT_TEST_DATA}/camvid/val/images", masks: "${SEMIKIT_TEST_DATA}/camvid/val/masks"}
classes: [sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist]
ignore: [11]
"""


@pytest.mark.real_data("camvid")
def test_street_photos(tmp_path: Path) -> None:
    path = tmp_path / "camvid.yaml"
    path.write_text(CAMVID)
    spec = load_spec(path)
    sources = open_folders(spec)
    split = choose("1/8", sources, 0)
    assert (len(split.labeled), len(split.unlabeled), len(sources.val)) == (46, 321, 101)
    labelled, val = check_samples(parts_of(split, sources.val), 11).counted
    assert missing_classes(labelled, spec.classes) is None
    assert (val.images, val.holding[0], sum(val.pixels) + val.ignored) == (101, 101, 101 * 360 * 480)
