"""What errors of the system become."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from semikit.cli import app


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), 2, "a" * 200 + "…: File name too long. Check"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), 2, "error: /data: Permission denied. Check"),
        (OSError(errno.ENOSPC, "No space left on device", "/data"), 3, "the disk did not take"),
        (OSError(errno.EPIPE, "Broken pipe"), 1, "a fault in semikit"),
    ],
)
def test_errors_of_the_system(
    error: OSError, code: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, obj: Any) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    assert app.run(["list"]) == code
    assert told in capsys.readouterr().err
