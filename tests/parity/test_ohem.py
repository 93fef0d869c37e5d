"""Hard example mining against the ten stored cases of LiheYoung/UniMatch-V2 (f6afb4d), util/ohem.py (`a3_ohem.npz`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.losses import Ohem, denominators, hard_positions, ohem_cross_entropy

with np.load(Path(__file__).parent / "data" / "a3_ohem.npz") as _arrays:
    STORED = {name: _arrays[name] for name in _arrays.files}
CASES = sorted({name.removesuffix("__loss") for name in STORED if name.endswith("__loss")})


def _inputs(case: str) -> tuple[Tensor, Tensor, Tensor, Ohem]:
    name = f"{case}__pred" if f"{case}__pred" in STORED else "pred"
    logits = torch.from_numpy(STORED[name]).clone().requires_grad_()
    target = torch.from_numpy(STORED[f"{case}__target"])
    ohem = Ohem(threshold=float(STORED[f"{case}__thresh"]), min_kept=int(STORED[f"{case}__min_kept"]))
    valid = target != 255
    return logits, torch.where(valid, target, 0), valid, ohem


def test_all_ten_cases_are_here() -> None:
    assert len(CASES) == 10


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(case: str) -> None:
    logits, labels, valid, ohem = _inputs(case)
    loss = ohem_cross_entropy(logits, labels, valid, denominators(valid, len(labels), "process"), len(labels), ohem)
    loss.backward()
    if case == "none_valid":  # the reference gives NaN here
        assert loss == 0
        assert not logits.grad.any()
        return
    assert loss.item() == pytest.approx(float(STORED[f"{case}__loss"]), rel=1e-6)
    torch.testing.assert_close(logits.grad, torch.from_numpy(STORED[f"{case}__grad"]), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_kept_positions(case: str) -> None:
    logits, labels, valid, ohem = _inputs(case)
    expected = torch.from_numpy(STORED[f"{case}__target_after"]) != 255
    assert torch.equal(hard_positions(logits.detach(), labels, valid, ohem), expected)
