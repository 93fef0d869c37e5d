"""Random numbers of a step, and of a method's own parameters, as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from semikit.core.batch import to_device
from semikit.core.rng import rng_for


def step_draws(seed: int, stream: str, step: int, positions: range, device: torch.device, *shape: int) -> Tensor:
    """Numbers in 0..1, without 1, (B, *shape) float32 on the device, for the images of a step at `positions` of the
    total batch.
    """
    # The numbers of the first images do not depend on how many follow, nor on which process draws them.
    drawn = rng_for(seed, stream, step).random((positions.stop, *shape), dtype=np.float32)
    return to_device(torch.from_numpy(drawn[positions.start :]), device)


@contextmanager
def torch_seeded(seed: int, stream: str) -> Iterator[None]:
    """While the block runs torch's generator of the host draws by the seed and the stream; afterwards as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng_for(seed, stream).integers(2**62)))
        yield
