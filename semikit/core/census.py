"""What the parts of a data set hold: images and pixels of every class, counted before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

_MOST = 50
"""Classes up to which a table has them all."""


@final
@dataclass(frozen=True, slots=True)
class PartCensus:
    """One part (labelled, val, test): `images` it has, of which `opened` were counted.

    `holding` (K,) is how many of these hold each class, `pixels` (K,) the valid pixels of each class and `ignored` the
    pixels of these images that count neither in a loss nor in a score (ignored mask values, no data); both are empty
    where every image has one class. `channels` is the number most images have, None where none was opened.
    """

    name: str
    images: int
    opened: int
    holding: tuple[int, ...]
    pixels: tuple[int, ...] = ()
    ignored: int = 0
    channels: int | None = None

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of each class of the valid pixels, or of the images, 0..1, (K,)."""
        counts = self.pixels or self.holding
        return tuple(count / max(sum(counts), 1) for count in counts)

    @property
    def ignored_share(self) -> float:
        """Share of the pixels that do not count, 0..1."""
        return self.ignored / max(self.ignored + sum(self.pixels), 1)

    def plain(self, class_names: Sequence[str]) -> dict[str, Any]:
        """As plain values for JSON."""
        classes = {
            name: {"images": self.holding[k], **({"pixels": self.pixels[k]} if self.pixels else {})}
            for k, name in enumerate(class_names)
        }
        ignored = {"ignored_pixels": self.ignored} if self.pixels else {}
        return {"images": self.images, "opened": self.opened, "channels": self.channels, **ignored, "classes": classes}


@final
@dataclass(frozen=True, slots=True)
class Census:
    """The parts of a data set, counted."""

    class_names: tuple[str, ...]
    parts: tuple[PartCensus, ...]

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON: part -> images, opened, channels, ignored pixels, and of each class its images and
        pixels.
        """
        return {part.name: part.plain(self.class_names) for part in self.parts}

    @property
    def title(self) -> str:
        """What the table shows."""
        maps = any(part.pixels for part in self.parts)
        return "images that hold each class, and its share of the valid pixels" if maps else "images of each class"

    def table(self) -> list[list[str]]:
        """Rows of text, the first are the heads of the columns: of each part its images, those that hold each class
        and, of maps, the share of each class of the valid pixels and that of the pixels that do not count. Of many
        classes those that the fewest images of the first part hold.
        """
        heads, first, last = ["class"], ["all"], ["ignored"]
        rows = [[name] for name in self.class_names]
        for part in self.parts:
            heads.append(part.name)
            first.append(f"{part.images}" if part.opened == part.images else f"{part.opened} of {part.images}")
            last.append("")
            for row, count in zip(rows, part.holding, strict=True):
                row.append(str(count))
            if part.pixels:
                heads.append("pixels")
                first.append("")
                last.append(percent(part.ignored_share))
                for row, share in zip(rows, part.shares, strict=True):
                    row.append(percent(share))
        if len(rows) > _MOST:
            rarest = sorted(sorted(range(len(rows)), key=lambda k: self.parts[0].holding[k])[:_MOST])
            others = [f"and {len(rows) - _MOST} more", *[""] * (len(heads) - 1)]
            rows = [*(rows[k] for k in rarest), others]
        return [heads, first, *rows, *([last] if any(part.ignored for part in self.parts) else [])]

    def lines(self) -> list[str]:
        """What the table shows, and the table as lines of text, for logs."""
        rows = self.table()
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return [self.title] + [
            "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
            for row in rows
        ]


def percent(share: float) -> str:
    """0.1234 as "12.3 %"; what is there is never shown as 0."""
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
