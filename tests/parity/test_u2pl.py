"""U2PL against stored values of Haochen-Wang409/U2PL (ab3d2be), `u2pl/utils/loss_helper.py`: the loss of reliable
pixels (`compute_unsupervised_loss`), and from given banks and draws the contrast (`compute_contra_memobank_loss`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.batch import Target
from semikit.core.losses import UnlabeledLoss, denominators
from semikit.core.running_averages import quantile_of
from semikit.methods.u2pl import U2PL, Partition, U2PLConfig, entropy_of, rarity
from tests.helpers import tiny


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data/u2pl.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.mark.parametrize("case", [0, 1])
def test_reliable_pixels(stored: dict[str, Tensor], case: int) -> None:
    predict, teacher, labels, percent, loss = (
        stored[f"reliable_{case}_{name}"] for name in ("predict", "teacher", "target", "percent", "loss")
    )
    valid, entropy = torch.ones(labels.shape, dtype=torch.bool), entropy_of(teacher)
    reliable = entropy < quantile_of(entropy, valid, percent / 100).value
    target = Target(labels.long(), reliable, valid, denominators(valid, len(valid), "total"))
    learned = UnlabeledLoss(U2PLConfig(), tiny.run_info(4))(predict, target) * rarity(target).square()
    torch.testing.assert_close(learned, loss)


@pytest.mark.parametrize("case", [0, 1])
def test_contrast(stored: dict[str, Tensor], case: int) -> None:
    """In the second case a class has no anchor and another no member; a bank is not full in both."""
    given = {key.removeprefix(f"contrast_{case}_"): value for key, value in stored.items()}
    config = U2PLConfig(queries=6, negatives=4, bank=20, width=8)
    method = U2PL(tiny.network(num_classes=5), config, tiny.run_info(5))
    method.bank.rows.copy_(torch.nn.functional.normalize(given["rows"], dim=2))
    method.bank.filled.copy_(given["filled"])
    none = torch.zeros_like(given["known"])
    parts = Partition.of(given["probabilities"], given["labels"].long(), given["known"], none, 2, config)
    parts = replace(parts, negatives=torch.zeros_like(parts.negatives))  # which the released code finds otherwise
    draws = torch.cat([torch.zeros(5, 6, 1), given["anchors"].unsqueeze(2), given["negatives"]], dim=2)
    features = given["features"].requires_grad_()
    loss = method._contrast(features, given["keys"], parts, draws)
    torch.testing.assert_close(loss, given["loss"])
    loss.backward()
    torch.testing.assert_close(features.grad, given["gradient"])
