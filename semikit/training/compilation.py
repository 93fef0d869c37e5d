"""What of a step `torch.compile` translates: the student's passes with their losses, the label source's, the views.

Shapes are static: every step has the same, and evaluation, whose images have others, is not compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

from semikit.training.settings import Compile

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, mode: Compile) -> F:
    """The function, translated when it is first called; unchanged for `off`."""
    if mode == "off":
        return function
    return torch.compile(function, mode=mode, dynamic=False)  # type: ignore[return-value]


def steps_apart(
    context: Callable[[], AbstractContextManager[Any]], mode: Compile
) -> Callable[[], AbstractContextManager[Any]]:
    """The maker of contexts of whole steps, which lets CUDA graphs write over what the step before gave: without it
    each compiled call takes the one before it for another step.
    """
    if mode in ("off", "default"):
        return context

    def begun() -> AbstractContextManager[Any]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return context()

    return begun
