from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend

from semikit.errors import ConfigError, UnknownNameError
from semikit.training.device import (
    attention_backends,
    autocast,
    choose_device,
    describe_device,
    grad_scaler,
    inference_on,
    kernels,
    multiplies_bf16,
    peak_memory,
    settled_precision,
)

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


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_precision(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert settled_precision("auto", torch.device("cuda")) == expected
    assert settled_precision("auto", CPU) == settled_precision("auto", torch.device("mps")) == "fp32"
    assert {settled_precision(name, CPU) for name in ("fp32", "tf32", "bf16", "fp16")} == {
        *("fp32", "tf32", "bf16", "fp16")
    }
    assert multiplies_bf16(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})
    assert not multiplies_bf16(CPU)


def kernels_in_use() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    attention = (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled())
    return (*attention, cuda.cudnn_sdp_enabled(), cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", (False, True, True, False, False, True)),
        ("tf32", (False, True, True, False, True, True)),
        ("bf16", (True, True, True, False, False, True)),
        ("fp16", (True, True, True, False, False, True)),
    ],
)
def test_a_gpu_chooses_among_the_same_kernels(
    monkeypatch: pytest.MonkeyPatch, precision: str, expected: tuple[bool, ...]
) -> None:
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    before, cuda = kernels_in_use(), torch.device("cuda")
    with kernels(cuda, precision)():
        assert kernels_in_use() == expected
        order = [SDPBackend(number) for number in torch._C._get_sdp_priority_order()]
    with inference_on(cuda, precision).autocast():
        assert kernels_in_use() == expected
    assert kernels_in_use() == before
    names = attention_backends(cuda, precision)
    assert names == ("flash", "memory-efficient", "math")[3 - len(names) :]
    assert order[len(names) - 1] == SDPBackend.MATH
    assert attention_backends(CPU, precision) == (), "there nothing is chosen: the networks do, by precision and size"
    with kernels(CPU, precision)(), inference_on(CPU, precision).autocast():
        assert kernels_in_use() == before


def test_told_in_words() -> None:
    assert describe_device(CPU).startswith("CPU, ")
    assert peak_memory(CPU) > 10 * 2**20
