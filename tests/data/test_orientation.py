"""Photos with a camera's orientation lie as a viewer shows them, and their masks on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from semikit.data.check import Part, parts_of, target_of
from semikit.data.check import examined as checked
from semikit.data.formats.mask_values import MaskValues
from semikit.data.header_notices import header_notices
from semikit.data.image_pairs import ImagePairs, open_pair_folders
from semikit.data.label_spec import LabelSpec
from semikit.data.labeled_images import open_labeled
from semikit.data.masked_images import MaskedImages, open_folders
from semikit.data.pair_spec import PairSpec
from semikit.data.shards.decoders import PoolImage, PoolPair, PoolRgb
from semikit.data.shards.tar_samples import Sample
from semikit.data.splits import choose
from semikit.errors import FileFault
from tests.data.conftest import make_spec
from tests.helpers import stored

RNG = np.random.default_rng(1)
STORED = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
LABELS = RNG.integers(0, 3, (12, 16), dtype=np.uint8)
SIDEWAYS, UPSIDE_DOWN = 6, 3


def shown(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    return np.array(ImageOps.exif_transpose(image))


def photo(path: Path, values: NDArray[Any] = STORED, orientation: int = SIDEWAYS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, exif=stored.exif(orientation))
    return path


def sample(
    tmp_path: Path, mask: NDArray[Any], stated: Any, orientation: int = SIDEWAYS, side: int = 16
) -> MaskedImages:
    path = photo(tmp_path / "a.png", STORED[:, :side], orientation)
    Image.fromarray(mask).save(tmp_path / "m.png")
    return MaskedImages(("a",), (path,), (tmp_path / "m.png",), MaskValues(3), orientation=stated)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_and_masks_lie_on_each_other(tmp_path: Path, orientation: int) -> None:
    turned = sample(tmp_path, shown(LABELS, orientation), "viewer", orientation)
    np.testing.assert_array_equal(turned.image(0)[0], shown(STORED, orientation))
    np.testing.assert_array_equal(turned.target(0)[0], shown(LABELS, orientation))
    as_stored = sample(tmp_path, LABELS, "stored", orientation)
    np.testing.assert_array_equal(as_stored.image(0)[0], STORED)
    np.testing.assert_array_equal(as_stored.target(0)[0], LABELS)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_says_on_what_a_mask_was_drawn(tmp_path: Path, orientation: int) -> None:
    for mask in (shown(LABELS, orientation), LABELS):
        source = sample(tmp_path, mask, "auto", orientation)
        np.testing.assert_array_equal(source.image(0)[0], shown(STORED, orientation))
        np.testing.assert_array_equal(source.target(0)[0], shown(LABELS, orientation))
        target_of(source, 0, source.image(0)[0].shape)


@pytest.mark.parametrize(("orientation", "side"), [(SIDEWAYS, 12), (UPSIDE_DOWN, 16), (2, 16), (4, 16)])
def test_where_it_cannot_be_told_the_user_is_asked(tmp_path: Path, orientation: int, side: int) -> None:
    source = sample(tmp_path, LABELS[:, :side], "auto", orientation, side)
    with pytest.raises(
        FileFault, match=r"both turned and not turned: .*m\.png \(EXIF orientation .\)\. .*orientation: viewer"
    ):
        source.target(0)
    np.testing.assert_array_equal(source.image(0)[0], shown(STORED[:, :side], orientation))
    np.testing.assert_array_equal(replace(source, orientation="viewer").target(0)[0], LABELS[:, :side])


def test_a_mask_that_fits_neither_is_named_with_both_sizes(tmp_path: Path) -> None:
    source = sample(tmp_path, LABELS[:, :10], "auto")
    with pytest.raises(FileFault, match=r"mask of another size than its image: .*\(image 12x16, mask 10x12"):
        source.target(0)
    with pytest.raises(FileFault, match=r"The image is shown turned \(EXIF\), the mask is not"):
        sample(tmp_path, LABELS, "viewer").target(0)


class TestFolders:
    @pytest.fixture
    def sideways(self, folder: Path) -> Path:
        """A labelled, an unlabelled and a validation image on their side, whose masks fit the stored pixels."""
        for name in ("train/images/train2", "train/images/train7", "val/images/val0"):
            (folder / f"{name}.png").unlink()
            photo(folder / f"{name}.jpg", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        return folder

    def parts(self, folder: Path, **changes: Any) -> list[Part]:
        opened = open_folders(make_spec(folder, **changes))
        return parts_of(choose(None, opened), opened.val)  # type: ignore[arg-type]

    def test_the_check_passes_and_says_what_was_turned(self, sideways: Path) -> None:
        parts = self.parts(sideways)
        assert not checked(parts, 3).problems
        (notice,) = header_notices(parts, "auto")
        assert notice.startswith("2 masks fit their photo as it is stored and not as it is shown (EXIF orientation)")
        assert "labelled: train2, val: val0" in notice
        for part in parts:
            sizes = {part.source.image(index)[0].shape[:2] for index in part.indices}
            assert sizes == {(12, 16), (16, 12)}, part.name
        assert not header_notices(self.parts(sideways, orientation="stored"), "stored")

    def test_stored_is_what_it_was_before(self, sideways: Path) -> None:
        parts = self.parts(sideways, orientation="stored")
        assert not checked(parts, 3).problems
        assert {part.source.image(index)[0].shape for part in parts for index in part.indices} == {(12, 16, 3)}

    def test_the_check_asks_where_it_cannot_be_told(self, folder: Path) -> None:
        (folder / "train/images/train2.png").unlink()
        photo(folder / "train/images/train2.jpg", orientation=UPSIDE_DOWN)
        (problem,) = checked(self.parts(folder), 3).problems
        assert problem.startswith("labelled: mask that fits its image both turned and not turned: ")
        assert not checked(self.parts(folder, orientation="viewer"), 3).problems
        (folder / "train/images/train7.png").unlink()
        (folder / "train/masks/train2.png").unlink()
        photo(folder / "train/images/train7.jpg", orientation=UPSIDE_DOWN)
        assert not checked(self.parts(folder), 3).problems, "what is not labelled has no mask to lie on"

    def test_files_of_several_images_are_named(self, folder: Path) -> None:
        frames = [Image.fromarray(np.full((12, 16, 3), 80 * k, np.uint8)) for k in range(3)]
        (folder / "train/images/train2.png").unlink()
        frames[0].save(folder / "train/images/train2.tif", save_all=True, append_images=frames[1:])
        notice = header_notices(self.parts(folder), "auto")[0]
        assert notice.startswith("1 files hold several images, of which only the first is read: ")
        assert "train2.tif (3). Split a file whose other images count, or take one of them out" in notice
        assert "gdal_translate GTIFF_DIR:2:FILE.tif" in notice


def test_pairs_are_turned_date_by_date(tmp_path: Path) -> None:
    before = photo(tmp_path / "a.png")
    after = photo(tmp_path / "b.png", shown(STORED, SIDEWAYS), 1)
    Image.fromarray(LABELS).save(tmp_path / "m.png")
    pair = ImagePairs(("a",), (before,), (after,), (tmp_path / "m.png",), MaskValues(3), orientation="auto")
    image, _ = pair.image(0)
    np.testing.assert_array_equal(image[0], image[1])
    np.testing.assert_array_equal(pair.target(0)[0], shown(LABELS, SIDEWAYS))
    with pytest.raises(FileFault, match="dates of other sizes"):
        replace(pair, orientation="stored").image(0)


def test_the_description_of_pairs_says_it(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for date in "AB":
            photo(tmp_path / part / date / f"{part}.png")
        (tmp_path / part / "label").mkdir()
        Image.fromarray(LABELS // 2).save(tmp_path / part / "label" / f"{part}.png")
    spec = PairSpec.model_validate({"train": tmp_path / "train", "val": tmp_path / "val"})
    assert open_pair_folders(spec).train.image(0)[0].shape == (2, 16, 12, 3)
    assert open_pair_folders(spec.model_copy(update={"orientation": "stored"})).train.image(0)[0].shape == (
        2,
        12,
        16,
        3,
    )


def test_classification_reads_photos_upright(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            photo(tmp_path / part / name / f"{name}{part}.png")
    photo(tmp_path / "more/x.png")
    raw = {"train": tmp_path / "train", "val": tmp_path / "val", "unlabeled": tmp_path / "more"}
    parts = open_labeled(LabelSpec.model_validate(raw))
    for source in (parts.train, parts.val, *parts.unlabeled):
        assert source is not None
        np.testing.assert_array_equal(source.image(0)[0], shown(STORED, SIDEWAYS))
        stack = source.arrays()
        assert stack is not None
        assert stack.shape[1:] == (16, 12, 3)
    parts = open_labeled(LabelSpec.model_validate({**raw, "orientation": "stored"}))
    np.testing.assert_array_equal(parts.train.image(0)[0], STORED)


def test_images_out_of_shards_too(tmp_path: Path) -> None:
    data = photo(tmp_path / "a.png").read_bytes()
    wanted = shown(STORED, SIDEWAYS)
    np.testing.assert_array_equal(PoolImage(upright=True)(Sample("s!a", {"png": data}))[0], wanted)
    np.testing.assert_array_equal(PoolRgb(upright=True)(Sample("s!a", {"png": data}))[0], wanted)
    np.testing.assert_array_equal(PoolImage()(Sample("s!a", {"png": data}))[0], STORED)
    pair = PoolPair(upright=True)(Sample("s!a", {"a.png": data, "b.png": data}))
    np.testing.assert_array_equal(pair[0], np.stack([wanted, wanted]))


def test_a_mask_on_the_shown_photo_where_stored_is_stated_is_answered_with_what_fits(tmp_path: Path) -> None:
    source = sample(tmp_path, shown(LABELS, SIDEWAYS), "stored")
    (problem,) = checked([Part("val", source, [0], masks=True)], 3).problems
    assert "It fits the image as a viewer shows it (EXIF orientation): leave `orientation: stored` out" in problem
    other = sample(tmp_path, LABELS[:, :9], "stored")
    (problem,) = checked([Part("val", other, [0], masks=True)], 3).problems
    assert "export the masks again" in problem
