"""What no published archive holds: names that lead out of it, more than can be, headers that fill the memory."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Self, final

from semikit.errors import DataError

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
