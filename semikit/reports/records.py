"""What run folders hold, read for a page: no network and no image is needed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, final

from semikit.errors import InputError
from semikit.files import shell_word
from semikit.registry import TASKS
from semikit.run.folder import CENSUS
from semikit.run.recipes import RECIPES, read_yaml
from semikit.training.checkpoint import BEST, read_best
from semikit.training.meter import PSEUDO
from semikit.training.tracking import read_rows

_NOTE = "note: "
_READ = {"task": str, **dict.fromkeys(("data", "model", "method", "train"), Mapping)}
"""What of a configuration is read, and what it is."""
_TABLES = {"table1": "pascal", "table2": "cityscapes", "table3": "ade20k", "table4": "coco"}
"""Tables of the paper that are of one data set; the columns of others name theirs."""


@final
@dataclass(frozen=True)
class RunRecord:
    """One run of one seed: its folder, configuration, the results and, one an evaluation, the rows of its table."""

    folder: Path
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    rows: Sequence[Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """From a run folder; of a run that has not ended the results are those of the best network so far.

        Raises:
            InputError: this is no run, or one that was not evaluated yet; files that are damaged.
        """
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder} is no run folder: it has no config.yaml. Give a folder made by semikit train.")
        config, path = read_yaml(folder / "config.yaml"), folder / "results.json"
        if wrong := [name for name, kind in _READ.items() if not isinstance(config.get(name), kind)]:
            raise InputError(f"{folder / 'config.yaml'} is damaged: it lacks {', '.join(wrong)}. Restore it.")
        if path.is_file():
            results = _read_json(path)
        elif not (folder / "weights" / BEST).is_file():
            raise InputError(
                f"{folder} has not been evaluated yet. Give it time, or go on with --resume {shell_word(folder)}."
            )
        else:
            best = read_best(folder / "weights" / BEST)[1]["best"]
            results = {"best": best, "protocol": best["protocol"], "per_class": best["per_class"]}
            results |= {"metric": None, "class_scores": best.get("class_scores", {})}
        rows = read_rows(folder)
        results["metric"] = results["metric"] or _metric_of(rows)
        return cls(folder, config, results, rows)

    @property
    def ended(self) -> bool:
        """Whether it came to its end."""
        return "iterations" in self.results

    @property
    def values(self) -> dict[str, float]:
        """The score on each split that there is one of: test first."""
        best = self.results["best"]
        found = {"test": self.results["test"][self.results["metric"]]} if "test" in self.results else {}
        return {**found, best["split"]: best["value"]}

    @property
    def class_metric(self) -> str:
        """What the scores of classes are called."""
        return str(TASKS.get(self.config["task"]).per_class)

    @property
    def flat(self) -> list[tuple[str, str]]:
        """Every key of the configuration with its value."""
        return _flat(self.config)

    @property
    def per_class(self) -> dict[str, Mapping[str, float | None]]:
        """The scores of classes by name, the one of the task first; on test images where there are some."""
        of = self.results.get("test", self.results)
        return {"score": of["per_class"], **of.get("class_scores", {})}

    @cached_property
    def census(self) -> dict[str, Any]:
        """What the parts of the data hold; empty where it was not counted."""
        path = self.folder / CENSUS
        return _read_json(path) if path.is_file() else {}

    def labelled_shares(self) -> dict[str, float]:
        """The share (0..1) of each class of what is labelled."""
        classes = self.census.get("labelled", {}).get("classes", {})
        counts = {name: float(found.get("pixels", found["images"])) for name, found in classes.items()}
        return {name: value / max(sum(counts.values()), 1.0) for name, value in counts.items()}

    def pseudo_shares(self) -> dict[str, list[tuple[float, float]]]:
        """Iterations and shares (0..1) of each class among the confident pseudo-labels; empty in tables of before."""
        named = dict.fromkeys(name for row in self.rows for name in row if name.startswith(PSEUDO))
        return {
            name.removeprefix(PSEUDO): [(row["iteration"], row[name]) for row in self.rows if name in row]
            for name in named
        }

    @cached_property
    def notices(self) -> list[str]:
        """What the run said that a user should know, once each."""
        path = self.folder / "log.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        said = [line.removeprefix(_NOTE) for line in lines if line.startswith(_NOTE)]
        return list(dict.fromkeys([*said, *self.results.get("notices", ()), *self.results.get("unused_files", ())]))

    def references(self) -> list[tuple[str, dict[int, Mapping[str, float]]]]:
        """Of the authors' published logs of the same method and data set: name, and what an early evaluation had
        (student, teacher, confident) by the iteration at which this run has seen as many epochs.
        """
        published = ((self.config.get("data") or {}).get("published") or {}).get("name")
        if self.config["method"]["name"] != "unimatch_v2" or published is None or not self.rows:
            return []
        (end, epochs), found = (self.rows[-1][key] for key in ("iteration", "epoch")), []
        for cell, evaluated in read_yaml(RECIPES / "paper" / "logs.yaml")["early"].items():
            table, row, column = cell.split("/")
            dataset, labels = (_TABLES[table], column) if table in _TABLES else column.split("-")
            reached = {round(end * epoch / epochs): early for epoch, early in evaluated.items() if epoch <= epochs}
            if dataset == published and reached:
                found.append((f"{row.removeprefix('unimatch-v2-')}, {labels.replace('_', '/')} labelled", reached))
        return found


@final
@dataclass(frozen=True)
class Entry:
    """What stands side by side with others: a run, or the runs of several seeds under one name."""

    name: str
    folder: Path
    runs: Sequence[RunRecord]

    @classmethod
    def read(cls, folder: Path, name: str) -> Entry:
        """From a run folder, or one of several seeds."""
        return cls(name, folder, [RunRecord.read(one) for one in runs_of(folder) or [folder]])

    @property
    def first(self) -> RunRecord:
        """Its run, of several seeds the first."""
        return self.runs[0]

    @property
    def shown(self) -> RunRecord:
        """Whose images and classes are shown: of several seeds the one whose best is nearest to the mean."""
        mean = statistics.mean(run.results["best"]["value"] for run in self.runs)
        return min(self.runs, key=lambda run: abs(run.results["best"]["value"] - mean))

    def headline(self) -> list[dict[str, Any]]:
        """Of each split: its name, the values of the seeds, their mean and, of several, standard deviation."""
        found = []
        for split in self.first.values:
            values = [run.values[split] for run in self.runs if split in run.values]
            spread = statistics.stdev(values) if len(values) > 1 else None
            found.append({"split": split, "values": values, "mean": statistics.mean(values), "std": spread})
        return found

    def class_values(self, score: str) -> dict[str, float | None]:
        """A score of each class, of several seeds the mean of those that have one."""
        every = [run.per_class.get(score, {}) for run in self.runs]
        values = {name: [value for one in every if (value := one.get(name)) is not None] for name in every[0]}
        return {name: statistics.mean(known) if known else None for name, known in values.items()}


def runs_of(folder: Path) -> list[Path]:
    """The folder of a run itself, or those of its several seeds; none where there is no run."""
    if (folder / "config.yaml").is_file():
        return [folder]
    seeds = [path.parent for path in folder.glob("seed-*/config.yaml")]
    return sorted(seeds, key=lambda path: (len(path.name), path))


def read_entries(folders: Sequence[Path]) -> list[Entry]:
    """Runs to be shown together, named by what tells their folders apart.

    Raises:
        InputError: as `RunRecord.read`; runs of several tasks, or one twice.
    """
    parts = [folder.absolute().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise InputError("a run was given twice. Give each once.")
    least = 2 if any(one[-1].startswith("seed-") for one in parts) else 1
    keep = next(k for k in count(least) if len({one[-k:] for one in parts}) == len(parts))
    entries = [Entry.read(folder, " / ".join(one[-keep:])) for folder, one in zip(folders, parts, strict=True)]
    tasks = {entry.first.config["task"]: str(entry.folder) for entry in entries}
    if len(tasks) > 1:
        said = " and ".join(f"{folder} is of {task}" for task, folder in tasks.items())
        raise InputError(f"a report compares runs of one task: {said}. Make a report of each.")
    return entries


def differences(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """The keys of configurations that differ between runs, each with its value in every run."""
    flat = [dict(entry.first.flat) for entry in entries]
    keys = dict.fromkeys(key for one in flat for key in one if key != "train.seed")
    # A setting that only one of several methods has is no difference beside that of the methods.
    shared = [key for key in keys if not key.startswith("method.") or all(key in one for one in flat)]
    rows = [(key, [one.get(key, "-") for one in flat]) for key in shared]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(values: Mapping[str, Any], where: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        found += (
            _flat(value, f"{where}{key}.") if isinstance(value, Mapping) and value else [(f"{where}{key}", f"{value}")]
        )
    return found


def _metric_of(rows: Sequence[Mapping[str, float]]) -> str:
    """The metric that a table of evaluations is of."""
    return next(name.removeprefix("student_") for name in rows[-1] if name.startswith("student_"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}). semikit train writes it; restore or remove it.") from None
    return dict(values)
