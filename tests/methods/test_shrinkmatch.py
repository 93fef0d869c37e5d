"""ShrinkMatch: which classes are left out, and what an uncertain image counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semikit.methods.shrinkmatch import ShrinkMatch, ShrinkMatchConfig, shrunk_cross_entropy
from tests.helpers import tiny

PROBABILITIES = torch.tensor([[0.1, 0.5, 0.3, 0.06, 0.04], [0.3, 0.3, 0.2, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])
LOGITS = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("threshold", "kept"), [(0.7, [0, 1, 3, 4]), (0.8, [1, 3, 4]), (0.92, [1, 4]), (0.93, None), (0.0, [0, 1, 3, 4])]
)
def test_the_next_classes_are_left_out_until_the_likeliest_is_certain(threshold: float, kept: list[int] | None) -> None:
    found = shrunk_cross_entropy(LOGITS, PROBABILITIES, threshold)[0]
    if kept is None:
        assert found == 0
        return
    expected = F.cross_entropy(LOGITS[0, kept].unsqueeze(0), torch.tensor([kept.index(1)]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_may_leave_no_space(classes: int) -> None:
    logits = LOGITS[:, :classes].clone().requires_grad_()
    found = shrunk_cross_entropy(logits, PROBABILITIES[:, :classes].softmax(1), 0.99)
    found.sum().backward()
    assert not found.any()
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_uncertain_images_count_as_others_are_certain() -> None:
    run_info, config = tiny.run_info(5), ShrinkMatchConfig(threshold=0.4, alignment="none", momentum=0.5)
    method = ShrinkMatch(tiny.network(num_classes=5, pixels=False), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, ShrinkMatch.requirements(config), pixels=False)
    for number in range(2):
        logs = method(labeled, unlabeled, method.pseudo_labels(unlabeled, number)).logs
        torch.testing.assert_close(method.certain, logs["confident"])
    assert method.certain == 0.5, "of two valid images one is certain"
    assert logs["loss_shrunk"] > 0
    method.certain.fill_(0)
    again = method(labeled, unlabeled, method.pseudo_labels(unlabeled, 2)).logs
    torch.testing.assert_close(method.certain, torch.tensor(0.25))
    torch.testing.assert_close(again["loss_shrunk"], logs["loss_shrunk"] / 2)
