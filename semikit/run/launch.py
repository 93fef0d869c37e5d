"""`--gpus N`: the same command in N processes of this machine, started by torchrun's engine."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from semikit.distributed.groups import started_by_torchrun
from semikit.errors import INTERRUPTED, InputError, RunError
from semikit.files import write_text
from semikit.run.compose import plain
from semikit.run.config import resolve
from semikit.run.folder import find_run, new_folder, remove_empty
from semikit.settings.yaml_text import in_one_line

LAUNCHED = "semikit-"
"""What the name of a job of torchrun begins with where `--gpus` started it, in the environment of its processes."""


def check_launch(gpus: int, raw: Mapping[str, Any]) -> None:
    """Refuse to start `gpus` processes on the device that the configuration `raw` asks for.

    Raises:
        InputError: there are not as many GPUs, or torchrun has started processes already.
    """
    if started_by_torchrun():
        raise InputError(f"--gpus {gpus} starts processes, and torchrun has started some already; leave it out.")
    train = raw.get("train")
    device = train.get("device") if isinstance(train, Mapping) else None
    check_gpus(gpus, None if device is None else str(device))


def check_gpus(count: int, device: str | None) -> None:
    """Refuse more processes than GPUs; with `--device cpu` there may be any number.

    Raises:
        InputError: says how many there are.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and count > present:
        raise InputError(
            f"--gpus {count}: CUDA devices of this machine: {present}. Give at most {max(present, 1)}, or try {count} "
            "processes on the CPU with --device cpu."
        )


def without_gpus(arguments: Sequence[str]) -> list[str]:
    """The command line for each process."""
    arguments_of_each: list[str] = []
    skip = False
    for item in arguments:
        if skip or item.startswith("--gpus="):
            skip = False
        elif item == "--gpus":
            skip = True
        else:
            arguments_of_each.append(item)
    return arguments_of_each


_GO_ON = "Go on from the last checkpoint with --resume RUN."


def launch(count: int, arguments: Sequence[str], remedy: str = _GO_ON) -> int:
    """Run `semikit ARGUMENTS` in `count` processes; the exit code of the first that failed, 0 where none did.

    Raises:
        RunError: a process was killed; with a `remedy`.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Processes that fail have reported that themselves.
    for name in ("agent.server.api", "multiprocessing.api"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"{LAUNCHED}{uuid.uuid4().hex}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "semikit", *arguments)
    except SignalException:  # the first process has reported it
        return 130
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        raise RunError(
            f"process {rank} of {count} was killed by signal {-failure.exitcode} (most often the machine's memory was "
            f"full). {remedy}"
        ) from None
    return 0


def train_in_processes(raw: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Train as `semikit train --gpus N` does; the run folder and its results. `given` are keywords of `semikit.train`,
    `raw` is their configuration.

    Raises:
        InputError: something that was given is wrong; RunError: a process failed.
    """
    check_launch(given["gpus"], raw)
    resolve(raw)
    task, gpus, resume = given["task"], given["gpus"], given.get("resume")
    folder = new_folder(raw, given.get("out") and Path(given["out"])) if resume is None else find_run(task, str(resume))
    with tempfile.TemporaryDirectory() as temporary:
        code = launch(gpus, arguments_of(given, folder, Path(temporary) / "data.yaml"))
    if code:
        remove_empty(folder)
        if code == INTERRUPTED:
            from semikit.training.trainer import Interrupted

            raise Interrupted(f"interrupted; what was saved is in {folder}")
        raise (InputError if code == InputError.exit_code else RunError)(
            f"one of {gpus} processes ended with exit code {code}; what it printed says why."
        )
    file = folder / ("summary.json" if "seeds" in given else "results.json")
    return folder, json.loads(file.read_text(encoding="utf-8"))


def arguments_of(given: Mapping[str, Any], folder: Path, file: Path) -> list[str]:
    """Keywords of `train` as a command line; data given as a mapping go into a file."""
    flags = {name: value for name, value in given.items() if name not in ("task", "gpus", "settings", "reporter")}
    flags |= {"resume": folder} if "resume" in given else {"out": folder}
    if isinstance(flags.get("data"), Mapping):
        write_text(file, in_one_line(plain(flags["data"])))
        flags |= {"data": file, "root": given.get("root", Path.cwd())}
    if "seeds" in given:
        flags["seeds"] = ",".join(map(str, given["seeds"]))
    arguments = ["train", given["task"]]
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "compile":  # whose flag says no mode
            arguments.append(f"train.compile={str(value).lower()}")
        elif isinstance(value, bool):
            arguments += [flag] if value else []
        else:
            values = value if isinstance(value, list | tuple) else [value]
            arguments += [text for item in values for text in (flag, str(item))]
    return [*arguments, *(f"{key}={in_one_line(plain(value))}" for key, value in given.get("settings", {}).items())]
