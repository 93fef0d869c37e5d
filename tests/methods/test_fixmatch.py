"""FixMatch: one strong view, and its relation to UniMatch V2."""

from __future__ import annotations

import pytest
import torch

from semikit.core.batch import Requirements
from semikit.errors import ConfigError
from semikit.methods.fixmatch import FixMatch, FixMatchConfig
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from tests.helpers import tiny


def test_is_unimatch_v2_with_one_stream_and_no_dropout() -> None:
    run_info = tiny.run_info()
    labeled, unlabeled = tiny.batch(run_info, FixMatch.requirements(FixMatchConfig()))
    results = []
    for cls, config in (
        (FixMatch, FixMatchConfig(threshold=0.6)),
        (UniMatchV2, UniMatchV2Config(threshold=0.6, streams=1, dropout="none")),
    ):
        method = cls(tiny.network(), config, run_info)
        results.append(method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).loss)
    assert torch.equal(*results)


def test_needs() -> None:
    assert FixMatch.requirements(FixMatchConfig()) == Requirements(strong_views=1)
    assert FixMatch.needs_full_batch(FixMatchConfig(forward="joint", teacher="student"))
    assert not FixMatch.needs_full_batch(FixMatchConfig())


def test_labels_inside_the_joint_pass() -> None:
    run_info = tiny.run_info()
    config = FixMatchConfig(threshold=0.6, forward="joint", teacher="student")
    joint = FixMatch(tiny.network(), config, run_info)
    separate = FixMatch(tiny.network(), FixMatchConfig(threshold=0.6, teacher="student"), run_info)
    labeled, unlabeled = tiny.batch(run_info, FixMatch.requirements(config))
    losses = [method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).loss for method in (joint, separate)]
    torch.testing.assert_close(*losses)


def test_fused_with_batch_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch norm"):
        FixMatch(tiny.network(batch_norm=True), FixMatchConfig(forward="fused"), tiny.run_info())
