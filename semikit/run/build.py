"""The one composition root: a configuration becomes objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, final

import torch
from torch import nn

from semikit.core.batch import Requirements, RunInfo
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.schedules import Growth
from semikit.core.settings import AutoThreshold
from semikit.core.student_views import settled_forward
from semikit.core.task import BatchLayout, Task
from semikit.distributed.collectives import process_count
from semikit.distributed.groups import agreed, on_first, over_processes
from semikit.errors import ConfigError, DataError
from semikit.models.settings import buildable
from semikit.models.siamese import DATES
from semikit.registry import METHODS, TASKS
from semikit.run.config import FORMAT, Config
from semikit.run.start import begin_with
from semikit.run.teacher import given_teachers, own_teachers
from semikit.tasks._pixels import PixelViews
from semikit.training.bad_files import BadFiles
from semikit.training.checkpoint import has_checkpoint
from semikit.training.class_weights import label_shares, resolved_weights
from semikit.training.compilation import compiled, steps_apart
from semikit.training.device import (
    autocast,
    choose_device,
    grad_scaler,
    inference_on,
    kernels,
    multiplies_bf16,
    settled_precision,
)
from semikit.training.memory import planned_micro_batches
from semikit.training.optimizer import build_optimizer
from semikit.training.reporter import Reporter
from semikit.training.settings import Schedule, check_micro_batches, schedule_of
from semikit.training.step import Stepper
from semikit.training.trainer import Trainer

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@final
@dataclass(frozen=True, slots=True)
class Run:
    """All objects of one run."""

    config: Config
    task: Task
    network: Network
    trainer: Trainer
    schedule: Schedule
    folder: Path
    device: torch.device


def batch_layout_of(config: Config) -> BatchLayout:
    """How a step is put together."""
    train = config.train
    unlabeled, on_test = train.batch * train.ratio, train.protocol == "paper"
    growth, method = None, METHODS.get(config.method_name)
    if train.growth is not None and method.requirements(config.method).unlabeled:
        growth = Growth(train.batch, train.ratio, train.growth, train.iterations or 1)
    return BatchLayout(train.batch, unlabeled, train.group, train.seed, train.normalise, on_test, growth)


def requirements_of(config: Config, processes: int | None = None) -> Requirements:
    """What the method asks of the task, for a run in so many processes (as many as there are).

    Raises:
        ConfigError: numbers of processes and micro-batches that do not fit the batch or the method.
    """
    method: type[Method] = METHODS.get(config.method_name)
    if config.train.micro_batches > 1 and method.needs_full_batch(config.method):
        raise ConfigError(
            f"{config.method_name} learns from all images of a step in one pass, so "
            f"train.accumulate={config.train.micro_batches} would change it. Use train.accumulate=1 or a smaller batch."
        )
    ohem = getattr(config.method, "ohem", None) is not None
    check_micro_batches(config.train, processes or process_count(), ohem)
    threshold, asked = getattr(config.method, "threshold", None), method.requirements(config.method)
    return replace(asked, held_out=threshold.held_out) if isinstance(threshold, AutoThreshold) else asked


def alone(config: Config, processes: int) -> Config:
    """The configuration of a run in `processes` processes as one process can build it, to show the plan.

    Raises:
        ConfigError: what so many processes cannot share.
    """
    requirements_of(config, processes)
    train = config.train
    if train.shard:
        from semikit.training.fsdp import check_sharding  # takes a second to import

        check_sharding(processes)
    auto = processes > 1 and train.accumulate == "auto"
    return replace(config, train=train.model_copy(update={"shard": False} | ({"accumulate": 1} if auto else {})))


def build_task(config: Config) -> Task:
    """The task with its data.

    Raises:
        DataError: when the data are not as described, or nothing is unlabelled although the method learns from it.
    """
    requirements = requirements_of(config)
    task: Task = TASKS.get(config.task)(
        config.data, config.views, config.evaluate, batch_layout_of(config), requirements
    )
    if requirements.unlabeled and task.counts.unlabeled == 0:
        raise DataError(
            f"{config.method_name} learns from unlabelled images, but there are none: all {task.counts.labeled} images "
            "are labelled. Give fewer with --labels, add images with --unlabeled DIR, or use --method supervised."
        )
    if task.counts.unlabeled is None and config.train.growth is not None:
        raise ConfigError(
            "train.growth counts the unlabelled images of all steps before, but those of shards are read as they come. "
            "Give the images as folders, or leave it out."
        )
    if task.counts.unlabeled is None and config.train.iterations is None:
        raise ConfigError(
            f"train.epochs is {config.train.epochs}, but nobody has counted the unlabelled images in shards, so an "
            "epoch has no length. Say how many steps: --iterations N (train.iterations)."
        )
    return task


def placed(network: AnyModule, device: torch.device) -> AnyModule:
    """The network on its device, in the layout that convolutions run about twice as fast in, on CPUs too."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def stepper_of(config: Config, method: Method, device: torch.device) -> Stepper:
    """What makes the optimiser's steps of a method."""
    train, forward, sharding = config.train, method, None
    if train.shard:
        from semikit.training.fsdp import Sharding  # takes a second to import

        sharding = Sharding(method, device, train.precision, train.reduce_dtype)
    else:
        forward = over_processes(compiled(method, train.compile), train.reduce_dtype)
    return Stepper(
        method,
        forward,
        build_optimizer(method.student, config.optimizer, method.extra_parameters(), method.students[1:]),
        autocast(device, train.precision),
        train.micro_batches,
        grad_scaler(device, train.precision),
        sharding,
        steps_apart(kernels(device, train.precision), train.compile if device.type == "cuda" else "off"),
    )


def settled(config: Config, device: torch.device) -> Config:
    """The configuration with a precision in place of `train.precision: auto`, fp32 unless all processes have a device
    for bf16; under `chosen` what a user should know of it.
    """
    if config.train.precision != "auto":
        return config
    full = bool(agreed(int(settled_precision("auto", device) == "fp32")))
    chosen = {}
    if not full:
        chosen["precision"] = "bf16: the device multiplies it many times as fast as fp32"
    elif device.type == "cpu" and multiplies_bf16(device):
        chosen["precision"] = "fp32; this processor has instructions for --precision bf16, which may be faster"
    train = config.train.model_copy(update={"precision": "fp32" if full else "bf16"})
    return replace(config, train=train, chosen={**config.chosen, **chosen})


def with_passes(config: Config, network: Network, device: torch.device) -> Config:
    """The configuration, whose precision is settled, with a form of the student's passes in place of
    `method.forward: auto`.
    """
    forward = getattr(config.method, "forward", None)
    if forward is None:
        return config
    train = config.train
    images = (
        train.batch * (1 + train.ratio * requirements_of(config).strong_views) * (DATES if config.task == "cd" else 1)
    )
    pixels = images * _side(config) ** 2 // (train.micro_batches * process_count())
    size = 2 if train.precision in ("bf16", "fp16") else 4
    settled = settled_forward(forward, network, device.type == "cpu", pixels, size)
    return replace(config, method=config.method.model_copy(update={"forward": settled}))


def _side(config: Config) -> int:
    """Pixels of a side of the images that are learned from; 0 where nobody says."""
    views = config.views
    return views.weak.crop if isinstance(views, PixelViews) else getattr(views, "size", None) or 0


def planned(config: Config, method: Method, task: Task, device: torch.device, reporter: Reporter) -> Config:
    """The configuration with a number of micro-batches in place of `train.accumulate: auto`."""
    if config.train.accumulate != "auto":
        return config

    def stepper(parts: int) -> Stepper:
        train = config.train.model_copy(update={"accumulate": parts, "compile": "off"})
        return stepper_of(replace(config, train=train), method, device)

    mined = config.train.group if getattr(config.method, "ohem", None) is not None else 1
    parts, notice = planned_micro_batches(method, task, stepper, mined, method.needs_full_batch(config.method), device)
    agreed_parts = agreed(parts)
    reporter.notice(notice if agreed_parts == parts else f"{notice}; another process needs {agreed_parts}")
    return replace(config, train=config.train.model_copy(update={"accumulate": agreed_parts}))


def counted(config: Config, task: Task) -> Config:
    """The configuration with the share of every class in place of `method.alignment.target: labels`, and its weight in
    place of a rule; the first process counts.
    """
    alignment = getattr(config.method, "alignment", None)
    if alignment is not None and alignment.target == "labels":
        shares = on_first(lambda: label_shares(task.labelled_census()))
        alignment = alignment.model_copy(update={"target": shares})
        config = replace(config, method=config.method.model_copy(update={"alignment": alignment}))
    stated = config.train.class_weights
    if stated is None:
        return config
    weights = on_first(lambda: resolved_weights(stated, task.class_names, task.labelled_census))
    return replace(config, train=config.train.model_copy(update={"class_weights": weights}))


def networks_of(config: Config, task: Task, device: torch.device) -> list[Network]:
    """The networks that are trained, as many as the method asks for; what they begin with is drawn from the seed, for
    one after the other.
    """
    with torch.random.fork_rng(devices=[]), buildable(config.model):
        torch.manual_seed(config.train.seed)
        return [placed(task.network(config.model), device) for _ in range(requirements_of(config).students)]


def build_run(
    config: Config, folder: Path, reporter: Reporter, task: Task | None = None, *, begins: bool = False
) -> Run:
    """Everything needed to train, on its device; nothing is written yet. A run that `begins` is given its passes."""
    device = choose_device(config.train.device)
    task = task or build_task(config)
    config = counted(settled(config, device), task)
    train = config.train
    task.run_folder = folder
    task.compile_views = train.compiled and device.type == "cuda"  # on a CPU they read their draws, which is faster
    task.bad_files = bad_files = BadFiles(train.max_bad_files)
    schedule = schedule_of(train, task.counts, requirements_of(config).unlabeled)
    task.lasts(schedule.iterations)
    network, *peers = networks_of(config, task, device)
    config = with_passes(config, network, device) if begins else config
    if train.start_from is not None and not has_checkpoint(folder / "weights"):  # which a run that goes on has
        begin_with(config, network, task, reporter)
    config, teachers = given_teachers(config, task, network, own_teachers(config, folder))
    run_info = RunInfo(
        num_classes=len(task.class_names),
        num_labeled=task.counts.labeled,
        num_unlabeled=task.counts.unlabeled,
        steps_per_epoch=schedule.per_epoch,
        iterations=schedule.iterations,
        group=train.group,
        seed=train.seed,
        normalise=train.normalise,
        class_weights=tuple(train.class_weights.values()) if isinstance(train.class_weights, dict) else None,
        side=_side(config),
    )
    method: Method = METHODS.get(config.method_name)(network, config.method, run_info, *peers)
    method.to(device)
    method.given = tuple(placed(teacher, device) for teacher in teachers)
    config = planned(replace(config, data=task.settled(config.data)), method, task, device, reporter)
    train = config.train
    method.label_pass = compiled(method.label_pass, train.compile)
    stepper = stepper_of(config, method, device)
    trainer = Trainer(
        task=task,
        method=method,
        stepper=stepper,
        schedule=schedule,
        train=train,
        optimizer_settings=config.optimizer,
        inference=inference_on(device, train.precision),
        folder=folder,
        reporter=reporter,
        bad_files=bad_files,
        metadata={"task": config.task, "name": config.name, **task.metadata()},
        snapshot={"format": FORMAT, "config": config.to_raw(), "manifest": dict(task.manifest())},
        images_per_step=train.batch * (1 + train.ratio * requirements_of(config).unlabeled),
    )
    return Run(config, task, network, trainer, schedule, folder, device)
