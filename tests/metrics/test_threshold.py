"""The threshold of change that is chosen, against every threshold tried by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semikit.errors import ConfigError
from semikit.inference.class_choice import ClassChoice, change_of, threshold_of
from semikit.metrics.change import at_thresholds, change_metrics
from semikit.metrics.confusion import count
from semikit.metrics.scoring import scores_of

THRESHOLDS = [k / 200 for k in range(1, 200)]


def batch(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (K, B, H, W) that are too low where something changed, some of them a threshold; truth, valid."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(3 * classes, (2, 30, 40), generator=generator).clamp(max=3 * classes - 1)
    labels = torch.where(labels < classes, labels, 0)
    logits = torch.randn(classes, *labels.shape, generator=generator)
    logits[0] += 4
    logits.scatter_add_(0, labels[None], torch.full((1, *labels.shape), 3.0))
    shares = logits.softmax(0)
    if classes == 2:
        on_one = torch.rand(labels.shape, generator=generator) < 0.5
        shares[1] = torch.where(on_one, torch.tensor(THRESHOLDS)[(shares[1] * 198).long()], shares[1])
        shares[0] = 1 - shares[1]
    return shares, labels, torch.rand(labels.shape, generator=generator) < 0.9


@pytest.mark.parametrize(("classes", "damage"), [(2, False), (3, False), (3, True)])
def test_as_every_threshold_has_it(classes: int, damage: bool) -> None:
    """Chosen by the IoU of change of any kind; scored as what is scored."""
    shares, labels, valid = batch(classes)
    names, metrics = "abc"[:classes], change_metrics(classes, "paper", damage=damage, choose=True)
    changed, kind = change_of(shares, 0)
    for part in (0, 1):
        metrics.update(
            predicted=shares.argmax(0)[part],
            labels=labels[part],
            valid=valid[part],
            changed=changed[part],
            kind=kind[part],
        )
    matrices, values = [], []
    for threshold in THRESHOLDS:
        predicted = ClassChoice(0, common=threshold)(shares)[0].long()
        matrices.append(count(predicted, labels, valid, classes))
        one = change_metrics(classes, "paper", damage=damage)
        one.update(predicted=predicted, labels=labels, valid=valid)
        values.append(scores_of(one, names))
    assert torch.equal(at_thresholds(metrics["ChosenThreshold"].histogram), torch.stack(matrices))
    ious = [float(matrix[1:, 1:].sum() / (matrix.sum() - matrix[0, 0])) for matrix in matrices]
    place = ious.index(max(ious))
    best, found = values[place], scores_of(metrics, names)
    assert (found.threshold, found.metric) == (THRESHOLDS[place], "score" if damage else "IoU")
    assert found.plain() == {**best.plain(), "threshold": found.threshold}
    assert best.value > values[99].value + 5, "or there was nothing to choose"


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 0]])
def test_of_equal_ones_the_nearest_to_a_half(labels: list[int]) -> None:
    metrics = change_metrics(2, "paper", choose=True)
    shares = torch.tensor([[0.1, 0.3, 0.8, 0.9]])
    truth = torch.tensor([labels])
    metrics.update(predicted=truth, labels=truth, valid=truth >= 0, changed=shares, kind=torch.ones_like(truth))
    assert scores_of(metrics, "ab").threshold == 0.5
    low = change_metrics(2, "paper", choose=True)
    low.update(predicted=truth, labels=truth, valid=truth >= 0, changed=shares / 4, kind=torch.ones_like(truth))
    assert scores_of(low, "ab").threshold == (0.2 if any(labels) else 0.5)


def test_weights_from_before_the_first_evaluation_have_none_yet() -> None:
    settings = {"evaluate": {"threshold": "auto"}}
    assert threshold_of({**settings, "best": {"threshold": 0.3}}) == 0.3
    with pytest.raises(ConfigError, match="from before the first evaluation, which chooses one"):
        threshold_of(settings)
