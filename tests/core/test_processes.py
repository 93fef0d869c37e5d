"""Two processes that share a step remember what one does, and learn what one does."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.helpers.processes import Server

WITH_A_ROW_NOBODY_READS = ("selected", "bank.rows", "bank.labels", "bank.seen")


def run(server: Server, world: int, folder: Path) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder.mkdir()
    for ended in server.run_together(world, "-m", "tests.helpers.shared_states", folder):
        assert ended.code == 0, ended.out
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def test_states_and_gradients_do_not_depend_on_the_number_of_processes(server: Server, tmp_path: Path) -> None:
    (alone,) = run(server, 1, tmp_path / "one")
    for shared in run(server, 2, tmp_path / "two"):
        for name, states in alone.items():
            assert len(states) > 1, "a gradient, and what the method remembers or the loss"
            for key, value in states.items():
                rows = slice(0, -1) if key.endswith(WITH_A_ROW_NOBODY_READS) else slice(None)
                actual, expected = (x if x.dim() == 0 else x[rows] for x in (shared[name][key], value))
                torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
