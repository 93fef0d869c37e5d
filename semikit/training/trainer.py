"""The loop: batches -> views -> step -> logs, evaluations, checkpoints. Knows Method and Task only as abstractions."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, final

import torch

from semikit.core.batch_norm import reestimate, restored_statistics
from semikit.core.method import Method
from semikit.core.network import Network
from semikit.core.rng import rng_for
from semikit.core.task import Inference, Scores, Split, Task, at_threshold
from semikit.distributed.collectives import alone, process_rank
from semikit.distributed.groups import FAILED, GO, STOP, LostError, agreed, everywhere, on_first, translate_dist_errors
from semikit.errors import INTERRUPTED, DataError, RunError, of_all
from semikit.files import shell_word
from semikit.training.bad_files import BadFiles, count_bad_files
from semikit.training.checkpoint import (
    learned_state,
    restore_learned,
    save_best,
    save_last,
    snapshot_file,
    whole_networks,
)
from semikit.training.device import convolutions_timed, peak_memory
from semikit.training.guards import Guards
from semikit.training.meter import ClassSums, Meter
from semikit.training.not_finite import not_finite, rebuilt
from semikit.training.optimizer import set_learning_rates
from semikit.training.reliability import Gate
from semikit.training.reporter import Reporter, duration
from semikit.training.settings import OptimizerSettings, Schedule, TrainSettings
from semikit.training.step import Stepper
from semikit.training.tracking import Tracker, scores_row

_TIMED, _WORTH_SAYING = 20, 60.0
"""Steps after which a run says how long it takes, where that is so many seconds."""


class Interrupted(RunError):
    """Somebody asked the run to stop; a checkpoint was saved."""

    exit_code = INTERRUPTED
    of_all = True


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
        bad_files: BadFiles,
        metadata: Mapping[str, Any],
        snapshot: Mapping[str, Any],
        images_per_step: int,
    ) -> None:
        self.task, self.method, self.stepper, self.schedule = task, method, stepper, schedule
        self.train, self.optimizer_settings, self.inference = train, optimizer_settings, inference
        self.folder, self.reporter, self.bad_files = folder, reporter, bad_files
        self.metadata, self.snapshot = metadata, snapshot
        self.meter = Meter(images_per_step)
        self.guards = Guards(method, train.guard == "act")
        self.gate = Gate(method, task)
        self.step = 0
        self.compiling_told = False
        self.evaluating = False  # and not done with it: a checkpoint would leave that evaluation out
        self.best: dict[str, Any] = {}
        self.without_gain = 0  # evaluations in a row
        self.begun_at, self.time_said = 0, False
        self.latest: dict[str, Scores] = {}
        self.seconds = self.lr = self.rate = self.waiting = 0.0
        self.too_many_bad: DataError | None = None  # of all processes together; the next step does not begin then

    def images(self, steps: int) -> int:
        """Images of the first so many steps."""
        return steps * self.meter.images_per_step - self.task.layout.saved_before(steps)

    @property
    def over(self) -> bool:
        """Whether all steps are made, or so many evaluations brought no gain that no more are."""
        patience = self.train.patience
        return self.step >= self.schedule.iterations or (patience is not None and self.without_gain >= patience)

    def fit(self, tracker: Tracker | None) -> None:
        """Train from the current step to the end; only the first process has a tracker, and writes.

        Raises:
            Interrupted: after SIGINT or SIGTERM to any process, when the checkpoint is written.
            RunError: more steps than allowed were not finite, data cannot be read any more, or the disk is full.
            LostError: another process ended.
        """
        total = self.schedule.iterations
        self.method.train()
        self.begun_at = self.step
        steps, pin = range(self.step, total), self.inference.device.type == "cuda"
        iterator = iter(self.task.batches(steps, self.train.workers, pin))
        with stop_requests() as request, torch.random.fork_rng(devices=[]), convolutions_timed(True):
            self.reporter.start(self.step, total)
            self.meter.resume_clock()
            try:
                with translate_dist_errors():
                    while not self.over:
                        self._iteration(iterator, request)
                        self._bookkeeping(tracker)
            except LostError as error:
                raise self._lost(error) from error
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()  # ends the workers behind it
                self.reporter.end()

    def _iteration(self, iterator: Any, request: StopRequest | None = None) -> None:
        begun = time.monotonic()
        raw = self._next(iterator, request is not None and request.asked)
        waited = time.monotonic() - begun
        # Networks with drop path draw from torch's global generator, in every process other masks.
        place = (self.step, process_rank()) if process_rank() else (self.step,)
        torch.manual_seed(int(rng_for(self.train.seed, "network", *place).integers(2**63)))
        total = self.schedule.iterations
        self.lr = set_learning_rates(self.stepper.optimizer, self.optimizer_settings, self.step, total)
        labeled, unlabeled = self.task.views(raw, self.step, self.inference.device)
        images = self.images(self.step + 1) - self.images(self.step)
        self.meter.add(self.stepper(labeled, unlabeled, self.step), waited, images)
        self.step += 1
        self.seconds += time.monotonic() - begun
        if self.train.compiled and not self.compiling_told:
            self.compiling_told = True
            seconds = time.monotonic() - begun - waited
            self.reporter.notice(f"the first step took {seconds:.0f} s, for torch.compile; later steps do not compile")
        self.reporter.advance()

    def _next(self, iterator: Any, asked: bool) -> Any:
        """The next batch, unless a process was asked to stop or has none: then all save and end."""
        raw, fault = None, None
        if not asked:
            try:
                raw = next(iterator)
            except (DataError, RunError) as error:
                fault = error
        state = agreed(STOP if asked else GO if fault is None else FAILED)
        if state == GO:
            self._tell(self.bad_files.news())
            fault = self.too_many_bad
            if fault is None:
                return raw
        faults = list(dict.fromkeys(everywhere([] if fault is None else [str(fault)])))
        self._read()
        self.save()
        if state == STOP:
            go_on = f"--resume {shell_word(self.folder)}"
            raise Interrupted(f"interrupted at iteration {self.step}; saved. Go on with: {go_on}")
        message = (
            f"data could not be read at iteration {self.step}; saved. {' '.join(faults)} Then go on with: --resume"
        )
        raise of_all(RunError(f"{message} {shell_word(self.folder)}")) from fault

    def _lost(self, error: LostError) -> LostError:
        """Save what is there, where no device hangs in what the lost process left undone; what to tell."""
        whole = self.stepper.sharding is None  # shards of the lost process are lost too
        if whole and not self.evaluating and process_rank() == 0 and self.inference.device.type == "cpu":
            self.save()
        return LostError(f"{error} at iteration {self.step}. Go on with: --resume {shell_word(self.folder)}")

    def _bookkeeping(self, tracker: Tracker | None) -> None:
        end = self.step == self.schedule.iterations
        evaluate = self.evaluating = end or self.step % self.schedule.eval_every == 0
        save = end or self.step % self.schedule.save_every == 0
        if evaluate or save or self.step % self.train.log_every == 0:
            values = self._read()
            if tracker is not None:
                tracker.add_steps(self.step, {**values, "lr": self.lr})
        if evaluate:
            self.evaluate(tracker)
        self._keep_snapshots()
        if save or self.over:
            self.save()
        if evaluate or save:
            self.meter.resume_clock()

    def _keep_snapshots(self) -> None:
        """Keep the student, where a part of the run is over after which it is to be kept."""
        count = self.train.snapshots
        for number in range(1, count + 1):
            if self.step == max(1, self.schedule.iterations * number // count):
                with whole_networks(self.method, self.stepper) as networks:
                    if process_rank() == 0:
                        student = networks["student"].exported()
                        save_best(self.folder / "weights", student, self.metadata, snapshot_file(number))

    def _read(self) -> dict[str, float]:
        """Read what gathered on the device, and give it; the only place of the loop that waits for it."""
        begun = time.monotonic()
        self.too_many_bad = count_bad_files(self.bad_files)
        self._tell([*self.bad_files.news(), *self.task.news()])
        values = self.meter.read()
        skipped = int(self.stepper.skipped)
        self.seconds += time.monotonic() - begun
        counts = {"skipped": skipped, "bad_files": len(self.bad_files.found)}
        values |= {name: float(count) for name, count in counts.items() if count}
        self.reporter.log(values)
        self.rate = values.get("images_per_second", 0.0)
        self.waiting = values.get("waiting", 0.0)
        self._say_time_left()
        if skipped > self.train.max_skipped:
            first = int(self.stepper.first_skipped)
            batch_file = rebuilt(self.task, first, self.folder, self.inference.device)
            raise of_all(not_finite(first, skipped, self.train, self.optimizer_settings, batch_file))
        return values

    def _say_time_left(self) -> None:
        """How long the run takes, once enough steps are timed; compiled ones from the second reading on."""
        timed, left = self.step - self.begun_at, self.schedule.iterations - self.step
        if self.time_said or not self.rate or timed < _TIMED * (1 + self.train.compiled):
            return
        self.time_said = True
        seconds = (self.images(self.schedule.iterations) - self.images(self.step)) / self.rate
        if seconds >= _WORTH_SAYING:
            steps = f"{left} more steps of {seconds / left:.2g} s"
            self.reporter.notice(f"{duration(seconds)} for {steps}, evaluations apart")

    def evaluate(self, tracker: Tracker | None) -> None:
        """Score student and teacher, keep the best and draw what it predicts, add a row to the table."""
        with self._evaluated() as networks:
            try:
                self._score(networks)
            except DataError as error:
                message = (
                    f"nothing could be scored at iteration {self.step}: {error} Then --resume {shell_word(self.folder)}"
                )
                raise RunError(message) from error
            if tracker is not None and self.best["iteration"] == self.step:  # they show the weights that are kept
                with alone():
                    tracker.add_pictures(self.step, self._draw(networks[self.best["model"]]))
            gated = self.gate.measure(self.step, networks, self.inference)
        self.method.train()
        classes = ClassSums.of(self.task.class_names, self.meter.since_evaluation)
        row = {"iteration": float(self.step), "epoch": self.step / self.schedule.per_epoch}
        row |= {**self.meter.mean_since_evaluation(), **scores_row(self.latest), **(classes.row() if classes else {})}
        row |= self.gate.last.row() if self.gate.last else {}
        row |= {"lr": self.lr, "images_per_second": self.rate, "waiting": self.waiting}
        row["peak_memory_mib"] = peak_memory(self.inference.device) / 2**20
        if tracker is not None:
            tracker.add(row)
        self.reporter.evaluation(self.step, self.latest, self.best)
        self._tell([gated] if gated else [])
        self._guard(row.get("confident"), classes, tracker)
        self._count_gain()
        self.evaluating = False

    def _count_gain(self) -> None:
        """Count this evaluation if it brought none; all processes count what the first has found."""
        gained = on_first(lambda: self.best["iteration"] == self.step)
        self.without_gain = 0 if gained else self.without_gain + 1
        if self.over and self.step < self.schedule.iterations:
            self.reporter.notice(
                f"the run ends at iteration {self.step} of {self.schedule.iterations}: no gain in {self.without_gain} "
                f"evaluations (train.patience {self.train.patience}) since iteration {self.best['iteration']}"
            )

    def _draw(self, network: Network) -> list[Path]:
        metric = self.latest[self.best["model"]].metric
        threshold = self.best.get("threshold")
        best = f"{self.best['model']} of iteration {self.step}, the best so far: {metric} {self.best['value']:.2f}"
        best += f"{at_threshold(threshold)} on {self.best['split']}"
        return self.task.pictures(network, self.folder / "images", self.inference, best, threshold)

    def _guard(self, confident: float | None, classes: ClassSums | None, tracker: Tracker | None) -> None:
        """Let the guards follow an evaluation, and change the method."""
        scores = {name: found.value for name, found in self.latest.items()}
        # What the first process measured, for all of them have to decide alike, to the last bit.
        seen = on_first(lambda: (scores, confident, classes))
        self._tell(self.guards.evaluated(self.step, *seen))
        for action in self.guards.done(self.step):
            self.stepper.find_buffers()
            if tracker is not None:
                tracker.note(action.iteration, action.remedy, action.text)

    def _tell(self, notices: Iterable[str]) -> None:
        for notice in notices:
            self.reporter.notice(notice)

    def score(self) -> None:
        """Score student and teacher and keep the best, as a finished run needs it once more for its results.

        Leaves both in eval mode.
        """
        with self._evaluated() as networks:
            self._score(networks)

    @contextmanager
    def _evaluated(self) -> Iterator[dict[str, Network]]:
        """Student and teacher in eval mode with the statistics they are evaluated and kept with."""
        self.method.eval()
        whole = whole_networks(self.method, self.stepper)
        with convolutions_timed(False), whole as networks, restored_statistics(networks.values()):
            both = list(networks.values())
            reestimate(both, self.task.passes(both, self.inference))
            yield networks

    def _score(self, networks: dict[str, Network]) -> None:
        split: Split = "test" if self.train.protocol == "paper" and self.task.counts.test else "val"
        watched = replace(self.inference, progress=lambda what, done, total: self.reporter.evaluating(done, total))
        self.latest = self.task.evaluate(networks, split, watched)
        for name, scores in self.latest.items():
            chosen = self.train.select in ("better", name)
            if chosen and (not self.best or scores.value > self.best["value"]):
                self.best = {"model": name, "value": scores.value, "iteration": self.step, "split": split}
                self.best |= {"protocol": self.train.protocol, "per_class": dict(scores.per_class)}
                self.best["class_scores"] = dict(scores.class_scores)
                if scores.threshold is not None:
                    self.best["threshold"] = scores.threshold
                if process_rank() == 0:
                    metadata = {**self.metadata, "best": self.best}
                    save_best(self.folder / "weights", networks[name].exported(), metadata)

    def save(self) -> None:
        """Write the checkpoint `weights/last.ckpt`; the one before stays as `previous.ckpt`."""
        first = process_rank() == 0
        learned = learned_state(self.method, self.stepper, self.meter) if first or self.stepper.sharding else {}
        if not first:
            return
        state = {
            "step": self.step,
            **learned,
            "best": self.best,
            "without_gain": self.without_gain,
            "seconds": self.seconds,
            "bad_files": dict(self.bad_files.found),
            "guards": self.guards.state_dict(),
            "reliability": self.gate.state(),
            "metadata": dict(self.metadata),
            **self.snapshot,
        }
        save_last(self.folder / "weights", state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where a checkpoint was written."""
        self.step = int(state["step"])
        self.guards.load_state_dict(state["guards"])  # first: what they did may have given the method more to restore
        self.stepper.find_buffers()
        restore_learned(state, self.method, self.stepper, self.meter)
        self.gate.restore(state.get("reliability"))
        self.best = dict(state["best"])
        assert not self.best or self.best.keys() >= {"model", "value", "iteration", "split", "per_class"}, self.best
        self.without_gain = int(state.get("without_gain", 0))  # not in checkpoints of before
        self.seconds = float(state["seconds"])
        self.bad_files.restore(state.get("bad_files", {}))


@final
class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle both signals while the block runs (in the main thread; elsewhere signals cannot be handled)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
