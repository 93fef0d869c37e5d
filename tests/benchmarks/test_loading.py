from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loading import STREAMS, measured, photographs, scenes
from semikit.errors import DataError
from tests.helpers import class_sets, photos

CROP = 24
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")


def test_weak_crops_of_images_with_masks(tmp_path: Path) -> None:
    source, labeled, makers = scenes(photos.write(tmp_path), CROP)
    assert (len(source), len(labeled)) == (8, 6)
    found = measured(makers, {"labeled": 6, "unlabeled": 8}, items=32)
    pixels = CROP * CROP
    for stream, masks in zip(STREAMS, (1, 0), strict=True):
        assert all(spent > 0 for spent, _ in found[stream].values())
        sizes = {name: size for name, (_, size) in found[stream].items()}
        assert sizes["semikit"] == (3 + 1 + masks) * pixels + 8, "uint8 image, bool valid, uint8 labels, number"
        assert sizes["PIL"] == sizes["torchvision"] == (3 + masks) * pixels + 8


def test_without_masks_there_is_no_labelled_stream(tmp_path: Path) -> None:
    spec = photos.write(tmp_path)
    spec.write_text(spec.read_text().replace(", masks: train/masks", ""))
    with pytest.raises(DataError, match="no training image has a mask"):
        scenes(spec, CROP)


def test_crops_of_photographs(tmp_path: Path) -> None:
    class_sets.folders(tmp_path, ("a", "b"), 90, 4, "train", "jpg")
    (tmp_path / "kept").mkdir()
    source, labeled, makers = photographs(tmp_path / "train", CROP, tmp_path / "kept")
    assert len(labeled) == len(source) == 8
    found = measured(makers, dict.fromkeys(STREAMS, 8), items=16)
    for stream, crops in zip(STREAMS, (1, 3), strict=True):
        sizes = {name: size for name, (_, size) in found[stream].items()}
        assert set(sizes.values()) == {crops * 3 * CROP * CROP + 8.0, 8.0}
        assert sizes["decoding"] == 8
