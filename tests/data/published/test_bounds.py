from __future__ import annotations

from pathlib import Path

import pytest

from semikit.data.published import archives as bounds
from semikit.data.published.archives import Bounds, safe_name
from semikit.errors import DataError


def test_names_come_with_forward_slashes() -> None:
    archive = Path("x.zip")
    assert safe_name(archive, "./a\\b//c.png") == "a/b/c.png"
    assert safe_name(archive, "é日/" + "x" * 255) == "é日/" + "x" * 255
    assert safe_name(archive, "a\udce4.png") == "a?.png"


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "x" * 256, "日" * 86, "/".join(["deep"] * 206)])
def test_names_no_file_can_have(name: str) -> None:
    with pytest.raises(DataError, match=r"x\.zip is refused: its member '.{1,70}' (holds a control|has a longer name)"):
        safe_name(Path("x.zip"), name)


def test_an_archive_may_declare_a_hundred_times_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ALWAYS_READ", 500)
    (tmp_path / "x.zip").write_bytes(bytes(10))
    count = Bounds(tmp_path / "x.zip")
    count.add(400)
    count.add(600)
    with pytest.raises(DataError, match=r"x\.zip is refused: it holds more than 1000 bytes when unpacked"):
        count.add(1)


def test_small_archives_may_declare_what_is_always_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ALWAYS_READ", 5000)
    (tmp_path / "x.zip").write_bytes(bytes(10))
    count = Bounds(tmp_path / "x.zip")
    count.add(5000)
    with pytest.raises(DataError, match="more than 5000 bytes"):
        count.add(1)
