"""What the files of labelled images held, so that a run that goes on notices where they were edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, final

from semikit.data.samples import Samples
from semikit.errors import some
from semikit.files import file_digest
from semikit.settings.base import Settings

_SHORT = 16
"""Hexadecimal digits of a digest that are kept of each file."""


@final
class Contents(Settings):
    """What the images of one part and their labels are."""

    digest: str
    """SHA-256 over the lines `name image label`, as hexadecimal text."""
    names: tuple[str, ...]
    """Names of the images, in their order."""
    images: tuple[str, ...]
    """The first 16 digits of the SHA-256 of each image file; of a pair over those of both dates."""
    labels: tuple[str, ...]
    """The same of each mask; of images of one class each the name of the class."""

    @classmethod
    def of(cls, names: Sequence[str], images: Sequence[str], labels: Sequence[str]) -> Self:
        """The record of what `sample_digests` found."""
        lines = "".join(f"{' '.join(entry)}\n" for entry in zip(names, images, labels, strict=True))
        return cls(digest=_hash(lines.encode()), names=tuple(names), images=tuple(images), labels=tuple(labels))

    def changes(self, before: Contents, of: str) -> list[str]:
        """What is other than `before`, a phrase each for images, labels, and images that came or went; `of` stands
        behind what it is of.
        """
        if self.digest == before.digest:
            return []
        old, new = before._by_name(), self._by_name()
        common = [name for name in self.names if name in old]
        found = {
            f"images{of}": [name for name in common if old[name][0] != new[name][0]],
            f"labels{of}": [name for name in common if old[name][1] != new[name][1]],
            f"images{of} that are gone": [name for name in before.names if name not in new],
            f"images{of} that are new": [name for name in self.names if name not in old],
        }
        return [f"{len(names)} {what} ({some(names)})" for what, names in found.items() if names]

    def _by_name(self) -> dict[str, tuple[str, str]]:
        return {name: entry for name, *entry in zip(self.names, self.images, self.labels, strict=True)}  # type: ignore[misc]


def sample_digests(source: Samples, index: int) -> tuple[str, str]:
    """The short digests of an image's files and of its masks; empty where it has none.

    Raises:
        OSError: a file cannot be read.
    """
    targets = source.target_files(index)
    return _short(source.files(index)), _short(targets) if targets else ""


def recorded(
    source: Samples, indices: Sequence[int], found: Mapping[int, tuple[str, str]], class_names: Sequence[str]
) -> Contents | None:
    """The record of some samples, from their `sample_digests`; None where they are not made of files."""
    if not len(indices) or any(index not in found for index in indices):
        return None
    classes = getattr(source, "labels", None)
    labels = [found[index][1] if classes is None else class_names[classes[index]] for index in indices]
    names = source.names
    return Contents.of([names[index] for index in indices], [found[index][0] for index in indices], labels)


def _short(files: Sequence[Path]) -> str:
    digests = [file_digest(path) for path in files]
    return (digests[0] if len(digests) == 1 else _hash(" ".join(digests).encode()))[:_SHORT]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
