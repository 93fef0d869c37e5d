"""Folders and patterns -> pairs, and their description as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semikit.data.file_patterns import list_place
from semikit.data.image_pairs import open_pair_folders
from semikit.data.pair_spec import BINARY, PairSpec, load_pairs
from semikit.errors import ConfigError, DataError, InputError
from tests.helpers import georasters, pairs


def spec(yaml: Path, text: str = "", root: Path | None = None) -> PairSpec:
    if text:
        yaml.write_text(text)
    return load_pairs(yaml, root)


class TestDescription:
    def test_a_folder_stands_for_its_three(self, pair_data: Path) -> None:
        found = spec(pair_data)
        assert found.classes == BINARY
        assert found.train.images_a == pair_data.parent / "train/A"
        assert found.train.masks == pair_data.parent / "train/label"
        assert (found.test is not None, found.mapping) == (True, {255: 1})

    def test_it_is_read_back_from_what_it_is_written_as(self, pair_data: Path) -> None:
        found = spec(pair_data)
        assert PairSpec.model_validate(found.model_dump(mode="json", exclude_none=True)) == found

    def test_unlabelled_pairs_need_no_label_folder(self, tmp_path: Path, pair_data: Path) -> None:
        text = pair_data.read_text() + "unlabeled: [more, {images_a: x, images_b: y}]\n"
        found = spec(tmp_path / "data.yaml", text, root=tmp_path)
        assert [part.images_b for part in found.unlabeled] == [tmp_path / "more/B", tmp_path / "y"]

    def test_variables_and_classes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", "/big")
        text = "train: ${PLACE}/train\nval: ${PLACE}/val\nclasses: {0: same, 1: house, 2: road}\n"
        found = spec(tmp_path / "data.yaml", text)
        assert found.val.images_a == Path("/big/val/A")
        assert found.classes == ("same", "house", "road")

    def test_a_folder_on_the_command_line(self, pair_data: Path) -> None:
        given = load_pairs(pair_data.parent)
        assert given.folder == pair_data.parent
        assert given.model_copy(update={"folder": None}) == spec(pair_data)

    def test_mistakes_are_gathered(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as raised:
            spec(tmp_path / "data.yaml", "train: {images: a}\nvalid: val\nmapping: {255: 2}\n")
        told = str(raised.value)
        for words in ("unknown key 'train.images'", "missing key 'train.images_b'", "unknown key 'valid'", "key 'val'"):
            assert words in told


class TestFolders:
    def test_names_dates_and_masks_go_together(self, pair_data: Path) -> None:
        found = open_pair_folders(spec(pair_data))
        assert found.train.names == tuple(f"train{k}" for k in range(8))
        assert [path.parent.name for path in found.train.files(3)] == ["A", "B"]
        assert [found.train.has_target(k) for k in range(8)] == [True] * 6 + [False] * 2
        assert (len(found.val), found.scale) == (3, None)

    def test_corrected_masks_hold_class_numbers_beside_others(self, pair_data: Path, tmp_path: Path) -> None:
        new = np.ones((40, 48), np.uint8)
        new[:10], new[30:] = 0, 255
        for name in ("train0", "train6"):
            pairs.save(tmp_path / f"new/{name}.png", new)
        place = pair_data.parent / "train"
        part = f"images_a: {place}/A, images_b: {place}/B, masks: {place}/label, corrected: {tmp_path}/new"
        found = open_pair_folders(spec(tmp_path / "data.yaml", f"train: {{{part}}}\nval: 0.2\nmapping: {{255: 1}}\n"))
        assert [found.train.has_target(k) for k in range(8)] == [True] * 5 + [True, True, False]
        for index in (0, 6):
            labels, valid = found.train.target(index)
            np.testing.assert_array_equal(labels, new == 1)
            np.testing.assert_array_equal(valid, new != 255)
        assert found.train.target(1)[0].max() == 1
        both = part.replace("masks:", "masks_a:").replace("corrected:", f"masks_b: {place}/label, corrected:")
        with pytest.raises(ConfigError, match="goes with masks, not with masks_a and masks_b"):
            spec(tmp_path / "data.yaml", f"train: {{{both}}}\nval: 0.2\nclasses: [same, a, b]\n")

    def test_a_pattern_with_a_star_for_the_name(self, tmp_path: Path) -> None:
        for name in ("paris", "rio", "rennes"):
            for date in "AB":
                georasters.save(tmp_path / f"{name}/{date}.tif", georasters.ramp(20, 30, 4, "uint16") * 30)
        georasters.save(tmp_path / "paris/label.tif", np.zeros((20, 30), np.uint8))
        part = "{{images_a: '*/A.tif', images_b: '*/B.tif', masks: '*/label.tif', names: [{}]}}"
        text = f"train: {part.format('rio, paris')}\nval: {part.format('paris')}\n"
        with pytest.raises(DataError, match="is in both train and val"):
            open_pair_folders(spec(tmp_path / "data.yaml", text))
        val = "{images_a: '*/A.tif', images_b: '*/B.tif', names: [rennes]}"
        found = open_pair_folders(spec(tmp_path / "data.yaml", f"train: {part.format('rio, paris')}\nval: {val}\n"))
        assert found.train.names == ("paris", "rio")
        assert found.train.files(1) == (tmp_path / "rio/A.tif", tmp_path / "rio/B.tif")
        assert [found.train.has_target(k) for k in (0, 1)] == [True, False]
        assert found.scale is not None
        assert len(found.scale.max) == 4  # type: ignore[arg-type]
        assert found.val.scale == found.train.scale

    def test_the_range_is_that_of_both_dates(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            georasters.save(tmp_path / part / "A/one.tif", np.full((3, 20, 20), 100, np.uint16))
            georasters.save(tmp_path / part / "B/one.tif", np.full((3, 20, 20), 900, np.uint16))
            georasters.save(tmp_path / part / "label/one.tif", np.zeros((20, 20), np.uint8))
        scale = open_pair_folders(load_pairs(tmp_path)).scale
        assert scale is not None
        assert (scale.min, scale.max) == ((100.0,) * 3, (900.0,) * 3)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"names": "[train0, train9]"}, "unknown pair in train.names: 'train9'. Did you mean"),
            ({"images_b": "train/A*/x*.png"}, "has several stars"),
            ({"images_b": "gone/*.png"}, "no image fits"),
            ({"masks": "val/label"}, "no pair has a mask. Pairs are named 'train0', 'train1', 'train2'"),
        ],
    )
    def test_what_is_not_there(self, pair_data: Path, tmp_path: Path, change: Any, words: str) -> None:
        part = {"images_a": "train/A", "images_b": "train/B", "masks": "train/label", **change}
        inner = ", ".join(f"{key}: {value}" for key, value in part.items())
        text = f"train: {{{inner}}}\nval: val\nmapping: {{255: 1}}\n"
        with pytest.raises(InputError, match=words.replace("[", r"\[")):
            open_pair_folders(spec(tmp_path / "data.yaml", text, root=pair_data.parent))


def test_a_pattern_takes_brackets_as_they_are_and_no_hidden_folders(pair_data: Path, tmp_path: Path) -> None:
    image = next((pair_data.parent / "train/A").glob("*"))
    for name in ("one", "two", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"[x]{image.suffix}").write_bytes(image.read_bytes())
    found = list_place(tmp_path / "*" / f"[x]{image.suffix}", "train.images_a").files
    assert list(found) == ["one", "two"]
