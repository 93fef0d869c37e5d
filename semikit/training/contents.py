"""Files of weights whose bytes are whole and whose content is not what semikit writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from semikit.errors import SemikitError, WeightsError


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """What goes wrong while a network or run takes over what a file holds, as an error for people.

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
