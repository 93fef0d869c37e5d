"""Labelled images alone: what runs that learn from unlabelled ones are compared with on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from semikit.errors import InputError
from semikit.files import shell_word
from semikit.models.encoders.create import adapts
from semikit.reports.records import Entry
from semikit.run.grid import BASE, LORA, RANK
from semikit.run.recipes import read_yaml
from semikit.run.resume import read_run_config

_NAMES = {BASE: "labelled images alone", f"{BASE}{LORA}": "labelled images alone, with LoRA"}


@final
@dataclass(frozen=True)
class Baseline:
    """A run from labelled images alone: the one there is, or the command that trains it."""

    name: str
    entry: Entry | None
    command: str


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
    model: Any = read_run_config(lead.first.folder, {}).model
    kinds = [BASE, *([f"{BASE}{LORA}"] if adapts(model) else [])]
    return lead, [_baseline(kind, lead, entries) for kind in kinds]


def _baseline(kind: str, lead: Entry, entries: Sequence[Entry]) -> Baseline:
    wanted, lora = _compared(lead.first.config), kind.endswith(LORA)
    for entry in (*entries, *_beside(lead)):
        config = entry.first.config
        alone = config["method"]["name"] == BASE and bool(config["model"].get("lora")) == lora
        if alone and _compared(config) == wanted and (entry.first.ended or entry in entries):
            return Baseline(_NAMES[kind], entry, "")
    folder = lead.folder.with_name(f"{lead.folder.name}-{kind.replace('+', '-')}")
    seeds = [str(run.config["train"]["seed"]) for run in lead.runs]
    words = ["semikit train", lead.first.config["task"], "--config", shell_word(lead.first.folder / "config.yaml")]
    words += ["--method", BASE, *([f"model.lora.rank={RANK}"] if lora else [])]
    words += [*(["--seeds", ",".join(seeds)] if len(seeds) > 1 else []), "--out", shell_word(folder)]
    return Baseline(_NAMES[kind], None, " ".join(words))


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs have to share."""
    model = {key: value for key, value in config["model"].items() if key != "lora"}
    return {"task": config["task"], "data": config["data"], "model": model, "seed": config["train"]["seed"]}


def _beside(lead: Entry) -> Iterator[Entry]:
    """Runs from labelled images alone in the folder in which a run lies; what cannot be read is none."""
    for folder in sorted(lead.folder.absolute().parent.iterdir()):
        first = next(iter(sorted(folder.glob("config.yaml")) or sorted(folder.glob("seed-*/config.yaml"))), None)
        if first is None or _method(first) != BASE:
            continue
        try:
            yield Entry.read(folder, folder.name)
        except InputError:
            continue


def _method(path: Path) -> str | None:
    try:
        method = read_yaml(path).get("method")
    except InputError:
        return None
    return method.get("name") if isinstance(method, Mapping) else None
