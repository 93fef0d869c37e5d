"""How long a run is, in iterations."""

from __future__ import annotations

from semikit.core.task import Counts
from semikit.training.settings import Schedule, TrainSettings


def schedule_of(train: TrainSettings, counts: Counts, learns_unlabeled: bool = True) -> Schedule:
    """Lengths in iterations. An epoch is one pass over the unlabelled images (where there are none, the labelled).

    As released, each of batch / group processes takes its rounded-up share and drops its last incomplete batch, and a
    method that learns from labelled images alone may count its epochs over these (`train.epoch_images`). Where nobody
    has counted the unlabelled images (shards), an epoch is a pass over the labelled ones.
    """
    images, batch = counts.unlabeled or counts.labeled, train.batch * train.ratio
    if counts.unlabeled is None:
        batch = train.batch
    if train.epoch_images is not None and not learns_unlabeled:
        images, batch = max(counts.labeled, train.epoch_images), train.batch
    processes = max(1, batch // train.group)
    per_epoch = max(1, -(-images // processes) // max(1, batch // processes))
    iterations = train.iterations or (train.epochs or 1) * per_epoch
    eval_every = train.eval_every or max(min(per_epoch, iterations), -(-iterations // 20))
    if eval_every == "epoch":
        eval_every = per_epoch
    return Schedule(iterations, per_epoch, eval_every, train.save_every or eval_every)
