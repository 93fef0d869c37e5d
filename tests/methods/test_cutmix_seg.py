"""CutMix-Seg: squared differences at all positions, weighed by the share of confident ones."""

from __future__ import annotations

import pytest
import torch

import semikit
from semikit.core.mixing import mix_images
from semikit.methods.cutmix_seg import CutMixSeg, CutMixSegConfig
from semikit.run.compose import asked
from semikit.run.config import resolve
from tests.helpers import tiny


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_the_loss_is_weighed_by_the_confident_share(threshold: float) -> None:
    """French et al. 2020, section 3.3: the mean over pixels of the squared distance of probability vectors, times the
    share of pixels where the mixed teacher prediction reaches the threshold.
    """
    run_info, config = tiny.run_info(), CutMixSegConfig(threshold=threshold)
    method = CutMixSeg(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, CutMixSeg.requirements(config))
    pseudo = method.pseudo_labels(unlabeled, 0)
    result = method(labeled, unlabeled, pseudo)
    believed = method.teacher(unlabeled.weak).softmax(1)
    mixed = mix_images(believed, unlabeled.boxes[0], believed, unlabeled.partner)
    valid = pseudo.views[0].valid
    share = (mixed.amax(1) >= threshold)[valid].float().mean()
    assert threshold == 0 or 0 < share < 1
    apart = (method.student(unlabeled.strong[0]).softmax(1) - mixed).square().sum(1)[valid].mean()
    torch.testing.assert_close(result.logs["loss_u"], (share * apart).detach())
    torch.testing.assert_close(result.logs["loss"], result.logs["loss_x"] + result.logs["loss_u"])


@pytest.mark.parametrize("method", ["cutmix_seg", "cps"])
@pytest.mark.parametrize(("task", "dataset"), [("seg", "shapes"), ("cd", "shapes-cd")])
def test_colours_are_left_as_they_are_and_all_images_are_mixed(task: str, dataset: str, method: str) -> None:
    config = resolve(asked(task, dataset=dataset, method=method)[0])
    strong = config.views.strong
    assert (strong.jitter_probability, strong.grayscale_probability, strong.blur_probability) == (0, 0, 0)
    assert config.views.mix.probability == 1


def test_classes_of_whole_images_are_not_mixed() -> None:
    with pytest.raises(semikit.ConfigError, match=r"learns classes of pixels only.*mean_teacher"):
        semikit.plan("cls", dataset="shapes-cls", method="cutmix_seg", device="cpu")
