"""CorrMatch: what its losses are made of, and that overlapping regions do not depend on how many are judged at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semikit.core.channel_dropout import apply_masks
from semikit.core.mixing import mix_images, mix_maps
from semikit.core.pseudo_labels import predict_logits
from semikit.methods import corrmatch
from semikit.methods.corrmatch import CorrMatch, CorrMatchConfig, propagated
from tests.helpers import tiny


def test_four_losses_of_unlabelled_images() -> None:
    """As the released code adds them up (BBBBchan/CorrMatch, `corrmatch.py`): (½ x + ½ x_corr + ¼ strong + ¼ soft + ¼
    dropped + ⅛ corr of strong + ⅛ corr of weak) / 2, here with the soft labels mixed as the images are.
    """
    run_info, config = tiny.run_info(), CorrMatchConfig(threshold=0.4, momentum=0.95, regions=6)
    method = CorrMatch(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, CorrMatch.requirements(config))
    pseudo = method.pseudo_labels(unlabeled, 0)
    result = method(labeled, unlabeled, pseudo)
    student, box, partner = method.student, unlabeled.boxes[0], unlabeled.partner
    weak, others = (
        predict_logits(student, images).softmax(1) for images in (unlabeled.weak, unlabeled.partner_batch.images)
    )
    greatest = [weak.amax(1)[(weak.argmax(1) == k) & unlabeled.valid] for k in range(3)]
    value = 0.38 + 0.05 * torch.stack([found.max() for found in greatest if len(found)]).mean()
    torch.testing.assert_close(method.threshold.value, value)
    soft, valid = (
        mix_images(weak, box, others, partner),
        mix_maps(unlabeled.valid, box, unlabeled.partner_batch.valid, partner),
    )
    sure_partner = (others.amax(1) >= 0.4) & unlabeled.partner_batch.valid  # by the threshold of the step before
    sure_weak = (weak.amax(1) >= value) & unlabeled.valid
    sure = mix_maps(sure_weak, box, sure_partner, partner)

    def correlated(images: Tensor) -> tuple[Tensor, Tensor]:
        features = student.encode(images)
        return method.correlation(features.levels[-1], student.decode(features))

    maps, spread_weak = correlated(unlabeled.weak)
    places = (pseudo.draws[0] * 9).long()
    rows = torch.stack([one[place] for one, place in zip(maps, places, strict=True)])
    labels, counted = propagated(soft.argmax(1), sure, valid & ~box, rows, value, 3)
    assert counted.sum() > sure.sum(), "some region is accepted"

    def entropy(logits: Tensor, target: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        return (F.cross_entropy(logits, target, reduction="none") * mask).sum() / valid.sum()

    strong = student(unlabeled.strong[0])
    dropped = student.decode(apply_masks(student.encode(unlabeled.weak), pseudo.masks[0]))
    losses = [
        entropy(strong, labels, counted, valid),
        entropy(strong, soft, sure, valid),
        entropy(dropped, weak.argmax(1), sure_weak, unlabeled.valid),
        entropy(correlated(unlabeled.strong[0])[1], labels, counted, valid) / 2,
        entropy(spread_weak, weak.argmax(1), sure_weak, unlabeled.valid) / 2,
    ]
    torch.testing.assert_close(result.logs["loss_u"], torch.stack(losses).sum().detach() / 4)
    torch.testing.assert_close(result.logs["loss"], (result.logs["loss_x"] + result.logs["loss_u"]) / 2)


def test_without_regions_labels_stay() -> None:
    run_info, config = tiny.run_info(), CorrMatchConfig(threshold=0.4, regions=0)
    method = CorrMatch(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, CorrMatch.requirements(config))
    assert method(labeled, unlabeled, method.pseudo_labels(unlabeled, 0)).logs["loss_u"] > 0


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_where_regions_overlap_the_last_one_holds(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: a row of six pixels, sure of 0 0 1 1 and of nothing at the ends; the first region is all, the others the
    left and right half, each of which is sure of one class, and the whole is not.
    """
    monkeypatch.setattr(corrmatch, "_CHUNK", at_once)
    labels, sure = torch.tensor([[[2, 0, 0, 1, 1, 2]]]), torch.tensor([[[False, True, True, True, True, False]]])
    rows = torch.tensor([[[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]])[:, :, None].float()
    free = torch.ones_like(sure)
    found, counted = propagated(labels, sure, free, rows, torch.tensor(0.6), 3)
    # Third region: 1 of 3 sure pixels is of class 0, two thirds of class 1, more than 0.6 of them.
    assert found.tolist() == [[[0, 0, 1, 1, 1, 1]]]
    assert counted.all()
    found, _ = propagated(labels, sure, free, rows, torch.tensor(0.7), 3)
    assert found.tolist() == labels.tolist(), "two thirds are sure in either half, less than 0.7"
