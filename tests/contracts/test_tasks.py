"""What every task promises."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from semikit.core.task import Task
from semikit.registry import TASKS
from semikit.run import build
from semikit.run.config import Config, resolve
from semikit.settings.base import Settings
from tests.helpers.equality import differences

CPU = torch.device("cpu")
Small = dict[str, tuple[ModuleType, Path]]


def test_there_are_small_data_for_every_task(small: Small) -> None:
    assert set(small) == set(TASKS.names())


@pytest.mark.parametrize("name", TASKS.names())
class TestContract:
    @pytest.fixture
    def config(self, name: str, small: Small) -> Config:
        module, data = small[name]
        return resolve(module.raw(data, method="unimatch_v1"))

    @pytest.fixture
    def task(self, config: Config) -> Task:
        return build.build_task(config)

    def test_nothing_is_left_abstract(self, name: str) -> None:
        task = TASKS.get(name)
        assert issubclass(task, Task)
        assert not inspect.isabstract(task)

    def test_sections_are_settings(self, name: str) -> None:
        task = TASKS.get(name)
        for section in (task.Data, task.Views, task.Evaluate):
            assert issubclass(section, Settings)

    def test_names_and_counts(self, task: Task) -> None:
        task.check(thorough=True)
        assert len(task.class_names) == len(set(task.class_names)) >= 2
        assert min(task.counts.labeled, task.counts.unlabeled, task.counts.val) >= 1
        assert all(isinstance(notice, str) for notice in task.notices)

    def test_manifest_and_metadata_are_json(self, task: Task, config: Config) -> None:
        task.network(config.model)
        for values in (task.manifest(), task.metadata()):
            assert json.loads(json.dumps(values)) == values
        assert task.metadata()["class_names"] == list(task.class_names)

    def test_a_network_is_rebuilt(self, task: Task, config: Config) -> None:
        network = task.network(config.model)
        again = type(task).rebuild(json.loads(json.dumps(task.metadata())))
        assert {key: value.shape for key, value in again.state_dict().items()} == {
            key: value.shape for key, value in network.state_dict().items()
        }
        assert (again.mean, again.std) == (network.mean, network.std)

    def test_batches_are_a_function_of_the_step(self, config: Config, task: Task) -> None:
        first, other = task, build.build_task(config)
        for made in (first, other):
            made.network(config.model)
        whole, rest = list(first.batches(range(5), 0, False)), list(other.batches(range(3, 5), 0, False))
        assert (len(whole), len(rest)) == (5, 2)
        assert not differences(whole[3:], rest)
        assert differences(whole[3], whole[4])
        for step, (a, b) in enumerate(zip(whole[3:], rest, strict=True), 3):
            assert not differences(as_plain(first.views(a, step, CPU)), as_plain(other.views(b, step, CPU)))

    def test_views_have_the_shapes_of_a_batch(self, task: Task, config: Config) -> None:
        network, train = task.network(config.model), config.train
        raw = next(iter(task.batches(range(1), 0, False)))
        labeled, unlabeled = task.views(raw, 0, CPU)
        shape = labeled.labels.shape
        assert shape[0] == train.batch
        assert network(labeled.images).shape == (train.batch, len(task.class_names), *shape[1:])
        assert (labeled.labels.dtype, labeled.valid.dtype, labeled.index.dtype) == (
            torch.int64,
            torch.bool,
            torch.int64,
        )
        assert labeled.valid.shape == shape
        assert not labeled.labels[~labeled.valid].any()
        assert labeled.denominator.shape == labeled.index.shape == (train.batch,)
        assert unlabeled is not None
        requirements, count = build.requirements_of(config), train.batch * train.ratio
        assert unlabeled.partner_batch is not None
        assert len(unlabeled.strong) == requirements.strong_views
        for images in (unlabeled.weak, unlabeled.partner_batch.images, *unlabeled.strong):
            assert (images.shape, images.dtype) == ((count, *labeled.images.shape[1:]), torch.float32)
        assert len(unlabeled.boxes) in (0, requirements.strong_views)
        for mask in (unlabeled.valid, unlabeled.partner_batch.valid, *unlabeled.boxes):
            assert (mask.shape, mask.dtype) == ((count, *shape[1:]), torch.bool)
        for numbers in (unlabeled.partner, unlabeled.index):
            assert (numbers.shape, numbers.dtype) == ((count,), torch.int64)
        assert len(unlabeled.positions) == count


def as_plain(views: Any) -> list[Tensor]:
    """The tensors of labelled and unlabelled views, in order."""
    labeled, unlabeled = views
    second = unlabeled.partner_batch
    found = [labeled.images, labeled.labels, labeled.valid, labeled.index, labeled.denominator]
    found += [unlabeled.weak, *unlabeled.strong, unlabeled.valid, *unlabeled.boxes, unlabeled.partner, unlabeled.index]
    return [*found, second.images, second.valid]
