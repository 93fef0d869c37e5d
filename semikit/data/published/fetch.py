"""`semikit data fetch`: the archives and official lists that may be fetched, and instructions for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import final

from semikit.data.published.archives import members
from semikit.data.published.catalogue import read_published
from semikit.data.published.download import Unserved, download
from semikit.data.published.downloads import Download, downloads_of, read_downloads
from semikit.data.published.inputs import DOWNLOADS, Progress
from semikit.data.published.official import SPLITS, is_generated
from semikit.errors import DataError, RunError
from semikit.files import at_home


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
    """Exact instructions for the files a person has to fetch and that are not there yet.

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
