"""Input that was made to do harm: archives, pickles and YAML. Nothing is run, written outside, or grows without end."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from semikit.data.published import archives as bounds
from semikit.data.published.archives import members
from semikit.errors import DataError
from tests.helpers import icons, mutations, photos, trials


class Harm:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.mark),)


def test_the_mark_would_be_seen(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Harm(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.fixture
def mark(tmp_path: Path) -> Any:
    """What a pickle would leave behind; nothing may."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "code of a file was run"


# ------------------------------------------------------------------------------------------------------------- pickles


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run beside its data; nobody may change what lies there."""
    folder = tmp_path_factory.mktemp("hostile")
    data = photos.write(folder, 3, 3, 1, 1)
    flags = ["--data", data, *photos.FLAGS, "--labels", "2", "--iterations", "1"]
    assert trials.called("train", "seg", *flags, "--out", folder / "run", "--quiet").code == 0
    return folder / "run"


def hostile(path: Path, mark: Path, kind: str) -> Path:
    """A pickle with harm inside, as torch writes it, as it wrote it before, plain, or in an archive of numpy's."""
    content = {"model": {"weight": torch.zeros(2)}, "harm": Harm(mark)}
    if kind == "zip":
        torch.save(content, path)
    elif kind == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif kind == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
            archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain", "numpy"])
@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.bin", "x.ckpt", "x.safetensors"])
def test_weights_are_never_unpickled(run: Path, mark: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = hostile(tmp_path / name, mark, kind)
    data = run.parent / "data.yaml"
    told = [
        trials.refused("train", "seg", "--data", data, *photos.FLAGS, "--labels", "2", "--weights", path, "--dry-run"),
        trials.refused("evaluate", path, "--data", data),
        trials.refused("predict", path, run.parent / "val/images/val0.png", "-o", tmp_path / "out"),
    ]
    assert all(name in text for text in told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_checkpoint_is_never_unpickled(run: Path, mark: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("last.ckpt", "previous.ckpt"):
        path = tmp_path / "run/weights" / name
        path.unlink(missing_ok=True)
        mutations.sealed(hostile(path, mark, kind))  # its checksum is right
    assert "previous.ckpt" in trials.refused("train", "seg", "--resume", tmp_path / "run")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pkl"])
def test_other_pickles_are_not_even_opened(run: Path, mark: Path, tmp_path: Path, suffix: str) -> None:
    path = hostile(tmp_path / f"x{suffix}", mark, "plain")
    assert "weights end in .safetensors" in trials.refused("evaluate", path, "--data", run.parent / "data.yaml")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "stl10"])
def test_published_files_are_read_only_as_they_were_published(mark: Path, tmp_path: Path, name: str) -> None:
    """CIFAR comes as pickles: one with another checksum is not opened."""
    pytest.importorskip("scipy")
    from torchvision import datasets

    kind = getattr(datasets, name.upper())
    if name.startswith("cifar"):
        listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
        files = [f"{kind.base_folder}/{file}" for file, _ in listed]
    elif name == "svhn":
        files = [entry[1] for entry in kind.split_list.values()]
    else:
        files = [f"{kind.base_folder}/{file}" for file, _ in kind.train_list + kind.test_list]
    for file in files:
        (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
        hostile(tmp_path / "root" / file, mark, "plain")
    flags = ["--dataset", name, "--root", tmp_path / "root", *icons.FLAGS, "--labels", "40", "--dry-run"]
    assert "another MD5 than published" in trials.refused("train", "cls", *flags)


# ------------------------------------------------------------------------------------------------------- contents


def with_metadata(run: Path, path: Path, metadata: Any) -> Path:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(load_file(run / "weights/best.safetensors"), path, {"semikit": text})
    return path


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("[" * 100_000, "damaged"),
        ("{", "damaged"),
        ([1], "holds weights but not how to build their network"),
        ({"task": "seg"}, "missing key 'class_names'"),
        (
            {"task": ["seg"], "class_names": "abc", "mean": [0], "std": [0.0], "crop": 1 << 40},
            "invalid type for key 'task'",
        ),
    ],
)
def test_metadata_that_are_none(run: Path, tmp_path: Path, metadata: Any, told: str) -> None:
    path = with_metadata(run, tmp_path / "x.safetensors", metadata)
    assert told in trials.refused("evaluate", path, "--data", run.parent / "data.yaml")


# ---------------------------------------------------------------------------------------------------------------- YAML

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 10)}]\n" for k in range(12))
REFUSED = {
    "a tag": ("x: !!python/object/apply:os.system ['touch escaped']\n", "could not determine a constructor"),
    "a name": ("x: !!python/name:os.system\n", "could not determine a constructor"),
    "laughs": (LAUGHS, "more than 200000 values"),
    "merged laughs": (LAUGHS.replace("[", "{a: ").replace("]", "}").replace(", ", ", b: "), "line"),
    "itself": ("x: &a [*a]\n", "inside of what it stands for"),
    "depth": ("x: " + "[" * 900, "more than 64 deep"),
    "bottomless": ("x: " + "[" * 300_000, ".yaml"),  # newer readers refuse it themselves, in other words
    "twice": ("train: {batch: 1}\ntrain: {batch: 2}\n", "the key 'train' stands in line 1 already"),
    "digits": ("x: " + "9" * 10_000, "not valid YAML"),
    "date": ("x: 2020-99-99\n", "month must be in 1..12"),
    "bool": ("x: !!bool maybe\n", "does not fit the tag"),
    "tab": ("x:\n\ty: 1\n", "not valid YAML"),
    "nul": ('x: "\\0"\n', "character NUL"),
    "size": ("x: " + "a" * (5 << 20), "a description of up to"),
    "two": ("x: 1\n---\ny: 2\n", "not valid YAML"),
    "not a number": ("task: seg\noptimizer: {lr: .nan}\n", "'lr'"),
    "infinite": ("task: seg\noptimizer: {lr: .inf}\n", "'lr'"),
    "bytes": (b"\xff\xfe\x00", "not valid YAML"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("flag", ["--config", "--data", "run"])
def test_yaml(run: Path, tmp_path: Path, kind: str, flag: str) -> None:
    text, told = REFUSED[kind]
    if flag != "--config" and kind in ("not a number", "infinite"):
        pytest.skip("of a recipe")
    data = run.parent / "data.yaml"
    path = tmp_path / "x.yaml"
    command = [
        "train",
        "seg",
        flag,
        path,
        *photos.FLAGS,
        "--dry-run",
        *(["--data", data] if flag == "--config" else []),
    ]
    if flag == "run":
        shutil.copytree(run, tmp_path / "run")
        path, command = tmp_path / "run/config.yaml", ["train", "seg", "--resume", tmp_path / "run"]
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert told in trials.refused(*command)
    assert not Path("escaped").exists()


# ------------------------------------------------------------------------------------------------------------ archives


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[Path], str]:
    """`data prepare pascal` of an archive that is refused; nothing is written outside of the root."""

    def call(archive: Path) -> str:
        before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "root")}
        told = trials.refused("data", "prepare", "pascal", "--source", archive, "--root", tmp_path / "root")
        assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "root")} == before
        assert not (tmp_path / "root/semikit.json").exists()
        return told

    return call


def tarred(path: Path, *infos: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, content in infos:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a\nb.png", "holds a control character"),
        ("x" * 300 + ".png", "longer name than a file can have"),
        ("/".join(["deep"] * 300), "longer name than a file can have"),
    ],
)
def test_names_no_file_can_have(
    prepared: Callable[[Path], str], tmp_path: Path, kind: str, name: str, told: str
) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "tar":
        tarred(path, (tarfile.TarInfo(name), b"1"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"1")
    assert told in prepared(path)


def test_names_that_are_no_text_are_told_and_written(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        info = tarfile.TarInfo("h\xe4user.png")
        archive.addfile(info)
    assert [member.name for member in members(path)] == ["h?user.png"]


def test_a_path_through_a_link_of_the_archive(prepared: Callable[[Path], str], tmp_path: Path) -> None:
    link = tarfile.TarInfo("VOCdevkit")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    path = tarred(tmp_path / "x.tar", (link, b""), (tarfile.TarInfo("VOCdevkit/escaped.png"), b"1"))
    assert "'VOCdevkit' is a link" in prepared(path)


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb(prepared: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A thousand times its size; the limit is lowered, so that the test need not inflate gigabytes."""
    monkeypatch.setattr(bounds, "ALWAYS_READ", 1 << 20)
    path, zeros = tmp_path / f"bomb.{kind}", bytes(8 << 20)
    if kind == "tgz":
        tarred(path, (tarfile.TarInfo("VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg"), zeros), mode="w:gz")
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg", zeros)
    assert "bytes when unpacked, as no published archive of its size does" in prepared(path)
    assert not (tmp_path / "root").exists()


def test_zeros_behind_the_end_of_a_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(bounds, "ALWAYS_READ", 1 << 20)
    tarred(tmp_path / "x.tar", (tarfile.TarInfo("a"), b"1"))
    (tmp_path / "x.tgz").write_bytes(gzip.compress((tmp_path / "x.tar").read_bytes() + bytes(8 << 20)))
    with pytest.raises(DataError, match="bytes when unpacked"):
        list(members(tmp_path / "x.tgz"))


def test_a_zip_whose_members_share_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is small; together they declare more than a hundred times the archive."""
    monkeypatch.setattr(bounds, "ALWAYS_READ", 1 << 10)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(20):
            archive.writestr(f"{k}.txt", bytes(1 << 16))
    with pytest.raises(DataError, match="as no published archive of its size does"):
        list(members(tmp_path / "x.zip"))


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_MEMBERS", 3)
    path = tarred(tmp_path / "x.tar", *((tarfile.TarInfo(f"{k}"), b"1") for k in range(4)))
    with pytest.raises(DataError, match="it holds more than 3 members"):
        list(members(path))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 1 << 33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(DataError, match="8589934592 bytes of its name follow"):
        list(members(tmp_path / "x.tar"))


def test_an_archive_inside_is_not_opened(prepared: Callable[[Path], str], tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../escaped.png", b"1")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert "was found in" in prepared(tmp_path / "x.zip")


def test_of_a_name_that_stands_twice_the_first_counts(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(miniature("pascal"), tmp_path / "given")
    path = tmp_path / "given/VOCtrainval_11-May-2012.tar"
    image = next(member for member in members(path) if member.name.endswith(".jpg"))
    name, first = image.name, image.size
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"bad"))
    prepare = ["data", "prepare", "pascal", "--source", tmp_path / "given", "--root", tmp_path / "root"]
    assert trials.called(*prepare).code == 0
    assert (tmp_path / "root" / name.removeprefix("VOCdevkit/VOC2012/")).stat().st_size == first
    again = trials.called(*prepare)
    assert again.code == 0
    assert "0 files laid out" in again.out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files on this system")
def test_a_pipe_in_the_source_is_passed_over(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    shutil.copytree(miniature("pascal"), tmp_path / "given")
    os.mkfifo(tmp_path / "given/2007_000000.jpg")
    prepare = ["data", "prepare", "pascal", "--source", tmp_path / "given", "--root", tmp_path / "root"]
    assert trials.called(*prepare).code == 0


def test_a_record_that_is_none(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert trials.called("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", root).code == 0
    for text in ("[" * 100_000, "[]", '{"dataset": 3}', '{"dataset": "pascal", "counts": {"train": 1e400}}', "\x00"):
        (root / "semikit.json").write_text(text)
        assert "semikit.json" in trials.refused("data", "verify", "pascal", "--root", root)


def test_a_list_of_a_root_that_is_no_text(miniature: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert trials.called("data", "prepare", "pascal", "--source", miniature("pascal"), "--root", root).code == 0
    (root / "lists/train.txt").write_bytes(b"\xff\xfe")
    assert "train.txt is damaged" in trials.refused("data", "verify", "pascal", "--root", root)
