"""The life of a run: begun in a new folder or gone on with, trained, its results written. Knows no console."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, final

import torch

from semikit.core.census import Census
from semikit.distributed.collectives import process_count, process_rank
from semikit.distributed.groups import (
    joined,
    may_restart,
    on_first,
    restarts,
    same_step,
    seen_by_all,
    translate_dist_errors,
)
from semikit.errors import ConfigError, DataError, InputError, RunError, SemikitError
from semikit.files import RESUME, shell_word, write_json, write_text
from semikit.run import build
from semikit.run import resume as resuming
from semikit.run.config import Config, resolve
from semikit.run.facts import facts_of, notices_of
from semikit.run.folder import (
    CENSUS,
    PLANNED,
    clear_unused,
    find_run,
    never_began,
    new_folder,
    remove_empty,
    unfinished,
)
from semikit.run.lock import sole_writer
from semikit.run.recipes import merge
from semikit.run.reporters import Both, Lines
from semikit.run.results import results_of
from semikit.run.rounds import train_rounds_before
from semikit.run.teacher import with_own_labels
from semikit.run.timing import precision_compared, timed
from semikit.training.reporter import FinishedRun, Reporter
from semikit.training.services import Service, check_service
from semikit.training.tracking import RESULTS, Tracker
from semikit.training.trainer import Interrupted

_ONE_VALUE = "more than 1 value per channel"
"""What torch says where batch norm has nothing to take a mean of."""

MakeReporter = Callable[[], Reporter]
"""Makes the observer of a run; several runs (--seeds) have one each."""


def begin(
    raw: Mapping[str, Any], out: Path | None, seeds: Sequence[int] | None, reporter: MakeReporter
) -> tuple[Path, dict[str, Any]]:
    """Train in a new folder, together with the other processes that torchrun started; where torchrun starts them anew
    after a failure, go on with what they had begun. Returns the folder and the results.
    """
    config = resolve(raw)
    check_service(config.train.log)
    if seeds is not None and may_restart():
        raise InputError("--seeds does not go with --max-restarts; start each seed by itself (--seed, --out).")
    with joined(config.train.device):
        if config.chosen:  # by what the first machine has
            raw = on_first(lambda: raw)
            config = resolve(raw)
        # Only some machines count a restart; with --out the folder tells.
        begun = on_first(lambda: unfinished(config, out) if restarts() or (out and may_restart()) else None)
        if begun is not None:
            # How a step is shared is planned anew: there may be another number of processes.
            sharing = {"train": {"accumulate": config.train.accumulate}}
            return Path(begun), resume_run(config.task, Path(begun), sharing, reporter)
        folder = Path(on_first(lambda: str(new_folder(raw, out))))
        seen_by_all(folder)
        if seeds is None:
            return folder, start_run(raw, folder, reporter)
        return folder, start_runs(raw, folder, seeds, reporter)


def go_on(
    task: str, given: str, overrides: Mapping[str, Any], reporter: MakeReporter, accept_data_changes: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Go on with a run, together with the other processes that torchrun started; its folder and the results."""
    folder = find_run(task, given)
    config = resuming.read_run_config(folder, overrides)
    check_service(config.train.log)
    with joined(config.train.device):
        return folder, resume_run(task, folder, overrides, reporter, accept_data_changes)


@contextmanager
def one_of_many() -> Iterator[None]:
    """Within a call that trains several runs, and again those that are missing: what is said where one is stopped."""
    try:
        yield
    except Interrupted:
        raise Interrupted("interrupted; what was trained is kept. Go on with the same command.") from None


def start_run(raw: Mapping[str, Any], folder: Path, reporter: MakeReporter) -> dict[str, Any]:
    """Train one run in an empty folder; returns the results."""
    leads = process_rank() == 0
    try:
        with _writing(folder) as notice:
            on_first(lambda: _refuse_begun(folder))
            try:
                config = resolve(raw)
                train_rounds_before(config, folder, *_runs(config, {}, reporter))
                return _start(config, folder, reporter, notice)
            except (SemikitError, KeyboardInterrupt):
                if leads:
                    clear_unused(folder)
                raise
    finally:
        if leads:
            remove_empty(folder)


@contextmanager
def _writing(folder: Path) -> Iterator[str | None]:
    """The first process holds the run folder while the block runs; gives a notice about that, if any."""
    with ExitStack() as held:
        yield on_first(lambda: held.enter_context(sole_writer(folder)))


def _refuse_begun(folder: Path) -> None:
    if not never_began(folder):
        raise InputError(f"another run began in {folder} meanwhile. Choose another --out.")
    clear_unused(folder)


def _start(config: Config, folder: Path, reporter: MakeReporter, notice: str | None) -> dict[str, Any]:
    with _log(folder, reporter) as observer:
        run = _checked(config, folder, observer)
        on_first(lambda: _write_begin(run))
        return _train(precision_compared(run), 0, notice)


def _checked(config: Config, folder: Path, reporter: Reporter, resumed: bool = False) -> build.Run:
    """All objects of a run; the first process has checked the data."""
    task = build.build_task(with_own_labels(config, folder))
    on_first(lambda: task.check(resumed=resumed))
    return build.build_run(config, folder, reporter, task, begins=not resumed)


def _write_begin(run: build.Run) -> None:
    """What a run folder holds from the beginning; config.yaml comes last, for a folder that has it can be resumed."""
    run.task.write_split(run.folder)
    if run.task.census is not None:
        write_json(run.folder / CENSUS, run.task.census.plain(), RESUME)
    write_text(run.folder / "config.yaml", run.config.to_yaml(), RESUME)


def resume_run(
    task_name: str,
    folder: Path,
    overrides: Mapping[str, Any],
    reporter: MakeReporter,
    accept_data_changes: bool = False,
) -> dict[str, Any]:
    """Go on with a run, also where its labelled files were edited if that is accepted."""
    config = resuming.read_run_config(folder, overrides)
    if config.task != task_name:
        raise InputError(f"{folder} is a run of the task {config.task!r}: semikit train {config.task} --resume …")
    with _writing(folder) as notice:
        if train_rounds_before(config, folder, *_runs(config, overrides, reporter)):
            return _start(config, folder, reporter, notice)
        return _go_on(config, folder, reporter, notice, accept_data_changes)


def _runs(config: Config, overrides: Mapping[str, Any], reporter: MakeReporter) -> tuple[Any, Any]:
    """How a run before a run's own is begun, and gone on with: on the same device."""
    train = {key: value for key, value in overrides.get("train", {}).items() if key in ("device", "workers")}
    return (
        lambda raw, place: start_run(raw, place, reporter),
        lambda place, above: resume_run(config.task, place, {**above, **({"train": train} if train else {})}, reporter),
    )


def _go_on(
    config: Config, folder: Path, reporter: MakeReporter, notice: str | None, accept_data_changes: bool
) -> dict[str, Any]:
    with _log(folder, reporter) as observer:
        run = _checked(config, folder, observer, resumed=True)
        resuming.resume(run, observer, accept_data_changes)
        same_step(run.trainer.step, folder)
        observer.notice(f"going on at iteration {run.trainer.step}")
        if not run.trainer.over and process_rank() == 0:
            (folder / RESULTS).unlink(missing_ok=True)  # of the run as it was: until it ends again there are none
        return _train(run, run.trainer.step, notice)


def start_runs(raw: Mapping[str, Any], folder: Path, seeds: Sequence[int], reporter: MakeReporter) -> dict[str, Any]:
    """One run per seed in folder/seed-N; returns mean and standard deviation of the best value, as in summary.json."""
    results = []
    for seed in seeds:
        child = folder / f"seed-{seed}"
        on_first(lambda child=child: child.mkdir())  # type: ignore[misc]
        try:
            results.append(start_run(merge(raw, {"train": {"seed": seed}}), child, reporter))
        finally:
            if process_rank() == 0:
                remove_empty(folder)
    metric, split = results[0]["metric"], results[0]["best"]["split"]
    summary = {"metric": metric, "seeds": list(seeds), "split": split}
    summary |= _spread([float(result["best"]["value"]) for result in results])
    if "test" in results[0]:
        summary["test"] = _spread([float(result["test"][metric]) for result in results])
    if process_rank() == 0:
        write_json(folder / "summary.json", summary, RESUME)
    return summary


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Values with their mean and standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"values": list(values), "mean": statistics.mean(values), "std": spread}


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would be: its resolved configuration, facts by their name, notices for the user, what the parts of its
    data hold, and the notices among them that name supplied files no part uses.
    """

    config: Config
    facts: Mapping[str, str]
    notices: Sequence[str]
    census: Census | None = None
    unused: Sequence[str] = ()


def plan(raw: Mapping[str, Any], processes: int, time: bool = False) -> Plan:
    """Resolve, check and count all data, and plan for so many processes; write nothing, and train nothing but the few
    steps that `time` asks for. Pretrained weights are not loaded: no plan depends on them.
    """
    config = resolve(raw)
    alone = build.alone(config, processes)
    task = build.build_task(alone)
    task.check(thorough=True)
    random = alone.model.model_copy(update={"weights": "none"}) if alone.model.weights == "pretrained" else alone.model
    run = build.build_run(replace(alone, model=random), PLANNED, Reporter(), task, begins=True)
    planned = replace(run, config=replace(run.config, model=alone.model))
    if time:
        planned = precision_compared(planned, always=True)
    facts, notices = facts_of(planned, processes), notices_of(planned, processes)
    if time:
        facts = {**facts, "time": timed(run)}
    if config.train.accumulate == "auto" and processes > 1:
        notices.append("train.accumulate auto is tried when the run begins, on each process's part of the batch")
    return Plan(replace(config, data=run.config.data), facts, notices, task.census, task.unused)


def _train(run: build.Run, first: int, lock_notice: str | None) -> dict[str, Any]:
    leads = process_rank() == 0
    facts = facts_of(run, process_count())
    if leads:
        run.trainer.reporter.planned(f"semikit train {run.config.task}", facts)
        with (run.folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{name}: {fact}\n" for name, fact in facts.items())
            file.writelines(f"{line}\n" for line in (run.task.census.lines() if run.task.census else ()))
    for notice in [*notices_of(run, process_count()), *([lock_notice] if lock_notice else [])]:
        run.trainer.reporter.notice(notice)
    log = run.config.train.log
    service = Service(log, run.folder, run.config.to_raw()) if leads and log else None
    tracker = Tracker(run.folder, first, service) if leads else None
    try:
        with _translated_faults(run):
            run.trainer.fit(tracker)
            with translate_dist_errors():
                if not run.trainer.latest:
                    run.trainer.score()
                results = results_of(run)
            if tracker is not None:
                tracker.finish(results)
    finally:
        if tracker is not None:
            tracker.close()
    for notice in results["notices"]:  # last before the score
        run.trainer.reporter.notice(notice)
    run.trainer.reporter.finished(FinishedRun(run.folder, results, run.task.per_class, run.task.example))
    return results


@contextmanager
def _translated_faults(run: build.Run) -> Iterator[None]:
    """What torch and the disk raise, as an error that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of {run.device} does not suffice. Begin again with a smaller --batch or --crop, with "
            "train.accumulate=2 (the same batch in two parts), or with --precision bf16."
        ) from error
    except DataError as error:
        go_on = f"--resume {shell_word(run.folder)}"
        raise RunError(f"nothing could be scored at the end: {error} Then go on with {go_on}") from error
    except OSError as error:
        raise RunError(
            f"the run stopped at iteration {run.trainer.step}: {error}. Free space on its disk or make it writable, "
            f"then go on with --resume {shell_word(run.folder)}"
        ) from error
    except ValueError as error:
        if _ONE_VALUE not in str(error):
            raise
        raise ConfigError(
            "batch norm needs more than one value of each channel in every pass, and the deepest features of one image "
            "are a single one here. Give a larger --batch, for every process and part of a step two images, or a "
            "larger --crop."
        ) from error


@contextmanager
def _log(folder: Path, reporter: MakeReporter) -> Iterator[Reporter]:
    """A reporter that also writes log.txt; a fault's traceback goes there too, and the fault says where. Of several
    processes only the first tells.
    """
    path = folder / "log.txt"
    if process_rank():
        number = process_rank()
        try:
            yield Reporter()
        except Exception as error:
            if not isinstance(error, InputError) and not getattr(error, "of_all", False):
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"process {number}: {traceback.format_exc()}")
            raise
        return
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        try:
            yield Both(reporter(), Lines(lambda text: print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", file=file)))
        except SemikitError as error:
            file.write(f"{type(error).__name__}: {error}\n")
            raise
        except Exception as error:
            file.write(traceback.format_exc())
            error.semikit_log = path  # type: ignore[attr-defined]
            raise
