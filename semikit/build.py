"""The one composition root: a configuration becomes objects, a path becomes a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from semikit.config import Config, resolve, resumable
from semikit.core.batch import Facts, Needs
from semikit.core.metadata import checked
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.processes import process_count, process_rank
from semikit.core.task import Inference, Plan, Task
from semikit.errors import ConfigError, DataError, WeightsError
from semikit.models.buildable import buildable
from semikit.models.lora import merged
from semikit.models.released import load_released
from semikit.models.settings import EncoderSettings
from semikit.recipes import difference, merge, read_yaml
from semikit.registry import METHODS, TASKS
from semikit.training.checkpoint import BEST, LAST, read_best, read_checkpoint, read_last, write_atomically
from semikit.training.contents import contents_of
from semikit.training.device import autocast, choose_device, grad_scaler
from semikit.training.length import schedule_of
from semikit.training.memory import planned_parts
from semikit.training.optimizer import build_optimizer
from semikit.training.parts import check_parts
from semikit.training.processes import agreed, over_processes
from semikit.training.reporter import Reporter
from semikit.training.settings import Schedule
from semikit.training.step import Stepper
from semikit.training.tracking import write_text
from semikit.training.trainer import Trainer


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


def plan_of(config: Config) -> Plan:
    """How a step is put together."""
    train = config.train
    unlabeled, on_test = train.batch * train.ratio, train.protocol == "paper"
    return Plan(train.batch, unlabeled, train.group, train.seed, train.normalise, on_test)


def needs_of(config: Config) -> Needs:
    """What the method asks of the task."""
    method: type[Method] = METHODS.get(config.method_name)
    if config.train.parts > 1 and method.whole_batch(config.method):
        raise ConfigError(
            f"{config.method_name} takes its pseudo-labels from the student's own pass over the whole batch, so "
            f"train.accumulate={config.train.parts} would change it. Use train.accumulate=1 or a smaller batch."
        )
    ohem = getattr(config.method, "ohem", None) is not None
    check_parts(config.train, process_count(), ohem)
    return method.needs(config.method)


def build_task(config: Config) -> Task:
    """The task with its data.

    Raises:
        DataError: when the data are not as described, or nothing is unlabelled although the method learns from it.
    """
    needs = needs_of(config)
    task: Task = TASKS.get(config.task)(config.data, config.views, config.evaluate, plan_of(config), needs)
    if needs.unlabeled and task.counts.unlabeled == 0:
        raise DataError(
            f"{config.method_name} learns from unlabelled images, but there are none: all {task.counts.labeled} images "
            "are labelled. Give fewer with --labels, add images with --unlabeled DIR, or use --method supervised."
        )
    if needs.every_image and task.counts.unlabeled is None:
        raise ConfigError(
            f"{config.method_name} keeps something of every unlabelled image, but those of shards are not numbered. "
            "Use freematch or softmatch, whose thresholds adapt too, or give the images as folders."
        )
    if task.counts.unlabeled is None and config.train.iterations is None:
        raise ConfigError(
            f"train.epochs is {config.train.epochs}, but nobody has counted the unlabelled images in shards, so an "
            "epoch has no length. Say how many steps: --iterations N (train.iterations)."
        )
    return task


def inference_of(config: Config, device: torch.device) -> Inference:
    """Device and autocast of evaluation."""
    return Inference(device, autocast(device, config.train.precision))


def placed(network: Network, device: torch.device) -> Network:
    """The network on its device, in the layout that convolutions run about twice as fast in, on CPUs too."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def stepper_of(config: Config, method: Method, device: torch.device) -> Stepper:
    """What makes the optimiser's steps of a method."""
    train, forward, sharding = config.train, method, None
    if train.shard:
        from semikit.training.sharding import Sharding  # takes a second to import

        sharding = Sharding(method, device)
    else:
        forward = over_processes(torch.compile(method) if train.compile else method)
    return Stepper(
        method,
        forward,
        build_optimizer(method.student, config.optimizer, method.extra_parameters()),
        autocast(device, train.precision),
        train.parts,
        grad_scaler(device, train.precision),
        sharding,
    )


def planned(config: Config, method: Method, task: Task, device: torch.device, reporter: Reporter) -> Config:
    """The configuration with a number of micro-batches in place of `train.accumulate: auto`."""
    if config.train.accumulate != "auto":
        return config

    def stepper(parts: int) -> Stepper:
        train = config.train.model_copy(update={"accumulate": parts, "compile": False})
        return stepper_of(replace(config, train=train), method, device)

    mined = config.train.group if getattr(config.method, "ohem", None) is not None else 1
    parts, notice = planned_parts(method, task, stepper, mined, method.whole_batch(config.method), device)
    reporter.notice(notice)
    return replace(config, train=config.train.model_copy(update={"accumulate": agreed(parts)}))


def build_run(config: Config, folder: Path, reporter: Reporter, task: Task | None = None) -> Run:
    """Everything needed to train, on its device; nothing is written yet."""
    train = config.train
    device = choose_device(train.device)
    task = task or build_task(config)
    task.run_folder = folder
    schedule = schedule_of(train, task.counts, needs_of(config).unlabeled)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        with buildable(config.model):
            network = placed(task.network(config.model), device)
    facts = Facts(
        num_classes=len(task.class_names),
        num_labeled=task.counts.labeled,
        num_unlabeled=task.counts.unlabeled,
        steps_per_epoch=schedule.per_epoch,
        iterations=schedule.iterations,
        group=train.group,
        seed=train.seed,
        normalise=train.normalise,
    )
    method: Method = METHODS.get(config.method_name)(network, config.method, facts)
    method.to(device)
    config = planned(config, method, task, device, reporter)
    train = config.train
    stepper = stepper_of(config, method, device)
    unlabeled = train.batch * train.ratio if needs_of(config).unlabeled else 0
    trainer = Trainer(
        task=task,
        method=method,
        stepper=stepper,
        schedule=schedule,
        train=train,
        optimizer_settings=config.optimizer,
        inference=inference_of(config, device),
        folder=folder,
        reporter=reporter,
        metadata={"task": config.task, "name": config.name, **task.metadata()},
        snapshot={"config": config.to_raw(), "manifest": dict(task.manifest())},
        images_per_step=train.batch + unlabeled,
    )
    return Run(config, task, network, trainer, schedule, folder, device)


def resume(run: Run, reporter: Reporter) -> None:
    """Go on from the run folder's last checkpoint (or the one before, if it is damaged).

    Raises:
        ConfigError: when the configuration is another one; DataError: when the split is; the difference is shown.
    """
    state, notice = read_last(run.folder / "weights")
    if notice:
        reporter.notice(notice)
    with contents_of(run.folder / "weights" / LAST):
        _take_over(run, state, reporter)


def _take_over(run: Run, state: Mapping[str, Any], reporter: Reporter) -> None:
    changed = resumable(run.folder, state["config"], run.config)
    split = difference(state["manifest"], dict(run.task.manifest()))
    if split:
        raise DataError(
            f"{run.folder} was trained on another split:\n  "
            + "\n  ".join(split[:10])
            + "\nRestore the data, or begin a "
            "new run with another --out."
        )
    run.trainer.restore(state)
    _record(run, changed, list(state.get("changed", [])), reporter)


def _record(run: Run, changed: list[str], before: list[str], reporter: Reporter) -> None:
    """Tell what changed with this resumption; it stays so in config.yaml, and in checkpoints and results as a list."""
    step = run.trainer.step
    record = [*before, *(f"iteration {step}: {line}" for line in changed)]
    if record:
        run.trainer.snapshot = {**run.trainer.snapshot, "changed": record}
    if changed and process_rank() == 0:
        write_atomically(run.folder / "config.yaml", lambda path: write_text(path, run.config.to_yaml()))
        reporter.notice(f"from iteration {step} on with another {'; '.join(changed)}")


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """A trained network in eval mode and what its file tells: from a run folder (its best), a weights file written by
    semikit, a checkpoint `last.ckpt`, or a released checkpoint (change detection where it has two classes).

    Raises:
        WeightsError: when there is nothing to load, or it cannot be read.
    """
    if path.is_dir():
        path = path / "weights" / BEST
        if not path.is_file():
            raise WeightsError(f"no trained weights at {path}: the run has not been evaluated yet, or this is no run.")
    if path.suffix == ".ckpt":
        return _from_checkpoint(path)
    if path.suffix != ".safetensors":
        found = load_released(path)
        # Both tasks have the same tensors; of two classes only networks of change detection were released.
        task = TASKS.get("cd" if found.num_classes == 2 else "seg")
        return task.released(found, path.stem)  # type: ignore[no-any-return]
    state, raw = read_best(path)
    metadata = checked(raw, path)
    with contents_of(path):
        network: Network = TASKS.get(metadata["task"]).rebuild(metadata)
        network.load_state_dict(state)
    return network.eval(), metadata


def _from_checkpoint(path: Path) -> tuple[Network, dict[str, Any]]:
    """The better of student and teacher at the time the checkpoint was written."""
    state = read_checkpoint(path)
    metadata = checked(state["metadata"], path)
    with contents_of(path):
        network: Network = TASKS.get(metadata["task"]).rebuild(metadata)
        prefix = f"{state['best'].get('model', 'teacher')}."
        weights = {k.removeprefix(prefix): v for k, v in state["method"].items() if k.startswith(prefix)}
        model: EncoderSettings = TASKS.get(metadata["task"]).Model.model_validate(state["config"]["model"])
        network.load_state_dict(weights if model.lora is None else merged(weights, model.lora))
    return network.eval(), metadata


def read_run_config(folder: Path, overrides: Mapping[str, Any]) -> Config:
    """The configuration a run folder was trained with, with overrides."""
    return resolve(merge(read_yaml(folder / "config.yaml"), overrides))
