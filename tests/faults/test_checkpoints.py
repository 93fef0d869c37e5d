from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from semikit.core.rng import rng_for
from semikit.errors import WeightsError
from semikit.training.checkpoint import BEST, LAST, PREVIOUS, read_best, read_checkpoint, read_last
from tests.helpers.equality import differences

Tried = Callable[..., None]

SEED = 20261124
COUNT = 20


def cut(content: bytes, number: int) -> bytes:
    return content[: int(rng_for(SEED, "cut", number).integers(len(content)))]


def flip(content: bytes, number: int) -> bytes:
    rng, changed = rng_for(SEED, "flip", number), bytearray(content)
    changed[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


DAMAGES = {"truncated": cut, "with a flipped bit": flip}


@pytest.fixture
def run(whole: Any, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(whole.folder, tmp_path / "run"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_taken(run: Path, damage: str, tried: Tried) -> None:
    content = (run / "weights" / LAST).read_bytes()
    for number in range(COUNT):
        (run / "weights" / LAST).write_bytes(DAMAGES[damage](content, number))
        state, notice = read_last(run / "weights")
        assert state["step"] == 3
        assert notice is not None
        assert "is damaged" in notice
        assert notice.endswith(f"Going on from {PREVIOUS} at iteration 3.")
        tried(f"last.ckpt {damage}: detected, previous.ckpt taken with a notice")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_not_taken(run: Path, damage: str, tried: Tried) -> None:
    path = run / "weights" / BEST
    content = path.read_bytes()
    for number in range(COUNT):
        path.write_bytes(DAMAGES[damage](content, number))
        with pytest.raises(WeightsError):
            read_best(path)
        tried(f"best.safetensors {damage}: refused")


def test_every_bit_of_the_head_of_the_weights_is_guarded(run: Path, tried: Tried) -> None:
    """Names, shapes, places, metadata and the checksum itself."""
    path = run / "weights" / BEST
    content = path.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    state, told = read_best(path)
    for place in rng_for(SEED, "head").choice(head, 300, replace=False):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng_for(SEED, "bit", int(place)).integers(8))
        path.write_bytes(bytes(changed))
        try:
            found, metadata = read_best(path)
        except WeightsError:
            tried("best.safetensors with a flipped bit in its head: refused")
            continue
        raise AssertionError(
            f"byte {place} of {head} is not guarded: {metadata == told}, {found.keys() == state.keys()}"
        )


def test_plain_readers_read_the_weights(run: Path) -> None:
    found, _ = read_best(run / "weights" / BEST)
    with safe_open(run / "weights" / BEST, "np") as file:
        assert set(file.keys()) == set(found)
        for name, tensor in found.items():
            np.testing.assert_array_equal(file.get_tensor(name), tensor.numpy())


def test_resumed_from_the_one_before(many_runs: Any, whole: Any, run: Path, tried: Tried) -> None:
    path = run / "weights" / LAST
    path.write_bytes(flip(path.read_bytes(), 0))
    (run / "results.json").unlink()
    ended = many_runs.server.run("train", "seg", "--resume", run)
    assert ended.code == 0, ended.out
    assert "Going on from previous.ckpt at iteration 3" in " ".join(ended.out.split())
    assert not differences(read_checkpoint(path)["method"], whole.outcome["last"]["method"])
    assert (run / "weights/damaged.ckpt").exists()
    tried("run with a damaged last.ckpt resumed: it ended as the uninterrupted one")


def test_both_damaged(many_runs: Any, run: Path, tried: Tried) -> None:
    for name in (LAST, PREVIOUS):
        (run / "weights" / name).write_bytes(cut((run / "weights" / name).read_bytes(), 3))
    ended = many_runs.server.run("train", "seg", "--resume", run)
    assert ended.code == 2
    assert "neither checkpoint can be read" in ended.out
    assert all(str(run / "weights" / name) in ended.out for name in (LAST, PREVIOUS))
    assert "Traceback" not in ended.out
    tried("both checkpoints damaged: exit 2, one message")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_end_a_command_with_2(
    many_runs: Any, run: Path, photo_data: Path, damage: str, tried: Tried
) -> None:
    path = run / "weights" / BEST
    path.write_bytes(DAMAGES[damage](path.read_bytes(), 1))
    images = photo_data.parent / "test/images"
    for arguments in (("evaluate", run), ("predict", run, images, "-o", run / "predictions"), ("evaluate", path)):
        ended = many_runs.server.run(*arguments)
        assert ended.code == 2, ended
        assert str(path) in ended.out
        assert "is damaged" in ended.out
        assert "Traceback" not in ended.out
        tried("evaluate or predict with damaged weights: exit 2, one message")
    assert not (run / "predictions").exists()
