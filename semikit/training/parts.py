"""How a step is shared: total batch = processes · micro-batches · images of a micro-batch."""

from __future__ import annotations

from semikit.errors import ConfigError
from semikit.training.settings import TrainSettings


def check_parts(train: TrainSettings, processes: int, ohem: bool) -> None:
    """Refuse numbers of processes and micro-batches that do not divide the batch.

    Raises:
        ConfigError: also where hard examples are mined inside groups and a micro-batch does not hold whole ones.
    """
    if train.batch % processes:
        fitting = [count for count in range(1, train.batch + 1) if train.batch % count == 0]
        raise ConfigError(
            f"train.batch={train.batch} cannot be shared evenly by {processes} processes. Start "
            f"{' or '.join(map(str, fitting))}, or change --batch."
        )
    own = train.batch // processes
    if own % train.parts:
        raise ConfigError(
            f"each of {processes} processes has {own} of train.batch={train.batch} labelled images, which "
            f"train.accumulate={train.parts} micro-batches cannot share evenly. Change one."
        )
    if ohem and (own // train.parts) % train.group:
        raise ConfigError(
            f"method.ohem mines inside groups of {train.group}, so a micro-batch has to hold whole groups; "
            f"train.batch={train.batch} / {processes} processes / train.accumulate={train.parts} does not. Change "
            "one."
        )


def parts_told(train: TrainSettings, processes: int, learns_unlabeled: bool) -> str:
    """The images of a step and how they are shared: "16 + 16 images = 2 processes x 2 micro-batches of 4 + 4"."""

    def images(labeled: int) -> str:
        return f"{labeled} + {labeled * train.ratio}" if learns_unlabeled else f"{labeled}"

    whole = f"{images(train.batch)} images"
    if processes * train.parts == 1:
        return whole
    micro = train.batch // processes // train.parts
    shares = [f"{processes} processes"] if processes > 1 else []
    shares += [f"{train.parts} micro-batches"] if train.parts > 1 else []
    return f"{whole} = {' x '.join(shares)} of {images(micro)}"
