from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from semikit.errors import ConfigError
from semikit.models.encoders.lora import LoraLinear, merged
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import LoraSettings, ModelSettings

NARROW = {"depth": 2, "embed_dim": 32, "num_heads": 2}
MIT = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64]}
FAMILIES: dict[str, tuple[str, dict[str, object], int]] = {
    "vit": ("vit-tiny", NARROW, 16),
    "dinov2": ("dinov2-small", NARROW, 14),
    "dinov3": ("dinov3-small", NARROW, 16),
    "eva02": ("eva02-tiny", NARROW, 14),
    "beit": ("beit-base", NARROW, 16),
    "sam": ("sam-base", {**NARROW, "window_size": 3, "global_attn_indexes": [1]}, 16),
    "mit": ("mit-b0", MIT, 16),
}


def build(family: str = "vit", lora: LoraSettings | None = None, **changes: object) -> Segmenter:
    name, args, _ = FAMILIES[family]
    torch.manual_seed(3)
    settings = ModelSettings(
        encoder=name, weights="none", encoder_args=args, decoder="dpt", decoder_channels=8, lora=lora, **changes
    )
    return build_segmenter(settings, 3)


def adapted(family: str = "vit", **changes: object) -> Segmenter:
    return build(family, LoraSettings(rank=3, alpha=6.0, **changes))


def images(family: str = "vit") -> Tensor:
    side = FAMILIES[family][2]
    return torch.randn(2, 3, 4 * side, 3 * side, generator=torch.Generator().manual_seed(0))


def trained(network: Segmenter) -> Segmenter:
    """Factors as after some steps, when B is no longer zero."""
    for parameter in network.encoder_parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def test_a_layer_is_its_formula() -> None:
    base = nn.Linear(5, 4)
    layer = LoraLinear(base, rank=2, scale=3.0)
    x = torch.randn(7, 5)
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.lora_b)
    expected = base(x) + 3 * x @ layer.lora_a.T @ layer.lora_b.T
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), expected)


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_nothing_changes_at_first(self, family: str) -> None:
        network, plain = adapted(family).eval(), build(family).eval()
        plain.load_state_dict(network.exported())
        torch.testing.assert_close(network(images(family)), plain(images(family)))

    def test_only_factors_learn_and_all_of_them(self, family: str) -> None:
        network = trained(adapted(family)).train()
        factors = {name for name, p in network.encoder.named_parameters() if p.requires_grad}
        layers = [m for m in network.encoder.modules() if isinstance(m, LoraLinear)]
        assert {name.rpartition(".")[2] for name in factors} == {"lora_a", "lora_b"}
        assert len(factors) == len(network.encoder_parameters()) == 2 * len(layers) >= 8
        before = {name: p.clone() for name, p in network.encoder.named_parameters() if name not in factors}
        network(images(family)).square().mean().backward()
        moved = {name for name, p in network.encoder.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == factors
        torch.optim.SGD(network.parameters(), lr=0.1).step()
        assert all(torch.equal(p, before[name]) for name, p in network.encoder.named_parameters() if name in before)
        assert all(p.grad is not None for p in network.decoder.parameters())

    def test_the_export_is_the_same_network_without(self, family: str) -> None:
        network, plain = trained(adapted(family)), build(family).eval()
        unchanged = network.encoder.state_dict()
        state = network.exported()
        plain.load_state_dict(state, strict=True)
        torch.testing.assert_close(network(images(family)), plain(images(family)), rtol=1e-4, atol=1e-5)
        changed = [name for name, value in unchanged.items() if name.endswith("base.weight") and not _in(value, state)]
        assert len(changed) == sum(isinstance(m, LoraLinear) for m in network.modules())

    def test_copy(self, family: str) -> None:
        network = trained(adapted(family))
        twin = copy.deepcopy(network)
        assert torch.equal(twin(images(family)), network(images(family)))
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in network.parameters()}
        assert twin.encoder.lora == network.encoder.lora
        trained(twin)
        assert not torch.equal(twin(images(family)), network(images(family)))


def _in(value: Tensor, state: dict[str, Tensor]) -> bool:
    return any(value.shape == other.shape and torch.equal(value, other) for other in state.values())


@pytest.mark.parametrize("family", ["dinov2", pytest.param("beit", marks=pytest.mark.long)])
def test_compiled_whole(family: str) -> None:
    network = trained(adapted(family))
    compiled = torch.compile(network.encoder, fullgraph=True, backend="eager")
    for level, expected in zip(compiled(images(family)), network.encoder(images(family)), strict=True):
        torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("family", ["vit", "beit"])
def test_half_precision(family: str) -> None:
    network = trained(adapted(family))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(images(family)).float().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.encoder_parameters())


def test_an_encoder_in_training_mode_is_not_frozen() -> None:
    network = adapted().train()
    assert not network.encoder.frozen
    assert network.encoder.training
    assert network.encode(images()).levels[0].requires_grad


def test_weights_are_loaded_before(tmp_path: object) -> None:
    source = build().encoder.backbone
    whole = source.state_dict()
    path = tmp_path / "w.pth"  # type: ignore[operator]
    torch.save(whole, path)
    network = build_segmenter(
        ModelSettings(encoder="vit-tiny", weights=str(path), encoder_args=NARROW, lora=LoraSettings(rank=2)), 3
    )
    kept = network.encoder.backbone.blocks[0].attn.qkv
    assert torch.equal(kept.base.weight, whole["blocks.0.attn.qkv.weight"])


def test_without_factors_the_export_is_the_state() -> None:
    network = build()
    assert network.exported().keys() == network.state_dict().keys()


def test_a_layer_called_base_is_no_factor() -> None:
    state = {"neck.base.weight": torch.ones(2, 2), "neck.base.bias": torch.ones(2)}
    assert merged(state, LoraSettings(rank=1)).keys() == state.keys()


def test_targets_choose() -> None:
    network = adapted(targets=("mlp.fc2",))
    names = [name for name, m in network.encoder.backbone.named_modules() if isinstance(m, LoraLinear)]
    assert names == ["blocks.0.mlp.fc2", "blocks.1.mlp.fc2"]


def test_targets_that_choose_nothing() -> None:
    message = (
        r"lora.targets \['query'\]: no linear layer .* called qkv, proj, fc1, fc2 \(in full, e.g., blocks.0.attn.qkv"
    )
    with pytest.raises(ConfigError, match=message):
        adapted(targets=("query",))


def test_an_encoder_without_linear_layers() -> None:
    settings = ModelSettings(encoder="resnet18", weights="none", lora=LoraSettings(rank=2))
    with pytest.raises(ConfigError, match=r"no linear layers to adapt. Choose a transformer"), torch.device("meta"):
        build_segmenter(settings, 3)


def test_a_rank_no_layer_has() -> None:
    with pytest.raises(ConfigError, match=r"lora.rank 33: blocks.0.attn.qkv is 32 -> 96, .*from 1 to 32"):
        build(lora=LoraSettings(rank=33))
