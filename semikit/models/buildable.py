"""Networks that cannot be built from the settings that were given."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from semikit.errors import ConfigError, SemikitError
from semikit.models.settings import EncoderSettings

MISFITS = (
    TypeError, AssertionError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError, MemoryError,
    UserWarning,
)  # fmt: skip
"""What constructors raise for numbers that do not fit one another, or for more than the memory holds."""


@contextmanager
def buildable(settings: EncoderSettings) -> Iterator[None]:
    """What goes wrong while a network is built from its settings, as an error for people.

    Raises:
        ConfigError: sizes that do not fit one another, or a network that does not fit into the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Initializing zero-element tensors")
            yield
    except SemikitError:
        raise
    except MISFITS as error:
        raise ConfigError(
            f"model: no network can be built from these settings: {reason(error)}. Look at encoder_args "
            f"({settings.encoder_args}) and, of pixels, decoder_channels and decoder_widths; leave them out, or give "
            "sizes that fit one another and the memory."
        ) from error


def reason(error: BaseException) -> str:
    """The first line of what a library says, without its own source."""
    first = str(error).strip().partition("\n")[0]
    return first.rpartition("] ")[2] or type(error).__name__
