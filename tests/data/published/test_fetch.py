"""Against a server on this machine that behaves as badly as servers do."""

from __future__ import annotations

import errno
import hashlib
import io
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from semikit import files as disk
from semikit.data.published.catalogue import Downloads
from semikit.data.published.fetch import download, fetch
from semikit.errors import RunError, UnknownNameError

DATA = bytes(range(256)) * 2000
MD5 = ("md5", hashlib.md5(DATA).hexdigest())
HALF = len(DATA) // 2


class Server:
    """Answers by path; remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.asked.append((self.path, asked))
                begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
                outer.routes.get(self.path, status(404))(self, begin)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


Route = Callable[[BaseHTTPRequestHandler, int], None]


def send(to: BaseHTTPRequestHandler, code: int, body: bytes, **headers: object) -> None:
    to.send_response(code)
    for name, value in headers.items():
        to.send_header(name.replace("_", "-"), str(value))
    to.end_headers()
    to.wfile.write(body)


def status(code: int) -> Route:
    return lambda to, begin: send(to, code, b"", Content_Length=0)


def good(body: bytes = DATA) -> Route:
    def answer(to: BaseHTTPRequestHandler, begin: int) -> None:
        place = {"Content_Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"} if begin else {}
        if begin >= len(body):
            send(to, 416, b"", Content_Length=0, Content_Range=f"bytes */{len(body)}")
        else:
            send(to, 206 if begin else 200, body[begin:], Content_Length=len(body) - begin, **place)

    return answer


def breaking(at: int = HALF) -> Route:
    """Each connection ends `at` bytes after it began."""

    def answer(to: BaseHTTPRequestHandler, begin: int) -> None:
        place = {"Content_Range": f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"} if begin else {}
        body = DATA[begin : begin + at]
        send(to, 206 if begin else 200, body, Content_Length=len(DATA) - begin, **place)

    return answer


def ignoring_ranges(body: bytes = DATA) -> Route:
    return lambda to, begin: send(to, 200, body, Content_Length=len(body))


def redirect(where: str) -> Route:
    return lambda to, begin: send(to, 302, b"", Location=where, Content_Length=0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.close()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Callable[..., bool]:
    def call(*paths: str, **more: Any) -> bool:
        options = {"digest": MD5, "size": len(DATA), "pause": 0.0, "timeout": 10.0, **more}
        return download([server.url(path) for path in paths], tmp_path / "file", **options)

    return call


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------ as it should be


def test_a_file(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = good()
    told: list[tuple[int, int]] = []
    assert get("/a", progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "file").read_bytes() == DATA
    assert left(tmp_path) == ["file"]
    assert told[0] == (0, len(DATA))
    assert told[-1] == (len(DATA), len(DATA))


def test_a_file_that_is_there_is_not_fetched_again(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    assert not get("/a")
    assert server.asked == []


def test_a_wrong_file_that_is_there_is_replaced(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = good()
    (tmp_path / "file").write_bytes(DATA[:-1] + b"?")
    assert get("/a")
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_chunked_answer(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = lambda to, begin: send(to, 200, DATA)  # no length: the end of the connection ends it
    assert get("/a", size=None)
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_redirect(server: Server, get: Callable[..., bool]) -> None:
    server.routes.update({"/a": redirect("/b"), "/b": good()})
    assert get("/a")


# ------------------------------------------------------------------------------------------------ broken off


def test_it_goes_on_where_it_broke_off(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = breaking(len(DATA) // 5)
    assert get("/a", tries=2)  # five connections: those that bring something are not counted
    assert (tmp_path / "file").read_bytes() == DATA
    fifth = len(DATA) // 5
    assert server.asked == [("/a", None), *(("/a", f"bytes={n * fifth}-") for n in range(1, 5))]


def test_the_next_mirror_goes_on(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes.update({"/a": breaking(), "/b": good()})
    assert get("/a", "/b")
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.asked == [("/a", None), ("/b", f"bytes={HALF}-")]


def test_a_later_command_goes_on(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA[:100])
    server.routes["/a"] = good()
    assert get("/a")
    assert server.asked == [("/a", "bytes=100-")]
    assert (tmp_path / "file").read_bytes() == DATA


def test_what_is_whole_is_only_checked(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    assert get("/a")
    assert server.asked == []


def test_what_is_whole_is_found_so_without_its_length(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(DATA)
    server.routes["/a"] = good()
    assert get("/a", size=None)
    assert server.asked == [("/a", f"bytes={len(DATA)}-")]


def test_a_server_that_ignores_ranges_begins_anew(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"?" * 100)
    server.routes["/a"] = ignoring_ranges()
    assert get("/a")
    assert (tmp_path / "file").read_bytes() == DATA


def test_pieces_that_do_not_fit_begin_anew(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"?" * 100)
    server.routes["/a"] = good()
    assert get("/a")
    assert server.asked == [("/a", "bytes=100-"), ("/a", None)]
    assert (tmp_path / "file").read_bytes() == DATA


def test_another_range_than_asked_for(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    def other(to: BaseHTTPRequestHandler, begin: int) -> None:
        if begin:
            send(to, 206, DATA[begin - 5 :], Content_Length=len(DATA) - begin + 5, Content_Range=f"bytes {begin - 5}-")
        else:
            good()(to, 0)

    (tmp_path / "file.part").write_bytes(DATA[:100])
    server.routes["/a"] = other
    assert get("/a")
    assert (tmp_path / "file").read_bytes() == DATA


def test_without_a_checksum_nothing_is_pieced_together(
    server: Server, get: Callable[..., bool], tmp_path: Path
) -> None:
    (tmp_path / "file.part").write_bytes(b"?" * 100)
    server.routes["/a"] = good()
    assert get("/a", digest=None)
    assert server.asked == [("/a", None)]
    assert (tmp_path / "file").read_bytes() == DATA


def test_it_gives_up_and_keeps_what_it_has(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    def once(to: BaseHTTPRequestHandler, begin: int) -> None:
        send(
            to,
            206 if begin else 200,
            b"" if begin else DATA[:100],
            Content_Length=len(DATA) - begin,
            Content_Range=f"bytes {begin}-",
        )

    server.routes["/a"] = once
    with pytest.raises(
        RunError, match=f"file could not be fetched. http.*/a: broke off after 100 of {len(DATA)} bytes"
    ):
        get("/a", tries=2)
    assert left(tmp_path) == ["file.part"]


def test_an_interruption_keeps_what_came(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = good()

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("/a", progress=interrupt)
    assert left(tmp_path) == ["file.part"]
    kept = (tmp_path / "file.part").stat().st_size
    assert kept
    assert get("/a")
    assert server.asked[-1] == ("/a", f"bytes={kept}-")


def test_a_server_that_says_nothing(server: Server, get: Callable[..., bool]) -> None:
    server.routes["/a"] = lambda to, begin: threading.Event().wait(0.5) and None
    with pytest.raises(RunError, match=r"/a: .*(timed out|RemoteDisconnected)"):
        get("/a", timeout=0.1, tries=1)


def test_nobody_there(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be reached .*refused"):
        download(["http://127.0.0.1:9/x"], tmp_path / "file", tries=1)


# ------------------------------------------------------------------------------------------------ lies


def test_wrong_bytes_are_deleted_and_named(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    wrong = b"?" * len(DATA)
    server.routes["/a"] = good(wrong)
    with pytest.raises(RunError) as error:
        get("/a")
    for told in (server.url("/a"), MD5[1], hashlib.md5(wrong).hexdigest(), "deleted"):
        assert told in str(error.value)
    assert left(tmp_path) == []
    assert len(server.asked) == 1


def test_wrong_bytes_and_a_mirror(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes.update({"/a": good(b"?" * len(DATA)), "/b": good()})
    assert get("/a", "/b")
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("body", [DATA[:-5], DATA + b"12345"])
def test_a_length_that_is_not_the_published_one(
    server: Server, get: Callable[..., bool], tmp_path: Path, body: bytes
) -> None:
    server.routes["/a"] = good(body)
    with pytest.raises(RunError, match=f"/a: has {len(body)} bytes, expected {len(DATA)}"):
        get("/a")
    assert left(tmp_path) == []


def test_a_length_that_is_too_long(server: Server, get: Callable[..., bool]) -> None:
    server.routes["/a"] = lambda to, begin: send(to, 200, DATA, Content_Length=len(DATA) + 5)
    with pytest.raises(RunError, match=f"broke off after {len(DATA)} of {len(DATA) + 5} bytes"):
        get("/a", size=None, tries=1)


def test_a_length_that_is_too_short(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = lambda to, begin: send(to, 200, DATA, Content_Length=len(DATA) - 5)
    with pytest.raises(RunError, match="served wrong bytes, which were deleted"):
        get("/a", size=None)
    assert left(tmp_path) == []


def test_more_than_expected(server: Server, get: Callable[..., bool], tmp_path: Path) -> None:
    server.routes["/a"] = lambda to, begin: send(to, 200, DATA + b"more")
    with pytest.raises(RunError, match=f"sends more than the {len(DATA)} bytes expected"):
        get("/a")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("code", [404, 500, 503, 204])
def test_a_refusal_and_a_mirror(server: Server, get: Callable[..., bool], code: int) -> None:
    server.routes.update({"/a": status(code), "/b": good()})
    assert get("/a", "/b")


def test_what_is_gone_is_asked_for_once(server: Server, get: Callable[..., bool]) -> None:
    server.routes.update({"/a": status(404), "/b": status(500)})
    with pytest.raises(RunError, match=r"/a: answered 404 Not Found; .*/b: answered 500 Internal Server Error"):
        get("/a", "/b", tries=3)
    assert [path for path, _ in server.asked] == ["/a", "/b", "/b", "/b"]


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_redirects_go_to_the_web_only(server: Server, get: Callable[..., bool], tmp_path: Path, where: str) -> None:
    server.routes["/a"] = redirect(where)
    with pytest.raises(RunError, match=r"/a: answered 302 Found.*not (allowed|followed)"):
        get("/a", digest=None, size=None)
    assert left(tmp_path) == []


def test_other_schemes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    with pytest.raises(RunError, match="cannot be reached"):
        download([(tmp_path / "secret").as_uri()], tmp_path / "file", tries=1)


# ------------------------------------------------------------------------------------------------ disk


def test_room_is_checked_first(server: Server, get: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(10**9, 0, 1000))
    with pytest.raises(RunError, match=f"needs {len(DATA)} bytes and 1000 bytes are free"):
        get("/a")
    assert server.asked == []


def test_a_full_disk(server: Server, get: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Full(path, "w"))
    server.routes["/a"] = good()
    with pytest.raises(RunError, match=r"the disk is full: .*file\.part"):
        get("/a")
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    server.routes["/a"] = good()
    (tmp_path / "root").write_bytes(b"a file")
    with pytest.raises(RunError, match=r"cannot be written: .*Choose another --root"):
        download([server.url("/a")], tmp_path / "root/downloads/file")


# ------------------------------------------------------------------------------------------------ data sets


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


ARCHIVE, LIST, PAIRS = zipped(a=b"1"), b"a b\nc d", b"train_1_1.png\ntrain_1_2.png\n"


@pytest.fixture
def local(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads of pascal and ade20k, and lists of levir, that lie on the server."""
    server.routes.update({"/images": good(), "/masks": good(ARCHIVE), "/splits/pascal/92/labeled.txt": good(LIST)})
    files: list[dict[str, Any]] = [
        {
            "name": "images.tar",
            "what": "images",
            "part": "images",
            "urls": [server.url("/images")],
            "md5": MD5[1],
            "bytes": len(DATA),
        },
        {"name": "masks.zip", "what": "masks", "part": "masks", "urls": [server.url("/masks")], "instead": "Take SBD."},
        {"name": "more.zip", "what": "more images", "part": "more", "optional": True, "urls": [server.url("/more")]},
        {"name": "own.zip", "what": "with an account", "part": "own", "by_hand": "Log in."},
    ]
    lists = {
        "splits/pascal/92/labeled.txt": [hashlib.sha256(LIST).hexdigest(), 2],
        "splits/ade20k/1_2/labeled.txt": ["0" * 64, 1],
        "remote-sensing/splits/levir/5%/labeled.txt": [hashlib.sha256(PAIRS).hexdigest(), 2],
        "remote-sensing/splits/levir/train.txt": [hashlib.sha256(PAIRS * 2).hexdigest(), 4],
    }
    server.routes["/remote-sensing/splits/levir/5%25/labeled.txt"] = good(PAIRS)
    server.routes["/remote-sensing/splits/levir/train.txt"] = good(PAIRS * 2)
    raw = {"files": {"pascal": files, "ade20k": files}, "splits": {"urls": [server.url("/{path}")], "lists": lists}}
    made = Downloads.model_validate(raw)
    for module in ("catalogue", "fetch"):
        monkeypatch.setattr(f"semikit.data.published.{module}.read_downloads", lambda: made)


@pytest.mark.usefixtures("local")
def test_a_data_set(server: Server, tmp_path: Path) -> None:
    told: set[str] = set()
    report = fetch("pascal", tmp_path, progress=lambda what, done, total: told.add(what))
    assert report.fetched == ["splits/92/labeled.txt", "images.tar", "masks.zip"]
    assert report.unchecked == ["masks.zip"]
    assert report.by_hand == [f"own.zip (with an account): Log in. Put the file into {tmp_path / 'downloads'}."]
    assert report.left == ["more.zip (more images): semikit data fetch pascal --part more"]
    assert (tmp_path / "splits/92/labeled.txt").read_bytes() == LIST
    assert (tmp_path / "downloads/images.tar").read_bytes() == DATA
    assert told == {"official lists", "images.tar", "masks.zip"}
    server.asked.clear()
    (tmp_path / "downloads/own.zip").write_bytes(b"fetched by hand")
    again = fetch("pascal", tmp_path)
    assert (again.fetched, again.by_hand) == ([], [])
    assert again.there == ["splits/92/labeled.txt", "images.tar", "masks.zip", "own.zip"]
    assert server.asked == []


@pytest.mark.usefixtures("local")
def test_only_some_parts(server: Server, tmp_path: Path) -> None:
    server.routes["/more"] = good(ARCHIVE)
    report = fetch("pascal", tmp_path, ("more", "own"))
    assert report.fetched == ["splits/92/labeled.txt", "more.zip"]
    assert len(report.by_hand) == 1
    assert left(tmp_path / "downloads") == ["more.zip"]


@pytest.mark.usefixtures("local")
def test_only_lists(tmp_path: Path) -> None:
    report = fetch("pascal", tmp_path, splits_only=True)
    assert (report.fetched, report.by_hand, report.left) == (["splits/92/labeled.txt"], [], [])
    assert left(tmp_path) == ["splits"]


@pytest.mark.usefixtures("local")
def test_lists_of_pairs_lie_deeper_and_have_percent_signs(server: Server, tmp_path: Path) -> None:
    report = fetch("levir", tmp_path, splits_only=True)
    assert report.fetched == ["splits/5%/labeled.txt", "splits/train.txt"]
    assert (tmp_path / "splits/5%/labeled.txt").read_bytes() == PAIRS
    assert (tmp_path / "splits/train.txt").read_bytes() == PAIRS * 2
    assert [path for path, _ in server.asked] == [
        "/remote-sensing/splits/levir/5%25/labeled.txt",
        "/remote-sensing/splits/levir/train.txt",
    ]


@pytest.mark.usefixtures("local")
def test_lists_that_are_generated_are_not_fetched(server: Server, tmp_path: Path) -> None:
    report = fetch("ade20k", tmp_path, splits_only=True)
    assert report.there == ["official lists: generated from the names of the images, none has to be fetched"]
    assert server.asked == []


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("body", [b"<!DOCTYPE html>", ARCHIVE[:-5], zipped()], ids=["page", "truncated", "empty"])
def test_no_whole_archive_and_no_checksum(server: Server, tmp_path: Path, body: bytes) -> None:
    server.routes["/masks"] = good(body)
    with pytest.raises(RunError, match=r"masks\.zip could not be fetched.*wrong bytes, which were deleted.*Take SBD"):
        fetch("pascal", tmp_path, ("masks",))
    assert left(tmp_path / "downloads") == []


@pytest.mark.usefixtures("local")
def test_one_file_that_nobody_serves_does_not_keep_the_others_back(server: Server, tmp_path: Path) -> None:
    del server.routes["/splits/pascal/92/labeled.txt"], server.routes["/images"]
    with pytest.raises(RunError, match=r"92/labeled\.txt could not.*images\.tar could not.*all the same: masks"):
        fetch("pascal", tmp_path)
    assert left(tmp_path / "downloads") == ["masks.zip"]


@pytest.mark.usefixtures("local")
def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown part of the downloads of pascal 'mask'\. Did you mean 'masks'"
    ):
        fetch("pascal", tmp_path, ("mask",))
    with pytest.raises(UnknownNameError, match="unknown published data set 'pascla'"):
        fetch("pascla", tmp_path, splits_only=True)
    assert left(tmp_path) == []
