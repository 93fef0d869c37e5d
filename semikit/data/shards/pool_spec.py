"""An unlabelled pool in tar files (webdataset's shards), as the data YAML says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, final

from pydantic import BeforeValidator, Field

from semikit.errors import ConfigError, DataError
from semikit.files import at_home
from semikit.settings.base import Settings, one_or_many

COMMAND = "pipe:"
REMOTE = (COMMAND, "http://", "https://")
"""How a place begins that is read through a command: the rest is a path."""

MOST = 1_000_000
"""Shards of a pool."""

_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")

T = TypeVar("T")


@final
class Shards(Settings):
    """A pool of unlabelled images in tar files, read from their beginning to their end and never listed."""

    shards: Annotated[tuple[str, ...], BeforeValidator(one_or_many), Field(min_length=1)]
    """Tar files: paths (pool-{000..999}.tar, pool-*.tar), http(s) addresses or `pipe:COMMAND`; one or a list."""
    shuffle: int = Field(64, ge=1, le=65536)
    """Images out of which each slot of a step takes the next at random; they wait in memory as they are stored."""

    def below(self, base: Path) -> Self:
        """The same pool with relative paths counted from `base`; addresses and commands stay as they are."""
        moved = (text if is_remote(text) else str(base / at_home(Path(text))) for text in self.shards)
        return self.model_copy(update={"shards": tuple(moved)})


def is_remote(place: str) -> bool:
    """Whether a shard is read through a command and not from a path."""
    return place.startswith(REMOTE)


def kind_of(raw: Any) -> Literal["pool", "folder"]:
    """Which entry of `unlabeled` is meant: what names shards is a pool."""
    return "pool" if isinstance(raw, Shards) or (isinstance(raw, Mapping) and "shards" in raw) else "folder"


def pool_among(entries: Sequence[T | Shards], more: Sequence[str] = ()) -> tuple[tuple[T, ...], Shards | None]:
    """The folders and the pool among the entries of `unlabeled`; `more` are folders given beside (`--unlabeled`).

    Raises:
        ConfigError: a pool beside folders or beside another pool.
    """
    pools = [entry for entry in entries if isinstance(entry, Shards)]
    folders = tuple(entry for entry in entries if not isinstance(entry, Shards))
    if len(pools) > 1:
        raise ConfigError("unlabeled: several entries of shards; give one, whose `shards` is a list.")
    if pools and (folders or more):
        raise ConfigError(
            "unlabeled: shards stand beside folders of unlabelled images, but a pool of unknown length cannot be mixed "
            "with a list. Put the images of the folders into shards too (tar cf more.tar -C FOLDER .) or leave one out."
        )
    return folders, pools[0] if pools else None


def expanded(patterns: Sequence[str]) -> list[str]:
    """Every place that patterns name, in their order: braces as in a shell, and of paths also * and ?, sorted.

    Raises:
        DataError: braces that cannot be expanded, more than 1,000,000 places, a pattern that fits no file.
    """
    from webdataset.shardlists import expand_urls

    found: list[str] = []
    for pattern in patterns:
        count = prod(abs(int(last) - int(first)) + 1 for first, last in _RANGE.findall(pattern))
        if count + len(found) > MOST:
            raise DataError(f"shards {pattern!r} are {count} files; at most {MOST} can be read. Make larger shards.")
        try:
            places = expand_urls(pattern)
        except ValueError as error:
            raise DataError(f"shards {pattern!r}: {error}. Write them as pool-{{000..999}}.tar.") from None
        for place in places:
            found += [place] if is_remote(place) else _matching(place)
    return found


def _matching(place: str) -> list[str]:
    """The files that fit a path with stars; without them the path itself, whether there is such a file or not."""
    path = Path(place)
    if not any(mark in place for mark in "*?[") or path.exists():
        return [place]
    first = next(k for k, part in enumerate(path.parts) if any(mark in part for mark in "*?["))
    found = sorted(str(item) for item in Path(*path.parts[:first]).glob("/".join(path.parts[first:])))
    if not found:
        raise DataError(f"shards {place!r}: no file fits.")
    return found
