"""Several processes evaluate what one does: every image once."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers.processes import Server


def scores(server: Server, world: int, folder: Path) -> list[object]:
    folder.mkdir()
    for ended in server.run_together(world, "-m", "tests.helpers.shared_scores", folder):
        assert ended.code == 0, ended.out
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


def test_two_processes_and_five_images(server: Server, tmp_path: Path) -> None:
    (alone,) = scores(server, 1, tmp_path / "one")
    first, second = scores(server, 2, tmp_path / "two")
    assert first == second == alone
