"""Errors raised on purpose, as people see them."""

from __future__ import annotations

import pytest

from semikit.errors import DataError


def test_a_notebook_shows_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    shell.showtraceback((DataError, DataError("give a folder"), None))
    assert capsys.readouterr().out.strip() == "DataError: give a folder"
