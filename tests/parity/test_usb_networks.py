"""Steps of whole networks of two layers against stored values of microsoft/Semi-supervised-learning (1ef4cbe): what is
made of images or features, and not of logits alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, RunInfo, Unlabeled
from semikit.core.losses import denominators
from semikit.core.network import Features, Network
from semikit.registry import METHODS
from tests.parity.test_usb import close, load


class Tanh(Network):
    """Two linear layers, those of the stored gradients."""

    pixels = False

    def __init__(self, stored: dict[str, Tensor]) -> None:
        super().__init__()
        classes, width = stored["backbone.last.weight"].shape
        self.widths, self.embed_dim, self.num_classes, self.multiple = (width,), width, classes, 1
        self.first, self.last = (
            nn.Linear(*stored[f"backbone.{name}.weight"].shape[::-1]) for name in ("first", "last")
        )
        self.load_state_dict(
            {key.removeprefix("backbone."): value for key, value in stored.items() if key.startswith("backbone.")}
        )

    def encode(self, images: Tensor) -> Features:
        return Features((self.first(images.flatten(1)).tanh(),), (4, 4))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        logits: Tensor = self.last(embedding)
        return logits

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.first.parameters())


def test_remixmatch() -> None:
    """Order, share and turns are given; USB draws one share for all images of a step."""
    stored = load("a3_usb_remixmatch")
    shares = {"kind": "ema", "momentum": 0.9, "target": tuple(stored["p_target"].tolist())}
    plugin = METHODS.get("remixmatch")
    config = plugin.Config(ramp=0.4, alignment=shares)
    method = plugin(Tanh(stored), config, RunInfo(4, 20, 40, steps_per_epoch=1, iterations=10, group=6)).train()
    method.rotation.load_state_dict({name: stored[f"rot_classifier.{name}"] for name in ("weight", "bias")})
    for number in range(3):
        row = {key.partition("__")[2]: value for key, value in stored.items() if key.startswith(f"step{number}__")}
        size = len(row["y"])
        valid = torch.ones(size, dtype=torch.bool)
        labeled = Labeled(row["x"], row["y"], valid, torch.arange(size), denominators(valid, size, "total"))
        unlabeled = Unlabeled(
            row["w"], (row["s0"], row["s1"]), valid, (), torch.arange(size), torch.arange(size), range(size)
        )
        pseudo = method.pseudo_labels(unlabeled, number + 2)
        keys = row["order"].argsort().reshape(4, size)
        share = torch.maximum(row["share"], 1 - row["share"]).expand(4, size)
        pseudo = replace(pseudo, draws=(keys, share, row["turns"]))
        method.zero_grad()
        result = method(labeled, unlabeled, pseudo)
        result.loss.backward()
        for name, key in (("loss", "total_loss"), ("loss_x", "sup_loss"), ("loss_u", "unsup_loss")):
            close(result.logs[name], row[key])
        close(method.rule.alignment.predicted.value(), row["p_model"])
        learned = {"first": method.student.first, "last": method.student.last, "rot": method.rotation}
        for name, layer in learned.items():
            torch.testing.assert_close(layer.weight.grad, row[f"grad_{name}"], rtol=1e-4, atol=1e-7)


def test_daso() -> None:
    """semilearn/imb_algorithms/daso/utils.py: labels, their counts and the class means; the rest of a step as in its
    daso.py, but for similarities, which are those of the step's images (there, of the images of the step before).
    """
    stored = load("a3_usb_daso")
    plugin = METHODS.get("daso")
    config = plugin.Config(threshold=0.7, warmup=0.2, bank=6, count_every=2)
    method = plugin(Tanh(stored), config, RunInfo(4, 20, 40, steps_per_epoch=1, iterations=10, group=8)).train()
    for number in range(6):
        row = {key.partition("__")[2]: value for key, value in stored.items() if key.startswith(f"step{number}__")}
        size = len(row["y"])
        valid, index = torch.ones(size, dtype=torch.bool), torch.arange(size)
        labeled = Labeled(row["x"], row["y"], valid, index, denominators(valid, size, "total"))
        unlabeled = Unlabeled(row["w"], (row["s"],), valid, (), index, index, range(size))
        method.zero_grad()
        result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, number))
        result.loss.backward()
        names = {"loss": "total_loss", "loss_x": "sup_loss", "loss_u": "unsup_loss", "confident": "util_ratio"}
        for name, key in names.items():
            close(result.logs[name], row[key])
        torch.testing.assert_close(result.logs["loss_align"], row["assign_loss"], rtol=1e-5, atol=1e-6)
        close(method.bank.means(), row["prototypes"])
        for name in ("first", "last"):
            grad = getattr(method.student, name).weight.grad
            torch.testing.assert_close(grad, row[f"grad_{name}"], rtol=1e-4, atol=1e-5)  # rounding of processors: 2e-6
    assert not torch.equal(method.shares, torch.zeros(4))
