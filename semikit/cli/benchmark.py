"""`semikit benchmark`."""

from __future__ import annotations


def benchmark() -> None:
    """Placeholder."""
