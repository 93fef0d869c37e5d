"""What a step reads: labelled, unlabelled and, where the method wants it, a second unlabelled batch."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from semikit.core.batch import Needs
from semikit.core.processes import own_slots
from semikit.core.task import Plan
from semikit.data.shards import ShardStream
from semikit.data.streams import Stream

LABELED, UNLABELED = "labeled", "unlabeled"
SECOND = "second"
"""Name of the stream CutMix partners come from where a method wants a batch of their own."""


def streams(pools: Mapping[str, Sized | ShardStream], plan: Plan, needs: Needs) -> list[Stream]:
    """The streams of a step, of which this process makes its share; `pools` holds the images of each by its name."""
    batches = {LABELED: plan.batch}
    if needs.unlabeled:
        batches[UNLABELED] = plan.unlabeled_batch
    if needs.second:
        batches[SECOND] = plan.unlabeled_batch
    return [Stream(name, _length(pools[name]), batch, own_slots(batch)) for name, batch in batches.items()]


def _length(pool: Sized | ShardStream) -> int | None:
    return None if isinstance(pool, ShardStream) else len(pool)
