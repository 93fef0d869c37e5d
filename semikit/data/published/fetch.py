"""`semikit data fetch`: archives and official lists over http(s), and instructions for what the user has to fetch.

A download is resumed, tried from mirrors, and in its place only once it is known to be whole.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from semikit.data.published.archives import full_disk, members
from semikit.data.published.catalogue import Download, downloads_of, read_downloads, read_published
from semikit.data.published.inputs import DOWNLOADS, Progress
from semikit.data.published.official import SPLITS, is_generated
from semikit.errors import DataError, RunError
from semikit.files import at_home, need_space

Counted = Callable[[int, int], None]
"""Bytes done, and bytes in all (0: not known)."""

_CHUNK = 1 << 18
_LOST = {401, 403, 404, 405, 410, 451}


@final
@dataclass(frozen=True, slots=True)
class _Wanted:
    """How the whole file is recognised."""

    digest: tuple[str, str] | None
    size: int | None
    check: Callable[[Path], None] | None

    def fault(self, path: Path) -> str | None:
        """What is wrong with a file that should be whole."""
        if self.size is not None and path.stat().st_size != self.size:
            return f"{path.stat().st_size} bytes, expected {self.size}"
        if self.digest is not None:
            with path.open("rb") as file:
                got = hashlib.file_digest(file, self.digest[0]).hexdigest()
            if got != self.digest[1]:
                return f"{self.digest[0]} {got}, expected {self.digest[1]}"
        try:
            if self.check is not None:
                self.check(path)
        except DataError as error:
            return str(error)
        return None


@final
class Unserved(RunError):
    """No address served a file as it should be."""


@final
@dataclass(frozen=True, slots=True)
class _Wrong:
    """Why an address did not serve the file; `lasting`: asking it again brings nothing."""

    text: str
    lasting: bool = False


def download(
    urls: Sequence[str],
    target: Path,
    *,
    digest: tuple[str, str] | None = None,
    size: int | None = None,
    progress: Counted = lambda done, total: None,
    tries: int = 3,
    check: Callable[[Path], None] | None = None,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> bool:
    """Fetch a file to `target`; whether it had to be fetched.

    It grows as `target.part`, which is kept when the connection breaks off or the command is interrupted, and gone on
    with later where a checksum will tell whether the pieces fit. Every address is tried; `tries` counts rounds in
    which nothing was gained. `digest` is (algorithm, hexadecimal), `size` in bytes, `timeout` and `pause` in seconds;
    `check` raises DataError.

    Raises:
        Unserved: what each address answered, when none served the file.
        RunError: the disk is full.
    """
    wanted = _Wanted(digest, size, check)
    if target.is_file() and wanted.fault(target) is None:
        return False
    part = target.with_name(f"{target.name}.part")
    need_space(target.parent, max((size or 0) - _length(part), 0))
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(part, error) from None
    faults: dict[str, str] = {}
    left, rounds, most = list(urls), 0, _length(part)
    while left and rounds < tries:
        for url in urls:
            wrong = _served(url, part, wanted, progress, timeout) if url in left else None
            if wrong is not None:
                faults[url] = wrong.text
                left = [other for other in left if other != url or not wrong.lasting]
            elif url in left:
                part.replace(target)
                return True
        rounds, most = (0, _length(part)) if _length(part) > most else (rounds + 1, most)
        time.sleep(pause * rounds if left and rounds < tries else 0)
    reasons = "; ".join(f"{url}: {text}" for url, text in faults.items())
    raise Unserved(f"{target} could not be fetched. {reasons}. Run the command again to go on, perhaps later.")


def _served(url: str, part: Path, wanted: _Wanted, progress: Counted, timeout: float) -> _Wrong | None:
    """Let the file grow to its end from one address, and check it."""
    begun = _length(part) if wanted.digest is not None else 0
    if wanted.size is not None and begun > wanted.size:
        begun = 0
    if begun == 0 or begun != wanted.size:
        wrong = _requested(url, part, begun, wanted, progress, timeout)
        if wrong is not None:
            return wrong
    fault = wanted.fault(part)
    if fault is None:
        return None
    part.unlink()
    # Pieces of two downloads may not fit together: from the beginning it may come right.
    return _Wrong(f"served wrong bytes, which were deleted ({fault})", lasting=begun == 0)


def _requested(url: str, part: Path, begun: int, wanted: _Wanted, progress: Counted, timeout: float) -> _Wrong | None:
    headers = {"User-Agent": "semikit", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    try:
        with closing(_opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)) as answer:
            return _received(answer, part, begun, wanted, progress)
    except HTTPError as error:
        error.close()
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{begun}":
            return None  # nothing is left to fetch
        if error.code == 416:
            part.unlink(missing_ok=True)
        return _Wrong(f"answered {error.code} {error.msg}", lasting=error.code in _LOST or 300 <= error.code < 400)
    except URLError as error:
        return _Wrong(f"cannot be reached ({error.reason})")
    except (http.client.HTTPException, OSError) as error:
        return _Wrong(f"broke off after {_length(part)} bytes ({type(error).__name__}: {error})")


def _received(answer: Any, part: Path, begun: int, wanted: _Wanted, progress: Counted) -> _Wrong | None:
    """Write an answer's body behind the first `begun` bytes."""
    if answer.status == 206:
        place = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != begun:
            part.unlink(missing_ok=True)
            return _Wrong(f"was asked to go on at byte {begun} and answered with another range")
    elif answer.status == 200:
        begun = 0  # it does not go on where it is asked to
    else:
        return _Wrong(f"answered {answer.status}")
    stated = answer.headers.get("Content-Length", "")
    total = begun + int(stated) if stated.isdigit() else wanted.size
    if wanted.size not in (None, total):
        return _Wrong(f"has {total} bytes, expected {wanted.size}", lasting=True)
    try:
        file = part.open("r+b" if begun else "wb", buffering=0)
    except OSError as error:
        raise _unwritable(part, error) from None
    with file:
        file.seek(begun)
        return _poured(answer, file, part, begun, total, progress)


def _poured(answer: Any, file: IO[bytes], part: Path, done: int, total: int | None, count: Counted) -> _Wrong | None:
    count(done, total or 0)
    while chunk := answer.read(_CHUNK):
        done += len(chunk)
        if total is not None and done > total:
            file.truncate(0)
            return _Wrong(f"sends more than the {total} bytes expected", lasting=True)
        try:
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise _unwritable(part, error) from None
        count(done, total or 0)
    return _Wrong(f"broke off after {done} of {total} bytes") if total is not None and done < total else None


def _unwritable(part: Path, error: OSError) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full_disk(part, error)
    return RunError(f"{part} cannot be written: {error.strerror}. Choose another --root.")


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and from https never to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            raise HTTPError(req.full_url, code, f"{msg}, to {newurl}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https, certificates verified, and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@final
@dataclass(frozen=True, slots=True)
class FetchReport:
    """What came of it."""

    fetched: list[str] = field(default_factory=list)
    """Files that were fetched now."""
    there: list[str] = field(default_factory=list)
    """Files that were there already."""
    unchecked: list[str] = field(default_factory=list)
    """Of these, the ones without a published checksum."""
    by_hand: list[str] = field(default_factory=list)
    """Exact instructions for what may not be fetched."""
    left: list[str] = field(default_factory=list)
    """Optional files, and how to ask for them."""


def fetch(
    name: str,
    root: Path,
    parts: Sequence[str] = (),
    *,
    splits_only: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> FetchReport:
    """Fetch a data set's archives to ROOT/downloads and its official lists to ROOT/splits.

    `parts`: only the archives of these parts; none: all that are not optional.

    Raises:
        UnknownNameError: for a data set or part nobody knows.
        RunError: when no address answers as it should, or the disk is full.
    """
    read_published(name)
    root = at_home(root).absolute()
    files = [] if splits_only else downloads_of(name, tuple(parts))
    report = FetchReport()
    if not splits_only:
        report.by_hand.extend(by_hand(name, root, parts))
    tasks: list[Callable[[], None]] = [partial(_fetch_lists, name, root, report, progress)]
    tasks += [partial(_fetch, file, root / DOWNLOADS / file.name, report, progress) for file in files]
    failed = _all(tasks)
    if failed:
        got = f" Fetched all the same: {', '.join(report.fetched)}." if report.fetched else ""
        raise RunError(" ".join(failed) + got)
    if not (splits_only or parts):
        left = [file for file in read_downloads().files[name] if file.optional]
        report.left.extend(f"{f.name} ({f.what}): semikit data fetch {name} --part {f.part}" for f in left)
    return report


def _all(tasks: Sequence[Callable[[], None]]) -> list[str]:
    """Do all of them, and return what kept some from being done; a full disk ends it at once."""
    failed = []
    for task in tasks:
        try:
            task()
        except Unserved as error:
            failed.append(str(error))
    return failed


def by_hand(name: str, root: Path, parts: Sequence[str] = ()) -> list[str]:
    """Exact instructions for the files the user has to fetch and that are not there yet.

    Raises:
        UnknownNameError: for a data set or part nobody knows.
    """
    folder = at_home(root).absolute() / DOWNLOADS
    waiting = [file for file in downloads_of(name, tuple(parts)) if file.by_hand and not (folder / file.name).is_file()]
    return [f"{file.name} ({file.what}): {file.by_hand} Put the file into {folder}." for file in waiting]


def _fetch_lists(name: str, root: Path, report: FetchReport, progress: Progress) -> None:
    if is_generated(name):
        report.there.append("official lists: generated from the names of the images, none has to be fetched")
        return
    lists, folder = read_downloads().splits, read_published(name).lists
    wanted = lists.of(name)
    for done, (path, (digest, _)) in enumerate(wanted.items(), start=1):
        new = download(lists.addresses(f"{folder}/{path}"), root / SPLITS / path, digest=("sha256", digest))
        (report.fetched if new else report.there).append(f"{SPLITS}/{path}")
        progress("official lists", done, len(wanted))


def _fetch(file: Download, target: Path, report: FetchReport, progress: Progress) -> None:
    if file.by_hand is not None:
        report.there.extend([file.name] if target.is_file() else [])
        return
    check = _whole_archive if file.digest is None else None
    try:
        new = download(
            file.urls,
            target,
            digest=file.digest,
            size=file.size,
            progress=lambda done, total: progress(file.name, done, total),
            check=check,
        )
    except Unserved as error:
        raise Unserved(f"{error} {file.instead or ''}".strip()) from None
    (report.fetched if new else report.there).append(file.name)
    if file.digest is None:
        report.unchecked.append(file.name)


def _whole_archive(path: Path) -> None:
    """Read every member, for archives carry checks of their own."""
    if sum(len(member.read()) for member in members(path)) == 0:
        raise DataError(f"{path} is an empty archive.")
