"""SoftMatch: every valid position counts, by its aligned confidence, for its own label."""

from __future__ import annotations

import torch

from semikit.methods.softmatch import SoftMatchConfig, plugin
from tests.helpers import tiny


def test_alignment_changes_the_weight_but_not_the_label() -> None:
    run_info = tiny.run_info()
    weights = []
    for alignment in ("ema", "none"):
        config = SoftMatchConfig(alignment=alignment, momentum=0.5, teacher="ema", forward="auto")
        method = plugin(tiny.network(), config, run_info).train()
        _, unlabeled = tiny.batch(run_info, plugin.requirements(config))
        weak = method.pseudo_labels(unlabeled, 0).weak
        assert torch.equal(weak.labels, method.teacher(unlabeled.weak).argmax(1))
        assert (weak.weights[unlabeled.valid] > 0).all()
        weights.append(weak.weights)
    assert not torch.allclose(*weights)
