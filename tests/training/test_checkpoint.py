from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from semikit.errors import RunError, WeightsError
from semikit.files import write_atomically
from semikit.training import checkpoint
from semikit.training.checkpoint import (
    BEST,
    LAST,
    PREVIOUS,
    read_best,
    read_checkpoint,
    read_last,
    save_best,
    save_last,
)
from tests.helpers.equality import differences

SIZE = 50


def state(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    tensors = {f"layer.{k}": torch.randn(SIZE, 20, generator=generator) for k in range(3)}
    return {"step": step, "method": tensors, "optimizer": {}, "best": {}, "metadata": {"task": "seg"}, "lr": 0.5}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder after two checkpoints, of steps 10 and 20."""
    for step in (10, 20):
        save_last(tmp_path, state(step))
    return tmp_path


def test_what_was_written_is_read(weights: Path) -> None:
    assert not differences(read_checkpoint(weights / LAST), state(20))


def test_the_last_and_the_one_before_are_kept_and_nothing_else(weights: Path) -> None:
    save_last(weights, state(30))
    assert sorted(path.name for path in weights.iterdir()) == [LAST, PREVIOUS]
    assert read_checkpoint(weights / LAST)["step"] == 30
    assert read_checkpoint(weights / PREVIOUS)["step"] == 20


def test_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append("sync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (events.append("rename"), replace(self, target))[1])
    save_last(tmp_path, state(1))
    assert events[:2] == ["sync", "rename"]
    assert "sync" in events[2:], "the folder's entry has to reach the disk too"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_in_a_tensor(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(state(20)["method"]["layer.1"].numpy().tobytes())
    assert place > 0
    content[place + 999] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, empty, flip_in_a_tensor, Path.unlink])
def test_falls_back_to_the_one_before_and_says_so(weights: Path, damage: Callable[[Path], object]) -> None:
    damage(weights / LAST)
    found, notice = read_last(weights)
    assert not differences(found, state(10))
    assert notice is not None
    assert str(weights / LAST) in notice
    assert notice.endswith(f"Going on from {PREVIOUS} at iteration 10.")


def test_an_undamaged_one_is_read_without_a_word(weights: Path) -> None:
    assert read_last(weights)[1] is None


def test_one_that_is_replaced_while_it_is_read_is_whole(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = checkpoint._verified

    def verify_and_replace(file: BinaryIO) -> bool:
        save_last(weights, {**state(30), "more": torch.zeros(1000)})
        return verified(file)

    monkeypatch.setattr(checkpoint, "_verified", verify_and_replace)
    assert not differences(read_checkpoint(weights / LAST), state(20))


def test_without_one_before_the_damage_is_told(tmp_path: Path) -> None:
    save_last(tmp_path, state(1))
    cut(tmp_path / LAST)
    with pytest.raises(WeightsError, match=r"last\.ckpt is damaged"):
        read_last(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no checkpoint at"):
        read_last(tmp_path)


def test_wherever_a_bit_flips_it_is_refused(weights: Path) -> None:
    rng, path = np.random.default_rng(0), weights / LAST
    content = path.read_bytes()
    tail = len(content) - 2500  # the directory of the container lies at its end
    for place in [*rng.integers(0, len(content), 60), *rng.integers(tail, len(content), 120)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(WeightsError, match="damaged"):
            read_checkpoint(path)


def test_torch_reads_it_too(weights: Path) -> None:
    assert torch.load(weights / LAST, weights_only=True)["step"] == 20


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Path(os.environ["BOMB"])),)


@pytest.mark.parametrize("zipped", [True, False])
def test_one_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    path = tmp_path / LAST
    content = {**state(1), "best": Bomb()}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match="refused" if zipped else "damaged"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_foreign_checkpoint_is_told_as_such(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / LAST)
    with pytest.raises(WeightsError, match="not a checkpoint of semikit"):
        read_checkpoint(tmp_path / LAST)


def full(path: Path, error: Exception) -> None:
    path.write_bytes(b"half of it")
    raise error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed"), SafetensorError("io")],
)
def test_a_full_disk_leaves_the_former_files(weights: Path, error: Exception) -> None:
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    with pytest.raises(RunError, match=r"could not write .*last\.ckpt.* Free space") as caught:
        write_atomically(weights / LAST, lambda path: full(path, error), keep=weights / PREVIOUS)
    assert caught.value.exit_code == 3
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == before


def test_a_full_disk_while_the_best_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_best(tmp_path, {"w": torch.ones(3)}, {"task": "seg"})

    def no_space(tensors: object, path: Path, metadata: object) -> None:
        full(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(checkpoint, "write_tensors", no_space)
    with pytest.raises(RunError, match="No space left"):
        save_best(tmp_path, {"w": torch.zeros(3)}, {"task": "seg"})
    assert read_best(tmp_path / BEST)[0]["w"].sum() == 3
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


def test_best_weights_carry_what_rebuilds_their_network(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).t(), "n": torch.tensor(3)}
    save_best(tmp_path, tensors, {"task": "seg", "class_names": ["Straße", "car"]})
    found, metadata = read_best(tmp_path / BEST)
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)
    assert metadata == {"task": "seg", "class_names": ["Straße", "car"]}


def test_others_may_read_the_best_weights_as_they_may_read_the_last(tmp_path: Path) -> None:
    save_last(tmp_path, state(1))
    save_best(tmp_path, {"w": torch.ones(3)}, {"task": "seg"})
    assert (tmp_path / BEST).stat().st_mode == (tmp_path / LAST).stat().st_mode


def test_equal_weights_are_equal_files_with_a_checksum(tmp_path: Path) -> None:
    files = []
    for name in "abcdefgh":
        save_best(tmp_path / name, {"w": torch.ones(3), "b": torch.zeros(2)}, {"task": "seg", "best": {"value": 0.1}})
        files.append((tmp_path / name / BEST).read_bytes())
    assert len(set(files)) == 1
    changed = files[0].replace(torch.ones(3).numpy().tobytes(), torch.tensor([1.0, 1.0, 1.5]).numpy().tobytes())
    assert changed != files[0]
    (tmp_path / BEST).write_bytes(changed)
    with pytest.raises(WeightsError, match="its content does not match its checksum"):
        read_best(tmp_path / BEST)
    checkpoint.write_tensors({"w": torch.ones(3)}, tmp_path / BEST, metadata={"semikit": '{"task": "seg"}'})
    assert read_best(tmp_path / BEST)[1] == {"task": "seg"}, "written before there were checksums"


def test_weights_without_a_word_about_their_network(tmp_path: Path) -> None:
    checkpoint.write_tensors({"w": torch.ones(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="not how to build their network; give the run folder"):
        read_best(tmp_path / "plain.safetensors")


def test_damaged_best_weights(tmp_path: Path) -> None:
    save_best(tmp_path, {"w": torch.ones(100)}, {"task": "seg"})
    cut(tmp_path / BEST)
    with pytest.raises(WeightsError, match="damaged"):
        read_best(tmp_path / BEST)
