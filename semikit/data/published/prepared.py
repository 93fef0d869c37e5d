"""A prepared root: the folder that `semikit data prepare` leaves and `--dataset NAME --root DIR` reads.

It holds images and masks where the authors' lists expect them, `lists/PART.txt` with one line "image mask" (of parts
without masks: "image") each, official lists under `splits/`, and `semikit.json`, which is written last: without it the
root is not whole. Of a pair of two dates a line names the first, A/NAME; the second is B/NAME.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from semikit.data.image_pairs import ImagePairs
from semikit.data.masked_images import MaskedImages
from semikit.data.published.catalogue import Published, read_published, root_of
from semikit.data.samples import Samples
from semikit.errors import ConfigError, DataError, unknown
from semikit.files import shell_word
from semikit.settings.base import Settings
from semikit.settings.messages import validate

RECORD = "semikit.json"
BEGUN = ".preparing"
FORMAT = 1

Pair = tuple[str, str | None]
"""Image (of two dates the first) and mask, as paths below the root; the mask of a part without masks is None."""


@final
class Record(Settings):
    """What `semikit.json` says of a prepared root."""

    dataset: str
    """Name of the data set."""
    format: int = FORMAT
    """Version of this layout."""
    counts: dict[str, int]
    """Images of each part that is there."""
    masks: str
    """Where the masks come from: as published, or how they were converted."""
    own: str = ""
    """What is not as published (tiles or parts of one's own), so that official lists do not apply; else empty."""

    def complete(self, published: Published) -> bool:
        """Whether the parts with masks have as many images as published, and the same."""
        return not self.own and all(self.counts.get(part) == published.counts[part] for part in published.masked)


@final
@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared root, opened."""

    published: Published
    path: Path
    record: Record

    def source(self, part: str) -> Samples:
        """The images or pairs of a part (train, val, test, or one without masks), in the order of its list; opens none.

        Raises:
            DataError: when the part is not there.
        """
        if part not in self.record.counts:
            raise DataError(
                f"{self.path} has no part {part!r} of {self.published.name}; it has {', '.join(self.record.counts)}. "
                f"Give the archives of {part!r} too: semikit data prepare {self.published.name} --source DIR "
                f"--root {shell_word(self.path)}"
            )
        listed = read_list(self.path, part)
        names = tuple(self.published.named(image) for image, _ in listed)
        images = tuple(self.path / image for image, _ in listed)
        masks = tuple(None if mask is None else self.path / mask for _, mask in listed)
        if not self.published.pairs:
            return MaskedImages(names, images, masks, self.published.values)
        after = tuple(self.path / self.published.files(image)[1] for image, _ in listed)
        return ImagePairs(names, images, after, masks, self.published.values)

    def files(self, pair: Pair) -> list[str]:
        """The files of a line, as paths below the root: the image (or both dates) and the mask."""
        image, mask = pair
        return [*self.published.files(image), *([] if mask is None else [mask])]


def open_prepared(
    name: str,
    root: Path | None = None,
    where: str = "say where it lies with --root DIR, or for all data sets with SEMIKIT_DATA",
) -> Prepared:
    """The prepared root of a data set; without `root` its default place. `where` tells how another place is given.

    Raises:
        DataError: no such folder, not prepared, half prepared, or prepared for another data set.
    """
    published, path = read_published(name), root_of(name, root)
    how = f"semikit data prepare {name} --source DIR --root {shell_word(path)}"
    if not path.is_dir():
        raise DataError(
            f"{published.title}: no folder {path}. Fetch what can be fetched with: semikit data fetch {name}; lay it "
            f"out with: {how}; or {where}."
        )
    if not (path / RECORD).is_file():
        state = "was begun and not finished" if (path / BEGUN).exists() else "was not run"
        raise DataError(
            f"{path} is no prepared root: `semikit data prepare` {state} there. Run: {how}. DIR may be this folder "
            "itself if it holds the images and masks already; files that are in place stay where they are."
        )
    record = read_record(path)
    if record.dataset != name:
        raise DataError(f"{path} was prepared for {record.dataset}, not for {name}. Give another --root.")
    return Prepared(published, path, record)


def read_record(root: Path) -> Record:
    """The record of a root.

    Raises:
        DataError: damaged, or of a later version.
    """
    path = root / RECORD
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(raw, dict) and raw.get("format") not in (None, FORMAT):
            raise _other_format(path, raw["format"])
        record = validate(Record, raw, str(path))
    except DataError:
        raise
    except (ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"{path} is damaged ({error}). Run `semikit data prepare` again; nothing is lost.") from None
    return record


def _other_format(path: Path, found: Any) -> DataError:
    return DataError(f"{path} has format {found}, this version reads {FORMAT}. Prepare the root again.")


def write_list(root: Path, part: str, pairs: Sequence[Pair]) -> None:
    """Write `lists/PART.txt`, in the order that is given."""
    lines = [image if mask is None else f"{image} {mask}" for image, mask in pairs]
    (root / "lists").mkdir(exist_ok=True)
    _write_whole(root / "lists" / f"{part}.txt", "".join(f"{line}\n" for line in lines))


def read_list(root: Path, part: str) -> list[Pair]:
    """The images and masks of a part.

    Raises:
        DataError: when the list is missing or no text.
    """
    path = root / "lists" / f"{part}.txt"
    if not path.is_file():
        raise DataError(f"no {path}. Run `semikit data prepare` again; files that are in place stay where they are.")
    try:
        entries = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: no text. Run `semikit data prepare` again; nothing is lost.") from None
    return [(words[0], words[1] if len(words) > 1 else None) for words in entries if words]


def begin(root: Path, masks: str = "") -> None:
    """Mark a root as not whole, before anything in it changes; `masks` tells where its masks come from."""
    root.mkdir(parents=True, exist_ok=True)
    _write_whole(root / BEGUN, masks)
    (root / RECORD).unlink(missing_ok=True)


def begun_with(root: Path) -> str:
    """Where the masks come from that a run which was not finished has laid out; empty where there was none."""
    return (root / BEGUN).read_text(encoding="utf-8") if (root / BEGUN).is_file() else ""


def finish(root: Path, record: Record) -> None:
    """Write the record, the last step of preparing."""
    _write_whole(root / RECORD, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
    (root / BEGUN).unlink(missing_ok=True)


def part_of(text: str) -> tuple[str, str]:
    """`"coco"` -> ("coco", "train"), `"coco:unlabeled"` -> ("coco", "unlabeled").

    Raises:
        UnknownNameError: for a data set or part nobody knows.
    """
    name, _, part = text.partition(":")
    published = read_published(name)
    if part and part not in published.counts:
        raise unknown(f"part of {name}", part, published.counts)
    return name, part or "train"


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
