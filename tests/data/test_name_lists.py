from __future__ import annotations

import time
from pathlib import Path

from semikit.data.formats.name_lists import listed, near
from semikit.data.masked_images import plain_images


def test_the_nearest_names() -> None:
    assert near("cat/00a1", ["cat/0001", "dog/0001", "horse"]) == " Did you mean 'cat/0001' or 'dog/0001'?"
    assert near("zebra", ["cat/0001"]) == ""


def test_of_a_million_names_only_neighbours_are_compared() -> None:
    names = [f"n{wnid:04d}/image{k:05d}" for wnid in range(1000) for k in range(1000)]
    begin = time.perf_counter()
    assert near("n0500/image0050", names) == (
        " Did you mean 'n0500/image00590' or 'n0500/image00580' or 'n0500/image00570'?"
    )
    assert time.perf_counter() - begin < 20


def test_a_list_written_on_windows(tmp_path: Path) -> None:
    train = plain_images({name: tmp_path / f"{name}.png" for name in ("a/1", "a/2", "b/1")})
    (tmp_path / "list.txt").write_text("a\\2.png\r\nb\\1\r\n")
    assert listed(tmp_path / "list.txt", train, {}, "a list", lambda index: True) == [1, 2]
