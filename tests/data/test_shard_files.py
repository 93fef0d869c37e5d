from __future__ import annotations

import signal
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from semikit.data.shards import tar_files as shard_files
from semikit.data.shards.tar_files import Shard, ShardCounts, ShardReader, list_shards
from semikit.errors import DataError, RunError


def test_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "odd name ü.tar").write_bytes(b"12345")
    places = [f"{tmp_path}/odd name ü.tar", "https://host/b.tar?sig=secret", "pipe:cat c.tar"]
    assert list_shards(places) == (
        Shard(places[0], "odd name ü.tar", 5),
        Shard(places[1], "https://host/b.tar", None),
        Shard(places[2], "pipe:cat c.tar", None),
    )


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "p-1.tar").touch()
    with pytest.raises(DataError, match=r"2 of 3 shards are missing: .*p-0\.tar, .*p-2\.tar"):
        list_shards([f"{tmp_path}/p-{{0..2}}.tar"])


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    with pytest.raises(DataError, match=r"named twice: .*a\.tar"):
        list_shards([f"{tmp_path}/a.tar", f"{tmp_path}/*.tar"])
    with pytest.raises(DataError, match=r"s3://b/0\.tar: addresses are http"):
        list_shards(["s3://b/0.tar"])


@pytest.mark.parametrize("place", ["{path}", "pipe:cat '{path}'"])
def test_forward_through_files_and_commands(tmp_path: Path, place: str) -> None:
    path = tmp_path / "two words"
    path.write_bytes(bytes(range(200)) * 10000)
    stream = ShardReader(place.format(path=path))
    assert stream.read(3) == b"\0\1\2"
    stream.seek(1_500_007)
    assert (stream.tell(), stream.read(2)) == (1_500_007, bytes([7, 8]))
    stream.seek(2_000_000)
    assert stream.read(5) == b""
    stream.close()


def test_nothing_large_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "LARGEST", 10)
    (tmp_path / "file").write_bytes(bytes(100))
    stream = ShardReader(str(tmp_path / "file"))
    for count in (11, -1):
        with pytest.raises(tarfile.ReadError, match=f"a header asks for {count} bytes"):
            stream.read(count)
    stream.close()


def test_an_endless_command_is_ended() -> None:
    stream = ShardReader("pipe:yes")
    assert stream.read(4) == b"y\ny\n"
    stream.close()
    assert stream._file.proc.returncode is not None


def test_a_command_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "_GRACE", 0.2)
    stream = ShardReader("pipe:trap '' TERM; echo y; exec sleep 100")
    assert stream.read(2) == b"y\n"
    assert stream.failure() == "", "it still sends"
    stream.close()
    assert stream._file.proc.returncode == -signal.SIGKILL


def test_a_command_fails_once_its_stream_ended() -> None:
    stream = ShardReader("pipe:head -c 300000 /dev/zero; exit 5")
    stream.read(1)
    assert stream.failure() == ""
    with suppress(OSError):  # it may have ended when the last bytes are read, or a moment later
        stream.seek(300_001)
    assert stream.failure() == "exit status 5"
    stream.close()


def test_counts_are_kept(tmp_path: Path) -> None:
    counts = ShardCounts.read(tmp_path / "counts.txt")
    for shard, count in ((4, 1000), (0, 3), (4, 1000)):
        counts.note(shard, count)
    text = (tmp_path / "counts.txt").read_text()
    assert len(text.split("\n")) == 5
    assert ShardCounts.read(tmp_path / "counts.txt").known == {4: 1000, 0: 3}


def test_lines_that_are_not_whole_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "counts.txt"
    ShardCounts(path).note(17, 1000)
    whole = path.read_bytes()
    for end in range(len(whole) - 1):
        path.write_bytes(whole[:end] + b"\xff\n5 six seven\n\n1 2\n")
        ShardCounts(path).note(3, 8)
        assert ShardCounts.read(path).known == {3: 8}


def test_a_machine_without_the_run_folder(tmp_path: Path) -> None:
    counts = ShardCounts(tmp_path / "gone" / "counts.txt")
    counts.note(1, 2)
    assert counts.known == {1: 2}
    assert not (tmp_path / "gone").exists()


def test_counts_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "counts.txt").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*counts\.txt"):
        ShardCounts(tmp_path / "counts.txt").note(1, 2)
