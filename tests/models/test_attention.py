from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders import attention
from semikit.models.encoders.attention import attention_for
from semikit.models.encoders.create import build_encoder
from semikit.models.settings import ModelSettings

NARROW = {"depth": 4, "embed_dim": 32, "num_heads": 2}
FUSED = "_scaled_dot_product_flash_attention_for_cpu"
IMAGES = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@contextmanager
def counted(name: str) -> Iterator[list[str]]:
    """The operations of this name that were dispatched."""
    found: list[str] = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found.extend([name] * (func.overloadpacket.__name__ == name))
            return func(*args, **(kwargs or {}))

    with Count():
        yield found


def attended(tokens: int) -> tuple[Tensor, ...]:
    """Output and gradients of attention in bf16 over random queries, keys and values."""
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(2, 3, tokens, 16, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16), attention_for(IMAGES):
        out = functional.scaled_dot_product_attention(*parts)
    out.backward(torch.randn(out.shape, generator=generator).bfloat16())
    return (out.detach(), *(part.grad for part in parts if part.grad is not None))


@pytest.mark.parametrize("kept", [0, 512])
def test_products_give_what_the_fused_kernel_gives(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    parts = [torch.randn(2, 3, 40, 16, generator=generator).bfloat16().float().requires_grad_() for _ in range(3)]
    out = functional.scaled_dot_product_attention(*parts)
    out.backward(torch.randn(out.shape, generator=generator).bfloat16().float())
    monkeypatch.setattr(attention, "_KEPT", kept)
    found = attended(40)
    assert len(found) == 4
    for actual, expected in zip(found, (out, *(part.grad for part in parts)), strict=True):
        assert actual.dtype == torch.bfloat16
        torch.testing.assert_close(actual.float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "dinov2-small", "dinov3-small"])
def test_networks_train_in_bf16_without_the_fused_kernel(name: str) -> None:
    settings = ModelSettings(encoder=name, weights="none", encoder_args=NARROW)
    images = torch.zeros(2, 3, 112, 112)
    with counted(FUSED) as fused, torch.autocast("cpu", dtype=torch.bfloat16):
        build_encoder(settings)(images)
    assert fused == []
    with counted(FUSED) as fused:
        build_encoder(settings)(images)
    assert fused


def test_attention_with_a_bias_and_networks_without_any_are_left_alone() -> None:
    for encoder in ("beit-base", "mit-b0"):
        settings = ModelSettings(encoder=encoder, weights="none", encoder_args=NARROW if encoder == "beit-base" else {})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            levels = build_encoder(settings)(torch.zeros(2, 3, 64, 64))
        assert all(level.isfinite().all() for level in levels)
    network = build_classifier(ClassifierSettings(), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.zeros(2, 3, 32, 32)).isfinite().all()


def test_classifiers_too() -> None:
    settings = ClassifierSettings(encoder="vit_tiny_patch16_224", encoder_args={**NARROW, "img_size": 32})
    network = build_classifier(settings, 3)
    with counted(FUSED) as fused, torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(2, 3, 32, 32))
    assert fused == []


def test_a_block_computed_again_attends_as_at_first() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        settings = ModelSettings(
            encoder="dinov2-small", weights="none", encoder_args=NARROW, checkpointing=checkpointing
        )
        network = build_encoder(settings)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            levels = network(IMAGES)
        sum(level.float().square().sum() for level in levels).backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        assert torch.equal(plain, again)


def test_many_tokens_without_a_gradient_are_left_to_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_KEPT", 0)
    part = torch.zeros(1, 1, 4, 8)
    with (
        torch.no_grad(),
        counted(FUSED) as fused,
        torch.autocast("cpu", dtype=torch.bfloat16),
        attention_for(IMAGES),
    ):
        functional.scaled_dot_product_attention(part, part, part)
    assert fused
