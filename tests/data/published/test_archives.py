from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from semikit import files as disk
from semikit.data.published import archives
from semikit.data.published.archives import folder_members, members
from semikit.errors import DataError, RunError
from semikit.files import need_space

FILES = {"b/two.txt": b"two" * 5000, "a/one.txt": b"one", "b/c/empty.txt": b""}
KINDS = {".zip": "", ".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("b/"), b"")
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("./b")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    kind = "".join(path.suffixes)
    return write_zip(path, files) if kind == ".zip" else write_tar(path, files, KINDS[kind])


def copy_all(path: Path, folder: Path) -> None:
    for member in members(path):
        member.copy_to(folder / member.name)


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_in_stored_order(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"some{kind}")
    assert [(member.name, member.size, member.read()) for member in members(path)] == [
        (name, len(content), content) for name, content in FILES.items()
    ]


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "some.zip").rename(tmp_path / "some.zip.part")
    assert [member.name for member in members(path)] == list(FILES)


def test_a_leading_dot_is_no_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"./a/one.txt": b"1"})
    assert [member.name for member in members(path)] == ["a/one.txt"]


# ----------------------------------------------------------------------------------------------------------- refused

OUTSIDE = {
    "/etc/passwd": "is an absolute path",
    "\\temp\\x": "is an absolute path",
    "../x": "leads out of the archive",
    "a/../../x": "leads out of the archive",
    "a\\..\\..\\x": "leads out of the archive",
    "C:/x": "begins with a drive letter",
}


@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out(tmp_path: Path, kind: str, name: str) -> None:
    path = write(tmp_path / f"some{kind}", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DataError, match=OUTSIDE[name]) as error:
        list(members(path))
    assert str(path) in str(error.value)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "is no plain file"),
        (tarfile.FIFOTYPE, "is no plain file"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, reason: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("bad")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=f"x.tar is refused: its member 'bad' {reason}"):
        list(members(tmp_path / "x.tar"))


@pytest.mark.parametrize(("mode", "reason"), [(0o120777, "is a link"), (0o020666, "is no plain file")])
def test_links_and_devices_in_a_zip(tmp_path: Path, mode: int, reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("bad")
        info.external_attr = mode << 16
        archive.writestr(info, b"/etc/passwd")
    with pytest.raises(DataError, match=f"'bad' {reason}"):
        list(members(tmp_path / "x.zip"))


def patched(path: Path, change: Callable[[bytearray, int], None]) -> Path:
    """A zip whose entry in the directory at its end was changed."""
    raw = bytearray(path.read_bytes())
    change(raw, raw.index(b"PK\x01\x02"))
    path.write_bytes(raw)
    return path


def test_an_encrypted_zip(tmp_path: Path) -> None:
    def encrypt(raw: bytearray, at: int) -> None:
        raw[at + 8] |= 1

    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("secret", b"1")
    with pytest.raises(DataError, match="'secret' is encrypted"):
        list(members(patched(path, encrypt)))


def declare(size: int) -> Callable[[bytearray, int], None]:
    def change(raw: bytearray, at: int) -> None:
        raw[at + 24 : at + 28] = size.to_bytes(4, "little")

    return change


@pytest.mark.parametrize("size", [10, 1 << 21])
def test_more_or_less_than_declared(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1 << 20))
    assert [member.size for member in members(patched(path, declare(size)))] == [size]
    with pytest.raises(DataError, match=r"x\.zip is damaged.*bomb.*fetch it again"):
        copy_all(path, tmp_path / "out")
    assert not [item for item in (tmp_path / "out").rglob("*") if item.is_file()]


def test_a_stream_that_never_ends_is_stopped(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            self.asked += 1
            return bytes(1 << 20)

    endless = Endless()
    member = archives.Member("zeros", 100, tmp_path / "x.tar", lambda: endless)  # type: ignore[arg-type,return-value]
    with pytest.raises(DataError, match="zeros declares 100 bytes and holds more"):
        member.read()
    assert endless.asked == 1


def test_a_size_no_memory_holds(tmp_path: Path) -> None:
    member = archives.Member("huge", 1 << 40, tmp_path / "x.zip", lambda: io.BytesIO(b""))
    with pytest.raises(DataError, match="huge declares 1099511627776 bytes"):
        member.read()


# ----------------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_archive(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"some{kind}", {"a": os.urandom(20000), "b": os.urandom(20000)})
    path.write_bytes(path.read_bytes()[:24000])
    with pytest.raises(DataError, match=rf"some{kind} is damaged, incomplete or no archive .*fetch it again"):
        copy_all(path, tmp_path / "out")


def test_a_flipped_bit_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"0" * 1000)
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"x\.zip is damaged.*a: Bad CRC-32"):
        copy_all(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [".tgz", ".tar.xz"])
def test_a_flipped_bit_in_a_compressed_tar(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"x{kind}", {"a": os.urandom(10000)})
    raw = bytearray(path.read_bytes())
    raw[5000] ^= 1  # noise is stored as it is: only the checksum tells
    path.write_bytes(raw)
    with pytest.raises(DataError, match=rf"x{kind} is damaged"):
        list(members(path))


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", b"PK\x03\x04 no zip"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="damaged, incomplete or no archive"):
        list(members(tmp_path / "x.zip"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(members(tmp_path / "x.zip"))


# ----------------------------------------------------------------------------------------------------------- copy_to


def test_copies_make_folders_and_leave_what_is_there(tmp_path: Path) -> None:
    copy_all(write(tmp_path / "some.zip"), tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FILES} == FILES
    (tmp_path / "out/a/one.txt").write_bytes(b"ONE")  # of the same size: not written again
    (tmp_path / "out/b/two.txt").write_bytes(b"half")
    copy_all(tmp_path / "some.zip", tmp_path / "out")
    assert (tmp_path / "out/a/one.txt").read_bytes() == b"ONE"
    assert (tmp_path / "out/b/two.txt").read_bytes() == FILES["b/two.txt"]
    assert not list((tmp_path / "out").rglob(".*"))


class FullDisk(io.RawIOBase):
    """A file on a disk that is full."""

    def __init__(self, path: Path) -> None:
        self.file = io.FileIO(path, "w")

    def write(self, data: bytes) -> int:
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.open

    def open_(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        return FullDisk(path) if "w" in mode or "+" in mode else plain(path, mode, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", open_)


@pytest.mark.usefixtures("full")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "some.tar")
    with pytest.raises(RunError, match=r"the disk is full: .*two\.txt was not written .* run the same command again"):
        copy_all(path, tmp_path / "out")
    assert not [item for item in (tmp_path / "out").rglob("*") if item.is_file()]


def test_an_interrupted_copy_leaves_nothing_behind(tmp_path: Path) -> None:
    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise KeyboardInterrupt

    member = archives.Member("a", 5, tmp_path, Interrupted)
    with pytest.raises(KeyboardInterrupt):
        member.copy_to(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_folder_is_read_as_an_archive(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    (tmp_path / "x/link.txt").symlink_to("a/one.txt")
    found = {member.name: member.read() for member in folder_members(tmp_path / "x")}
    assert list(found) == ["a/one.txt", "b/c/empty.txt", "b/two.txt", "link.txt"]
    assert found == {**FILES, "link.txt": b"one"}


def test_files_of_a_folder_are_linked(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").write_bytes(b"1")
    (member,) = folder_members(tmp_path / "x")
    member.copy_to(tmp_path / "out/a")
    assert (tmp_path / "out/a").stat().st_ino == (tmp_path / "x/a").stat().st_ino


def test_files_are_copied_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").write_bytes(b"1")
    (member,) = folder_members(tmp_path / "x")
    member.copy_to(tmp_path / "out/a")
    assert (tmp_path / "out/a").read_bytes() == b"1"
    assert (tmp_path / "out/a").stat().st_nlink == 1


@pytest.mark.parametrize(("target", "reason"), [("../secret", "out of this folder"), ("inner", "to a folder")])
def test_links_that_are_not_followed(tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "x/inner").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"1")
    (tmp_path / "x/link").symlink_to(target)
    with pytest.raises(DataError, match=f"link is a link {reason}"):
        list(folder_members(tmp_path / "x"))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list(folder_members(tmp_path / "x"))


# -------------------------------------------------------------------------------------------------------------- space


def test_room_is_asked_for_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(10**12, 0, 5 * 10**9))
    need_space(tmp_path / "not/yet", 5 * 10**9)
    with pytest.raises(RunError, match=r"needs 5\.10 GB and 5\.00 GB are free"):
        need_space(tmp_path / "not/yet", 51 * 10**8)
    assert list(tmp_path.iterdir()) == []
