"""The loop: batches -> views -> step -> logs, evaluations, checkpoints. Knows Method and Task only as abstractions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from semikit.core.draws import draw
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.task import Inference, Scores, Task
from semikit.errors import DataError, RunError
from semikit.training.checkpoint import save_best, save_last
from semikit.training.device import peak_memory
from semikit.training.inspection import keep_batch
from semikit.training.meter import Meter
from semikit.training.optimizer import set_learning_rates
from semikit.training.reporter import Reporter
from semikit.training.settings import OptimizerSettings, TrainSettings
from semikit.training.signals import StopRequest, stop_requests
from semikit.training.step import Stepper
from semikit.training.tracking import Row, Tracker


class Interrupted(RunError):
    """Somebody asked the run to stop; a checkpoint was saved."""

    exit_code = 130


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Lengths in iterations: of the run, of an epoch, between evaluations, between checkpoints."""

    iterations: int
    per_epoch: int
    eval_every: int
    save_every: int


@final
class Trainer:
    """Trains a method on a task and keeps a run folder.

    `metadata` goes into every weights file: enough to rebuild the network. `snapshot` goes into every checkpoint:
    configuration and split, compared when a run is resumed.
    """

    def __init__(
        self,
        task: Task,
        method: Method,
        stepper: Stepper,
        schedule: Schedule,
        train: TrainSettings,
        optimizer_settings: OptimizerSettings,
        inference: Inference,
        folder: Path,
        reporter: Reporter,
        metadata: Mapping[str, Any],
        snapshot: Mapping[str, Any],
        images_per_step: int,
    ) -> None:
        self.task, self.method, self.stepper, self.schedule = task, method, stepper, schedule
        self.train, self.optimizer_settings, self.inference = train, optimizer_settings, inference
        self.folder, self.reporter = folder, reporter
        self.metadata, self.snapshot = metadata, snapshot
        self.meter = Meter(images_per_step)
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Any] = {}
        self.latest: dict[str, Scores] = {}
        self.lr = self.rate = self.waiting = 0.0

    # ------------------------------------------------------------------------------------------------ the loop

    def fit(self, tracker: Tracker) -> None:
        """Train from the current step to the end.

        Raises:
            Interrupted: after SIGINT or SIGTERM, when the checkpoint is written.
            RunError: more steps than allowed were not finite, data cannot be read any more, or the disk is full.
        """
        total = self.schedule.iterations
        self.method.train()
        steps, pin = range(self.step, total), self.inference.device.type == "cuda"
        iterator = iter(self.task.batches(steps, self.train.workers, pin))
        with stop_requests() as request, torch.random.fork_rng(devices=[]):
            self.reporter.start(self.step, total)
            self.meter.resume_clock()
            try:
                while self.step < total:
                    self._iteration(iterator)
                    self._bookkeeping(tracker, request)
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()  # ends the workers behind it
                self.reporter.end()

    def _iteration(self, iterator: Any) -> None:
        begun = time.monotonic()
        raw = self._next(iterator)
        waited = time.monotonic() - begun
        # Networks with drop path draw from torch's global generator.
        torch.manual_seed(int(draw(self.train.seed, "network", self.step).integers(2**63)))
        self.lr = set_learning_rates(
            self.stepper.optimizer, self.optimizer_settings, self.step, self.schedule.iterations
        )
        labeled, unlabeled = self.task.views(raw, self.step, self.inference.device)
        self.meter.add(self.stepper(labeled, unlabeled, self.step), waited)
        self.step += 1
        self.seconds += time.monotonic() - begun
        self.reporter.advance()

    def _next(self, iterator: Any) -> Any:
        try:
            return next(iterator)
        except DataError as error:
            self._read()
            self.save()
            raise RunError(
                f"data could not be read at iteration {self.step}; saved. {error} Then go on with: --resume "
                f"{self.folder}"
            ) from error

    def _bookkeeping(self, tracker: Tracker, request: StopRequest) -> None:
        end = self.step == self.schedule.iterations
        evaluate = end or self.step % self.schedule.eval_every == 0
        save = end or self.step % self.schedule.save_every == 0
        if evaluate or save or request.asked or self.step % self.train.log_every == 0:
            self._read()
        if evaluate:
            self.evaluate(tracker)
        stop = request.asked and not end  # also when it was asked for during the evaluation
        if save or stop:
            self.save()
        if stop:
            raise Interrupted(f"interrupted at iteration {self.step}; saved. Go on with: --resume {self.folder}")
        if evaluate or save:
            self.meter.resume_clock()

    def _read(self) -> None:
        """Read what gathered on the device; the only place of the loop that waits for it."""
        begun = time.monotonic()
        values = self.meter.read()
        skipped = int(self.stepper.skipped)
        self.seconds += time.monotonic() - begun
        if skipped:
            values["skipped"] = float(skipped)
        self.reporter.log(values)
        self.rate = values.get("images_per_second", 0.0)
        self.waiting = values.get("waiting", 0.0)
        if skipped > self.train.max_skipped:
            self._stop_for_non_finite(skipped)

    # ------------------------------------------------------------------------------------ evaluation, checkpoints

    def networks(self) -> dict[str, Network]:
        """The networks that are evaluated and kept."""
        return {"student": self.method.student, "teacher": self.method.teacher}

    def evaluate(self, tracker: Tracker) -> None:
        """Score student and teacher, keep the best, draw pictures, add a row to the table."""
        try:
            self.score()
        except DataError as error:
            raise RunError(
                f"nothing could be scored at iteration {self.step}: {error} Then --resume {self.folder}"
            ) from error
        self.task.pictures(self.networks()[self.best["model"]], self.folder / "images", self.inference)
        self.method.train()
        row = self._row()
        tracker.add(row)
        self.reporter.evaluation(self.step, self.latest, self.best)
        for notice in self.method.after_evaluation({n: s.value for n, s in self.latest.items()}, row.get("confident")):
            self.reporter.notice(notice)

    def score(self) -> None:
        """Score student and teacher and keep the best, as a finished run needs it once more for its results.

        Leaves both in eval mode.
        """
        split = "test" if self.train.protocol == "paper" and self.task.counts.test else "val"
        self.method.eval()
        self.latest = self.task.evaluate(self.networks(), split, self.inference)  # type: ignore[arg-type]
        for name, scores in self.latest.items():
            chosen = self.train.select in ("better", name)
            if chosen and (not self.best or scores.value > self.best["value"]):
                self.best = {"model": name, "value": scores.value, "iteration": self.step, "split": split}
                self.best |= {"protocol": self.train.protocol, "per_class": dict(scores.per_class)}
                metadata = {**self.metadata, "best": self.best}
                save_best(self.folder / "weights", self.networks()[name].exported(), metadata)

    def _row(self) -> Row:
        row = {"iteration": float(self.step), "epoch": self.step / self.schedule.per_epoch}
        row |= self.meter.mean_since_evaluation()
        for name, scores in self.latest.items():
            row[f"{name}_{scores.metric}"] = scores.value
            row |= {f"{name}/{key}": value for key, value in scores.extra.items()}
        row |= {"lr": self.lr, "images_per_second": self.rate, "waiting": self.waiting}
        row["peak_memory_mib"] = peak_memory(self.inference.device) / 2**20
        return row

    def save(self) -> None:
        """Write the checkpoint `weights/last.ckpt`; the one before stays as `previous.ckpt`."""
        scaler = self.stepper.scaler
        state = {
            "step": self.step,
            "method": self.method.state_dict(),
            "optimizer": self.stepper.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": self.best,
            "seconds": self.seconds,
            "skipped": [int(self.stepper.skipped), int(self.stepper.first_skipped)],
            "meter": [self.meter.since_evaluation, self.meter.steps_since_evaluation],
            "metadata": dict(self.metadata),
            **self.snapshot,
        }
        save_last(self.folder / "weights", state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where a checkpoint was written."""
        self.step = int(state["step"])
        self.method.load_state_dict(state["method"])
        self.stepper.optimizer.load_state_dict(state["optimizer"])
        if self.stepper.scaler is not None and state["scaler"] is not None:
            self.stepper.scaler.load_state_dict(state["scaler"])
        self.best = dict(state["best"])
        self.seconds = float(state["seconds"])
        self.stepper.skipped.fill_(state["skipped"][0])
        self.stepper.first_skipped.fill_(state["skipped"][1])
        self.meter.since_evaluation, self.meter.steps_since_evaluation = dict(state["meter"][0]), int(state["meter"][1])

    def _stop_for_non_finite(self, skipped: int) -> None:
        """Rebuild the first bad batch from its step number, keep it for inspection, and stop."""
        bad = int(self.stepper.first_skipped)
        raw = next(iter(self.task.batches(range(bad, bad + 1), 0, False)))
        path = self.folder / f"nonfinite-iteration-{bad}.safetensors"
        keep_batch(path, *self.task.views(raw, bad, torch.device("cpu")))
        raise RunError(
            f"loss or gradient was not finite at iteration {bad} ({skipped} skipped, train.max_skipped="
            f"{self.train.max_skipped}). Its batch was rebuilt into {path}. Lower the learning rate, use fp32 or bf16, "
            "or allow a few skipped steps with train.max_skipped=N."
        )
