"""The largest micro-batch that fits, and that looking for it leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit.core.method import Method
from semikit.distributed.collectives import process_count
from semikit.errors import ConfigError, RunError
from semikit.registry import METHODS
from semikit.run import build
from semikit.run.config import resolve
from semikit.run.recipes import read_yaml
from semikit.training import memory
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.memory import fitting_micro_batches, largest_micro_batch, left_as_it_was, micro_batch_sizes
from semikit.training.optimizer import build_optimizer
from semikit.training.reporter import Reporter
from semikit.training.settings import OptimizerSettings
from semikit.training.step import Stepper
from semikit.training.tracking import Tracker
from tests.helpers import photos, tiny
from tests.helpers.equality import differences

CPU = torch.device("cpu")


class Device:
    """A pretended device that has room for `room` images."""

    def __init__(self, room: int, error: type[RuntimeError] = torch.OutOfMemoryError, text: str = "full") -> None:
        self.room, self.error, self.text, self.tried = room, error, text, []

    def __call__(self, size: int) -> None:
        self.tried.append(size)
        if size > self.room:
            raise self.error(self.text)


@pytest.mark.parametrize("room", range(1, 40))
def test_the_largest_that_fits_is_found(room: int) -> None:
    sizes, device = micro_batch_sizes(24), Device(room)
    assert largest_micro_batch(device, sizes, CPU) == max(size for size in sizes if size <= room)
    assert len(set(device.tried)) == len(device.tried) <= 4
    assert device.tried[0] == 24


def test_nothing_fits() -> None:
    with pytest.raises(RunError, match=r"not even a micro-batch of 2 labelled images .* model.checkpointing=true"):
        largest_micro_batch(Device(1), [2, 4, 8], CPU)


def test_what_the_libraries_of_a_device_say_counts_too() -> None:
    assert largest_micro_batch(Device(4, RuntimeError, "CUBLAS_STATUS_ALLOC_FAILED when calling"), [2, 4, 8], CPU) == 4


def test_other_faults_are_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        largest_micro_batch(Device(1, RuntimeError, "shapes do not match"), [1, 2], CPU)


def test_some_memory_has_to_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(8)
    monkeypatch.setattr(memory, "_room", lambda _: 1 - device.tried[-1] / 8.2)
    assert largest_micro_batch(device, [1, 2, 4, 8], CPU) == 4


def test_sizes() -> None:
    assert micro_batch_sizes(12) == [1, 2, 3, 4, 6, 12]
    assert micro_batch_sizes(12, multiple=4) == [4, 12]
    assert micro_batch_sizes(6, multiple=6) == [6]


def everything(method: Method) -> dict[str, Any]:
    """All that a step may change: tensors (also those that are not kept in checkpoints), modes, plain attributes."""
    tensors = {**dict(method.named_parameters()), **dict(method.named_buffers())}
    plain = {
        f"{name}.{key}": value
        for name, module in method.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str | None)
    }
    return {
        **{name: tensor.detach().clone() for name, tensor in tensors.items()},
        "plain": plain,
        "gradients": [name for name, p in method.named_parameters() if p.grad is not None],
        "next": torch.get_rng_state(),
    }


@pytest.mark.parametrize("name", METHODS.names())
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_trying_leaves_no_trace(name: str, optimizer: str) -> None:
    cls: type[Method] = METHODS.get(name)
    config, run_info = cls.Config(), tiny.run_info()
    requirements = cls.requirements(config)
    pixels = not requirements.whole_images
    network, *peers = tiny.networks(requirements, batch_norm=True, pixels=pixels)
    method = cls(network, config, run_info, *peers)
    method.eval()
    labeled, unlabeled = tiny.batch(run_info, requirements, size=4, pixels=pixels)
    made: list[int] = []

    def stepper(parts: int) -> Stepper:
        made.append(parts)
        if parts < 2 and not cls.needs_full_batch(config):
            raise torch.OutOfMemoryError("full")
        settings = OptimizerSettings(lr=0.1, name=optimizer)
        found = build_optimizer(method.student, settings, method.extra_parameters(), method.students[1:])
        torch.rand(3)
        return Stepper(method, method, found, nullcontext, parts, None)

    before = everything(method)
    whole = cls.needs_full_batch(config)
    parts = fitting_micro_batches(method, stepper, labeled, unlabeled, 4 if whole else 1, CPU)
    assert parts == (1 if whole else 2)
    assert made == [1] if whole else made[0] == 1
    assert not differences(before, everything(method))


def test_a_step_inside_would_leave_one() -> None:
    cls: type[Method] = METHODS.get("unimatch_v2")
    method = cls(tiny.network(batch_norm=True), cls.Config(), tiny.run_info())
    labeled, unlabeled = tiny.batch(tiny.run_info(), cls.requirements(cls.Config()))
    optimizer = build_optimizer(method.student, OptimizerSettings(lr=0.1))
    before = everything(method)
    with left_as_it_was(method, CPU):
        method.train()
        method.student.extra = 1
        Stepper(method, method, optimizer, nullcontext, 1, None)(labeled, unlabeled, 0)
        assert len(differences(before, everything(method))) > 5
    assert not differences(before, everything(method))
    assert not hasattr(method.student, "extra")


def test_other_processes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partner in another process is pretended to lie in this one, and nothing is sent."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert process_count() == 2
    cls: type[Method] = METHODS.get("unimatch_v2")
    method = cls(tiny.network(), cls.Config(), tiny.run_info())
    with monkeypatch.context() as single:
        single.setattr(torch.distributed, "is_initialized", lambda: False)
        labeled, unlabeled = tiny.batch(tiny.run_info(), cls.requirements(cls.Config()))
    assert unlabeled is not None
    second = range(len(unlabeled.index), 2 * len(unlabeled.index))  # the positions of the second of two processes
    cross_rank = replace(unlabeled, cross_rank=True, partner=unlabeled.partner + 4, positions=second)
    counts: list[int] = []

    def stepper(parts: int) -> Stepper:
        counts.append(process_count())
        optimizer = build_optimizer(method.student, OptimizerSettings())
        return Stepper(method, method, optimizer, nullcontext, parts, None)

    assert fitting_micro_batches(method, stepper, labeled, cross_rank, 1, CPU) == 1
    assert counts == [1]
    assert process_count() == 2


class Notices(Reporter):
    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        self.told.append(text)


def trained(raw: dict[str, Any], folder: Path) -> tuple[build.Run, list[str]]:
    reporter = Notices()
    run = build.build_run(resolve(raw), folder, reporter)
    tracker = Tracker(folder, 0)
    run.trainer.fit(tracker)
    tracker.close()
    return run, reporter.told


@pytest.fixture
def raw(photo_data: Path) -> Callable[..., dict[str, Any]]:
    def made(**train: Any) -> dict[str, Any]:
        return photos.raw(photo_data, train={"iterations": 2, "eval_every": 2, **train})

    return made


def test_on_a_cpu_auto_is_one_and_says_so(raw: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    run = build.build_run(resolve(raw(accumulate="auto")), tmp_path, reporter := Notices())
    assert run.config.train.accumulate == 1
    assert reporter.told == ["train.accumulate auto is 1 on cpu, whose memory has no limit that could be tried"]


def test_a_run_that_was_planned_is_the_run_with_that_number(
    raw: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, _ = trained(raw(accumulate=2), tmp_path / "told")

    def planned(method: Method, task: Any, stepper_of: Any, multiple: int, whole: bool, device: torch.device) -> Any:
        sample = task.views(next(iter(task.batches(range(1), 0, False))), 0, device)

        def small(parts: int) -> Stepper:
            if parts == 1:
                raise torch.OutOfMemoryError("full")
            return stepper_of(parts)

        return fitting_micro_batches(method, small, *sample, multiple, device), "planned"

    monkeypatch.setattr(build, "planned_micro_batches", planned)
    found, notices = trained(raw(accumulate="auto"), tmp_path / "found")
    assert notices[0] == "planned"
    assert found.config == told.config
    assert found.config.train.accumulate == 2
    (tmp_path / "config.yaml").write_text(found.config.to_yaml())
    assert read_yaml(tmp_path / "config.yaml")["train"]["accumulate"] == 2
    states = [read_checkpoint(tmp_path / name / "weights" / LAST) for name in ("told", "found")]
    for state in states:
        del state["seconds"], state["meter"]
    assert not differences(*states)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"accumulate": "auto"}, "with train.shard give a number"),
        ({"precision": "fp16"}, "use bf16 or fp32"),
        ({"compile": True}, "exclude each other"),
    ],
)
def test_what_does_not_go_with_sharding(raw: Callable[..., dict[str, Any]], train: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(raw(shard=True, **train))


def test_sharding_needs_several_processes(raw: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is one"):
        build.build_run(resolve(raw(shard=True)), tmp_path, Notices())
