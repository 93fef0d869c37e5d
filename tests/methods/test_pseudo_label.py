"""Pseudo-Label: the weak view teaches itself."""

from __future__ import annotations

import pytest
import torch

from semikit.core.batch import Requirements
from semikit.methods.pseudo_label import PseudoLabel, PseudoLabelConfig
from tests.helpers import tiny


def test_asks_for_no_strong_view() -> None:
    assert PseudoLabel.requirements(PseudoLabelConfig()) == Requirements(strong_views=0)
    assert PseudoLabel.needs_full_batch(PseudoLabelConfig())
    assert not PseudoLabel.needs_full_batch(PseudoLabelConfig(teacher="ema"))


@pytest.mark.parametrize("forward", ["separate", "joint"])
@pytest.mark.parametrize("teacher", ["student", "ema"])
def test_confident_positions_learn_their_own_label(teacher: str, forward: str) -> None:
    run_info, config = tiny.run_info(), PseudoLabelConfig(threshold=0.6, ramp=0.0, teacher=teacher, forward=forward)
    method = PseudoLabel(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, PseudoLabel.requirements(config))
    result = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0))
    confidence = method.student(unlabeled.weak).softmax(1).amax(1)
    counts = (confidence >= 0.6) & unlabeled.valid
    assert 0 < counts.sum() < unlabeled.valid.sum()
    expected = -(confidence.log() * counts).sum() / unlabeled.valid.sum()
    torch.testing.assert_close(result.logs["loss_u"], expected.detach())
    assert result.logs["confident"] == counts.sum() / unlabeled.valid.sum()
