"""What a step reads: labelled, unlabelled and, where the method wants it, a second unlabelled batch."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from semikit.core.batch import Requirements
from semikit.core.task import BatchLayout
from semikit.data.loading.streams import Stream
from semikit.data.shards.pool import ShardStream
from semikit.distributed.collectives import own_positions

LABELED, UNLABELED = "labeled", "unlabeled"
SECOND = "second"
"""Name of the stream CutMix partners come from where a method wants a batch of their own."""


def streams(pools: Mapping[str, Sized | ShardStream], layout: BatchLayout, requirements: Requirements) -> list[Stream]:
    """The streams of a step, of which this process makes its share; `pools` holds the images of each by its name."""
    batches = {LABELED: layout.batch}
    if requirements.unlabeled:
        batches[UNLABELED] = layout.unlabeled_batch
    if requirements.partner_batch:
        batches[SECOND] = layout.unlabeled_batch
    return [Stream(name, _length(pools[name]), batch, own_positions(batch)) for name, batch in batches.items()]


def _length(pool: Sized | ShardStream) -> int | None:
    return None if isinstance(pool, ShardStream) else len(pool)
