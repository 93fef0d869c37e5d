from __future__ import annotations

from pathlib import Path

import pytest

from semikit.errors import DataError
from semikit.files import at_home


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert at_home(Path("~/data")) == Path("/home/me/data")
    assert at_home(Path("data/~")) == Path("data/~")
    with pytest.raises(DataError, match="~no-such-user is no user's home folder"):
        at_home(Path("~no-such-user/data"))
