"""Losses of five steps at a fixed seed: a change that should not alter numbers does not.

Kept in `losses.json` by `record.py`. Equal bit for bit under the same torch on the same kind of processor, elsewhere
within rounding.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden import cases

STORED = json.loads(cases.VALUES.read_text())


def test_every_case_is_kept() -> None:
    assert STORED["losses"].keys() == cases.CASES.keys()


@pytest.mark.parametrize("name", cases.CASES)
def test_losses_are_those_that_were(name: str, small: cases.Small, tmp_path: Path) -> None:
    found, stored = cases.losses(name, small, tmp_path), STORED["losses"][name]
    if STORED["environment"] == cases.environment():
        assert found == stored
        return
    for one, other in zip(found, stored, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
