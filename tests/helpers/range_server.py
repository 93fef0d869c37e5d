"""A server that gives files in parts, as those of cloud optimised GeoTIFFs do, and counts them.

It is a process of its own: GDAL asks for some parts while Python's lock is held.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

COUNTS = "/counts"
BUSY = "busy.tif"
"""It is asked for in vain."""


class Handler(BaseHTTPRequestHandler):
    """Answers for files of the folder that stands in the command line."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []
    served = 0

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, *arguments: Any) -> None:
        return

    def answer(self, body: bool) -> None:
        path = Path(sys.argv[1], self.path.partition("?")[0].lstrip("/"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.path == COUNTS:
            self.give(200, json.dumps({"served": Handler.served, "asked": Handler.asked}).encode())
            return
        Handler.asked.append(self.path)
        if not path.is_file():
            self.give(503 if path.name == BUSY else 404, b"")
            return
        size = path.stat().st_size
        first, last = (int(wanted[1]), int(wanted[2] or size - 1)) if wanted else (0, size - 1)
        with path.open("rb") as file:
            file.seek(first)
            part = file.read(last + 1 - first)
        self.give(206 if wanted else 200, part, f"bytes {first}-{first + len(part) - 1}/{size}", body)
        Handler.served += len(part) if body else 0

    def give(self, code: int, part: bytes, place: str = "", body: bool = True) -> None:
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", place)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)


class Server:
    """Where files are served, and what was asked for."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def counts(self) -> tuple[int, list[str]]:
        """Bytes that were given, and the paths of all requests."""
        with urlopen(self.address + COUNTS) as answer:
            found = json.load(answer)
        return found["served"], found["asked"]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of a folder, as long as the block runs."""
    with subprocess.Popen([sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    print(served.server_port, flush=True)
    served.serve_forever()
