from __future__ import annotations

from pathlib import Path

import pytest

from semikit.data.formats.label_tables import read_list, read_table
from semikit.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "sub/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file,label\nsub/c.png,dog\na.png,cat\n",
        "\ufefffile,label\r\n\r\nsub/c.png, dog\r\na.png ,cat",
        "label\tnote\tFile\ndog\tx\tsub/c.png\ncat\t\ta.png\n",
        'file;label\n"sub/c.png";"dog"\na.png;cat\n',
    ],
)
def test_tables_as_people_write_them(folder: Path, text: str) -> None:
    found = read_table(table(folder, text), None, "train")
    assert found == {"a": (folder / "a.png", "cat"), "sub/c": (folder / "sub/c.png", "dog")}
    assert list(found) == ["a", "sub/c"]


def test_files_may_lie_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lists") / "labels.csv"
    path.write_text(f"file,label\nc.png,dog\n{folder / 'a.png'},cat\n")
    found = read_table(path, folder / "sub", "train")
    assert found["c"] == (folder / "sub/c.png", "dog")
    assert found[str(folder / "a").removeprefix("/")] == (folder / "a.png", "cat")


@pytest.mark.parametrize("above", ["C:\\\\data\\\\set\\\\", "/home/else/set/", "\\\\\\\\server\\\\set\\\\", "d:/set/"])
def test_whole_paths_of_another_machine_are_found_by_their_ends(folder: Path, above: str) -> None:
    path = table(folder, f"file,label\n{above}a.png,cat\n{above}sub/c.png,dog\n")
    found = read_table(path, None, "train")
    assert found == {"a": (folder / "a.png", "cat"), "sub/c": (folder / "sub/c.png", "dog")}
    path.write_text(f"file,label\n{above}sub/c.png,dog\n")
    assert read_table(path, folder / "sub", "train") == {"c": (folder / "sub/c.png", "dog")}
    path.write_text(f"file,label\n{above}a.png,cat\n{above}sub/a.png,dog\n")  # of the same number of parts
    with pytest.raises(DataError, match=r"1 of 2 files that are not there: .*sub/a\.png"):
        read_table(path, None, "train")


def test_a_whole_path_below_the_folder_is_not_found_elsewhere_in_it(folder: Path) -> None:
    path = table(folder, f"file,label\n{folder}/gone/a.png,cat\n")
    with pytest.raises(DataError, match=r"1 of 1 files that are not there: .*gone/a\.png"):
        read_table(path, None, "train")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "a.png,cat\n",
            r"train: .*labels\.csv has no column 'file'\. Its columns: without names",
        ),
        ("file,class\na.png,cat\n", r"has no column 'label'\. Its columns: file, class"),
        ("file,label\n", "has a first line only, and no image"),
        ("", "labels.csv is empty"),
        ("file,label\na.png,\n", "no image of .* has a label"),
        ("file,label\na.png,cat\nx.png,cat\nb.png,dog\n", r"names 2 of 3 files that are not there: .*x\.png, .*b\.png"),
        ("file,label\naa.png,cat\n", r"aa\.png\. Did you mean 'a\.png' or 'b\.jpg'\? Files count from"),
        ("file,label\nnotes.txt,cat\n", r"names 1 files that are no images: .*notes\.txt\. Known types"),
        ("file,label\na.png,cat\na.png,dog\n", "names 1 images twice: a. Name each once"),
        ("file,label\n,cat\n", "that are no images"),
    ],
)
def test_wrong_tables(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(table(folder, text), None, "train")


def test_no_text(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(b"file,label\n\xff\xfe")
    with pytest.raises(DataError, match="is not a text file"):
        read_table(folder / "labels.csv", None, "train")


def test_no_table(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*none\.csv"):
        read_table(folder / "none.csv", None, "train")


def test_lists(folder: Path) -> None:
    assert read_list(table(folder, "# mine\n\nsub/c.png\na.png\n"), "unlabeled") == {
        "a": folder / "a.png",
        "sub/c": folder / "sub/c.png",
    }
    assert read_list(table(folder, "file,label\na.png,cat\n"), "unlabeled") == {"a": folder / "a.png"}


def test_a_list_of_comments(folder: Path) -> None:
    with pytest.raises(DataError, match=r"unlabeled: .* names no image"):
        read_list(table(folder, "# nothing\n"), "unlabeled")
