"""Pools in shards as tasks use them: opened, looked at before training, read by the streams of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semikit.core.task import BatchLayout
from semikit.data.shards.files import COUNTS, Shard, ShardCounts, list_shards
from semikit.data.shards.pool import SampleDecoder, ShardPool, ShardStream
from semikit.data.shards.spec import Shards
from semikit.errors import FileFault
from semikit.tasks._streams import SECOND, UNLABELED


def open_pool(spec: Shards, decode: SampleDecoder) -> ShardPool:
    """The pool of a data YAML; files are looked for, not opened.

    Raises:
        DataError: missing files, places named twice.
    """
    return ShardPool(list_shards(spec.shards), spec.shuffle, decode)


def pool_streams(pool: ShardPool, layout: BatchLayout, folder: Path | None) -> dict[str, ShardStream]:
    """The unlabelled streams of a run; `folder` is the run's, where it is known what shards hold."""
    counts = ShardCounts.read(None if folder is None else folder / COUNTS)
    return {name: ShardStream(pool, layout.seed, name, layout.unlabeled_batch, counts) for name in (UNLABELED, SECOND)}


def shards_of(pool: ShardPool | None) -> Sequence[Shard]:
    """The shards of a pool, for the record of a split."""
    return () if pool is None else pool.shards


def look(pool: ShardPool, channels: int) -> None:
    """Look at the first image of a pool.

    Raises:
        DataError: it cannot be read, or has another number of channels than those of train.
    """
    image = pool.first()
    found = (image[0] if isinstance(image, tuple) else image).shape[-1]
    if found != channels:
        remedy = "Choose the same with `bands: [...]`."
        detail = f"{found}, those of train {channels}"
        raise FileFault("images of shards with another number of channels", pool.shards[0].place, detail, remedy)


def told(pool: ShardPool, unused: int) -> str:
    """What a person should know; `unused` images of train are neither labelled nor learned from."""
    bare = f"; {unused} images of train that are not labelled are not learned from" if unused else ""
    return (
        f"unlabelled images come out of {len(pool.shards)} shards alone{bare}. Of these only the first image was "
        "looked at; an epoch is a pass over the labelled images"
    )
