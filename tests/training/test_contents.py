from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semikit.errors import ConfigError, WeightsError
from semikit.training.checkpoint import contents_of


@pytest.mark.parametrize("error", [KeyError("step"), TypeError("no list"), RuntimeError("\nsize mismatch\nmore")])
def test_what_does_not_fit(error: Exception) -> None:
    told = rf"last\.ckpt does not hold what semikit writes \({type(error).__name__}: .*(step|no list|size mismatch)"
    with pytest.raises(WeightsError, match=told), contents_of(Path("last.ckpt")):
        raise error


@pytest.mark.parametrize("error", [ConfigError("said already"), torch.OutOfMemoryError("full"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, contents_of(Path("last.ckpt")):
        raise error
    assert raised.value is error
