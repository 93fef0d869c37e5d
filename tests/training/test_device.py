from __future__ import annotations

import pytest
import torch

from semikit.errors import ConfigError, UnknownNameError
from semikit.training.device import autocast, choose_device, describe_device, grad_scaler, peak_memory

CPU = torch.device("cpu")


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, chosen in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device("auto").type == chosen


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'cuda' is not available here. Available: cpu. Use --device auto"):
        choose_device("cuda")


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown device 'cdua'. Did you mean 'cuda'"):
        choose_device("cdua")
    with pytest.raises(UnknownNameError, match=r"unknown precision 'bf15'. Did you mean 'bf16'"):
        autocast(CPU, "bf15")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision)():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (grad_scaler(CPU, precision) is not None) == (precision == "fp16")


def test_told_in_words() -> None:
    assert describe_device(CPU).startswith("CPU, ")
    assert peak_memory(CPU) > 10 * 2**20
