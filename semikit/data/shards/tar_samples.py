"""Samples of a shard: files of one name that follow each other in a tar, of which the images are kept."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import final

from semikit.data.shards.pool_spec import is_remote
from semikit.data.shards.tar_files import LARGEST, Shard, ShardReader
from semikit.errors import FileFault, RunError

TRIES = 4
"""How often a shard that comes through a command is read before the run stops."""
_WAIT = 1.0
"""Seconds before the second time; before each later one twice as many."""

_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError)

Samples = Generator["Sample", None, tuple[int, bool]]
"""Samples; it returns the number of all in the shard, and whether the shard is whole."""


@final
@dataclass(slots=True)
class Sample:
    """Files of one name: `name` is SHARD!NAME, `files` extension (in lower case) -> bytes; `fault`: why there are none.

    A fault waits until its sample is asked for, so that it can be skipped as a file's can.
    """

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    fault: FileFault | None = None

    def get(self) -> dict[str, bytes]:
        """The files.

        Raises:
            FileFault: they could not be read.
        """
        if self.fault is not None:
            raise self.fault
        return self.files


def read_shard(shard: Shard, wanted: frozenset[str], first: int = 0, stride: int = 1, tries: int = TRIES) -> Samples:
    """The samples `first`, `first + stride` … of a shard, with their files of the extensions `wanted`; others are
    passed over unread. Damage comes as a last sample, with a fault in the place of the one that was being read.

    Raises:
        RunError: a command or an address fails `tries` times.
    """
    for number in range(1, tries + 1):
        walk = _Walk(shard, wanted, first, stride)
        try:
            for sample in walk.samples():
                first += stride
                yield sample
            return walk.number + 1, True
        except _DAMAGE as error:
            if is_remote(shard.place) and number < tries:
                time.sleep(_WAIT * 2 ** (number - 1))
                continue
            if walk.failure:
                raise RunError(
                    f"{shard.place}: its command failed {tries} times ({walk.failure}). Try it by hand; the run can be "
                    "resumed."
                ) from None
            if walk.due:
                remedy = "Make it again; every shard is a whole, uncompressed tar file."
                detail = " ".join(str(error).split()) or type(error).__name__
                yield Sample(shard.place, fault=FileFault("damaged or truncated shard", shard.place, detail, remedy))
            return max(walk.number, 0) + 1, False
    raise AssertionError(tries)


@final
class _Walk:
    """One way through a shard; `number` is that of the sample it is at, counted from 0."""

    def __init__(self, shard: Shard, wanted: frozenset[str], first: int, stride: int) -> None:
        self.shard, self.wanted, self.first, self.stride = shard, wanted, first, stride
        self.number = -1
        self.failure = ""
        """How its command failed, if it did."""

    @property
    def due(self) -> bool:
        """Whether the sample it is at is one that was asked for."""
        number = max(self.number, 0)
        return number >= self.first and (number - self.first) % self.stride == 0

    def samples(self) -> Iterator[Sample]:
        """The samples that were asked for, each once it is whole.

        Raises:
            TarError, OSError, ValueError, EOFError: a damaged archive, a file or command that fails.
        """
        stream = ShardReader(self.shard.place)
        try:
            sample: Sample | None = None
            for key, extension, info in _files(stream):
                if key is not None:
                    if sample is not None:
                        yield sample
                    self.number += 1
                    sample = Sample(f"{self.shard.place}!{_shown(key)}") if self.due else None
                if sample is not None and extension in self.wanted:
                    _keep(sample, extension, info, stream)
            if sample is not None:
                yield sample
        except _DAMAGE:
            self.failure = stream.failure()
            raise
        finally:
            stream.close()


def _files(stream: ShardReader) -> Iterator[tuple[str | None, str, tarfile.TarInfo]]:
    """Plain files of an archive: the key where it is another than before, extension in lower case, header.

    The key is the name up to the first dot after its folder, as webdataset has it; names without a dot are passed over.

    Raises:
        TarError: damage; also where the mark is missing that ends an archive.
    """
    from webdataset.tariterators import base_plus_ext

    # Undecodable names are spelt out: they stand in messages.
    archive = tarfile.TarFile(fileobj=stream, mode="r", errors="backslashreplace")  # type: ignore[arg-type]
    before = None
    while (info := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        key, extension = base_plus_ext(info.name)
        if key is None or not info.isreg() or info.issparse():
            continue
        yield None if key == before else key, extension.lower(), info
        before = key
    if len(stream.last) != tarfile.BLOCKSIZE or any(stream.last):
        raise tarfile.ReadError("it ends, or cannot be read any further, before the mark that ends an archive")


def _keep(sample: Sample, extension: str, info: tarfile.TarInfo, stream: ShardReader) -> None:
    """Read a file of a sample, if it is not too large.

    Raises:
        ReadError: the archive ends before it does.
    """
    if info.size > LARGEST:
        detail = f"{info.size} bytes, at most {LARGEST} are read"
        remedy = "Cut the image into tiles."
        sample.fault = FileFault("file in a shard too large", f"{sample.name}.{extension}", detail, remedy)
    elif extension in sample.files:
        remedy = "Give each sample a name of its own."
        sample.fault = FileFault("two files of one name in a shard", f"{sample.name}.{extension}", "", remedy)
    else:
        stream.seek(info.offset_data)
        data = stream.read(info.size)
        if len(data) != info.size:
            raise tarfile.ReadError("unexpected end of data")
        sample.files[extension] = data


def _shown(key: str) -> str:
    """A name without characters that would change what a terminal shows."""
    return "".join(letter if letter.isprintable() else "?" for letter in key)
