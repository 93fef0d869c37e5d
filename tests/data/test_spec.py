from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from semikit.data.masked_images import DataSpec, load_spec
from semikit.data.spec import refuse_unreachable
from semikit.errors import ConfigError, DataError

BASE: dict[str, Any] = {
    "train": {"images": "train/images", "masks": "train/masks"},
    "val": {"images": "val/images", "masks": "val/masks"},
    "classes": ["sky", "building", "pole"],
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    return path


def error(folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_spec(write(folder, **changes))
    return str(caught.value)


def test_the_documented_file_loads(tmp_path: Path) -> None:
    text = """
train:      {images: train/images, masks: train/masks}
unlabeled:  {images: more/images}
val:        {images: val/images, masks: val/masks}
test:       {images: test/images, masks: test/masks}
classes:    [sky, building, pole]
ignore:     [11]
mapping:    {255: 1}
bands:      [3, 2, 1]
scale:      {min: 0, max: 10000}
"""
    (tmp_path / "data.yaml").write_text(text)
    spec = load_spec(tmp_path / "data.yaml")
    assert spec.train.images == tmp_path / "train/images"
    assert [part.images for part in spec.unlabeled] == [tmp_path / "more/images"]
    assert spec.test is not None
    assert spec.test.masks == tmp_path / "test/masks"
    assert spec.num_classes == 3
    assert spec.values.read(255) == (1, 1)
    assert spec.values.read(11) == (0, 0)
    assert spec.bands == (3, 2, 1)


def test_classes_by_number_come_in_order(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path, classes={1: "b", 0: "a"})).classes == ("a", "b")


def test_several_unlabeled_folders(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, unlabeled=[{"images": "a"}, {"images": "/b"}]))
    assert [part.images for part in spec.unlabeled] == [tmp_path / "a", Path("/b")]


def test_root_replaces_the_folder_of_the_file(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path), root=tmp_path / "else").val.images == tmp_path / "else/val/images"


def test_environment_variables_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", "/big")
    path = write(tmp_path, val={"images": "${MY_DATA}/i", "masks": "${MY_DATA}/m"})
    assert load_spec(path).val.images == Path("/big/i")
    monkeypatch.delenv("MY_DATA")
    with pytest.raises(ConfigError, match=r"\$\{MY_DATA\}, but the environment variable MY_DATA is not set"):
        load_spec(path)


def test_a_written_out_spec_reads_back(tmp_path: Path) -> None:
    spec = load_spec(
        write(tmp_path, mapping={255: 1}, unlabeled={"images": "u"}, scale={"min": [0, 0], "max": [1, 2.5]})
    )
    again = yaml.safe_load(yaml.safe_dump(spec.model_dump(mode="json")))
    assert DataSpec.model_validate(again) == spec
    assert DataSpec.model_validate(spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clases": ["a"]}, "unknown key 'clases'. Did you mean 'classes'"),
        ({"val": {"images": "a", "mask": "b"}}, "unknown key 'val.mask'. Did you mean 'masks'"),
        ({"unlabeled": {"images": "a", "masks": "b"}}, "unknown key 'unlabeled[0].masks'"),
        ({"classes": ["a", 1]}, "invalid type for key 'classes[1]': expected text, got 1 (int)"),
        ({"classes": "sky"}, "invalid type for key 'classes': expected a list, got 'sky' (str)"),
        ({"classes": ["a"]}, "'classes': expected at least 2 entries"),
        ({"classes": ["a", "a"]}, "class names must differ, got twice: a"),
        ({"classes": {1: "a", 5: "b"}}, "must be numbered 0 to 1, got [1, 5]"),
        ({"classes": {1: "a", 5: "b"}}, "mapping: {1: 0, 5: 1}"),
        ({"classes": {"x": "a", 0: "b"}}, "classes must be a list of names or {number: name}, got the keys ['x', 0]"),
        ({"ignore": 255}, "invalid type for key 'ignore': expected a list, got 255 (int)"),
        ({"ignore": [255], "mapping": {255: 1}}, "mask values [255] are in both 'ignore' and 'mapping'"),
        ({"mapping": {255: 7}}, "'mapping' leads to class 7, but the classes are 0 to 2"),
        ({"mapping": {"a": 1}}, "expected a whole number, got 'a' (str)"),
        ({"bands": [0]}, "'bands[0]': expected greater than or equal to 1, got 0"),
        ({"scale": {"min": 5, "max": 1}}, "min must be below max"),
        (
            {"scale": {"min": 0, "max": [1, 2, 3]}},
            "min and max are one number each, or both one for each band; got",
        ),
    ],
)
def test_wrong_files_are_explained(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in error(tmp_path, **changes)


def test_all_errors_at_once(tmp_path: Path) -> None:
    text = error(tmp_path, train={"masks": "a"}, clases=[1], ignore="x")
    assert "3 errors" in text
    assert "- missing key 'train.images'" in text


def test_missing_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"no such file: .*date\.yaml\. YAML files there: data\.yaml"):
        load_spec(tmp_path / "date.yaml")
    (tmp_path / "bad.yaml").write_text("train: {images: [")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not valid YAML: .*line \d"):
        load_spec(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="expected a mapping"):
        load_spec(tmp_path / "list.yaml")


def test_a_class_of_which_all_values_are_ignored(tmp_path: Path) -> None:
    def told(**changes: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            refuse_unreachable(load_spec(write(tmp_path, **changes)))
        return str(raised.value)

    first = told(ignore=[0, 255])
    assert first.startswith("no mask value is of class 'sky' (0): `ignore` or `mapping` takes its value.")
    assert "leave its name out of `classes` and number the others: `mapping: {1: 0, 2: 1}`; else take" in first
    refuse_unreachable(load_spec(write(tmp_path, ignore=[0, 255], classes=["building", "pole"], mapping={1: 0, 2: 1})))
    assert "'building' (1), 'pole' (2)" in told(ignore=[2], mapping={1: 0})
    refuse_unreachable(load_spec(write(tmp_path, ignore=[2], mapping={7: 2})))
