"""The record of a split, kept with a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from semikit.data.contents import Contents
from semikit.data.shards.tar_files import Shard
from semikit.data.splits import Family, Split
from semikit.errors import DataError, some
from semikit.settings.base import Settings
from semikit.settings.messages import explain


@final
class Counts(Settings):
    """Numbers of images."""

    labeled: int
    """Images learned from with their masks or labels."""
    unlabeled: int
    """Images learned from without them; in classification the labelled are among these."""
    masked: int
    """Images of train that have a mask or a label."""


@final
class Digests(Settings):
    """SHA-256 of lists of names, as hexadecimal text."""

    labeled: str
    """Of the labelled images."""
    unlabeled: str
    """Of the unlabelled images."""


@final
class ShardRecord(Settings):
    """A shard of the unlabelled pool."""

    name: str
    """File name, address without its query, or command."""
    size: int | None = None
    """Bytes; null where it is read through a command."""


_OPTIONAL = frozenset({"shards", "held_out", "also_labeled", "contents"})
FORMAT = 2
"""Of split.json; a file without a number has format 1. It rises when what is written means something else."""


@final
class Manifest(Settings):
    """Which images a run learned from, small enough for a checkpoint: unlabelled names are there as a digest."""

    format: int = 1
    """The format of the record."""
    family: Family
    """How labelled images were chosen: random (by seed), file (listed) or all (every image with a mask)."""
    seed: int
    """Seed of a random choice."""
    labeled: tuple[str, ...]
    """Names of the labelled images."""
    counts: Counts
    """How many."""
    digests: Digests
    """SHA-256 over the names, one a line, of labelled and unlabelled images."""
    shards: tuple[ShardRecord, ...] = ()
    """Of a pool in shards: all of them, in their order; how many images they hold is not known."""
    held_out: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Part (val, test, calibration) -> names of its images, where they were taken out of train."""

    also_labeled: str = ""
    """SHA-256 of the further images that are learned with a label, one `name number-of-class` a line; "": none are."""
    contents: dict[str, Contents] = Field(default_factory=dict)
    """Part (labelled, and the one the best is chosen on) -> what its files held; not of published data sets, of
    generated images, or of a run that was begun before this was kept."""

    @classmethod
    def of(cls, split: Split, shards: Sequence[Shard] = (), contents: Mapping[str, Contents] | None = None) -> Self:
        """The record of a split, of the shards that are its unlabelled images, and of what files hold."""
        labeled, unlabeled = names(split)
        counts = Counts(labeled=len(labeled), unlabeled=len(unlabeled), masked=split.masked)
        digests = Digests(labeled=digest(labeled), unlabeled=digest(unlabeled))
        records = tuple(ShardRecord(name=shard.name, size=shard.size) for shard in shards)
        return cls(
            format=FORMAT,
            family=split.family,
            seed=split.seed,
            labeled=tuple(labeled),
            counts=counts,
            digests=digests,
            shards=records,
            held_out=dict(split.held_out),
            also_labeled=digest(f"{split.pool.names[k]} {label}" for k, label in split.also.items())
            if split.also
            else "",
            contents=dict(contents or {}),
        )

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs without shards, held-out images or contents keep the record they had before there were any."""
        raw: dict[str, Any] = handler(self)
        return {key: value for key, value in raw.items() if value or key not in _OPTIONAL}

    @classmethod
    def read(cls, raw: Mapping[str, Any], where: str) -> Self:
        """A record from plain values (split.json, a checkpoint).

        Raises:
            DataError: when it is damaged or was changed by hand.
        """
        try:
            manifest = cls.model_validate(dict(raw))
        except ValidationError as error:
            raise DataError(f"{where} is damaged: {explain(error, cls)}".replace("\n", "; ")) from None
        if digest(manifest.labeled) != manifest.digests.labeled:
            raise DataError(f"{where} is damaged: its list of labelled images does not fit its digest.")
        return manifest


def names(split: Split) -> tuple[list[str], list[str]]:
    """Names of the labelled and of the unlabelled images."""
    every = split.pool.names
    return [every[index] for index in split.labeled], [every[index] for index in split.unlabeled]


def digest(lines: Iterable[str]) -> str:
    """SHA-256 over the lines, each ended by a newline: what `sha256sum` says of the text file."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def write(
    folder: Path, split: Split, shards: Sequence[Shard] = (), contents: Mapping[str, Contents] | None = None
) -> Manifest:
    """Write split.json, labeled.txt and unlabeled.txt into a run folder.

    Raises:
        DataError: when the folder holds the record of another split.
    """
    manifest = Manifest.of(split, shards, contents)
    if (folder / "split.json").exists():
        changes = difference(load(folder), manifest)
        if changes:
            raise DataError(f"{folder} holds another split: {'; '.join(changes)}. Choose another folder.")
    labeled, unlabeled = names(split)
    for name, lines in (("labeled.txt", labeled), ("unlabeled.txt", unlabeled)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "split.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def load(folder: Path) -> Manifest:
    """The record in a run folder.

    Raises:
        DataError: missing, damaged or changed.
    """
    path = folder / "split.json"
    if not path.is_file():
        raise DataError(f"no split.json in {folder}; give a run folder.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path} is damaged: it holds no mapping.")
    return Manifest.read(raw, str(path))


def difference(before: Manifest, after: Manifest) -> list[str]:
    """What changed between two records, one phrase each; empty where nothing that matters did."""
    changes = []
    if before.family != after.family:
        changes.append(f"labels chosen by {before.family!r}, now {after.family!r}")
    elif before.family == "random" and before.seed != after.seed:
        changes.append(f"seed {before.seed}, now {after.seed}")
    if before.digests.labeled != after.digests.labeled:
        changes.append(_change(before, after))
    if before.digests.unlabeled != after.digests.unlabeled:
        old, new = before.counts.unlabeled, after.counts.unlabeled
        same = f"{old} unlabelled images, but not the same ones"
        changes.append(same if old == new else f"{old} unlabelled images, now {new}")
    if before.shards != after.shards:
        changes.append(f"{len(before.shards)} shards of unlabelled images, now {len(after.shards)}, or others")
    changes += ["other labels in data.also_labeled"] * (before.also_labeled != after.also_labeled)
    for part, were in before.held_out.items():  # runs made before there was a record of them have none
        if were != after.held_out.get(part):
            changes.append(
                f"{len(were)} {part} images held out of train, now {len(after.held_out.get(part, ()))} others"
            )
    return changes


def _change(before: Manifest, after: Manifest) -> str:
    gone = sorted(set(before.labeled) - set(after.labeled))
    come = sorted(set(after.labeled) - set(before.labeled))
    parts = [f"{len(before.labeled)} labelled images, now {len(after.labeled)}"]
    parts += [f"without {some(gone)}"] if gone else []
    parts += [f"with {some(come)}"] if come else []
    return ", ".join(parts if gone or come else [*parts, "in another order"])
