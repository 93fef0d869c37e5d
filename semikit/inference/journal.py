"""What is done of a prediction of many files: a line for each, so that `--resume` goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch

from semikit.core.task import Inference
from semikit.errors import FileFault, InputError, RunError, some
from semikit.files import OUTPUT, file_digest, short_name, write_atomically
from semikit.inference.ensemble import Ensemble
from semikit.inference.map_files import SCRATCH, MapPredict, Outputs, files_behind
from semikit.inference.scenes import Files
from semikit.settings.yaml_text import in_one_line
from semikit.training.checkpoint import sum_of

JOURNAL = ".predicted.jsonl"
"""Beside the results: what was asked for in the first line, then a line for each scene whose files are written."""

_UNFINISHED = re.compile(r"\.(.+)\.(?:\d+\.(?:raw\.tif|tif|tmp)[a-z.]*|[a-z0-9_]{8})")
"""What files and folders are called while a file is written: its name, then the process or letters of chance."""

Rows = Sequence[Sequence[object]]


def job_of(ensemble: Ensemble, metadata: Mapping[str, Any], options: MapPredict) -> dict[str, Any]:
    """What has to be the same for the maps of two predictions to belong together, as plain values."""
    weights = [
        sum_of({name: tensor.cpu() for name, tensor in network.state_dict().items()}, metadata)
        for network in ensemble.networks
    ]
    chosen = options.model_dump(mode="json", exclude={"resume", "fail_fast"})
    return {"weights": weights, "precision": _precision(ensemble.inference), **chosen}


@final
class Journal:
    """The scenes that a prediction has finished, and what it was asked for (`job`). A new one replaces that of an
    earlier prediction into the same folder; with `resume` it is gone on with.

    Raises:
        InputError: what is to be gone on with was asked for otherwise.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.job, self.resume = folder / JOURNAL, json.loads(json.dumps(job)), resume
        self.entries: dict[str, dict[str, Any]] = {}
        if resume and (lines := _lines(self.path)):
            self._refuse_other(lines[0])
            self.entries = {entry["scene"]: entry for entry in lines[1:]}

    def _refuse_other(self, former: Mapping[str, Any]) -> None:
        differing = [key for key in {**former, **self.job} if former.get(key) != self.job.get(key)]
        if not differing:
            return
        flags = {key: f"{_flag(key, former.get(key))}, now {_flag(key, self.job.get(key))}" for key in differing}
        shown = ["other weights" if key == "weights" else text for key, text in flags.items()]
        raise InputError(
            f"--resume: what lies in {self.path.parent} was predicted otherwise: {'; '.join(shown)}. Give the same run "
            "and options to go on, choose another -o, or leave out --resume to predict everything anew."
        )

    def kept(self, scenes: Mapping[str, Files], outputs: Mapping[str, Outputs]) -> dict[str, Rows]:
        """The scenes whose images are those of then and whose files are there as they were written, with their rows of
        the table of areas.
        """
        found = {name: entry for name, entry in self.entries.items() if name in scenes}
        return {
            name: entry["areas"]
            for name, entry in found.items()
            if entry["images"] == identity(scenes[name]) and entry["files"] == self._written(outputs[name])
        }

    def notices(self, kept: Iterable[str], scenes: Mapping[str, Files], plural: str) -> list[str]:
        """What was found of an earlier prediction."""
        if not self.resume:
            return []
        if not self.entries:
            return [f"--resume: nothing in {self.path.parent} to go on with ({self.path.name}); all are predicted"]
        again = sorted({*self.entries} & {*scenes} - {*kept})
        notices = [f"{len([*kept])} of {len(scenes)} {plural} were predicted before and are kept"]
        if again:
            what = "changed since they were predicted, or their maps did, and are"
            notices.append(f"{len(again)} {plural} {what} predicted again: {some(again)}")
        return notices

    @contextmanager
    def open(self, unfinished: Iterable[Outputs]) -> Iterator[None]:
        """While the block predicts: a new prediction forgets the earlier one; one that goes on removes what a killed
        process left of `unfinished`. Where nothing was predicted, no journal is left; neither by `forget`.

        Raises:
            RunError: the folder cannot be written.
        """
        if self.resume:
            _remove_unfinished(unfinished)

        def write(temporary: Path) -> None:
            temporary.write_bytes(_text([self.job, *self.entries.values()]))

        write_atomically(self.path, write, remedy=OUTPUT, durable=False)
        try:
            yield
        finally:
            if len(_lines(self.path)) == 1:  # other processes write into it too
                self.path.unlink()

    def forget(self) -> None:
        """The prediction is complete: there is nothing to go on with."""
        self.path.unlink()

    def add(self, name: str, images: Any, outputs: Outputs, areas: Rows) -> None:
        """A scene is done: `images` are its `identity` before it was read. Several processes may add to one journal.

        Raises:
            RunError: the disk is full.
        """
        files = self._written(outputs)
        line = _text([{"scene": name, "images": images, "files": files, "areas": areas}])
        try:  # one call, so that lines of processes do not mix; what the first one has taken away stays away
            with open(self.path, "ab", 0, opener=lambda path, flags: os.open(path, flags & ~os.O_CREAT)) as file:
                file.write(line)
        except OSError as error:
            raise RunError(f"could not write {self.path}: {error.strerror}. {OUTPUT}") from error

    def _written(self, outputs: Outputs) -> dict[str, list[Any]]:
        """Size and digest of each file of a scene, by its place as seen from the journal."""
        return {
            os.path.relpath(path, self.path.parent): [path.stat().st_size, file_digest(path)]
            for path in outputs.all()
            if path.is_file()
        }


def identity(files: Files) -> list[list[int]]:
    """Size and time of change of all files that a scene is read from; empty where one cannot be read."""
    try:
        parts = [path.stat() for file in files for path in files_behind(file)]
    except (OSError, FileFault):
        return []
    return [[part.st_size, part.st_mtime_ns] for part in parts]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The values of a journal; the last line of a killed prediction may be a part of one."""
    found: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _flag(key: str, value: Any) -> str:
    """An option as it was given on the command line."""
    flag = f"--{key.replace('_', '-')}"
    return f"no {flag}" if value in (None, False) else flag if value is True else f"{flag} {in_one_line(value)}"


def _text(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _remove_unfinished(outputs: Iterable[Outputs]) -> None:
    """What a killed process left of files that it was writing."""
    paths = [path for one in outputs for path in one.all()]
    names = {SCRATCH, *(path.name for path in paths), *map(short_name, paths)}
    for folder in {path.parent for path in paths}:
        for left in folder.glob(".*") if folder.is_dir() else ():
            match = _UNFINISHED.fullmatch(left.name)
            if match is None or match[1] not in names:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _precision(inference: Inference) -> str:
    with inference.autocast():
        kind = inference.device.type
        on = torch.is_autocast_enabled(kind)
        return str(torch.get_autocast_dtype(kind)).removeprefix("torch.") if on else "fp32"
