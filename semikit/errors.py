"""Every error semikit raises on purpose.

SemikitError                    a sentence for the user: what was given, what is allowed, what to do
├── InputError (ValueError)     the user's input is wrong                         exit code 2
│   ├── ConfigError             a key, type or value of the configuration
│   ├── UnknownNameError    a name that no registry knows (nearest names are given)
│   ├── DataError               files, masks, splits
│   └── WeightsError            weights or a checkpoint that cannot be used
└── RunError (RuntimeError)     the run could not go on: non-finite loss, full disk    exit code 3
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import final

INTERRUPTED = 130
"""The exit code of a command that was stopped by Ctrl-C or a signal."""


class SemikitError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns. `of_all`: all processes of a
    run raise it, and the first one tells.
    """

    exit_code = 1
    of_all = False

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class InputError(SemikitError, ValueError):
    """The user's input is wrong."""

    exit_code = 2


class ConfigError(InputError):
    """A key, type or value of the configuration is wrong."""


class UnknownNameError(InputError):
    """A name is not known."""


class DataError(InputError):
    """Files, masks or splits are wrong."""


class WeightsError(InputError):
    """Weights or a checkpoint cannot be used."""


class RunError(SemikitError, RuntimeError):
    """The run could not go on."""

    exit_code = 3


def of_all(error: RunError) -> RunError:
    """The same error, marked as one that every process of the run raises."""
    error.of_all = True
    return error


_MANY = 40
"""Names up to which an error lists all."""
_LONG = 200
"""Characters of a name that are shown."""


def unknown(kind: str, given: object, known: Iterable[str], first: Collection[str] = ()) -> UnknownNameError:
    """The error for a name nobody knows: the name, the nearest known names, then all of them or, of many, the first.

    `given` is a name, or what stands in the place of one; `first` are those of the known that are named first.
    """
    names = sorted(known, key=lambda name: (name not in first, name))
    shown = names if len(names) <= _MANY else [*names[: _MANY // 2], f"… and {len(names) - _MANY // 2} more"]
    near = get_close_matches(str(given)[:_LONG], names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    shown_name = repr(given) if len(repr(given)) <= _LONG else f"{repr(given)[:_LONG]}…"
    return UnknownNameError(f"unknown {kind} {shown_name}.{hint} Known: {', '.join(shown) or 'none'}.")


def some(items: Sequence[str], shown: int = 3) -> str:
    """The first few of what an error is about, and the number of the others."""
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


@final
class FileFault(DataError):
    """One file is wrong.

    `kind` is the same for all files with the same fault, which are reported together; `detail` is this file's own (may
    be empty), `remedy` says what to do, and `evidence` is what a remedy for all files together is drawn from.
    """

    def __init__(self, kind: str, file: Path | str, detail: str, remedy: str, evidence: object = None) -> None:
        # All go to args: an exception is rebuilt from them when it comes back from a worker process.
        super().__init__(kind, file, detail, remedy, evidence)
        self.kind, self.file, self.detail, self.remedy, self.evidence = kind, file, detail, remedy, evidence

    def __str__(self) -> str:
        """Kind, file, detail, remedy."""
        return f"{self.kind}: {self.where}. {self.remedy}"

    @property
    def where(self) -> str:
        """The file with its own detail."""
        return f"{self.file} ({self.detail})" if self.detail else str(self.file)


def of_one_kind(faults: Sequence[FileFault], remedy: str = "") -> str:
    """The sentence for faults of one kind: three files, the number of the others, and a remedy."""
    return f"{faults[0].kind}: {some([fault.where for fault in faults])}. {remedy or faults[0].remedy}"


def as_list(what: str, sentences: Sequence[str]) -> str:
    """One sentence as it is, several as a list under their number; `what` says of what they are."""
    if len(sentences) == 1:
        return sentences[0]
    return "\n- ".join([f"{len(sentences)} problems with the {what}:", *sentences])


def mask_size_fault(
    file: Path | str,
    image: tuple[int, int],
    mask: tuple[int, int],
    remedy: str = "Image and mask must have the same width and height; export the masks again at the images' size.",
) -> FileFault:
    """The fault of an image and a mask, both (H, W), that differ in size."""
    detail = f"image {image[1]}x{image[0]}, mask {mask[1]}x{mask[0]} (width x height)"
    return FileFault("mask of another size than its image", file, detail, remedy)
