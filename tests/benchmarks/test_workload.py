from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.step.workload import Workload, build_workload, made_crops
from semikit.run.config import Config

Configure = Callable[..., Config]


def test_crops_are_what_the_loader_gives(small: Configure) -> None:
    raw = made_crops(small(), 4, 3)
    image, valid, index, labels = raw["labeled"]
    assert (image.shape, image.dtype) == ((2, 3, 42, 42), torch.uint8)
    assert (valid.shape, valid.dtype, bool(valid.all())) == ((2, 42, 42), torch.bool, True)
    assert index.tolist() == [0, 1]
    assert (labels.shape, labels.dtype, int(labels.max())) == ((2, 42, 42), torch.uint8, 3)
    assert len(raw["unlabeled"]) == 3
    assert torch.equal(image, made_crops(small(), 4, 3)["labeled"][0])
    assert not torch.equal(image, made_crops(small(), 4, 4)["labeled"][0])


def test_crops_of_two_dates(small: Configure) -> None:
    raw = made_crops(small(task="cd"), 4, 3)
    assert raw["labeled"][0].shape == raw["unlabeled"][0].shape == (2, 2, 3, 42, 42)
    assert raw["labeled"][3].shape == raw["unlabeled"][1].shape == (2, 42, 42)
    assert not torch.equal(raw["labeled"][0][:, 0], raw["labeled"][0][:, 1])


def test_student_and_teacher_begin_as_the_network(workload: Workload) -> None:
    for network in (workload.method.student, workload.method.teacher):
        for a, b in zip(network.parameters(), workload.network.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a is not b


def test_the_recipe_is_that_of_training(small: Configure) -> None:
    config = small()
    assert (config.optimizer.lr, config.optimizer.encoder_lr) == (2e-4, 5e-6)
    assert config.model.weights == "none"
    assert config.method_name == "unimatch_v2"
    assert build_workload(config, 7).network.num_classes == 7


def test_change_detection_has_its_own_recipe(small: Configure) -> None:
    config = small(task="cd")
    assert (config.task, config.train.group, config.method.teacher) == ("cd", 8, "student")  # type: ignore[attr-defined]
    assert (config.views.weak.scale, config.views.strong.grayscale_probability) == ((0.8, 1.2), 0.0)  # type: ignore[attr-defined]
    assert build_workload(config, 2).dates == 2
