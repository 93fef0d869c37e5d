"""Losses and gradients of whole methods against stored values of LiheYoung/UniMatch-V2 (f6afb4d; unimatch_v2.py,
fixmatch.py), LiheYoung/UniMatch (0324f3d; unimatch.py) and charlesCXK/TorchSemiSeg (5e0c29c; train.py of CPS+CutMix).
The logits are given: the network is a lookup table.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semikit.core.batch import Labeled, Pseudo, RunInfo, StepResult, Unlabeled, WeakViews
from semikit.core.losses import denominators
from semikit.core.method import Method
from semikit.core.mixing import partners
from semikit.core.network import Features, Network
from semikit.methods.cps import CPS, CPSConfig
from semikit.methods.fixmatch import FixMatch, FixMatchConfig
from semikit.methods.unimatch_v1 import UniMatchV1, UniMatchV1Config
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config

DATA = Path(__file__).parent / "data"
FACTS = RunInfo(5, 4, 4, steps_per_epoch=1, iterations=10, group=4, normalise="total")
ROWS = {"pred_x": slice(0, 4), "pred_s1": slice(8, 12), "pred_s2": slice(12, 16)}
CASES = ["a3_v2_seg_case1", "a3_v2_seg_case2_noboxes_noignore"]


class Lookup(Network):
    """An image is a number n; its logits are row n of a table. Under a channel mask of 10 it is row 10 n."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.widths, self.embed_dim, self.num_classes, self.multiple = (1,), 1, table.shape[1], 1
        self.table = nn.Parameter(table)

    def encode(self, images: Tensor) -> Features:
        return Features((images[:, :1, 0, 0],), (20, 20))

    def embed(self, features: Features) -> Tensor:
        return features.levels[0]

    def classify(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        return self.table[embedding[:, 0].long()]

    def encoder_parameters(self) -> list[nn.Parameter]:
        return []


def images(first: int) -> Tensor:
    return torch.arange(first, first + 4.0).reshape(4, 1, 1, 1)


def load(name: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def batch(stored: dict[str, Tensor], views: int) -> tuple[Labeled, Unlabeled]:
    """Labelled images are numbers 0-3, weak 4-7, strong 8-11 and 12-15."""
    valid = stored["in_mask_x"] != 255
    labels = torch.where(valid, stored["in_mask_x"], 0)
    labeled = Labeled(images(0), labels, valid, torch.arange(4), denominators(valid, 4, "total"))
    unlabeled = Unlabeled(
        weak=images(4),
        strong=tuple(images(8 + 4 * v) for v in range(views)),
        valid=stored["in_ignore_mask"] != 255,
        boxes=tuple(stored[f"in_cutmix_box{v + 1}"] == 1 for v in range(views)),
        partner=partners(4, 4),
        index=torch.arange(4),
        positions=range(4),
    )
    return labeled, unlabeled


def table(stored: dict[str, Tensor], *names: str) -> Lookup:
    return Lookup(torch.cat([stored[f"in_{name}"] for name in names]).clone())


def check(
    method: Method, stored: dict[str, Tensor], result: StepResult, loss_u: Tensor, rows: dict[str, slice]
) -> None:
    result.loss.backward()
    expected = {"loss": stored["out_loss"], "loss_x": stored["out_loss_x"], "loss_u": loss_u}
    for name, value in {**expected, "confident": stored["out_mask_ratio"]}.items():
        torch.testing.assert_close(result.logs[name], value, rtol=1e-6, atol=1e-7)
    gradient = method.student.table.grad.clone()
    for name, part in rows.items():
        torch.testing.assert_close(gradient[part], stored[f"out_grad_{name}"], rtol=1e-5, atol=1e-9)
        gradient[part] = 0
    assert not gradient.any(), "nothing else gets a gradient"


def check_targets(pseudo: Pseudo, unlabeled: Unlabeled, stored: dict[str, Tensor], names: list[str]) -> None:
    for target, name in zip(pseudo.views, names, strict=True):
        assert torch.equal(target.labels, stored[f"out_mask_u_w_{name}"])
        assert torch.equal(target.valid, stored[f"out_ignore_mask_{name}"] != 255)
        assert torch.equal(target.weights, (stored[f"out_conf_u_w_{name}"] >= 0.95) & target.valid)


@pytest.mark.parametrize("forward", ["separate", "fused", "joint"])
@pytest.mark.parametrize("case", CASES)
def test_unimatch_v2(case: str, forward: str) -> None:
    stored = load(case)
    labeled, unlabeled = batch(stored, 2)
    network = table(stored, "pred_x", "teacher_logits", "pred_s1", "pred_s2")
    method = UniMatchV2(network, UniMatchV2Config(dropout="none", forward=forward), FACTS)
    pseudo = method.pseudo_labels(unlabeled, 0)
    check_targets(pseudo, unlabeled, stored, ["cutmixed1", "cutmixed2"])
    assert torch.equal(pseudo.weak.labels, stored["out_mask_u_w"])
    result = method(labeled, unlabeled, pseudo)
    check(method, stored, result, stored["out_loss_u_s"], ROWS)


@pytest.mark.parametrize("case", CASES)
def test_unimatch_v2_with_labels_of_the_students_joint_pass(case: str) -> None:
    stored = load(case)
    labeled, unlabeled = batch(stored, 2)
    network = table(stored, "pred_x", "teacher_logits", "pred_s1", "pred_s2")
    config = UniMatchV2Config(dropout="none", forward="joint", teacher="student")
    method = UniMatchV2(network, config, FACTS)
    result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    check(method, stored, result, stored["out_loss_u_s"], ROWS)


def test_fixmatch() -> None:
    stored = load("a3_v2repo_fixmatch")
    labeled, unlabeled = batch(stored, 1)
    method = FixMatch(table(stored, "pred_x", "teacher_logits", "pred_s1"), FixMatchConfig(), FACTS)
    pseudo = method.pseudo_labels(unlabeled, 0)
    check_targets(pseudo, unlabeled, stored, ["cutmixed"])
    result = method(labeled, unlabeled, pseudo)
    check(method, stored, result, stored["out_loss_u_s"], {name: ROWS[name] for name in ("pred_x", "pred_s1")})


def test_unimatch_v1() -> None:
    stored = load("a3_v1_unimatch")
    labeled, unlabeled = batch(stored, 2)
    partner_batch = WeakViews(images(16), stored["in_ignore_mask_mix"] != 255)
    # the released code pastes image i of the second batch into image i
    unlabeled = replace(unlabeled, partner=torch.arange(4), partner_batch=partner_batch)
    network = table(stored, "pred_x", "teacher_logits", "pred_s1", "pred_s2", "mix_logits")
    rows = torch.zeros(71, *network.table.shape[1:])
    rows[:20] = network.table.detach()
    rows[40:71:10] = stored["in_pred_u_w_fp"]
    method = UniMatchV1(Lookup(rows), UniMatchV1Config(), FACTS)
    pseudo = replace(method.pseudo_labels(unlabeled, 0), masks=((torch.full((4, 1), 10.0),),))
    result = method(labeled, unlabeled, pseudo)
    loss_u = 0.25 * stored["out_loss_u_s1"] + 0.25 * stored["out_loss_u_s2"] + 0.5 * stored["out_loss_u_w_fp"]
    check(method, stored, result, loss_u, {**ROWS, "pred_u_w_fp": slice(40, 71, 10)})
    assert not stored["out_grad_teacher_logits"].any()


@pytest.mark.parametrize("forward", ["separate", "fused"])
@pytest.mark.parametrize(("weight", "tag"), [(1.0, ""), (5.0, "_5")])
def test_cps(weight: float, tag: str, forward: str) -> None:
    stored = load("a3_cps")
    valid = stored["in_mask"] != 255
    labels = torch.where(valid, stored["in_mask"], 0).long()
    labeled = Labeled(images(0), labels, valid, torch.arange(4), denominators(valid, 4, "total"))
    box, everywhere = stored["in_box"] == 1, torch.ones_like(valid)
    unlabeled = Unlabeled(
        images(4), (images(8),), everywhere, (box,), partners(4, 4), index=torch.arange(4), positions=range(4)
    )
    first, second = (table(stored, *(f"{name}_{k}" for name in ("labeled", "weak", "mixed"))) for k in (1, 2))
    method = CPS(first, CPSConfig(weight=weight, forward=forward), FACTS, second)
    pseudo = method.pseudo_labels(unlabeled, 0)
    for target, student in zip(pseudo.views, (2, 1), strict=True):
        assert torch.equal(target.labels, stored[f"out_labels_{student}"].long())
    result = method(labeled, unlabeled, pseudo)
    result.loss.backward()
    for name in ("loss", "loss_x", "loss_u"):
        torch.testing.assert_close(result.logs[name], stored[f"out_{name}{tag}"], rtol=1e-6, atol=1e-7)
    for k, network in enumerate((first, second), 1):
        for name, rows in (("labeled", slice(0, 4)), ("mixed", slice(8, 12))):
            expected = stored[f"out_grad_{name}_{k}{tag}"]
            torch.testing.assert_close(network.table.grad[rows], expected, rtol=1e-5, atol=1e-8)
        assert not network.table.grad[4:8].any(), "labels get no gradient"
