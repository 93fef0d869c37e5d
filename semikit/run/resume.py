"""Going on with a run: from its last readable checkpoint, as the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semikit import __version__
from semikit.data.check import LABELLED
from semikit.data.contents import Contents
from semikit.data.formats.rescale import BYTES, Scale
from semikit.data.manifest import load
from semikit.distributed.collectives import process_rank
from semikit.distributed.groups import on_first
from semikit.errors import ConfigError, DataError, InputError
from semikit.files import RESUME, shell_word, write_text
from semikit.run.begun import read_begun
from semikit.run.build import Run
from semikit.run.config import FORMAT, LENGTHS, Config, resolve, resumable
from semikit.run.recipes import difference, lay_over
from semikit.training.checkpoint import LAST, contents_of, has_checkpoint, read_last, set_aside
from semikit.training.reporter import Reporter


def read_run_config(folder: Path, overrides: Mapping[str, Any]) -> Config:
    """The configuration a run folder was trained with, with overrides.

    Raises:
        InputError: the run has another format than this version writes.
    """
    raw = read_begun(folder)
    _refuse_other_format(raw, folder)
    return resolve(lay_over(raw, overrides))


def _refuse_other_format(raw: Mapping[str, Any], folder: Path) -> None:
    """Raise where a config.yaml or checkpoint is not of this format: another version of semikit would have to go on."""
    found = raw.get("format", 1)
    if found != FORMAT:
        run, config = shell_word(folder), shell_word(folder / "config.yaml")
        raise InputError(
            f"{folder} was begun by {'an earlier' if found == 1 else 'another'} version of semikit: its run format is "
            f"{found}, this version ({__version__}) goes on with runs of format {FORMAT}. Its weights still load "
            f"(semikit predict {run} …, semikit evaluate {run}). Go on with the version that began it, or begin a new "
            f"run: semikit train … --config {config}"
        )


def resume(run: Run, reporter: Reporter, accept_data_changes: bool = False) -> None:
    """Go on from the run folder's last checkpoint (or the one before, if it is damaged); a run that was ended before it
    had one begins again.

    Raises:
        ConfigError: when the configuration is another one; DataError: when the split is, or what the labelled files
            hold unless `accept_data_changes`; the difference is shown.
    """
    weights = run.folder / "weights"
    fresh = (run.folder / "config.yaml").exists() and not (run.folder / "results.json").exists()
    begun = has_checkpoint(weights) or not fresh
    state, notice = read_last(weights) if begun else _beginning(run.folder)
    if notice:
        reporter.notice(notice)
    with contents_of(weights / LAST):
        _take_over(run, state, reporter, accept_data_changes)
    if begun and notice:
        set_aside(weights)


def _take_over(run: Run, state: Mapping[str, Any], reporter: Reporter, accept_data_changes: bool) -> None:
    _refuse_other_format(state, run.folder)
    changed = resumable(run.folder, state["config"], run.config)
    _refuse_other_range(run, state.get("metadata"))
    before = {key: value for key, value in state["manifest"].items() if key != "contents"}
    split = difference(before, _known_before(before, run.task.manifest()))
    if split:
        message = f"{run.folder} was trained on another split:\n  " + "\n  ".join(split[:10])
        raise DataError(f"{message}\nRestore the data, or begin a new run with another --out.")
    edited = on_first(lambda: _edited(run, state["manifest"], accept_data_changes))
    if "step" in state:
        run.trainer.restore(state)
    if any(line.startswith(LENGTHS) for line in changed):
        _lengthened(run, reporter)
    _record(run, [*changed, *edited], list(state.get("changed", [])), reporter)


def _lengthened(run: Run, reporter: Reporter) -> None:
    """Say what another length is to a run that has begun.

    Raises:
        ConfigError: it has made more steps already.
    """
    step, total = run.trainer.step, run.schedule.iterations
    if step > total:
        raise ConfigError(
            f"{run.folder} has made {step} iterations, more than {total}. Give more, or leave the length out."
        )
    reporter.notice(
        f"learning rate and other schedules go on as in a run of {total} iterations, whose first {step} were made with "
        "those of another length: not equal to one run of that length"
    )


def _refuse_other_range(run: Run, before: Mapping[str, Any] | None) -> None:
    """Raise where values are read in another range than before: an older run recorded none, and 16-bit colour PNG, of
    which it read the high bytes, are read as stored now.
    """
    learned, now = (Scale.model_validate((of or {}).get("scale") or BYTES) for of in (before, run.trainer.metadata))
    if before is not None and learned != now:
        raise DataError(
            f"{run.folder} was trained on values from {learned.text}, and its data are read from {now.text} now. "
            "Restore them; if they are 16-bit colour PNG, of which the high bytes were read before, begin a new run."
        )


def _edited(run: Run, before: Mapping[str, Any], accept: bool) -> list[str]:
    """What files hold that they did not before, of those that are learned from with their labels and those that the
    best is chosen on, as a line for the record; nothing of a run that was begun before this was kept. Only the first
    process knows.

    Raises:
        DataError: something, unless the user accepts it.
    """
    known, now = before.get("contents", {}), run.task.manifest().get("contents", {})
    changes = [
        phrase
        for part in now
        if part in known
        for phrase in Contents.model_validate(now[part]).changes(
            Contents.model_validate(known[part]), "" if part == LABELLED else f" of {part}"
        )
    ]
    if not changes:
        return []
    found = " and ".join(changes)
    if not accept:
        raise DataError(
            f"files of {run.folder} were edited since the run was saved: {found}. Restore them, go on with what they "
            "hold now (--accept-data-changes), or begin a new run with another --out."
        )
    run.task.write_split(run.folder)
    return [f"content of {found}"]


def _known_before(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a split without the fields that `before` does not have, for they were added later; shards and
    labels of a table are compared all the same, for a record without them is one of a run without them.
    """
    common = {key: value for key, value in now.items() if key in before or key in ("shards", "also_labeled")}
    for key, value in common.items():
        if isinstance(value, Mapping) and isinstance(before.get(key), Mapping):
            common[key] = _known_before(before[key], value)
    return common | {key: before[key] for key in ("format",) if key in before}


def _beginning(folder: Path) -> tuple[dict[str, Any], str]:
    """Configuration and split of a run that has no checkpoint yet, and a sentence that says so."""
    manifest = load(folder).model_dump(mode="json")
    state = {"format": FORMAT, "config": read_run_config(folder, {}).to_raw(), "manifest": manifest}
    return state, f"{folder} has no checkpoint yet: beginning again at iteration 0"


def _record(run: Run, changed: list[str], before: list[str], reporter: Reporter) -> None:
    """Tell what changed with this resumption; it stays so in config.yaml, and in checkpoints and results as a list."""
    step = run.trainer.step
    record = [*before, *(f"iteration {step}: {line}" for line in changed)]
    if record:
        run.trainer.snapshot = {**run.trainer.snapshot, "changed": record}
    if changed and process_rank() == 0:
        write_text(run.folder / "config.yaml", run.config.to_yaml(), RESUME)
        reporter.notice(f"from iteration {step} on with another {'; '.join(changed)}")
