"""Tables of labels as people have them: with names of columns or without, with parts; what is asked and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from semikit.data.formats.table_columns import similar_names
from semikit.data.label_spec import LabelSpec, load_labels
from semikit.data.labeled_images import open_labeled
from semikit.data.samples import DataParts
from semikit.errors import DataError, InputError
from tests.helpers.photos import save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcdef":
        save(tmp_path / "images" / f"{name}.png", np.full((4, 4, 3), ord(name)))
        save(tmp_path / f"{name}.png", np.full((4, 4, 3), ord(name)))
    return tmp_path


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def found(spec: LabelSpec) -> dict[str, str]:
    parts = open_labeled(spec)
    names = zip(parts.train.names, parts.train.labels, strict=True)
    return {name: "?" if label < 0 else parts.class_names[label] for name, label in names}


EXPECTED = {"a": "cat", "b": "dog", "c": "cat"}


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat\nb.png,dog\nc.png,cat\n",
        "filename;class\na.png;cat\nb.png;dog\nc.png;cat\n",
        "Image\tCategory\tauthor\na.png\tcat\tx\nb.png\tdog\ty\nc.png\tcat\tz\n",
        "target,path\ncat,a.png\ndog,b.png\ncat,c.png\n",
        "a.png,cat\nb.png,dog\nc.png,cat\n",
        "cat\ta.png\ndog\tb.png\ncat\tc.png\n",
        "id,label\na,cat\nb,dog\nc,cat\n",
        "id,filename,label\n1,a.png,cat\n2,b.png,dog\n3,c.png,cat\n",
        'image_id,label\n"a","cat"\n"b","dog"\n"c","cat"\n',
    ],
)
def test_a_table_is_given_as_it_is(folder: Path, text: str) -> None:
    spec = load_labels(table(folder, text))
    assert found(spec) == EXPECTED
    again = LabelSpec.model_validate(spec.model_dump(mode="json", exclude_none=True))
    assert again == spec
    assert again.train.columns is not None, "what was recognised stands in the configuration"


def test_files_of_a_table_may_lie_in_a_root(folder: Path) -> None:
    spec = load_labels(table(folder, "id,label\na,cat\nb,dog\nc,cat\n"), folder / "images")
    assert open_labeled(spec).train.files(0) == (folder / "images/a.png",)


def test_names_of_images_that_lie_elsewhere(folder: Path) -> None:
    spec = load_labels(table(folder, "id,label\nx,cat\ny,dog\n"))
    with pytest.raises(DataError, match=r"names 2 of 2 files that are not there.*Files count from .*or by --root DIR"):
        open_labeled(spec)


@pytest.mark.parametrize(
    "columns", [{"file": "pic", "label": "kind"}, {"file": "PIC", "label": " Kind "}, {"file": 2, "label": 3}]
)
def test_columns_are_stated(folder: Path, columns: dict[str, Any]) -> None:
    table(folder, "n,pic,kind,label\n1,a.png,cat,x\n2,b.png,dog,y\n3,c.png,cat,z\n")
    if isinstance(columns["file"], int):
        table(folder, "1,a.png,cat,x\n2,b.png,dog,y\n3,c.png,cat,z\n")
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "labels.csv", "columns": columns}))
    assert found(load_labels(folder / "data.yaml")) == EXPECTED


def test_each_table_has_its_own_columns(folder: Path) -> None:
    table(folder, "filename,class\na.png,cat\nb.png,dog\n", "train.csv")
    table(folder, "d.png;dog\ne.png;cat\n", "val.csv")
    spec = load_labels({"train": str(folder / "train.csv"), "val": str(folder / "val.csv")})
    parts = open_labeled(spec)
    assert parts.val is not None
    assert list(parts.val.labels) == [1, 0]


SPLIT = (
    "file,label,split\na.png,cat,train\nb.png,dog,Training\nc.png,cat,valid\nd.png,dog,val\ne.png,,test\n"
    "f.png,cat,test\n"
)


def opened(folder: Path, text: str = SPLIT, **keys: Any) -> DataParts:
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": table(folder, text).name, **keys}))
    return open_labeled(load_labels(folder / "data.yaml"))


def test_a_column_says_which_part(folder: Path) -> None:
    parts = opened(folder, SPLIT.replace("e.png,,test", "e.png,dog,test"))
    assert parts.val is not None
    assert parts.test is not None
    assert [list(part.names) for part in (parts.train, parts.val, parts.test)] == [["a", "b"], ["c", "d"], ["e", "f"]]
    with pytest.raises(DataError, match="test: images without a label: e"):
        opened(folder)


@pytest.mark.parametrize(
    ("text", "keys", "sentence"),
    [
        (SPLIT, {"val": 0.2}, r"has images of train, val, test by its column 'split', and val is stated too"),
        (SPLIT, {"folds": 3}, "and folds is stated too"),
        (SPLIT.replace("Training", "one"), {}, "the column 'split' says one; train, val and test are known"),
        ("file,label,split\na.png,cat,val\nb.png,dog,test\n", {}, "and none of train"),
    ],
)
def test_parts_that_are_said_twice_or_not_known(folder: Path, text: str, keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        opened(folder, text, **keys)


def test_every_row_is_train_where_the_columns_name_no_split(folder: Path) -> None:
    parts = opened(folder, SPLIT, columns={"file": "file", "label": "label"})
    assert len(parts.train) == 6
    assert parts.val is None
    parts = opened(folder, "file,label,set\na.png,cat,red\nb.png,dog,blue\n")
    assert len(parts.train) == 2, "a set may mean anything"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("pic,breed,owner\na.png,cat,x\nb.png,dog,y\nc.png,cat,z\n", {"file": "pic", "label": "breed"}),
        ("filename,breed\na.png,cat\nb.png,dog\n", {"file": "filename", "label": "breed"}),
        ("a.png,x,cat\nb.png,y,dog\nc.png,z,cat\n", {"file": 1, "label": 3}),
        ("image,class,category\na.png,cat,x\nb.png,dog,x\n", {"file": "image", "label": "class"}),
    ],
)
def test_what_cannot_be_told_is_asked_with_the_line_to_write(folder: Path, text: str, columns: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        load_labels(table(folder, text))
    told = yaml.safe_load(str(caught.value).partition(":\n")[2])
    assert told == {"train": "labels.csv", "columns": columns}
    (folder / "data.yaml").write_text(yaml.safe_dump(told))
    assert set(found(load_labels(folder / "data.yaml")).values()) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,cat,dog,owl\na.png,1,0,1\nb.png,0,1,0\nc.png,0,0,0\n", "1 images have several and 1 have none"),
        ("image,cat,dog,owl\na.png,1,0,0\nb.png,0,1,0\n", r"of which each image has one\. Write its name .*idxmax"),
        ("image,label\na.png,cat|dog\nb.png,cat\n", r"gives 1 images several classes between '\|': cat\|dog"),
        ("image,label\na.png,cat;dog\nb.png,owl;dog\n", "gives 2 images several classes between ';'"),
    ],
)
def test_several_labels_of_an_image_are_refused_with_the_reason(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load_labels(table(folder, text))


def test_a_mark_within_one_name_is_part_of_it(folder: Path) -> None:
    assert set(found(load_labels(table(folder, "image,label\na.png,bus|coach\nb.png,car\n"))).values()) == {
        "bus|coach",
        "car",
    }
    parts = opened(folder, "image,label\na.png,cat|dog\nb.png,cat\n", classes=["cat", "cat|dog"])
    assert parts.class_names == ("cat", "cat|dog")


def test_classes_that_are_likely_one_are_asked_about(folder: Path) -> None:
    text = "image,label\na.png,cat\nb.png, Cat \nc.png,dog\nd.png,cats\n"
    with pytest.raises(DataError, match=r"the classes 'Cat' and 'cat' and 'cats' differ .*merge: \{'cat': 'Cat', "):
        opened(folder, text)
    parts = opened(folder, text, merge={"Cat": "cat", "cats": "cat"})
    assert parts.class_names == ("cat", "dog")
    assert list(parts.train.labels) == [0, 0, 1, 0]
    assert opened(folder, text, classes=["cat", "Cat", "dog", "cats"]).class_names == ("cat", "Cat", "dog", "cats")
    with pytest.raises(InputError, match="class in merge"):
        opened(folder, text, merge={"Catz": "cat", "Cat": "cat", "cats": "cat"})


def test_a_merge_leads_to_the_name_that_most_images_have(folder: Path) -> None:
    text = "image,label\na.png,cat\nb.png,Cat\nc.png,cat\nd.png,dog\n"
    with pytest.raises(DataError, match=r"merge: \{'Cat': 'cat'\}"):
        opened(folder, text)


def test_a_table_in_another_encoding_is_to_be_saved_as_utf8(folder: Path) -> None:
    (folder / "labels.csv").write_bytes("image,label\na.png,cat\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"not a text file in UTF-8\. Save it as CSV UTF-8\."):
        load_labels(folder / "labels.csv")


def test_classes_in_folders_are_asked_about_too(tmp_path: Path) -> None:
    for name in ("road_sign", "Road sign", "car"):
        save(tmp_path / "train" / name / "a.png", np.zeros((4, 4, 3)))
    with pytest.raises(DataError, match="'Road sign' and 'road_sign' differ"):
        load_labels(tmp_path)
    spec = load_labels({"train": str(tmp_path / "train"), "merge": {"road_sign": "Road sign"}})
    assert open_labeled(spec).class_names == ("Road sign", "car")


def test_names_that_are_alike() -> None:
    assert similar_names(["glass", "gla", "bus", "bu"]) == [("bu", "bus")]
    assert similar_names(["t-shirt", "T shirt", "cat", "catss"]) == [("T shirt", "t-shirt")]
    assert similar_names(["cat", "dog", "cart"]) == []
