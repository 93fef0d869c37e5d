"""iMAS: what is made of the strong view, and how the two views count."""

from __future__ import annotations

import pytest
import torch

from semikit.core.pseudo_labels import predict_logits, predicted
from semikit.methods.imas import IMAS, IMASConfig, agreement, opposite
from tests.helpers import tiny


@pytest.mark.parametrize("triggered", [True, False])
def test_views_by_agreement(triggered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zhao et al. 2023, by hand: colours go as far as γ says, γ weighs the loss, and a mixed view is half of it in
    as many steps as the mean of γ says.
    """
    run_info, config = tiny.run_info(), IMASConfig(threshold=0.4)
    method = IMAS(tiny.network(seed=1), config, run_info).train()
    with torch.no_grad():
        method.student.head.weight.mul_(0.5)
        method.student.neck.bias.add_(0.2)
    labeled, unlabeled = tiny.batch(run_info, IMAS.requirements(config))
    drawn = IMAS._draws

    def chosen(self: IMAS, given: object, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        box, chance = drawn(self, given, step)  # type: ignore[arg-type]
        return box, chance * 0 + (0.0 if triggered else 1.0)

    monkeypatch.setattr(IMAS, "_draws", chosen)
    pseudo = method.pseudo_labels(unlabeled, 4)
    student, teacher = (predicted(predict_logits(one, unlabeled.weak)) for one in (method.student, method.teacher))
    agreed = agreement(student, teacher, unlabeled.valid, 3, 0.4, None)
    assert 0.1 < agreed.min() < agreed.max() < 0.95
    changed, mixed = pseudo.images
    share = agreed[:, None, None, None]
    torch.testing.assert_close(changed, share * unlabeled.strong[0] + (1 - share) * unlabeled.weak)
    partner, (box, _) = opposite(agreed, 2), drawn(method, unlabeled, 4)
    torch.testing.assert_close(mixed, torch.where(box[:, None], unlabeled.weak[partner], unlabeled.weak))
    sure = (teacher.confidence >= 0.4) & unlabeled.valid
    sure_mixed = torch.where(box, sure[partner], sure)
    first, second = (0.5, 0.5) if triggered else (1.0, 0.0)
    torch.testing.assert_close(pseudo.views[0].weights, sure * agreed[:, None, None] * first)
    torch.testing.assert_close(pseudo.views[1].weights, sure_mixed * agreed[:, None, None] * second)
    assert torch.equal(pseudo.views[1].labels, torch.where(box, teacher.labels[partner], teacher.labels))
    logs = method(labeled, unlabeled, pseudo).logs
    torch.testing.assert_close(logs["loss"], logs["loss_x"] + 3 * logs["loss_u"])


def test_the_order_of_a_group_is_reversed() -> None:
    found = opposite(torch.tensor([0.3, 0.9, 0.1, 0.5, 0.2, 0.8, 0.4]), 4)
    # 0.1 < 0.3 < 0.5 < 0.9, then 0.2 < 0.4 < 0.8 of which the middle one is its own partner
    assert found.tolist() == [3, 2, 1, 0, 5, 4, 6]
