"""What `train` and `demo` share: run folders, the start panel, a run from beginning to end."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from semikit import build
from semikit.cli.console import Lines, make_reporter, start_panel
from semikit.cli.json_file import write_json
from semikit.cli.results import results_of, say_results
from semikit.cli.start import facts_of, notices_of
from semikit.cli.tee import Both
from semikit.config import Config, resolve
from semikit.core.processes import process_rank
from semikit.errors import InputError, RunError, SemikitError
from semikit.recipes import difference, merge, read_yaml
from semikit.training.processes import joined, losses_told, on_first, restarts, same_step
from semikit.training.reporter import Quiet, Reporter
from semikit.training.tracking import Tracker


def new_folder(raw: Mapping[str, Any], out: Path | None, base: Path = Path("runs")) -> Path:
    """Make the run folder: `out`, or runs/TASK/NAME-METHOD with -2, -3 … where that exists.

    Raises:
        InputError: when `out` holds a run already, or nothing can be written there.
    """
    method = raw.get("method")
    name = method.get("name", "unimatch_v2") if isinstance(method, Mapping) else "run"
    wanted = out or base / str(raw["task"]) / f"{raw.get('name', 'run')}-{name}"
    folder, number = wanted, 1
    try:
        while True:
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                if out is not None and folder.is_dir() and not any(folder.iterdir()):
                    return folder
                if out is not None:
                    raise InputError(
                        f"{out} exists and is not empty; nothing is overwritten. Choose another --out."
                    ) from None
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}. Choose another --out.") from error


def find_run(task: str, given: str, base: Path = Path("runs")) -> Path:
    """The run folder that `--resume` names; `last` is the newest one of the task with a checkpoint, of those without
    results where there are any.
    """
    if given != "last":
        folder = Path(given)
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder} is no run folder: it has no config.yaml. Give a folder made by semikit train.")
        return folder
    written = sorted(base.glob(f"{task}/**/weights/*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not written:
        raise InputError(f"there is no run to resume under {base / task}. Give the run folder: --resume RUN.")
    folders = [path.parent.parent for path in written]
    return next((folder for folder in folders if not (folder / "results.json").exists()), folders[0])


def begin(raw: Mapping[str, Any], out: Path | None, seeds: Sequence[int] | None, console: Console, quiet: bool) -> None:
    """Train in a new folder, together with the other processes that torchrun started; where torchrun starts them anew
    after a failure, go on with what they had begun.
    """
    with joined(resolve(raw).train.device):
        begun = on_first(lambda: _begun(raw, out)) if restarts() else None
        if begun is not None:
            resume_run(str(raw["task"]), begun, {}, console, quiet)
            return
        folder = Path(on_first(lambda: str(new_folder(raw, out))))
        if seeds is None:
            start_run(raw, folder, console, quiet)
        else:
            start_runs(raw, folder, seeds, console, quiet)


def _begun(raw: Mapping[str, Any], out: Path | None, base: Path = Path("runs")) -> str | None:
    """The newest unfinished run of this configuration that has a checkpoint."""
    wanted = resolve(raw).to_raw()
    places = [out] if out is not None else [path.parent for path in (base / str(raw["task"])).glob("*/config.yaml")]
    found = [
        folder
        for folder in places
        if any((folder / "weights").glob("*.ckpt"))
        and not (folder / "results.json").exists()
        and not difference(read_yaml(folder / "config.yaml"), wanted)
    ]
    newest = sorted(found, key=lambda folder: (folder / "config.yaml").stat().st_mtime)
    return str(newest[-1]) if newest else None


def start_run(raw: Mapping[str, Any], folder: Path, console: Console, quiet: bool) -> dict[str, Any]:
    """Train one run in an empty folder; returns the results."""
    try:
        config = resolve(raw)
        with _log(folder, console, quiet) as reporter:
            run = _checked(config, folder, reporter)
            on_first(lambda: _write_begin(run))
            return _train(run, console, quiet, 0)
    except (SemikitError, KeyboardInterrupt):
        if process_rank() == 0:
            _remove_unused(folder)
        raise


def _checked(config: Config, folder: Path, reporter: Reporter) -> build.Run:
    """All objects of a run; the first process has looked through the data."""
    task = build.build_task(config)
    on_first(task.check)
    return build.build_run(config, folder, reporter, task)


def _write_begin(run: build.Run) -> None:
    """What a run folder holds from the beginning."""
    (run.folder / "config.yaml").write_text(run.config.to_yaml(), encoding="utf-8")
    run.task.write_split(run.folder)


def resume_run(
    task_name: str, given: str, overrides: Mapping[str, Any], console: Console, quiet: bool
) -> dict[str, Any]:
    """Go on with a run."""
    folder = find_run(task_name, given)
    config = build.read_run_config(folder, overrides)
    if config.task != task_name:
        raise InputError(f"{folder} is a run of the task {config.task!r}: semikit train {config.task} --resume …")
    with _log(folder, console, quiet) as reporter:
        run = _checked(config, folder, reporter)
        build.resume(run, reporter)
        same_step(run.trainer.step, folder)
        reporter.notice(f"going on at iteration {run.trainer.step}")
        return _train(run, console, quiet, run.trainer.step)


def start_runs(raw: Mapping[str, Any], folder: Path, seeds: Sequence[int], console: Console, quiet: bool) -> None:
    """One run per seed in folder/seed-N, then mean and standard deviation of the best value."""
    results = []
    for seed in seeds:
        child = folder / f"seed-{seed}"
        child.mkdir()
        try:
            results.append(start_run(merge(raw, {"train": {"seed": seed}}), child, console, quiet))
        finally:
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


def dry_run(raw: Mapping[str, Any], console: Console) -> None:
    """Resolve, look through all data, print configuration and plan; write and train nothing."""
    config = resolve(raw)
    task = build.build_task(config)
    task.check(thorough=True)
    run = build.build_run(config, Path("-"), make_reporter(console, True), task)
    console.out(config.to_yaml(), highlight=False)
    start_panel(console, "plan", facts_of(run))
    for notice in notices_of(run):
        console.out(f"note: {notice}", highlight=False)
    console.print("The data are fine. Nothing was trained or written.")


def _train(run: build.Run, console: Console, quiet: bool, first: int) -> dict[str, Any]:
    leads = process_rank() == 0
    if leads and not quiet:
        start_panel(console, f"semikit train {run.config.task}", facts_of(run))
    for notice in notices_of(run):
        run.trainer.reporter.notice(notice)
    tracker = Tracker(run.folder, first) if leads else None
    try:
        run.trainer.fit(tracker)
        with losses_told():
            if not run.trainer.latest:
                run.trainer.score()
            results = results_of(run)
        if tracker is not None:
            tracker.finish(results)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"the memory of {run.device} does not suffice. Begin again with a smaller --batch or --crop, with "
            "train.accumulate=2 (the same batch in two parts), or with --precision bf16."
        ) from error
    finally:
        if tracker is not None:
            tracker.close()
    if leads:
        say_results(run, results, console, quiet)
    return results


@contextmanager
def _log(folder: Path, console: Console, quiet: bool) -> Iterator[Reporter]:
    """A reporter that also writes log.txt; a fault's traceback goes there too, and the fault says where. Of several
    processes only the first tells.
    """
    if process_rank():
        yield Quiet()
        return
    path = folder / "log.txt"
    with path.open("a", buffering=1, encoding="utf-8") as file:
        try:
            yield Both(make_reporter(console, quiet), Lines(Console(file=file, width=200)))
        except SemikitError as error:
            file.write(f"{type(error).__name__}: {error}\n")
            raise
        except Exception as error:
            file.write(traceback.format_exc())
            error.semikit_log = path  # type: ignore[attr-defined]
            raise


def _remove_unused(folder: Path) -> None:
    """Take away a folder that was made for a run that never began."""
    if not (folder / "config.yaml").exists() and folder.is_dir():
        (folder / "log.txt").unlink(missing_ok=True)
        remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
