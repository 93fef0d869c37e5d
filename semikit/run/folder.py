"""Run folders: a new one, the one to resume, and what is left of one whose run stopped before it began."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semikit.data.shards.tar_files import COUNTS
from semikit.errors import ConfigError, InputError
from semikit.run.lock import refuse_another
from semikit.run.recipes import difference, read_yaml

if TYPE_CHECKING:
    from semikit.run.config import Config

LAST = "last"
"""What the newest run is called."""
CENSUS = "census.json"
"""Name of the file with what the parts of the data hold."""
PLANNED = Path("-")
"""The folder of a run that is only planned."""
_EARLY = {".lock", "log.txt", "labeled.txt", "unlabeled.txt", "split.json", CENSUS, COUNTS}


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
                if out is not None and folder.is_dir() and never_began(folder):
                    return folder
                if out is not None:
                    refuse_another(folder)
                    raise InputError(
                        f"{out} exists and is not empty; nothing is overwritten. Choose another --out."
                    ) from None
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}. Choose another --out.") from error


def existing_run(path: str | PathLike[str], base: Path = Path("runs")) -> Path:
    """A run folder or weights file that is there; `last` is the run below `base` whose best was written last.

    Raises:
        InputError: it is not.
    """
    found = Path(path)
    if str(path) == LAST and not found.exists():
        weights = max(base.glob("**/weights/best.safetensors"), key=lambda file: file.stat().st_mtime, default=None)
        if weights is None:
            raise InputError(f"{LAST}: there is no trained run under {base}. Give a run folder or a weights file.")
        return weights.parents[1]
    if not found.exists():
        raise InputError(f"{found} does not exist. Give a run folder or a weights file.")
    return found


def free(wanted: Path) -> Path:
    """A folder that is not there: `wanted`, or the same with -2, -3 … behind its name."""
    others = (wanted.with_name(f"{wanted.name}-{k}") for k in count(2))
    return next(place for place in chain([wanted], others) if not place.exists())


def new_output(run: Path, base: Path = Path("runs") / "predict") -> Path:
    """Where a prediction goes that says no place: base/NAME of its run with -2, -3 … where that exists, for classes of
    whole images a table in it.

    Raises:
        InputError: `run` is a weights file, which has no name of its own.
    """
    if not (run / "config.yaml").is_file():
        raise InputError(f"say where the results of {run} go: -o FOLDER (classes of images: -o NAME.csv).")
    folder = free(base / run.resolve().name)
    return folder / "classes.csv" if read_yaml(run / "config.yaml").get("task") == "cls" else folder


def find_run(task: str, given: str, base: Path = Path("runs")) -> Path:
    """The run folder that `--resume` names; `last` is the one of the task that was written to last, of those without
    results where there are any.
    """
    if given != LAST:
        folder = Path(given)
        if not (folder / "config.yaml").is_file():
            raise InputError(f"{folder} is no run folder: it has no config.yaml. Give a folder made by semikit train.")
        return folder
    begun = [(path, path.parent) for path in base.glob(f"{task}/**/config.yaml")]
    begun += [(path, path.parent.parent) for path in base.glob(f"{task}/**/weights/*.ckpt")]
    if not begun:
        raise InputError(f"there is no run to resume under {base / task}. Give the run folder: --resume RUN.")
    begun = [(path, _whole(folder)) for path, folder in begun]
    folders = [folder for _, folder in sorted(begun, key=lambda found: found[0].stat().st_mtime, reverse=True)]
    return next((folder for folder in folders if not (folder / "results.json").exists()), folders[0])


def _whole(folder: Path) -> Path:
    """The run that a folder is a part of: a round before lies in a sub-folder of its run."""
    return folder.parent if (folder.parent / "config.yaml").is_file() else folder


def unfinished(wanted: Config, out: Path | None, base: Path = Path("runs")) -> str | None:
    """The newest run of this configuration, `out` or below `base`, that has not ended; None: there is none."""
    places = [out] if out is not None else [path.parent for path in (base / wanted.task).glob("*/config.yaml")]
    found = [folder for folder in places if _is_unfinished(folder, wanted)]
    newest = sorted(found, key=lambda folder: (folder / "config.yaml").stat().st_mtime)
    return str(newest[-1]) if newest else None


def _is_unfinished(folder: Path, wanted: Config) -> bool:
    """Whether a folder holds a run of this configuration that has not come to its end."""
    if not (folder / "config.yaml").is_file() or (folder / "results.json").exists():
        return False
    try:
        return not other_settings(folder, wanted)
    except ConfigError:  # of another run, whose file is broken
        return False


def other_settings(folder: Path, wanted: Config) -> list[str]:
    """What differs from the configuration of the run in `folder`, a line each, but for what was found as it began."""
    raw = read_yaml(folder / "config.yaml")
    raw.pop("format", None)
    lines = difference(raw, wanted.to_raw())
    found = ["train.accumulate:"] if wanted.train.accumulate == "auto" else []
    found += ["train.precision:"] if wanted.train.precision == "auto" else []
    found += ["method.forward:"] if getattr(wanted.method, "forward", None) == "auto" else []
    alignment = getattr(wanted.method, "alignment", None)
    found += ["method.alignment.target"] if alignment is not None and alignment.target == "labels" else []
    found += ["train.class_weights"] if wanted.train.class_weights is not None else []
    folders = getattr(wanted.data, "folders", None)
    found += ["data.folders.scale"] if getattr(folders, "scale", None) is None else []
    return [line for line in lines if not line.startswith(tuple(found))]


def never_began(folder: Path) -> bool:
    """Whether a folder holds nothing but what is written before `config.yaml`."""
    return all(is_early(path) for path in folder.iterdir())


def clear_unused(folder: Path) -> None:
    """Empty the folder of a run that never began, but for the lock; another folder is left as it is."""
    if not (folder / "config.yaml").exists() and never_began(folder):
        for path in folder.iterdir():
            if path.name != ".lock":
                path.unlink()


def is_early(path: Path) -> bool:
    """Whether a file is what a run writes before its `config.yaml`."""
    unfinished = path.name.startswith(".") and path.suffix == ".tmp"
    return path.is_file() and (path.name in _EARLY or unfinished)


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
