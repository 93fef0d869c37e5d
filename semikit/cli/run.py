"""What `train` and `demo` share: run folders, the start panel, a run from beginning to end."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from semikit.cli.console import Lines, make_reporter, start_panel
from semikit.cli.json_file import write_json
from semikit.cli.results import results_of, say_results
from semikit.cli.run_folder import clear_unused, find_run, never_began, new_folder, remove_empty, unfinished
from semikit.cli.start import facts_of, notices_of
from semikit.cli.tee import Both
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
from semikit.errors import DataError, InputError, RunError, SemikitError
from semikit.files import write_text
from semikit.run import build
from semikit.run import resume as resuming
from semikit.run.config import Config, resolve
from semikit.run.lock import sole_writer
from semikit.run.recipes import merge
from semikit.training.reporter import Quiet, Reporter
from semikit.training.tracking import Tracker


def begin(raw: Mapping[str, Any], out: Path | None, seeds: Sequence[int] | None, console: Console, quiet: bool) -> None:
    """Train in a new folder, together with the other processes that torchrun started; where torchrun starts them anew
    after a failure, go on with what they had begun.
    """
    config = resolve(raw)
    if seeds is not None and may_restart():
        raise InputError("--seeds does not go with --max-restarts; start each seed by itself (--seed, --out).")
    with joined(config.train.device):
        # Only some machines count a restart; with --out the folder tells.
        begun = on_first(lambda: unfinished(config, out) if restarts() or (out and may_restart()) else None)
        if begun is not None:
            # How a step is shared is planned anew: there may be another number of processes.
            sharing = {"train": {"accumulate": config.train.accumulate}}
            resume_run(config.task, Path(begun), sharing, console, quiet)
            return
        folder = Path(on_first(lambda: str(new_folder(raw, out))))
        seen_by_all(folder)
        if seeds is None:
            start_run(raw, folder, console, quiet)
        else:
            start_runs(raw, folder, seeds, console, quiet)


def go_on(task: str, given: str, overrides: Mapping[str, Any], console: Console, quiet: bool) -> None:
    """Go on with a run, together with the other processes that torchrun started."""
    folder = find_run(task, given)
    with joined(resuming.read_run_config(folder, overrides).train.device):
        resume_run(task, folder, overrides, console, quiet)


def start_run(raw: Mapping[str, Any], folder: Path, console: Console, quiet: bool) -> dict[str, Any]:
    """Train one run in an empty folder; returns the results."""
    leads = process_rank() == 0
    try:
        with _writing(folder) as notice:
            on_first(lambda: _refuse_begun(folder))
            try:
                return _start(resolve(raw), folder, console, quiet, notice)
            except (SemikitError, KeyboardInterrupt):
                if leads:
                    clear_unused(folder)
                raise
    finally:
        if leads:
            remove_empty(folder)


@contextmanager
def _writing(folder: Path) -> Iterator[str | None]:
    """The first process holds the run folder while the block runs; gives what a person should know of that."""
    with ExitStack() as held:
        yield on_first(lambda: held.enter_context(sole_writer(folder)))


def _refuse_begun(folder: Path) -> None:
    if not never_began(folder):
        raise InputError(f"another run began in {folder} meanwhile. Choose another --out.")
    clear_unused(folder)


def _start(config: Config, folder: Path, console: Console, quiet: bool, notice: str | None) -> dict[str, Any]:
    with _log(folder, console, quiet) as reporter:
        run = _checked(config, folder, reporter)
        on_first(lambda: _write_begin(run))
        return _train(run, console, quiet, 0, notice)


def _checked(config: Config, folder: Path, reporter: Reporter) -> build.Run:
    """All objects of a run; the first process has looked through the data."""
    task = build.build_task(config)
    on_first(task.check)
    return build.build_run(config, folder, reporter, task)


def _write_begin(run: build.Run) -> None:
    """What a run folder holds from the beginning; config.yaml comes last, for a folder that has it can be resumed."""
    run.task.write_split(run.folder)
    write_text(run.folder / "config.yaml", run.config.to_yaml())


def resume_run(
    task_name: str, folder: Path, overrides: Mapping[str, Any], console: Console, quiet: bool
) -> dict[str, Any]:
    """Go on with a run."""
    config = resuming.read_run_config(folder, overrides)
    if config.task != task_name:
        raise InputError(f"{folder} is a run of the task {config.task!r}: semikit train {config.task} --resume …")
    with _writing(folder) as notice, _log(folder, console, quiet) as reporter:
        run = _checked(config, folder, reporter)
        resuming.resume(run, reporter)
        same_step(run.trainer.step, folder)
        reporter.notice(f"going on at iteration {run.trainer.step}")
        return _train(run, console, quiet, run.trainer.step, notice)


def start_runs(raw: Mapping[str, Any], folder: Path, seeds: Sequence[int], console: Console, quiet: bool) -> None:
    """One run per seed in folder/seed-N, then mean and standard deviation of the best value."""
    results = []
    for seed in seeds:
        child = folder / f"seed-{seed}"
        on_first(lambda child=child: child.mkdir())  # type: ignore[misc]
        try:
            results.append(start_run(merge(raw, {"train": {"seed": seed}}), child, console, quiet))
        finally:
            if process_rank() == 0:
                remove_empty(folder)
    if process_rank():
        return
    metric, split = results[0]["metric"], results[0]["best"]["split"]
    summary = {"metric": metric, "seeds": list(seeds), "split": split}
    summary |= _spread([float(result["best"]["value"]) for result in results])
    told = {split: summary}
    if "test" in results[0]:
        summary["test"] = told["test"] = _spread([float(result["test"][metric]) for result in results])
    write_json(folder / "summary.json", summary)
    for name, found in told.items():
        line = f"{metric} over seeds {list(seeds)}: {found['mean']:.2f} ± {found['std']:.2f} ({name})"
        console.print(line, markup=False)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Values with their mean and standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"values": list(values), "mean": statistics.mean(values), "std": spread}


def dry_run(raw: Mapping[str, Any], processes: int, console: Console) -> None:
    """Resolve, look through all data, print configuration and plan for so many processes; write and train nothing."""
    config = resolve(raw)
    alone = build.alone(config, processes)
    task = build.build_task(alone)
    task.check(thorough=True)
    run = build.build_run(alone, Path("-"), make_reporter(console, True), task)
    console.out(config.to_yaml(), highlight=False)
    start_panel(console, "plan", facts_of(run, processes))
    for notice in notices_of(run, processes):
        console.out(f"note: {notice}", highlight=False)
    if config.train.accumulate == "auto" and processes > 1:
        console.out("note: train.accumulate auto is tried when the run begins, on each process's part of the batch")
    console.print("The data are fine. Nothing was trained or written.")


def _train(run: build.Run, console: Console, quiet: bool, first: int, told: str | None) -> dict[str, Any]:
    leads = process_rank() == 0
    facts = facts_of(run, process_count())
    if leads and not quiet:
        start_panel(console, f"semikit train {run.config.task}", facts)
    if leads:
        with (run.folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{name}: {fact}\n" for name, fact in facts.items())
    for notice in [*notices_of(run, process_count()), *([told] if told else [])]:
        run.trainer.reporter.notice(notice)
    tracker = Tracker(run.folder, first) if leads else None
    try:
        with _faults_told(run):
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
    if leads:
        say_results(run, results, console, quiet)
    return results


@contextmanager
def _faults_told(run: build.Run) -> Iterator[None]:
    """What torch and the disk raise, as an error that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of {run.device} does not suffice. Begin again with a smaller --batch or --crop, with "
            "train.accumulate=2 (the same batch in two parts), or with --precision bf16."
        ) from error
    except DataError as error:
        raise RunError(f"nothing could be scored at the end: {error} Then go on with --resume {run.folder}") from error
    except OSError as error:
        raise RunError(
            f"the run stopped at iteration {run.trainer.step}: {error}. Free space on its disk or make it writable, "
            f"then go on with --resume {run.folder}"
        ) from error


@contextmanager
def _log(folder: Path, console: Console, quiet: bool) -> Iterator[Reporter]:
    """A reporter that also writes log.txt; a fault's traceback goes there too, and the fault says where. Of several
    processes only the first tells.
    """
    path = folder / "log.txt"
    if process_rank():
        number = process_rank()
        try:
            yield Quiet()
        except Exception as error:
            if not isinstance(error, InputError) and not getattr(error, "of_all", False):
                with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(f"process {number}: {traceback.format_exc()}")
            raise
        return
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file:
        try:
            yield Both(make_reporter(console, quiet), Lines(Console(file=file, width=200)))
        except SemikitError as error:
            file.write(f"{type(error).__name__}: {error}\n")
            raise
        except Exception as error:
            file.write(traceback.format_exc())
            error.semikit_log = path  # type: ignore[attr-defined]
            raise
