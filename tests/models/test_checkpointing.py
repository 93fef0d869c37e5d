"""Blocks computed anew in the backward pass: the same numbers, fewer tensors kept."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from semikit.core.batch_norm import batch_norms, unrecorded
from semikit.core.network import Network
from semikit.errors import ConfigError
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.blocks import blocks_of, recompute
from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.siamese import build_siamese
from tests.helpers.equality import differences

OFF_ON = (False, True)

VIT = {"depth": 4, "embed_dim": 32, "num_heads": 2}
DEEP = {**VIT, "drop_path_rate": 0.5}
SMALL: dict[str, Any] = {"decoder_channels": 8, "weights": "none"}
DPT: dict[str, Any] = {**SMALL, "decoder": "dpt"}
NARROW = {"layers": [3, 1, 1, 1], "channels": [32, 32, 32, 32]}
STAGES = {"depths": [2, 1, 1, 1], "dims": [8, 16, 24, 32], "drop_path_rate": 0.5}
MIX = {"depths": [2, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64], "drop_path_rate": 0.5}

ENCODERS = {
    "vit": ("vit_small_patch16_224", DEEP, DPT, 32),
    "dinov2": ("vit_small_patch14_dinov2", DEEP, DPT, 28),
    "dinov3": ("vit_small_patch16_dinov3", DEEP, DPT, 32),
    "eva": ("eva02_tiny_patch14_224", DEEP, DPT, 28),
    "beit": ("beit_base_patch16_224", DEEP, DPT, 32),
    "sam": ("samvit_base_patch16", {**DEEP, "global_attn_indexes": [1]}, DPT, 32),
    "convnext": ("convnext_atto", STAGES, SMALL, 64),
    "resnet": ("resnet18", NARROW, SMALL, 64),
    "efficientnet": ("efficientnet_b0", {"drop_path_rate": 0.5}, SMALL, 64),
    "mobilenet": ("mobilenetv3_small_100", {}, SMALL, 64),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": (2, 1, 1, 1), "embed_dim": 24}, SMALL, 64),
    "mit": ("mit-b0", MIX, SMALL, 64),
}


def pair(build: Callable[[bool], Network]) -> tuple[Network, Network]:
    """The same network twice, the second with checkpointing."""
    made = []
    for on in OFF_ON:
        torch.manual_seed(0)
        made.append(build(on).train())
    made[1].load_state_dict(made[0].state_dict())
    return made[0], made[1]


def segmenters(kind: str) -> tuple[Network, Network, Tensor]:
    name, args, more, size = ENCODERS[kind]
    if name.startswith("mit"):
        pytest.importorskip("transformers")
    settings = [ModelSettings(encoder=name, encoder_args=args, checkpointing=on, **more) for on in OFF_ON]
    plain, saving = pair(lambda on: build_segmenter(settings[on], 3))
    return plain, saving, torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def taught(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The loss of a pass whose draws come from a fixed seed, with its gradients taken."""
    torch.manual_seed(7)
    loss = network(images).square().mean()
    loss.backward()
    return loss.detach()


def kept(network: nn.Module, images: Tensor) -> int:
    """Bytes of the different storages that a training pass keeps for its backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    found: dict[int, int] = {}
    held = []  # or storages would be given back and their addresses used again

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    return sum(found.values())


def same(plain: Network, saving: Network, images: Tensor) -> None:
    assert torch.equal(taught(plain, images), taught(saving, images))
    gradients = [{name: p.grad for name, p in network.named_parameters()} for network in (plain, saving)]
    assert any(gradient is not None for gradient in gradients[0].values())
    assert not differences(*gradients)
    assert not differences(dict(plain.state_dict()), dict(saving.state_dict())), "running statistics"


@pytest.mark.parametrize("kind", ENCODERS)
def test_loss_gradients_and_statistics_are_the_same_bit_for_bit(kind: str) -> None:
    plain, saving, images = segmenters(kind)
    same(plain, saving, images)
    assert kept(saving, images) < 0.9 * kept(plain, images)


@pytest.mark.parametrize(
    ("name", "args"), [("wrn-28-2", {"blocks": 1}), ("vit_small_patch16_224", DEEP), ("resnet18", NARROW)]
)
def test_classifiers(name: str, args: dict[str, Any]) -> None:
    settings = [ClassifierSettings(encoder=name, encoder_args=args, checkpointing=on) for on in OFF_ON]
    plain, saving = pair(lambda on: build_classifier(settings[on], 3))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    same(plain, saving, images)
    assert kept(saving, images) < 0.9 * kept(plain, images)


def test_two_dates_through_norms_of_batches() -> None:
    settings = [ModelSettings(encoder="resnet18", encoder_args=NARROW, checkpointing=on, **SMALL) for on in OFF_ON]
    plain, saving = pair(lambda on: build_siamese(settings[on], 2))
    same(plain, saving, torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


def test_with_factors_beside_kept_weights() -> None:
    settings = [
        ModelSettings(encoder=ENCODERS["dinov2"][0], encoder_args=DEEP, lora={"rank": 2}, checkpointing=on, **DPT)
        for on in OFF_ON
    ]
    plain, saving = pair(lambda on: build_segmenter(settings[on], 3))
    same(plain, saving, torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)))


def test_a_copy_computes_its_own_blocks_and_nothing_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    _, saving, images = segmenters("vit")
    copied = deepcopy(saving)
    calls: list[object] = []
    plain = type(saving.blocks()[0]).forward
    monkeypatch.setattr(type(saving.blocks()[0]), "forward", lambda *args: (calls.append(args[0]), plain(*args))[1])
    with torch.no_grad():
        copied.eval()(images)
    assert calls == copied.blocks()
    calls.clear()
    taught(saving, images)
    assert calls == [*saving.blocks(), *reversed(saving.blocks())]


def test_a_pass_that_is_not_recorded() -> None:
    """`method.batch_norm: weak` ends before the blocks are computed a second time."""
    plain, saving, images = segmenters("resnet")
    before = [buffer.clone() for buffer in plain.buffers()]
    for network in (plain, saving):
        with unrecorded(network):
            loss = network(images).float().square().mean()
        loss.backward()
    for a, b in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for c, d in zip(saving.buffers(), before, strict=True):
        assert torch.equal(c, d)
    assert all(norm.track_running_stats for norm in batch_norms(saving))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_compiled(kind: str) -> None:
    plain, saving, images = segmenters(kind)
    for network in (plain, saving):  # drop path draws other numbers when compiled
        for module in network.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
    compiled = torch.compile(saving, backend="aot_eager")
    torch.testing.assert_close(taught(compiled, images), taught(plain, images))
    for a, b in zip(saving.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    for c, d in zip(saving.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(c, d)


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "xception65"])  # of Xception levels are read inside blocks
def test_an_encoder_without_blocks_is_refused(name: str) -> None:
    with torch.device("meta"):
        encoder = timm.create_model(name, features_only=True)
    with pytest.raises(ConfigError, match=f"checkpointing: true, but {name} is no chain of blocks"):
        recompute(encoder, name)


def test_blocks_are_found_in_order_and_none_in_another() -> None:
    network = build_segmenter(ModelSettings(encoder="efficientnet_b0", **SMALL), 3)
    names = {module: name for name, module in network.named_modules()}
    found = [names[block] for block in network.blocks()]
    assert found[:3] == [f"encoder.backbone.blocks.{stage}" for stage in ("0.0", "1.0", "1.1")]
    assert len(found) == 16
    inside = {id(inner) for block in network.blocks() for inner in block.modules() if inner is not block}
    assert not inside & {id(block) for block in blocks_of(network.encoder)}
