"""Losses, gradients and states over several steps against stored values of microsoft/Semi-supervised-learning (1ef4cbe;
semilearn/algorithms). The logits are given: the network is a lookup table, all images pass it in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semikit.core.alignment import Alignment, AlignmentSettings
from semikit.core.batch import Labeled, RunInfo, StepResult, Unlabeled
from semikit.core.losses import denominators
from semikit.core.method import Method
from semikit.core.mixing import partners
from semikit.core.network import Features, Network
from semikit.registry import METHODS

DATA = Path(__file__).parent / "data"
LB, ULB, CLASSES = 8, 24, 6
FACTS = RunInfo(CLASSES, 20, 40, steps_per_epoch=1, iterations=10, group=LB)
PUBLISHED = {"loss": "paper", "forward": "joint", "teacher": "student", "ema_decay": 0.999, "ema_ramp": False}
FIXMATCH = {**PUBLISHED, "threshold": 0.8}


class Lookup(Network):
    """An image is a number n; its logits are row n of a table."""

    pixels = False

    def __init__(self, rows: int = LB + 2 * ULB) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (1,), 1, CLASSES, 1
        self.table = nn.Parameter(torch.zeros(rows, CLASSES))

    def encode(self, images: Tensor) -> Features:
        return Features((images[:, :1, 0, 0],), (1, 1))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        return self.table[embedding[:, 0].long()]

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


def load(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def images(first: int, count: int) -> Tensor:
    return torch.arange(float(first), first + count).reshape(count, 1, 1, 1)


def step(method: Method, number: int, given: dict[str, Tensor]) -> StepResult:
    """A step on the given logits, its gradient in the table: labelled images 0-7, weak 8-31, strong 32-55 (and where
    there are two views 56-79).
    """
    kinds = [name for name in ("lb", "w", "s", "s1") if name in given]
    labels, numbers = given["y"], torch.arange(ULB)
    valid, valid_u = torch.ones(LB, dtype=torch.bool), torch.ones(ULB, dtype=torch.bool)
    index = given.get("idx_lb", torch.arange(LB))
    labeled = Labeled(images(0, LB), labels, valid, index, denominators(valid, LB, "total"))
    unlabeled = Unlabeled(
        weak=images(LB, ULB),
        strong=tuple(images(LB + ULB * view, ULB) for view in range(1, len(kinds) - 1)),
        valid=valid_u,
        boxes=(),
        partner=partners(ULB, ULB),
        index=given.get("idx_ulb", numbers),
        positions=range(ULB),
    )
    with torch.no_grad():
        method.student.table.copy_(torch.cat([given[name] for name in kinds]))
        method.teacher.table.copy_(given.get("teacher", method.student.table))
    method.zero_grad()
    result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, number))
    result.loss.backward()
    return result


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=1e-6, atol=1e-7)


def made(name: str, **settings: Any) -> Method:
    plugin = METHODS.get(name)
    config = plugin.Config(**settings)
    return plugin(Lookup(LB + (1 + plugin.requirements(config).strong_views) * ULB), config, FACTS).train()


def check(method: Method, result: StepResult, stored: dict[str, Tensor]) -> None:
    close(result.logs["loss"], stored["total_loss"])
    close(result.logs["loss_x"], stored["sup_loss"])
    close(result.logs["loss_u"], stored["unsup_loss"])
    close(result.logs["confident"], stored["util_ratio"])
    torch.testing.assert_close(method.student.table.grad, stored["grad_logits"], rtol=1e-5, atol=1e-8)


def steps(stored: dict[str, Tensor], case: str) -> list[dict[str, Tensor]]:
    """What is stored of each step of a case; inputs that cases share are stored once."""
    found = []
    while f"{case}_step{len(found)}__loss" in stored:
        ends = f"step{len(found)}__", f"{case}_step{len(found)}__"
        found.append(
            {key.removeprefix(end): value for end in ends for key, value in stored.items() if key.startswith(end)}
        )
    assert found, case
    return found


@pytest.mark.parametrize("case", ["fixmatch_hard", "fixmatch_soft"])
def test_fixmatch(case: str) -> None:
    # Soft labels of the released code are not sharpened, whatever its T.
    method = made("fixmatch", **FIXMATCH, soft_labels=None if case == "fixmatch_hard" else 1.0)
    (stored,) = steps(load("a3_usb_fixmatch_distalign"), case)
    check(method, step(method, 0, stored), stored)


ALIGNED = {
    "fixmatch_hard_da_ema_uniform": {"alignment": {"kind": "ema", "momentum": 0.9}},
    "fixmatch_hard_da_ema_gt": {
        "alignment": {"kind": "ema", "momentum": 0.9, "target": [0.3, 0.2, 0.2, 0.1, 0.1, 0.1]},
    },
    "fixmatch_soft_da_queue": {"alignment": {"length": 4}, "soft_labels": 1.0},
}


@pytest.mark.parametrize("case", ALIGNED)
def test_fixmatch_with_distribution_alignment(case: str) -> None:
    method = made("fixmatch", **FIXMATCH, **ALIGNED[case])
    for number, stored in enumerate(steps(load("a3_usb_fixmatch_distalign"), case)):
        check(method, step(method, number, stored), stored)
        predicted = method.rule.alignment.predicted
        close(predicted.rows if "queue" in case else predicted.value(), stored["p_model"])


HOOKS = {
    "da_ema_model": ("ema", 1, 0.9, "labeled"),
    "da_queue_model": ("queue", 3, 0.0, "labeled"),
    "da_ema_uniform_m0.999": ("ema", 1, 0.999, "uniform"),
}


@pytest.mark.parametrize("case", HOOKS)
def test_alignment_alone(case: str) -> None:
    kind, length, momentum, target = HOOKS[case]
    alignment = Alignment(AlignmentSettings(kind=kind, length=length, momentum=momentum, target=target), CLASSES)
    stored = load("a3_usb_fixmatch_distalign")
    for number in range(5):
        row = {
            key.partition("__")[2]: value for key, value in stored.items() if key.startswith(f"{case}_step{number}__")
        }
        valid, valid_x = torch.ones(ULB, dtype=torch.bool), torch.ones(LB, dtype=torch.bool)
        close(alignment(row["probs_ulb"], valid, (row["probs_lb"], valid_x)), row["aligned"])
        marginals = [(alignment.predicted, "p_model")]
        if target == "labeled":
            marginals.append((alignment.on_labeled, "p_target"))
        for marginal, name in marginals:
            close(marginal.rows if kind == "queue" else marginal.value(), row[name])


@pytest.mark.parametrize("warmup", [True, False])
def test_flexmatch(warmup: bool) -> None:
    method = made("flexmatch", threshold=0.9, warmup=warmup)
    stored = steps(load("a3_usb_flexmatch"), f"flexmatch_warm{int(warmup)}")
    assert len(stored) == 12
    for number, row in enumerate(stored):
        flex = method.rule.threshold
        close(flex.learned, row["classwise_acc_before"])
        check(method, step(method, number, row), row)
        close(flex.learned, row["classwise_acc_after"])
        assert torch.equal(flex.selected[:-1], row["selected_label_after"])


FREE = {
    "freematch_mean": {"fairness": 0.01},
    "freematch_quantile": {"fairness": 0.05, "quantile": 0.8},
    "freematch_clip": {"fairness": 0.01, "cap": 0.95},
}


@pytest.mark.parametrize("case", FREE)
def test_freematch(case: str) -> None:
    method = made("freematch", momentum=0.5, **FREE[case])
    for number, stored in enumerate(steps(load("a3_usb_freematch"), case)):
        result = step(method, number, stored)
        check(method, result, stored)
        close(result.logs["loss_fair"], stored["lambda_e"] * stored["ent_loss"])
        free = method.rule.threshold
        close(free.usual, stored["time_p"])
        close(free.probability, stored["p_model"])
        close(free.share, stored["label_hist"])


def test_softmatch() -> None:
    method = made("softmatch", momentum=0.9, alignment={"kind": "ema", "momentum": 0.9})
    for number, stored in enumerate(steps(load("a3_usb_softmatch_adamatch"), "softmatch")):
        check(method, step(method, number, stored), stored)
        soft = method.rule.threshold
        close(soft.mean, stored["mu"])
        close(soft.variance, stored["var"])
        close(method.rule.alignment.predicted.value(), stored["p_model"])


def test_adamatch() -> None:
    method = made("adamatch", threshold=0.9, alignment={"kind": "ema", "momentum": 0.9, "target": "labeled"})
    stored = steps(load("a3_usb_softmatch_adamatch"), "adamatch")
    assert len(stored) == 5
    for number, row in enumerate(stored):
        check(method, step(method, number, row), row)
        alignment = method.rule.alignment
        close(alignment.predicted.value(), row["p_model"])
        close(alignment.on_labeled.value(), row["p_target"])


@pytest.mark.parametrize(("case", "initial"), [("soft", 0.9), ("falls", 0.08)])
def test_dash(case: str, initial: float) -> None:
    """The loss on labelled images is given, as USB takes it from elsewhere; in `falls` labels become hard."""
    method = made("dash", warmup=0, fall_every=2, initial=initial)
    stored = steps(load("a3_usb_dash"), case)
    assert len(stored) == 6
    for number, row in enumerate(stored):
        check(method, step(method, number, row), row)
        assert method.rule.threshold.hard == row["hard"]


class Rows(nn.Module):
    """A projection, or a head: what image n gives is row n."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.clone())

    def forward(self, embedding: Tensor) -> Tensor:
        return self.rows[embedding[:, 0].long()]


@pytest.mark.parametrize("ema", [0, 1])
def test_simmatch(ema: int) -> None:
    stored = load("a3_usb_simmatch")
    method = made(
        "simmatch",
        follow="released",
        teacher="ema" if ema else "student",
        threshold=0.8,
        width=16,
        alignment={"length": 4},
    )
    bank = method.bank
    bank.rows[:-1] = stored[f"simmatch_ema{ema}__mem_bank_start"].t()
    bank.labels[:-1] = stored[f"simmatch_ema{ema}__labels_bank_start"]
    bank.seen.fill_(True)
    for number, row in enumerate(steps(stored, f"simmatch_ema{ema}")):
        method.projection = Rows(row["feats"])
        if ema:
            method.teacher_projection = method.projection
        check(method, step(method, number, row), row)
        close(bank.rows[:-1].t(), row["mem_bank_after"])
        assert torch.equal(bank.labels[:-1], row["labels_bank_after"])
        # Ours normalises what comes out of the projection, so nothing flows along the features themselves.
        given = row["grad_feats"]
        expected = given - (given * row["feats"]).sum(1, keepdim=True) * row["feats"]
        torch.testing.assert_close(method.projection.rows.grad, expected, rtol=1e-4, atol=1e-6)


def test_comatch() -> None:
    stored = load("a3_usb_comatch")
    method = made(
        "comatch", threshold=0.6, alignment={"length": 4}, smoothing=0.7, bank=64, graph_threshold=0.5,
        contrast_weight=0.5, width=16,
    )  # fmt: skip
    bank = method.bank
    bank.write(stored["feats_start"], stored["probs_start"], torch.ones(64, dtype=torch.bool))
    for number, row in enumerate(steps(stored, "comatch")):
        method.projection = Rows(row["feats"])
        result = step(method, number, row)
        for name, key in (("loss_x", "sup_loss"), ("loss_u", "unsup_loss"), ("confident", "util_ratio")):
            close(result.logs[name], row[key])
        # USB adds 1e-7 to every share before the logarithm.
        torch.testing.assert_close(result.logs["loss_ctr"], 0.5 * row["contrast_loss"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(method.student.table.grad, row["grad_logits"], rtol=1e-5, atol=1e-7)
        given = row["grad_feats"]
        expected = given - (given * row["feats"]).sum(1, keepdim=True) * row["feats"]  # as in SimMatch
        torch.testing.assert_close(method.projection.rows.grad, expected, rtol=1e-4, atol=1e-6)
        close(bank.probabilities, row["bank_probs_after"])
    close(bank.rows, stored["feats_end"])


def test_comatch_for_imagenet() -> None:
    """salesforce/CoMatch (08b4cce), imagenet/Model.py and Train_CoMatch.py: two epochs of two steps."""
    stored = load("a3_comatch_imagenet")
    config = METHODS.get("comatch").Config(
        teacher="ema", threshold=0.5, weight=10, alignment={"length": 128}, bank=96, width=16, graph_threshold=0.2
    )
    method = METHODS.get("comatch")(Lookup(LB + 3 * ULB), config, replace(FACTS, steps_per_epoch=2)).train()
    method.rule.alignment.predicted.rows.copy_(stored["start__hist"])
    method.bank.write(stored["start__rows_w"], stored["start__probs_w"], torch.ones(96, dtype=torch.bool))
    method.past.write(stored["start__rows_s"], stored["start__probs_s"], torch.ones(96, dtype=torch.bool))
    for number, row in enumerate(steps(stored, "comatch")):
        method.projection, method.teacher_projection = Rows(row["feats"]), Rows(row["teacher_feats"])
        result = step(method, number, row)
        # Shares of classes in the alignment have 1e-6 added here, those of images in the graph 1e-7 there.
        for name in ("loss", "loss_x", "loss_u", "loss_ctr", "confident"):
            torch.testing.assert_close(result.logs[name], row[name], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(method.student.table.grad, row["grad_logits"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(method.projection.rows.grad, row["grad_feats"], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(method.past.probabilities[ULB * number :][:ULB], row["probs"], rtol=1e-4, atol=1e-6)
    close(method.past.rows, stored["end__rows_s"])
    for name, ours in (("rows_w", method.bank.rows), ("probs_w", method.bank.probabilities)):
        labelled_last = stored[f"end__{name}"].view(3, LB + ULB, -1).roll(-LB, dims=1).flatten(0, 1)
        torch.testing.assert_close(ours, labelled_last, rtol=1e-4, atol=1e-6)


def test_shrinkmatch() -> None:
    """LiheYoung/ShrinkMatch (c4339b8), CIFAR/shrinkmatch.py: `shrink_loss` and the losses of `train`, not aligned."""
    method = made("shrinkmatch", threshold=0.8, alignment="none")
    for number, row in enumerate(steps(load("a3_shrinkmatch"), "shrink")):
        method.head = Rows(torch.cat([torch.zeros(LB + ULB, CLASSES), row["aux"]]))
        check(method, step(method, number, row), row)
        close(method.certain, row["certain"])
        torch.testing.assert_close(method.head.rows.grad[LB + ULB :], row["grad_aux"], rtol=1e-5, atol=1e-8)


def test_debiased_labels_and_margins() -> None:
    """frank-xwang/debiased-pseudo-labeling (3acbf9a), main_DebiasPL.py; USB takes the mean over classes
    too, and so changes nothing.
    """
    method = made("fixmatch", **{**FIXMATCH, "threshold": 0.6}, debias={"strength": 0.4, "momentum": 0.9})
    for number, row in enumerate(steps(load("a3_imbalance"), "debias")):
        check(method, step(method, number, row), row)
        close(method.rule.debias.mean, row["qhat"])


def test_progressive_alignment() -> None:
    """semilearn/imb_algorithms/crest/utils.py, a step in place of a round."""
    stored = load("a3_imbalance")
    settings = AlignmentSettings(
        kind="ema", momentum=0.9, target=tuple(stored["crest_target"].tolist()), progressive=0.5
    )
    alignment = Alignment(settings, CLASSES, iterations=5)
    for number in range(5):
        given = stored[f"crest_step{number}__probs"]
        close(alignment(given, torch.ones(ULB, dtype=torch.bool)), stored[f"crest_step{number}__aligned"])
