"""AugSeg: which boxes are drawn, and that they do not depend on how a step is shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from semikit.core.batch import take
from semikit.core.mixing import boxes_about
from semikit.core.rng import rng_for
from semikit.methods.augseg import AugSeg, AugSegConfig
from semikit.run.compose import asked
from semikit.run.config import resolve
from tests.helpers import tiny


def test_boxes_of_unlabelled_images_are_larger_and_cut_off_at_the_border() -> None:
    """1 minus the area is of mean 0.8 (beta 8, 2) and 0.5 (beta 4, 4); middles lie in the last seven eighths."""
    sides, mean = np.array([64, 96]), []
    for shape in ((8.0, 2.0), (4.0, 4.0)):
        share = np.sqrt(1 - rng_for(0, "a").beta(*shape, 4000))
        boxes = boxes_about(share, rng_for(0, "b").random((4000, 2)), (64, 96), 8).numpy()
        first, last = boxes[:, :2], boxes[:, 2:]
        assert (first >= 0).all()
        assert (last <= sides).all()
        whole = (first > 0).all(1) & (last < sides).all(1)
        middle = (first + last)[whole] / 2
        assert (middle >= sides / 8).all()
        mean.append(((last - first) / sides).prod(1)[whole].mean())
    assert 0.1 < mean[0] < 0.2 < mean[1] < 0.5, "of those that lie inside, which are smaller"


def test_draws_do_not_depend_on_how_a_step_is_shared() -> None:
    run_info, config = tiny.run_info(), AugSegConfig(threshold=0.5)
    method = AugSeg(tiny.network(), config, run_info).train()
    _, unlabeled = tiny.batch(run_info, AugSeg.requirements(config))
    whole = method.pseudo_labels(unlabeled, 3)
    share = replace(take(unlabeled, slice(2, 4)), partner=unlabeled.partner[2:] - 2)
    for drawn, own in zip(whole.draws, method.pseudo_labels(share, 3).draws, strict=True):
        assert torch.equal(drawn[2:], own)
        assert drawn.any()
        assert not drawn.all()


def test_the_recipe_draws_from_the_published_list() -> None:
    config = resolve(asked("cd", dataset="shapes-cd", method="augseg")[0])
    assert (config.views.strong.kind, config.views.strong.operations) == ("random", (1, 3))
    assert (config.method.threshold, config.method.loss) == (0.95, "paper")
    published = resolve(asked("cd", dataset="levir", method="augseg")[0]).method
    assert (published.ema_decay, config.method.ema_decay) == (0.999, 0.99), "built-in images are learned in few steps"
