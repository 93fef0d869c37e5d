"""The tar files of a pool: listed, measured, opened, counted."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from semikit.data.shards.pool_spec import COMMAND, expanded, is_remote
from semikit.errors import DataError, RunError, some

LARGEST = 256 * 2**20
"""Bytes up to which a file in a shard is read into memory."""

COUNTS = "shard-counts.txt"
"""File of a run folder: how many images the shards hold that were read to their end."""

_PATIENCE = 60
"""Seconds in which a command has to end that sends no more."""

_GRACE = 5
"""Seconds in which a command has to end once it was terminated; then it is killed."""

_SKIPPED = 2**20
"""Bytes that are read at a time to come further in a stream."""


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """A tar file: where it is read from, its name in the manifest, its size in bytes (None: not known before)."""

    place: str
    name: str
    size: int | None


def list_shards(patterns: Sequence[str]) -> tuple[Shard, ...]:
    """All shards that patterns name, in their order; paths have to exist.

    Raises:
        DataError: missing files, the same place twice, patterns that fit nothing.
    """
    places = expanded(patterns)
    twice = [place for place, times in Counter(places).items() if times > 1]
    if twice:
        raise DataError(f"shards that are named twice: {some(twice)}. Name each once.")
    unknown = [place for place in places if "://" in place and not is_remote(place)]
    if unknown:
        raise DataError(
            f"shards {some(unknown)}: addresses are http://, https:// or a command, such as "
            f"'{COMMAND}aws s3 cp s3://bucket/pool-{{000..999}}.tar -'."
        )
    missing = [place for place in places if not is_remote(place) and not Path(place).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(places)} shards are missing: {some(missing)}. Restore them or list fewer."
        )
    return tuple(_shard(place) for place in places)


def _shard(place: str) -> Shard:
    """A shard under the name that stays the same when files are moved or an address is signed anew."""
    if place.startswith(COMMAND):
        return Shard(place, place, None)
    if is_remote(place):
        return Shard(place, place.partition("?")[0], None)
    return Shard(place, Path(place).name, Path(place).stat().st_size)


@final
class ShardReader:
    """A shard as the file that `tarfile` needs: forward only where it comes from a command, and never read at once in
    pieces of more than `LARGEST` bytes, whatever a header says.
    """

    def __init__(self, place: str) -> None:
        from webdataset.gopen import gopen

        self.remote = is_remote(place)
        self._file: Any = gopen(place, "rb")
        self._at = 0
        self._ended = False
        self.last = b""
        """What was read last: at the end of a whole archive a block of zeros."""

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end.

        Raises:
            ReadError: more than `LARGEST` are asked for.
            OSError: the file or the command fails.
        """
        if not 0 <= count <= LARGEST:
            raise tarfile.ReadError(f"a header asks for {count} bytes")
        self.last = self._file.read(count)
        self._at += len(self.last)
        self._ended = self._ended or len(self.last) < count
        return self.last

    def seek(self, position: int) -> None:
        """Go on at a byte, counted from the beginning."""
        if not self.remote:
            self._file.seek(position)
            self._at = position
        while self._at < position and self.read(min(position - self._at, _SKIPPED)):
            pass

    def tell(self) -> int:
        """The byte that is read next."""
        return self._at

    def failure(self) -> str:
        """How the command failed; empty where it did not, where it still sends, and where there is none.

        To be asked before `close`, which ends a command that still sends and so would make it fail.
        """
        if not self.remote:
            return ""
        try:
            status = self._file.proc.wait(_PATIENCE) if self._ended else self._file.proc.poll()
        except subprocess.TimeoutExpired:
            return f"it sent no more and did not end within {_PATIENCE} s"
        return f"exit status {status}" if status else ""

    def close(self) -> None:
        """Close the file; a command that still runs is ended."""
        if not self.remote:
            self._file.close()
            return
        self._file.stream.close()
        self._file.proc.terminate()
        try:
            self._file.proc.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._file.proc.kill()
            self._file.proc.wait()


@final
@dataclass(slots=True)
class ShardCounts:
    """How many images shards hold, as found while reading; kept in a file, so that a resumed run skips whole shards.

    Several processes append to the file; a line that is not whole (the machine was stopped) is not believed.
    """

    path: Path | None = None
    known: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None) -> ShardCounts:
        """What the file tells; nothing where there is none yet."""
        counts = cls(path)
        if path is not None and path.is_file():
            for line in path.read_text(encoding="ascii", errors="replace").splitlines():
                words = line.split(" ")
                if len(words) == 3 and line == _line(*words[:2]):
                    counts.known[int(words[0])] = int(words[1])
        return counts

    def note(self, shard: int, count: int) -> None:
        """Remember the number of images of a shard.

        Raises:
            RunError: the file cannot be written.
        """
        if self.known.get(shard) == count:
            return
        self.known[shard] = count
        if self.path is None or not self.path.parent.is_dir():
            return  # a machine that does not see the run folder
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, f"\n{_line(str(shard), str(count))}\n".encode("ascii"))
            finally:
                os.close(file)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror}. Make room, then resume.") from None


def _line(shard: str, count: str) -> str:
    return f"{shard} {count} {zlib.crc32(f'{shard} {count}'.encode()):08x}"
