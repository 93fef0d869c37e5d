"""Mean Teacher: a squared difference at every valid position."""

from __future__ import annotations

import torch

from semikit.core.mixing import mix_images
from semikit.methods.mean_teacher import MeanTeacher, MeanTeacherConfig
from tests.helpers import tiny


def test_the_loss_is_the_squared_difference_of_probabilities() -> None:
    run_info, config = tiny.run_info(), MeanTeacherConfig(ramp=0.0)
    method = MeanTeacher(tiny.network(), config, run_info).train()
    labeled, unlabeled = tiny.batch(run_info, MeanTeacher.requirements(config))
    pseudo = method.pseudo_labels(unlabeled, 0)
    result = method(labeled, unlabeled, pseudo)
    believed = method.teacher(unlabeled.weak).softmax(1)
    believed = mix_images(believed, unlabeled.boxes[0], believed, unlabeled.partner)
    apart = (method.student(unlabeled.strong[0]).softmax(1) - believed).square().mean(1)
    torch.testing.assert_close(result.logs["loss_u"], apart[pseudo.views[0].valid].mean().detach())
    torch.testing.assert_close(result.logs["loss"], result.logs["loss_x"] + 50 * result.logs["loss_u"])


def test_the_loss_grows_over_the_first_part_of_the_run() -> None:
    method = MeanTeacher(tiny.network(), MeanTeacherConfig(), tiny.run_info(iterations=100))
    _, unlabeled = tiny.batch(tiny.run_info(), MeanTeacher.requirements(method.config))
    weights = []
    for step in (0, 20, 40, 99):
        method.pseudo_labels(unlabeled, step)
        weights.append(method.unlabeled_loss.weight.item())
    assert weights == [0, 25, 50, 50]
