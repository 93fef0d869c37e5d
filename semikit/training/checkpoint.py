"""Checkpoints that survive a crash: written beside, synced, then renamed; the one before is kept.

`last.ckpt` is a file of `torch.save` that holds tensors and plain values only and is read without unpickling code. Its
SHA-256 stands behind it and is verified before anything is loaded; readers of zip files pass over it.
`best.safetensors` has the SHA-256 of its tensors and of what rebuilds their network in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from semikit.core.method import Method
from semikit.core.network import Network
from semikit.errors import SemikitError, WeightsError
from semikit.files import write_atomically
from semikit.training.meter import Meter
from semikit.training.step import Stepper

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
DAMAGED = "damaged.ckpt"
BEST = "best.safetensors"

_MARK = b"semikit1"
_TAIL = len(_MARK) + hashlib.sha256().digest_size
_KEYS = {"step", "method", "optimizer", "best", "metadata"}
METADATA, _SUM = "semikit", "sha256"


def save_last(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `last.ckpt`; the former one becomes `previous.ckpt`."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(path: Path) -> None:
        torch.save(dict(state), path)
        with path.open("rb+") as file:
            checksum = _checksum(file, file.seek(0, os.SEEK_END))
            file.seek(0, os.SEEK_END)
            file.write(_MARK + checksum)

    write_atomically(folder / LAST, write, keep=folder / PREVIOUS)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises:
        WeightsError: when the file is missing, damaged (checksum), or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    try:
        with path.open("rb") as file:  # opened once: a run that writes there meanwhile puts another file in its place
            whole = _verified(file)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} would run code when unpickled; refused. Only tensors are loaded.") from error
    except Exception as error:  # what the reader of a damaged pickle may raise has no end
        raise WeightsError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise WeightsError(f"{path} is not a checkpoint of semikit")
    if not whole:
        raise WeightsError(f"{path} is damaged: its checksum is missing")
    return state


def _verified(file: BinaryIO) -> bool:
    """Whether an open file ends with its checksum; raises WeightsError where it does not fit."""
    size = file.seek(0, os.SEEK_END) - _TAIL
    if size <= 0:
        raise WeightsError(f"{file.name} is damaged: it is cut off")
    file.seek(size)
    tail = file.read()
    file.seek(0)
    if file.read(2) != b"PK":
        raise WeightsError(f"{file.name} is damaged: it does not begin like a file of torch.save")
    if not tail.startswith(_MARK):
        return False
    if tail != _MARK + _checksum(file, size):
        raise WeightsError(f"{file.name} is damaged: its content does not match its checksum")
    return True


def _checksum(file: BinaryIO, size: int) -> bytes:
    """SHA-256 over the first `size` bytes of an open file."""
    checksum = hashlib.sha256()
    file.seek(0)
    while size > 0:
        block = file.read(min(size, 1 << 20))
        checksum.update(block)
        size -= max(len(block), 1)
    return checksum.digest()


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder of weights holds a checkpoint, damaged or not."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS, DAMAGED))


def read_last(folder: Path) -> tuple[dict[str, Any], str | None]:
    """The newest readable checkpoint and, when that is the one before the last, a sentence that says so.

    Raises:
        WeightsError: when neither can be read; it says why of both.
    """
    try:
        return read_checkpoint(folder / LAST), None
    except WeightsError as error:
        if not (folder / PREVIOUS).is_file():
            raise
        try:
            state = read_checkpoint(folder / PREVIOUS)
        except WeightsError as other:
            raise WeightsError(
                f"neither checkpoint can be read: {error}; {other}. Restore one from a copy, or begin a new run."
            ) from error
        return state, f"{error}. Going on from {PREVIOUS} at iteration {state['step']}."


def set_aside(folder: Path) -> None:
    """Rename a damaged `last.ckpt`: the next checkpoint would make it the one before, in place of the good one."""
    with suppress(FileNotFoundError):
        (folder / LAST).replace(folder / DAMAGED)


def snapshot_file(number: int) -> str:
    """What the file of weights is called that are kept at a part of the run, from 1."""
    return f"snapshot-{number}.safetensors"


def save_best(folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any], name: str = BEST) -> None:
    """Write `best.safetensors`, or another `name`: the weights of one network and what is needed to rebuild it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    # One entry: safetensors writes several in an order of chance, and equal weights would be unequal files.
    text = {METADATA: json.dumps({**metadata, _SUM: sum_of(tensors, metadata)})}
    write_atomically(folder / name, lambda path: write_tensors(tensors, path, metadata=text))


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, here and now: the library's own way makes a temporary file of its own, which a killed
    process would leave, and which nobody else may read.
    """
    path.write_bytes(save(dict(tensors), metadata))


def read_best(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and metadata of a file written by `save_best`; its checksum is verified where it has one.

    Raises:
        WeightsError: when it is damaged, or does not say how to build its network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}") from error
    if not isinstance(values, dict) or not values:
        raise WeightsError(f"{path} holds weights but not how to build their network; give the run folder instead")
    summed = values.pop(_SUM, None)
    renamed = summed is None and any(re.fullmatch("[0-9a-f]{64}", str(value)) for value in values.values())
    if renamed or (summed is not None and summed != sum_of(tensors, values)):
        raise WeightsError(
            f"{path} is damaged: its content does not match its checksum. Restore it from a copy, or use "
            f"weights/{LAST} of its run instead."
        )
    return tensors, values


def sum_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over plain values and over name, type, shape and bytes of every tensor, as hexadecimal text."""
    checksum = hashlib.sha256(json.dumps(metadata).encode())
    for name, tensor in sorted(tensors.items()):
        checksum.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        checksum.update(content)
    return checksum.hexdigest()


def learned_state(method: Method, stepper: Stepper, meter: Meter) -> dict[str, Any]:
    """What learning has changed: method, optimiser, loss scale, skipped steps, means since the last evaluation.

    Where the method is sharded all processes have to call it, and only the first gets method and optimiser.
    """
    scaler, sharding = stepper.scaler, stepper.sharding
    if sharding is None:
        learned = {"method": method.state_dict(), "optimizer": stepper.optimizer.state_dict()}
    else:
        learned = sharding.state(stepper.optimizer)
    return {
        **learned,
        "scaler": None if scaler is None else scaler.state_dict(),
        "skipped": [int(stepper.skipped), int(stepper.first_skipped)],
        "meter": [meter.since_evaluation, meter.steps_since_evaluation],
    }


def restore_learned(state: Mapping[str, Any], method: Method, stepper: Stepper, meter: Meter) -> None:
    """Put back what `learned_state` gave."""
    if stepper.sharding is None:
        method.load_state_dict(state["method"])
        stepper.optimizer.load_state_dict(state["optimizer"])
    else:
        stepper.sharding.load(stepper.optimizer, state)
    if stepper.scaler is not None and state["scaler"] is not None:
        stepper.scaler.load_state_dict(state["scaler"])
    stepper.skipped.fill_(state["skipped"][0])
    stepper.first_skipped.fill_(state["skipped"][1])
    meter.since_evaluation, meter.steps_since_evaluation = dict(state["meter"][0]), int(state["meter"][1])


@contextmanager
def whole_networks(method: Method, stepper: Stepper) -> Iterator[dict[str, Network]]:
    """Student and teacher as they are evaluated and kept; where they are sharded copies, for which all processes have
    to enter.
    """
    networks = {"student": method.student, "teacher": method.teacher}
    with nullcontext(networks) if stepper.sharding is None else stepper.sharding.whole(networks) as whole:
        yield whole


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """What goes wrong while a network or run takes over what a file holds, as an error for the user.

    Raises:
        WeightsError: an entry that is missing, has another type, or does not fit the network.
    """
    try:
        yield
    except (SemikitError, torch.OutOfMemoryError):
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise WeightsError(
            f"{path} does not hold what semikit writes ({type(error).__name__}: {first}). It was changed, or another "
            "version wrote it: give the file as it was, or train again."
        ) from error
