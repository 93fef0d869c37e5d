"""What can be wrong with one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

from semikit.errors import DataError


def some(items: Sequence[str], shown: int = 3) -> str:
    """The first few of what an error is about, and the number of the others."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


@final
class FileFault(DataError):
    """One file is wrong.

    `kind` is the same for all files that suffer the same, so that they can be told together; `detail` is this file's
    own (may be empty), `remedy` says what to do.
    """

    def __init__(self, kind: str, file: Path | str, detail: str, remedy: str) -> None:
        # All four go to args: an exception is rebuilt from them when it comes back from a worker process.
        super().__init__(kind, file, detail, remedy)
        self.kind, self.file, self.detail, self.remedy = kind, file, detail, remedy

    def __str__(self) -> str:
        """Kind, file, detail, remedy."""
        return f"{self.kind}: {self.where}. {self.remedy}"

    @property
    def where(self) -> str:
        """The file with its own detail."""
        return f"{self.file} ({self.detail})" if self.detail else str(self.file)


def mask_size_fault(
    file: Path | str,
    image: tuple[int, int],
    mask: tuple[int, int],
    remedy: str = "Image and mask must have the same width and height; export the masks again at the images' size.",
) -> FileFault:
    """The fault of an image and a mask, both (H, W), that differ in size."""
    detail = f"image {image[1]}x{image[0]}, mask {mask[1]}x{mask[0]} (width x height)"
    return FileFault("mask of another size than its image", file, detail, remedy)
