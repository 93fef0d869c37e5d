"""AllSpark: its losses, when the memory is read, what asks for the network it needs, and what is kept of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semikit.core.channel_attention import Bottleneck, attended
from semikit.core.pseudo_labels import predict_logits
from semikit.errors import ConfigError
from semikit.methods.allspark import AllSpark, AllSparkConfig, channel_classes
from semikit.models.segmenter import build_segmenter
from semikit.models.settings import ModelSettings
from semikit.models.siamese import build_siamese
from semikit.run.compose import asked
from semikit.run.config import resolve
from tests.helpers import tiny
from tests.helpers.sync_counter import SyncCounter


def made(**settings: object) -> AllSpark:
    network = tiny.network(channel_attention=True)
    return AllSpark(network, AllSparkConfig(**settings), tiny.run_info(iterations=10)).train()  # type: ignore[arg-type]


def test_half_of_two_cross_entropies() -> None:
    """As released, `train_allspark.py`: (x + u) / 2, every pseudo-label by the student counts."""
    method = made()
    labeled, unlabeled = tiny.batch(method.run_info, method.requirements(method.config))
    assert unlabeled is not None
    result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    student = method.student
    labels = predict_logits(student, unlabeled.weak).argmax(1)
    level = student.encode(unlabeled.weak).levels[-1]

    def entropy(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return (F.cross_entropy(logits, labels, reduction="none") * valid).sum() / valid.sum()

    def logits(images: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        fine, _ = student.encode(images).levels
        joined = torch.cat([fine, F.interpolate(rebuilt, fine.shape[-2:])], 1).movedim(1, -1)
        return student.classify(student.neck(joined).movedim(-1, 1).tanh(), (12, 12))

    both = torch.cat([student.encode(labeled.images).levels[-1], level])
    rebuilt = student.bottleneck(both, method._rebuilt(4, torch.zeros(4, 3, 3, 3)))
    loss_x = entropy(logits(labeled.images, rebuilt[:4]), labeled.labels, labeled.valid)
    loss_u = entropy(logits(unlabeled.weak, rebuilt[4:]), labels, unlabeled.valid)
    torch.testing.assert_close(result.loss, (loss_x + loss_u) / 2)
    assert result.logs["confident"] == 1


def test_the_memory_is_read_after_the_warm_up() -> None:
    """Of ten steps the first is warm-up (0.0625 of them); the memory is written from the first, no step waits."""
    method = made()
    labeled, unlabeled = tiny.batch(method.run_info, method.requirements(method.config))
    losses = []
    for step in (0, 1):
        method.memory.rows.zero_()
        losses.append(method(labeled, unlabeled, method.pseudo_labels(unlabeled, step)).logs["loss_x"])
        assert method.memory.rows[:-1].any()
    assert losses[0] != losses[1]
    with SyncCounter() as counter:
        method(labeled, unlabeled, method.pseudo_labels(unlabeled, 2)).loss.backward()
    assert not counter.found


def test_gradients_reach_unlabelled_features_in_the_warm_up_alone() -> None:
    method = made(warmup=1.0)
    places, logits = torch.randn(4, 9, 4, requires_grad=True), torch.randn(2, 3, 3, 3)
    for remembers, reached in ((False, True), (True, False)):
        method.remembers = remembers
        found = method._rebuilt(2, logits)(places, method.student.bottleneck.attention)
        (gradient,) = torch.autograd.grad(found[:2].sum(), places)
        assert gradient[:2].any()
        assert gradient[2:].any() == reached


def test_a_channel_is_of_the_class_it_is_most_like() -> None:
    """By hand: two classes over four positions, (1, 1, 0, 0) and (0, 0, 0, 1); cosines with the channels (2, 1, 0, 0),
    (0, 0, 1, 5) and (0, 1, 1, 1) are 0.95 and 0, 0 and 0.98, 0.41 and 0.58.
    """
    logits = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 0, 1]]]).view(1, 2, 2, 2)
    places = torch.tensor([[[2.0, 1, 0, 0], [0, 0, 1, 5], [0, 1, 1, 1]]]).transpose(1, 2)
    assert channel_classes(logits, places).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("shared", [True, False])
def test_weights_are_a_softmax_of_normed_products(shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 2, 4, 9, generator=generator)
    key, value = torch.randn(2, 1 if shared else 3, 2, 5, 9, generator=generator)
    products = F.instance_norm(query @ key.transpose(-1, -2))
    torch.testing.assert_close(attended(query, key, value), products.softmax(-1) @ value)


def test_the_network_it_needs_comes_with_it() -> None:
    config = resolve(asked("seg", dataset="shapes", method="allspark")[0])
    assert config.model.channel_attention is not None
    assert (config.model.channel_attention.heads, config.model.channel_attention.width) == (2, None)
    assert config.views.labeled == "strong"
    assert resolve(config.to_raw()) == config
    raw = config.to_raw()
    smaller = resolve({**raw, "model": {**raw["model"], "channel_attention": {"width": 16}}})
    assert smaller.model.channel_attention.width == 16
    plain = resolve({**raw, "method": {"name": "fixmatch"}, "model": {**raw["model"], "channel_attention": None}})
    assert plain.model.channel_attention is None
    with pytest.raises(ConfigError, match=r"model\.channel_attention="):
        AllSpark(tiny.network(), AllSparkConfig(), tiny.run_info())


def test_networks_begin_alike_with_and_without_it() -> None:
    """But for the part itself, whose weights are drawn last; of two dates it lies on their change."""
    settings = {"encoder": "resnet10t", "weights": "none", "decoder": "deeplabv3plus", "decoder_channels": 8}
    states = []
    for attention in (None, {"width": 8}):
        torch.manual_seed(0)
        network = build_segmenter(ModelSettings(**settings, channel_attention=attention), 3)
        states.append(network.state_dict())
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
    assert {name.split(".")[0] for name in states[1].keys() - states[0].keys()} == {"bottleneck"}
    assert network.bottleneck is not None
    assert network.bottleneck.reduction == 16
    ordered = build_siamese(ModelSettings(**settings, channel_attention={"width": 8}, ordered=True), 3).eval()
    assert ordered.bottleneck is not None
    assert ordered.bottleneck.inward.in_features == 2 * network.bottleneck.inward.in_features
    with torch.no_grad():
        assert ordered(torch.randn(1, 2, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_a_crop_whose_positions_nobody_foresaw_is_refused() -> None:
    """Encoders that round down: of 80 pixels in strides of 32 they have 2 positions, not 3."""
    with pytest.raises(ConfigError, match="one of 12 pixels has 4 positions in this encoder, not 9"):
        made()._rebuilt(1, torch.zeros(1, 3, 3, 3))(torch.randn(2, 4, 4), nn.Identity())  # type: ignore[arg-type]


@pytest.mark.long
def test_it_is_exported_for_any_size() -> None:
    """The number of positions is nowhere a number of its own."""
    part, (height, width) = Bottleneck(4, 4, heads=2, reduction=4).eval(), map(torch.export.Dim, ("height", "width"))
    sizes = {"level": {2: height, 3: width}}
    program = torch.export.export(part, (torch.randn(1, 4, 3, 5),), dynamic_shapes=sizes)
    level = torch.randn(1, 4, 6, 2)
    torch.testing.assert_close(program.module()(level), part(level))
