"""Labelled images alone: what runs that learn from unlabelled ones are compared with on a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from semikit.core.settings import MethodSettings
from semikit.errors import InputError
from semikit.files import shell_word
from semikit.methods.selftrain import LABELED_ROUND
from semikit.models.encoders.create import adapts
from semikit.reports.records import Entry, runs_of
from semikit.run.begun import read_begun
from semikit.run.config import Config, resolve
from semikit.run.folder import free
from semikit.run.grid import BASE, LORA, RANK
from semikit.run.recipes import compose, read_yaml
from semikit.training.tracking import RESULTS

_NAMES = {BASE: "labelled images alone", f"{BASE}{LORA}": "labelled images alone, with LoRA"}
_OF_UNLABELED = ("unlabeled", "labeled_as_unlabeled", "only")
"""Settings of data that change nothing where labels alone are learned from."""
_OF_THE_MACHINE = ("checkpointing", "accept_licence")
"""Settings of networks that change nothing in what is learned."""


@final
@dataclass(frozen=True)
class Baseline:
    """A run from labelled images alone: the one there is, or the command that trains it."""

    name: str
    entry: Entry | None
    command: str


@final
@dataclass(frozen=True)
class _Beside:
    """A folder beside a run with labelled images alone: a run, or those of several seeds, and the configuration."""

    folder: Path
    runs: Sequence[Path]
    config: Config

    @property
    def ended(self) -> bool:
        """Whether all that was begun here came to its end."""
        return all((run / RESULTS).is_file() for run in self.runs)


def baselines(entries: Sequence[Entry]) -> tuple[Entry, list[Baseline]] | None:
    """The first run of a page that learns from unlabelled images, and those it is compared with: of the same data,
    labels, network and first seed, on the page or in a folder beside it; with LoRA too where the encoder is a
    pretrained transformer. None where every run learns from labels alone.

    Raises:
        InputError: its configuration cannot be read.
    """
    lead = next((entry for entry in entries if entry.first.config["method"]["name"] != BASE), None)
    if lead is None:
        return None
    config = _config(lead.first.folder)
    model: Any = config.model
    kinds = [BASE, *([f"{BASE}{LORA}"] if adapts(model.model_copy(update={"lora": None})) else [])]
    there = [*_beside(lead.folder)]
    return lead, [_baseline(kind, lead, config, entries, there) for kind in kinds]


def _baseline(kind: str, lead: Entry, config: Config, entries: Sequence[Entry], there: Sequence[_Beside]) -> Baseline:
    """The run on the page, else the one beside it that has ended, else how it is begun or gone on with."""
    wanted, lora = _compared(config), kind.endswith(LORA)
    if "also_labeled" in wanted["data"]:  # what a generation of CReST picked is no label that was given
        wanted["data"]["also_labeled"] = None
    for entry in entries:
        if entry.first.config["method"]["name"] == BASE and _alike(_config(entry.first.folder), wanted, lora):
            return Baseline(_NAMES[kind], entry, "")
    alike = [one for one in there if _alike(one.config, wanted, lora)]
    for one in alike:
        try:
            if one.ended:
                return Baseline(_NAMES[kind], Entry.read(one.folder, one.folder.name), "")
        except InputError:  # its results are damaged: it is none
            continue
    begun = next((one for one in alike if not one.ended), None)
    if begun is not None and begun.runs == [begun.folder]:
        return Baseline(_NAMES[kind], None, f"semikit train {config.task} --resume {shell_word(begun.folder)}")
    run = _named(lead.folder)
    folder = free(run.with_name(f"{run.name}-{kind.replace('+', '-')}")) if begun is None else begun.folder
    return Baseline(_NAMES[kind], None, _command(lead, config, lora, folder))


def _command(lead: Entry, config: Config, lora: bool, folder: Path) -> str:
    """What trains the labelled images of a run alone, with what its method has in common with that: another method
    than that of a recipe has no settings of it.
    """
    place, model = lead.first.folder / "config.yaml", config.to_raw()["model"]
    plain = resolve(compose(config.task, config=place, above={"method": {"name": BASE}})).to_raw()["method"]
    words = ["semikit train", config.task, "--config", shell_word(place), "--method", BASE]
    if lora != bool(model.get("lora")):
        words += [f"model.lora.rank={RANK}" if lora else "model.lora=null"]
    if getattr(config.data, "also_labeled", None) is not None:
        words += ["data.also_labeled=null"]
    for key, value in config.to_raw()["method"].items():
        if key in MethodSettings.model_fields and value != plain[key]:
            words += [shell_word(f"method.{key}={json.dumps(value)}")]
    seeds = [str(run.config["train"]["seed"]) for run in lead.runs]
    words += [*(["--seeds", ",".join(seeds)] if len(seeds) > 1 else []), "--out", shell_word(folder)]
    return " ".join(words)


def _named(run: Path) -> Path:
    """The same folder, whose path ends with its name."""
    return run if run.name not in ("", "..") else run.resolve()


def _alike(config: Config, wanted: Mapping[str, Any], lora: bool) -> bool:
    return _compared(config) == wanted and bool(config.to_raw()["model"].get("lora")) == lora


def _compared(config: Config) -> dict[str, Any]:
    """What two runs have to share."""
    raw = config.to_raw()
    data = {key: value for key, value in raw["data"].items() if key not in _OF_UNLABELED}
    model = {key: value for key, value in raw["model"].items() if key not in ("lora", *_OF_THE_MACHINE)}
    seed = config.train.seed
    data["split_seed"] = seed if data["split_seed"] is None else data["split_seed"]  # a round says which it has
    return {"task": config.task, "data": data, "model": model, "seed": seed}


def _config(run: Path) -> Config:
    """With the values of today for what an older version did not know.

    Raises:
        InputError: it cannot be read.
    """
    return resolve(read_begun(run))


def _beside(lead: Path) -> Iterator[_Beside]:
    """Runs from labelled images alone in the folder in which a run lies, and the round of its own that is one; what
    cannot be read is none.
    """
    run = _named(lead)
    for folder in (run / LABELED_ROUND, *sorted(run.parent.iterdir())):
        runs = runs_of(folder)
        try:
            if runs and _method(runs[0] / "config.yaml") == BASE:
                yield _Beside(folder, runs, _config(runs[0]))
        except InputError:
            continue


def _method(path: Path) -> str | None:
    """The method a configuration names; hundreds may lie beside a run, and most name another."""
    if BASE not in path.read_text(encoding="utf-8", errors="replace"):
        return None
    method = read_yaml(path).get("method")
    return method.get("name") if isinstance(method, Mapping) else None
