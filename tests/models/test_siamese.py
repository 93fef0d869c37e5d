from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Unlabeled
from semikit.core.method import Method
from semikit.core.network import Features
from semikit.errors import ConfigError
from semikit.models.encoders.lora import merged
from semikit.models.settings import LoraSettings, ModelSettings
from semikit.models.siamese import Siamese, build_siamese, siamese_state
from semikit.registry import METHODS
from semikit.training.optimizer import build_optimizer
from semikit.training.settings import OptimizerSettings
from semikit.training.step import Stepper
from tests.helpers import tiny

TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit-tiny", {"depth": 2, "embed_dim": 32, "num_heads": 2, "patch_size": 4, "img_size": 16}),
    "resnet": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}),
}


def build(encoder: str = "vit", classes: int = 2, **changes: Any) -> Siamese:
    name, args = TINY[encoder]
    torch.manual_seed(3)
    settings = ModelSettings(encoder=name, weights="none", encoder_args=args, decoder_channels=8, **changes)
    return build_siamese(settings, classes)


def pairs(size: tuple[int, int] = (24, 16), count: int = 3) -> Tensor:
    return torch.randn(count, 2, 3, *size, generator=torch.Generator().manual_seed(0))


def calls(network: Siamese) -> list[int]:
    """The number of images of each call of the encoder from now on."""
    counts: list[int] = []
    network.encoder.register_forward_hook(lambda _module, args, _out: counts.append(len(args[0])))
    return counts


@pytest.mark.parametrize("encoder", TINY)
def test_it_tells_what_its_segmenter_is(encoder: str) -> None:
    network = build(encoder, classes=5)
    inner = network.segmenter
    for name in ("encoder", "widths", "embed_dim", "num_classes", "multiple", "mean", "std"):
        assert getattr(network, name) == getattr(inner, name), name
    assert all(name.startswith("segmenter.") for name in network.state_dict())
    assert {id(p) for p in network.encoder_parameters()} == {id(p) for p in network.encoder.parameters()}
    network.mean, network.std = (0.1,) * 3, (0.2,) * 3
    assert (network.mean, network.std) == ((0.1,) * 3, (0.2,) * 3)
    features = network.encode(pairs())
    assert tuple(level.shape[:2] for level in features.levels) == tuple((3, width) for width in network.widths)
    assert network.embed(features).shape[:2] == (3, network.embed_dim)
    assert network(pairs()).shape == (3, 5, 24, 16)


@pytest.mark.parametrize("encoder", TINY)
def test_levels_are_absolute_differences(encoder: str) -> None:
    network = build(encoder).eval()
    images = pairs()
    features = network.encode(images)
    first, second = network.encoder(images[:, 0]), network.encoder(images[:, 1])
    for level, a, b in zip(features.levels, first, second, strict=True):
        assert level.any()
        torch.testing.assert_close(level, (a - b).abs(), rtol=1e-5, atol=1e-6)
    assert torch.equal(network(images), network.decode(features))


@pytest.mark.parametrize("encoder", TINY)
def test_the_order_of_the_dates_changes_nothing(encoder: str) -> None:
    network = build(encoder).eval()
    torch.testing.assert_close(network(pairs()), network(pairs().flip(1)), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(network(pairs()), network(pairs().flip(0)), atol=1e-3), "pairs keep their places"


@pytest.mark.parametrize("encoder", TINY)
def test_ordered_dates_tell_from_what_to_what(encoder: str) -> None:
    network, images = build(encoder, ordered=True).eval(), pairs()
    features = network.encode(images)
    alone = [network.segmenter.encode(images[:, date]).levels for date in (0, 1)]
    for level, width, first, second in zip(features.levels, network.widths, *alone, strict=True):
        assert level.shape[1] == width
        assert torch.allclose(level, torch.cat((first, second), dim=1), atol=1e-5)
    assert not torch.allclose(network(images), network(images.flip(1)), atol=1e-4)
    training = network.train().encode(images)
    assert tuple(level.shape for level in training.levels) == tuple(level.shape for level in features.levels)


@pytest.mark.parametrize("encoder", TINY)
def test_equal_dates_give_the_logits_of_no_change(encoder: str) -> None:
    network = build(encoder).eval()
    features = network.encode(pairs()[:, :1].expand(-1, 2, -1, -1, -1))
    assert not any(level.any() for level in features.levels)
    zeros = Features(tuple(torch.zeros_like(level) for level in features.levels), features.size)
    assert torch.equal(network.decode(features), network.decode(zeros))
    assert not torch.allclose(network(pairs()), network.decode(zeros), atol=1e-3)


def test_one_call_is_as_two_without_batch_norm() -> None:
    once, twice = build().train(), build().train()
    counts = calls(once), calls(twice)
    twice.norms_batches = True
    torch.testing.assert_close(once(pairs()), twice(pairs()), rtol=1e-6, atol=1e-6)
    assert counts == ([6], [3, 3])


def test_batch_norm_sees_one_date_at_a_time() -> None:
    """As released: A passes the encoder, then B, and the running statistics move with each."""
    network = build("resnet").train()
    alone, joint = copy.deepcopy(network.encoder), copy.deepcopy(network.encoder)
    counts, images = calls(network), pairs((64, 48))
    features = network.encode(images)
    first, second = alone(images[:, 0]), alone(images[:, 1])
    mixed = joint(images.flatten(0, 1))
    assert counts == [3, 3]
    for level, a, b, both in zip(features.levels, first, second, mixed, strict=True):
        assert torch.equal(level, (a - b).abs())
        assert not torch.allclose(level, (both[0::2] - both[1::2]).abs(), atol=1e-3)
    state = network.encoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in alone.state_dict().items())
    assert all(value == 2 for name, value in state.items() if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("changes", [{}, {"freeze": True}], ids=["evaluated", "frozen"])
def test_batch_norm_at_rest_sees_both_dates_at_once(changes: dict[str, Any]) -> None:
    network = build("resnet", **changes).train(bool(changes))
    before, counts = copy.deepcopy(network.encoder.state_dict()), calls(network)
    network(pairs())
    assert counts == [6]
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())


@pytest.mark.parametrize("encoder", TINY)
def test_both_dates_teach_the_encoder(encoder: str) -> None:
    network, images = build(encoder).train(), pairs((64, 48)).requires_grad_()
    for parameter in network.parameters():  # zeros of fresh layers would hide what lies behind them
        nn.init.normal_(parameter, std=0.3)
    network(images).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert images.grad is not None
    assert all(images.grad[:, date].any() for date in (0, 1))


def test_frozen() -> None:
    network = build(freeze=True).train()
    assert network.encoder_parameters() == []
    assert not any(level.requires_grad for level in network.encode(pairs()).levels)


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 3, 16, 16), (2, 3, 3, 16, 16), (1, 2, 2, 3, 16, 16)])
def test_other_than_two_dates(shape: tuple[int, ...]) -> None:
    given = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ConfigError, match=rf"images of shape {given}: change detection needs 2 dates .*\(B, 2, C, H"):
        build()(torch.zeros(shape))


def test_sides_must_fit_the_patch() -> None:
    with pytest.raises(ConfigError, match=r"an image of 16x18: .* multiple of 4. Instead of 18 take 16 or 20"):
        build()(torch.zeros(1, 2, 3, 16, 18))


def test_adapted_weights_are_exported_under_plain_names() -> None:
    settings = LoraSettings(rank=3, alpha=6.0)
    network, plain = build(lora=settings).eval(), build().eval()
    for parameter in network.encoder_parameters():
        nn.init.normal_(parameter, std=0.3)
    state = network.exported()
    assert not torch.allclose(network(pairs()), plain(pairs()), atol=1e-3)
    plain.load_state_dict(state, strict=True)
    torch.testing.assert_close(network(pairs()), plain(pairs()), rtol=1e-4, atol=1e-5)
    assert state.keys() == siamese_state(plain.segmenter.state_dict()).keys() == plain.state_dict().keys()
    torch.testing.assert_close(merged(network.state_dict(), settings), state, rtol=0, atol=0)
    assert plain.exported().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("encoder", TINY)
def test_channels_last(encoder: str) -> None:
    network = build(encoder).eval()
    images = pairs()
    expected = network(images)
    network.to(memory_format=torch.channels_last)
    last = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(network(last), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", TINY)
def test_half_precision(encoder: str) -> None:
    network = build(encoder).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(pairs((64, 48)))
        logits.float().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("encoder", TINY)
def test_compiled_whole(encoder: str) -> None:
    network = build(encoder).eval()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pairs()), network(pairs()))


@torch.no_grad()
def firm(network: Siamese, images: Tensor) -> Siamese:
    """A network that predicts either class, here and there with confidence; a fresh one says the same everywhere."""
    classifier = network.eval().segmenter.classifier
    classifier.weight.mul_(100)
    classifier.bias.sub_(network(images).mean((0, 2, 3)))
    return network


class Rig:
    """A method on two dates, with one batch and its steps."""

    def __init__(self, method: str, encoder: str, accumulate: int = 1) -> None:
        cls: type[Method] = METHODS.get(method)
        wanted = {"threshold": 0.6, "weight": 0.5}
        config = cls.Config(**{key: value for key, value in wanted.items() if key in cls.Config.model_fields})
        run_info, requirements = tiny.run_info(2), cls.requirements(config)
        if requirements.whole_images:
            pytest.skip("learns classes of whole images only")
        self.labeled, self.unlabeled = self.dated(
            tiny.batch(run_info, requirements), tiny.batch(run_info, requirements, seed=1)
        )
        model = {"channel_attention": {"width": 8}} if requirements.channel_attention else {}
        first, *peers = (firm(build(encoder, **model), self.labeled.images) for _ in range(requirements.students))
        self.method = cls(first, config, run_info, *peers).train()
        settings = OptimizerSettings(lr=0.001, encoder_lr=0.001)
        optimizer = build_optimizer(first, settings, self.method.extra_parameters(), peers)
        self.stepper = Stepper(self.method, self.method, optimizer, nullcontext, accumulate, None)

    @staticmethod
    def dated(
        first: tuple[Labeled, Unlabeled | None], second: tuple[Labeled, Unlabeled | None]
    ) -> tuple[Labeled, Unlabeled | None]:
        """The batch `first` with the images of `partner_batch` as the later date."""
        (labeled, unlabeled), (later, other) = first, second
        labeled = replace(labeled, images=torch.stack((labeled.images, later.images), dim=1))
        if unlabeled is None or other is None:
            return labeled, None
        seconds = None
        if unlabeled.partner_batch is not None and other.partner_batch is not None:
            images = torch.stack((unlabeled.partner_batch.images, other.partner_batch.images), dim=1)
            seconds = replace(unlabeled.partner_batch, images=images)
        strong = tuple(torch.stack(views, dim=1) for views in zip(unlabeled.strong, other.strong, strict=True))
        weak = torch.stack((unlabeled.weak, other.weak), dim=1)
        return labeled, replace(unlabeled, weak=weak, strong=strong, partner_batch=seconds)

    def step(self, number: int) -> dict[str, Tensor]:
        return self.stepper(self.labeled, self.unlabeled, number)


@pytest.mark.parametrize("encoder", TINY)
@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_learns_from_two_dates(method: str, encoder: str) -> None:
    rig = Rig(method, encoder)
    before = {name: p.clone() for name, p in rig.method.teacher.named_parameters()}
    logs = [rig.step(number) for number in range(3)]
    assert all(torch.isfinite(values["loss"]) and values["loss"] > 0 for values in logs)
    assert logs[1]["loss_x"] < logs[0]["loss_x"]
    assert "loss_u" not in logs[0] or logs[0]["loss_u"] > 0
    assert int(rig.stepper.skipped) == 0
    for (name, kept), new in zip(rig.method.teacher.named_parameters(), rig.method.student.parameters(), strict=True):
        assert not torch.equal(kept, before[name]), name
        assert not torch.equal(kept, new), name
    assert not any(module.training for module in rig.method.teacher.modules())


def test_micro_batches_of_two_dates_add_up() -> None:
    whole, cut = (Rig("unimatch_v2", "vit", parts) for parts in (1, 2))
    logs, logs_cut = whole.step(3), cut.step(3)
    assert 0 < logs["confident"] < 1
    torch.testing.assert_close(logs_cut, logs, rtol=1e-6, atol=1e-6)
    for (name, a), b in zip(whole.method.student.named_parameters(), cut.method.student.parameters(), strict=True):
        assert a.grad is not None
        assert a.grad.any(), name
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-6, atol=1e-6, msg=name)
