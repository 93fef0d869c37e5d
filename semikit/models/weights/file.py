"""Weight files in, without ever running code that lies in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from semikit.errors import WeightsError

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")

_NESTS = ("model_ema", "state_dict", "model", "teacher")
_PREFIXES = ("module.", "_orig_mod.")
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),  # written under numpy 1
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (np.dtype, "numpy.dtype"),
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),  # what numpy.dtype makes; nothing else may be given a state
]


def read_file(path: Path) -> dict[str, Any]:
    """What a .safetensors or .pth file holds, on the CPU.

    Of a pickle only tensors, plain containers and numbers, and numpy scalars are read; anything else is refused.

    Raises:
        WeightsError: for a missing or damaged file, or one that would run code.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: give the path of a file ending in {', '.join(SUFFIXES)}.")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: weights end in {', '.join(SUFFIXES)}, not in {path.suffix or 'nothing'}.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    content = _checkpoint(path)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dictionary of weights.")
    return dict(content)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name: unpacked from `model_ema`, `state_dict` or `model`, without `module.`.

    Raises:
        WeightsError: as `read_file`, and when there are no weights inside.
    """
    return plain_names(unpacked(read_file(path), path))


def unpacked(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a file's content, out of whatever it was packed into."""
    for nest in _NESTS:
        if isinstance(content.get(nest), Mapping):
            return unpacked(content[nest], path)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no weights; its entries are {', '.join(map(str, list(content)[:8]))}.")
    return tensors


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers for several processes or for compilation leave."""
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return plain_names({name.removeprefix(prefix): value for name, value in state.items()})
    return dict(state)


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file ({error}). Fetch it again.") from error


def _checkpoint(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"({asked[1]})" if asked else "(it is no plain pickle of tensors)"
        raise WeightsError(
            f"{path} is refused: reading it could run code that lies in it {reason}. Save its weights as .safetensors "
            "where you trust it, and give that file."
        ) from error
    except Exception as error:  # what the reader of a damaged pickle may raise has no end
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"{path} is damaged or no checkpoint ({reason}). Fetch it again.") from error
