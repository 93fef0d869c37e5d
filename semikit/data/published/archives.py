"""Archives and folders as streams of members, read without trusting them.

Nothing is ever unpacked by the names an archive holds: a caller says where each member goes. Names that lead out of
the archive or that no file can have, links, devices and encrypted members are refused, and so are a member that yields
more than it declares and an archive that declares far more than its own size (`bounds`). What is an archive itself is
not opened.
"""

from __future__ import annotations

import errno
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO, Self, final

from semikit.errors import DataError, RunError

_CHUNK = 1 << 20
_MOST_IN_MEMORY = 4 << 30
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    UnicodeDecodeError, struct.error, OSError,
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive or folder. Of an archive it can be read until the next one is taken."""

    name: str
    """Path inside, with forward slashes."""
    size: int
    """Bytes, as declared."""
    archive: Path
    """Where it lies."""
    open: Callable[[], IO[bytes]]
    """Opens its content."""
    file: Path | None = None
    """The file itself, in a folder."""

    def read(self) -> bytes:
        """The whole content.

        Raises:
            DataError: damaged, of another length than declared, or too large for the memory.
        """
        if self.size > _MOST_IN_MEMORY:
            raise DataError(f"{self.archive}: {self.name} declares {self.size} bytes; no file of a data set has that.")
        return b"".join(self._chunks())

    def head(self, count: int) -> bytes:
        """The first bytes.

        Raises:
            DataError: damaged, or of another length than declared.
        """
        return next(self._chunks(count), b"")

    def copy_to(self, path: Path) -> None:
        """Lay the member at `path`, whole or not at all; a file of the same size that is there is left.

        A member of a folder is linked (hard) where the file system allows it, else copied.

        Raises:
            DataError: damaged, or of another length than declared.
            RunError: the disk is full; what was written is removed.
        """
        if path.is_file() and path.stat().st_size == self.size:
            return
        temporary = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            if self.file is None or not _linked(self.file, temporary):
                with temporary.open("wb") as file:
                    for chunk in self._chunks():
                        file.write(chunk)
            temporary.replace(path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise full_disk(path, error) from None
            raise

    def _chunks(self, most: int = _CHUNK) -> Iterator[bytes]:
        count = 0
        try:
            with self.open() as content:
                while chunk := content.read(most):
                    count += len(chunk)
                    if count > self.size:
                        break
                    yield chunk
        except _DAMAGED as error:
            raise _damaged(self.archive, error, f"{self.name}: ") from None
        if count != self.size:
            amount = "more" if count > self.size else f"{count}"
            raise _damaged(self.archive, f"{self.name} declares {self.size} bytes and holds {amount}")


def members(archive: Path) -> Iterator[Member]:
    """The files of a .zip, .tar, .tar.gz, .tgz or .tar.xz, in stored order; folders are left out.

    Raises:
        DataError: no archive, damaged, or a member that is refused (absolute, `..`, a link, a device, encrypted).
    """
    try:
        with archive.open("rb") as file:
            head = file.read(2)
        yield from _zipped(archive) if head == b"PK" else _tarred(archive)
    except _DAMAGED as error:
        raise _damaged(archive, error) from None


def folder_members(folder: Path) -> Iterator[Member]:
    """The files below a folder, sorted by name within each folder.

    Raises:
        DataError: no such folder, or a link that leaves it or names a folder.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}.")
    base = folder.resolve()
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        real = path.resolve() if path.is_symlink() else path
        if path.is_symlink() and (real.is_dir() or not real.is_relative_to(base)):
            raise DataError(
                f"{folder}: {name} is a link {'to a folder' if real.is_dir() else 'out of this folder'} ({real}), "
                "which is not followed. Put the files there, or give the folder they lie in."
            )
        if real.is_file():
            yield Member(name, real.stat().st_size, folder, partial(FileIO, real), real)


def full_disk(path: Path, error: OSError) -> RunError:
    """The error for a disk that took no more of `path`."""
    return RunError(
        f"the disk is full: {path} was not written ({error.strerror}). Free space and run the same command again; "
        "what is whole is kept."
    )


def _zipped(path: Path) -> Iterator[Member]:
    bounds = Bounds(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = safe_name(path, info.filename)
            bounds.add(info.file_size)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if not name or info.filename.endswith("/") or kind == stat.S_IFDIR:
                continue
            if info.flag_bits & 1:
                raise refused(path, name, "is encrypted")
            if kind not in (0, stat.S_IFREG):
                raise refused(path, name, "is a link" if kind == stat.S_IFLNK else "is no plain file")
            yield Member(name, info.file_size, path, partial(archive.open, info))


def _tarred(path: Path) -> Iterator[Member]:
    bounds = Bounds(path)
    with closing(tarfile.open(path, "r:*", tarinfo=Header)) as archive:
        for info in archive:
            name = safe_name(path, info.name)
            bounds.add(info.size)
            if not name or info.isdir():
                continue
            if not info.isreg():
                raise refused(path, name, "is a link" if info.issym() or info.islnk() else "is no plain file")
            yield Member(name, info.size, path, partial(_extracted, archive, info))
        while archive.fileobj and (rest := archive.fileobj.read(_CHUNK)):
            bounds.add(len(rest))  # to the checksum at the very end of a compressed tar


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None  # only of what is no file
    return content


def _damaged(archive: Path, reason: Exception | str, member: str = "") -> DataError:
    if isinstance(reason, OSError) and reason.errno is not None:
        return DataError(f"{archive} cannot be read: {member}{reason.strerror}. Check that it exists and its rights.")
    first = str(reason).partition("\n")[0].rstrip(":")
    return DataError(f"{archive} is damaged, incomplete or no archive ({member}{first}). Delete it and fetch it again.")


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder, and links, but nothing hidden; links to folders are not entered."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _linked(source: Path, target: Path) -> bool:
    """Whether a hard link could be made."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


MOST_MEMBERS = 1_000_000
MOST_FOLD, ALWAYS_READ = 100, 4 << 30
"""An archive may declare so many times its own size; less than so many bytes it always may."""
LONGEST_NAME, LONGEST_PATH = 255, 1024
"""Bytes that file systems take."""
LARGEST_HEADER = 1 << 20
"""Bytes of a header of a tar that holds a long name."""

_EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def refused(archive: Path, name: str, reason: str) -> DataError:
    """The error for a member that is not read."""
    return DataError(
        f"{archive} is refused: its member {name!r} {reason}. No published archive holds such a thing; fetch it again "
        "from its official source."
    )


def safe_name(archive: Path, given: str) -> str:
    """The name of a member with forward slashes; bytes that are no text become question marks.

    Raises:
        DataError: it leads out of the archive, or no file can have it.
    """
    name = given.encode("utf-8", "replace").decode("utf-8").replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":":
        raise refused(archive, given, "is an absolute path" if name[0] == "/" else "begins with a drive letter")
    parts = name.split("/")
    if ".." in parts:
        raise refused(archive, given, "leads out of the archive")
    if any(letter < " " for letter in name):
        raise refused(archive, given, "holds a control character")
    if len(name.encode()) > LONGEST_PATH or max(len(part.encode()) for part in parts) > LONGEST_NAME:
        raise refused(archive, f"{given[:40]}…", "has a longer name than a file can have")
    return "/".join(part for part in parts if part not in ("", "."))


@final
class Bounds:
    """Counts what the members of an archive declare, so that a bomb is found before it is unpacked."""

    def __init__(self, archive: Path) -> None:
        self._archive, self._members, self._bytes = archive, 0, 0
        self._most = max(ALWAYS_READ, MOST_FOLD * archive.stat().st_size)

    def add(self, size: int) -> None:
        """Count a member of so many bytes.

        Raises:
            DataError: there are too many, or they hold too much together.
        """
        self._members, self._bytes = self._members + 1, self._bytes + size
        what = f"{MOST_MEMBERS} members" if self._members > MOST_MEMBERS else f"{self._most} bytes when unpacked"
        if self._members > MOST_MEMBERS or self._bytes > self._most:
            raise DataError(
                f"{self._archive} is refused: it holds more than {what}, as no published archive of its size does. "
                "Fetch it again from its official source."
            )


@final
class Header(tarfile.TarInfo):
    """A header of a tar; the ones that hold a long name are read into memory as a whole, and so must be small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """A header from its 512 bytes.

        Raises:
            DataError: it says that a name of more than `LARGEST_HEADER` bytes follows.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > LARGEST_HEADER:
            raise DataError(
                f"a member of a tar is refused: {header.size} bytes of its name follow; up to {LARGEST_HEADER} are "
                "read. Fetch the archive again from its official source."
            )
        return header
