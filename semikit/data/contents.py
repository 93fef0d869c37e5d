"""What the files of labelled images held, so that a run that goes on notices where they were edited."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, final

from semikit.data.samples import Samples
from semikit.errors import some
from semikit.settings.base import Settings

_SHORT = 16
"""Hexadecimal digits of a digest that are kept of each file."""


@final
class Contents(Settings):
    """What labelled images and their labels are, in the order of their names."""

    digest: str
    """SHA-256 over the lines `image label`, as hexadecimal text."""
    images: tuple[str, ...]
    """The first 16 digits of the SHA-256 of each image file; of a pair over those of both dates."""
    labels: tuple[str, ...]
    """The same of each mask; of images of one class each the name of the class."""

    @classmethod
    def of(cls, images: Sequence[str], labels: Sequence[str]) -> Self:
        """The record of what `sample_digests` found."""
        lines = "".join(f"{image} {label}\n" for image, label in zip(images, labels, strict=True))
        return cls(digest=_hash(lines.encode()), images=tuple(images), labels=tuple(labels))

    def changes(self, before: Contents, names: Sequence[str]) -> list[str]:
        """What is other than `before`, one phrase for images and one for labels; both are of the images `names`."""
        if self.digest == before.digest:
            return []
        pairs = {"images": (before.images, self.images), "labels": (before.labels, self.labels)}
        found = {
            what: [name for name, old, new in zip(names, *both, strict=True) if old != new]
            for what, both in pairs.items()
        }
        return [f"{len(of)} {what} ({some(of)})" for what, of in found.items() if of]


def sample_digests(source: Samples, index: int) -> tuple[str, str]:
    """The short digests of an image's files and of its mask; empty where it has none.

    Raises:
        OSError: a file cannot be read.
    """
    target = source.target_file(index)
    return _short(source.files(index)), "" if target is None else _short((target,))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded(
    found: Mapping[int, tuple[str, str]], order: Sequence[int], names: Sequence[str] | None
) -> Contents | None:
    """The record of the samples in `order`, from their `sample_digests`; `names` are those of their classes, where the
    labels are no files. None where they are not made of files.
    """
    if not order or any(index not in found for index in order):
        return None
    labels = [found[index][1] for index in order] if names is None else names
    return Contents.of([found[index][0] for index in order], labels)


def _short(files: Sequence[Path]) -> str:
    digests = [file_digest(path) for path in files]
    return (digests[0] if len(digests) == 1 else _hash(" ".join(digests).encode()))[:_SHORT]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
