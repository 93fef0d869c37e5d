"""Files of a run that could not be read: named, counted, and passed over up to a stated number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

from semikit.distributed.collectives import process_count
from semikit.distributed.groups import everywhere
from semikit.errors import DataError

_SHOWN = 20


@final
class BadFiles:
    """What could not be read in a run, in the order it was met: file -> what is wrong with it.

    Up to `limit` different files other images stand in for theirs; one more ends the run. The count belongs to the
    whole run and is kept in its checkpoints.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.found: dict[str, str] = {}
        self._unreported: list[str] = []

    def add(self, faults: Iterable[tuple[str, str]]) -> None:
        """Count files (file, what is wrong).

        Raises:
            DataError: these are more than allowed; all are named, and none of the new ones is counted.
        """
        new = {file: reason for file, reason in faults if file not in self.found}
        if len(self.found) + len(new) > self.limit:
            raise self._too_many({**self.found, **new})
        for file, reason in new.items():
            self.found[file] = reason
            count = f"{len(self.found)} of at most {self.limit} (train.max_bad_files)"
            self._unreported.append(f"unreadable file {count}: {reason} Another image stands in for it.")

    def news(self) -> list[str]:
        """A sentence for each file counted since the last call."""
        news, self._unreported = self._unreported, []
        return news

    def restore(self, found: Mapping[str, str]) -> None:
        """Go on counting from those of a checkpoint."""
        self.found, self._unreported = dict(found), []

    def _too_many(self, found: Mapping[str, str]) -> DataError:
        if len(found) == 1:
            return DataError(next(iter(found.values())))
        lines = [f"\n  {reason}" for reason in list(found.values())[:_SHOWN]]
        more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return DataError(
            f"{len(found)} files could not be read, more than train.max_bad_files={self.limit}:{''.join(lines)}{more}\n"
            "Repair them, or allow more with train.max_bad_files=N."
        )


def count_bad_files(bad: BadFiles) -> DataError | None:
    """Let every process count the files that any could not read; what is wrong where they are too many together. All
    have to call it.
    """
    if process_count() == 1:
        return None
    try:
        bad.add(everywhere(list(bad.found.items())))
    except DataError as error:
        return error
    return None
