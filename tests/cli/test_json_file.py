from __future__ import annotations

from pathlib import Path

import pytest

from semikit.cli.output import check_json, write_json
from semikit.errors import InputError


def test_a_file_that_can_be_written(tmp_path: Path) -> None:
    for path in (None, tmp_path / "a.json"):
        check_json(path)
    write_json(tmp_path / "a.json", {"mIoU": 41.5})
    assert (tmp_path / "a.json").read_text() == '{\n  "mIoU": 41.5\n}\n'


def test_a_folder_or_no_folder(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "it is a folder"), (tmp_path / "no/a.json", "there is no such folder")):
        with pytest.raises(InputError, match=told):
            check_json(path)
        with pytest.raises(InputError, match=f"cannot write to {path}"):
            write_json(path, {})


def test_a_full_disk_is_not_the_users_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.json", {})
