from __future__ import annotations

import http.server
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from semikit.data.shards import tar_files as shard_files
from semikit.data.shards import tar_samples as shard_reading
from semikit.data.shards.tar_files import Shard
from semikit.data.shards.tar_samples import Sample, read_shard
from semikit.errors import FileFault, RunError
from tests.helpers import tars

PNG = frozenset({"png"})
FILES = [(f"{k}.png", bytes([k]) * 700) for k in range(6)]


def local(path: Path) -> Shard:
    return Shard(str(path), path.name, path.stat().st_size)


def remote(place: str) -> Shard:
    return Shard(place, place, None)


def read(shard: Shard, wanted: frozenset[str] = PNG, **options: Any) -> tuple[list[Sample], tuple[int, bool]]:
    """Samples and what was counted."""
    found, walk = [], read_shard(shard, wanted, **options)
    while True:
        try:
            found.append(next(walk))
        except StopIteration as stop:
            return found, stop.value


def keys(samples: list[Sample]) -> list[str]:
    return [sample.name.partition("!")[2] for sample in samples]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The folder by http, without a line for every request."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield lambda: f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_of_one_name_are_a_sample(tmp_path: Path) -> None:
    files = [("d/a.b.PNG", b"1"), ("d/a.json", b"2"), ("e/a.png", b"3"), ("README", b"4"), ("e/a.cls", b"5")]
    path = tars.write(tmp_path / "x.tar", [*files, ("._f.png", b"6"), ("two words ü.png", b"7")])
    found, counted = read(local(path), frozenset({"png", "b.png"}))
    assert keys(found) == ["d/a", "e/a", "two words ü"]
    assert [sample.get() for sample in found] == [{"b.png": b"1"}, {"png": b"3"}, {"png": b"7"}]
    assert counted == (3, True)


@pytest.mark.parametrize(("first", "stride"), [(0, 1), (2, 1), (1, 3), (5, 2), (6, 1), (99, 4)])
def test_some_of_them(tmp_path: Path, first: int, stride: int) -> None:
    path = tars.write(tmp_path / "x.tar", FILES)
    found, counted = read(local(path), first=first, stride=stride)
    assert keys(found) == [str(k) for k in range(6)][first::stride]
    assert [sample.files["png"] for sample in found] == [data for _, data in FILES][first::stride]
    assert counted == (6, True)


def test_commands_and_addresses_are_read_alike(tmp_path: Path, serve: Callable[[], str]) -> None:
    path = tars.write(tmp_path / "x.tar", FILES)
    wanted, counted = read(local(path), first=1, stride=2)
    for place in (f"pipe:cat '{path}'", f"{serve()}/x.tar", f"{serve()}/x.tar?sig=1"):
        found, again = read(remote(place), first=1, stride=2)
        assert [sample.files for sample in found] == [sample.files for sample in wanted]
        assert again == counted
        assert found[0].name == f"{place}!1"


def test_only_plain_files_count(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("d.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("../../up.png")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"u"))
    found, _ = read(local(path))
    assert [sample.files for sample in found] == [{"png": b"u"}], "nothing is unpacked, so a path leads nowhere"


@pytest.mark.parametrize("kept", [0, 1, 511, 512, 900, 1536, 1537, 3000, 6 * 1536, 6 * 1536 + 100])
def test_damage_is_a_fault_in_one_place(tmp_path: Path, kept: int) -> None:
    """However much is left, whole samples come first, then one fault; skipping finds it at the same number."""
    path = tars.write(tmp_path / "x.tar", FILES)
    path.write_bytes(path.read_bytes()[:kept])
    found, counted = read(local(path))
    *whole, last = found
    assert keys(whole) == [str(k) for k in range(len(whole))]
    assert len(whole) == min(5, max(0, (kept - 512) // 1536)), "those before another whole header"
    with pytest.raises(FileFault, match=r"damaged or truncated shard: .*x\.tar \("):
        last.get()
    assert counted == (len(found), False)
    for first in range(len(found) + 1):
        assert [sample.name for sample in read(local(path), first=first)[0]] == [s.name for s in found[first:]]
    skipped, again = read(local(path), first=50)
    assert (skipped, again) == ([], counted)


def test_a_flipped_header_in_the_middle(tmp_path: Path) -> None:
    path = tars.write(tmp_path / "x.tar", FILES)
    data = bytearray(path.read_bytes())
    data[3 * 1536 + 5] ^= 0xFF
    path.write_bytes(data)
    found, counted = read(local(path))
    assert keys(found[:-1]) == ["0", "1"]
    assert found[-1].fault is not None
    assert counted == (3, False)


@pytest.mark.parametrize("data", [b"\x1f\x8b" + b"z" * 2000, b"no tar at all" * 200], ids=["gzip", "text"])
def test_no_tar(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    found, counted = read(local(tmp_path / "x.tar"))
    assert counted == (1, False)
    with pytest.raises(FileFault, match="every shard is a whole, uncompressed tar file"):
        found[0].get()


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    shard = local(tars.write(tmp_path / "x.tar", FILES))
    (tmp_path / "x.tar").unlink()
    found, counted = read(shard)
    assert counted == (1, False)
    with pytest.raises(FileFault, match="No such file"):
        found[0].get()


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_reading, "LARGEST", 1000)
    monkeypatch.setattr(shard_files, "LARGEST", 1000)
    path = tars.write(tmp_path / "x.tar", [("a.png", b"1" * 5000), ("b.png", b"2" * 1000)])
    found, counted = read(local(path))
    with pytest.raises(FileFault, match=r"too large: .*!a\.png \(5000 bytes, at most 1000 are read\)"):
        found[0].get()
    assert found[1].get() == {"png": b"2" * 1000}
    assert counted == (2, True)


def test_a_header_that_lies_of_its_size(tmp_path: Path) -> None:
    """A file of 8 GiB, says the header; and long names of as much, which tarfile would read at once."""
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        info = tarfile.TarInfo("a.png")
        info.size, info.type = 2**33 - 1, kind
        path = tmp_path / "x.tar"
        path.write_bytes(info.tobuf() + bytes(1024))
        found, counted = read(local(path))
        assert counted == (1, False)
        assert found[-1].fault is not None


def test_one_name_twice(tmp_path: Path) -> None:
    path = tars.write(tmp_path / "x.tar", [("a.png", b"1"), ("a.PNG", b"2")])
    with pytest.raises(FileFault, match="two files of one name"):
        read(local(path))[0][0].get()


def test_names_that_would_change_the_terminal(tmp_path: Path) -> None:
    path = tars.write(tmp_path / "x.tar", [("a\x1b[2J\n.png", b"1")])
    assert keys(read(local(path))[0]) == ["a?[2J?"]


class TestCommandsThatFail:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shard_reading, "_WAIT", 0.0)

    def test_once_and_then_not(self, tmp_path: Path) -> None:
        """The first time it breaks off after two and a half samples; what was given out does not come again."""
        path, mark = tars.write(tmp_path / "x.tar", FILES), tmp_path / "mark"
        command = f"if [ -e '{mark}' ]; then cat '{path}'; else touch '{mark}'; head -c 4000 '{path}'; exit 9; fi"
        found, counted = read(remote(f"pipe:{command}"))
        assert keys(found) == list("012345")
        assert counted == (6, True)

    def test_always(self, tmp_path: Path, serve: Callable[[], str]) -> None:
        with pytest.raises(RunError, match=r"exit 9: its command failed 4 times \(exit status 9\)"):
            read(remote("pipe:exit 9"))
        with pytest.raises(RunError, match=r"gone\.tar: its command failed 2 times \(exit status 22\)"):
            read(remote(f"{serve()}/gone.tar"), tries=2)

    def test_a_damaged_archive_by_a_command_that_does_not_fail(self, tmp_path: Path) -> None:
        path = tars.write(tmp_path / "x.tar", FILES)
        found, counted = read(remote(f"pipe:head -c 4000 '{path}'"))
        assert keys(found[:-1]) == ["0", "1"]
        assert found[-1].fault is not None
        assert counted == (3, False)

    @pytest.mark.parametrize(
        "place",
        [
            *("pipe:cat '{path}'", "pipe:cat '{path}' | cat", "{address}/x.tar"),
            *("pipe:cat '{path}'; exec sleep 100", "pipe:trap '' PIPE; cat '{path}' 2>&-; exit 7"),
        ],
    )
    def test_damage_in_the_middle_is_none_of_the_command(
        self, tmp_path: Path, serve: Callable[[], str], place: str
    ) -> None:
        """A command that could not write to its end, for nobody reads what comes after the damage, did not fail."""
        path = tars.write(tmp_path / "x.tar", [(f"{k}.png", bytes([k]) * 300_000) for k in range(6)])
        data = bytearray(path.read_bytes())
        data[data.index(b"3.png")] ^= 0xFF
        path.write_bytes(data)
        began = time.monotonic()
        for first, stride in ((0, 1), (1, 2), (2, 1), (3, 1)):
            expected, counted = read(local(path), first=first, stride=stride)
            found, again = read(remote(place.format(path=path, address=serve())), first=first, stride=stride)
            assert again == counted == (3, False)
            assert [sample.files for sample in found] == [sample.files for sample in expected]
            assert [sample.fault is not None for sample in found] == [k == 2 for k in range(first, 3, stride)]
        assert time.monotonic() - began < 30

    def test_a_command_that_does_not_end_after_its_output(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_files, "_PATIENCE", 0.2)
        path, pids = tars.write(tmp_path / "x.tar", FILES), tmp_path / "pids"
        hangs = f"echo $$ >> '{pids}'; head -c {{}} '{path}'; exec sleep 100 >&-"
        told = r"its command failed 3 times \(it sent no more and did not end within 0\.2 s\)"
        with pytest.raises(RunError, match=told):
            read(remote(f"pipe:{hangs.format(4000)}"), tries=3)
        found, counted = read(remote(f"pipe:{hangs.format(path.stat().st_size)}"))
        assert keys(found) == list("012345"), "the mark that ends an archive is all that is waited for"
        assert counted == (6, True)
        left = [int(pid) for pid in pids.read_text().split()]
        assert len(left) == 4
        for pid in left:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def test_left_before_the_end(self, tmp_path: Path) -> None:
        tars.write(tmp_path / "x.tar", [(f"{k}.png", bytes(100_000)) for k in range(20)])
        walk = read_shard(remote(f"pipe:cat '{tmp_path}/x.tar'"), PNG)
        assert next(walk).files["png"] == bytes(100_000)
        walk.close()
