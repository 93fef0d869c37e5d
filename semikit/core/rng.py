"""Randomness as a function: (run seed, stream name, counters) -> generator.

Nothing is drawn from a generator that lives longer than a step, so only the step has to be saved, and neither the
number of workers nor of processes nor a resumption changes a draw.
"""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """A fresh counter-based generator (Philox), keyed by a hash of its arguments.

    `stream` names what is drawn ("dropout", "cutmix"), `counters` where (step, position in the total batch).
    """
    text = "/".join([str(seed), stream, *map(str, counters)])
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
