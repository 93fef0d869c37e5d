from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from semikit.errors import WeightsError
from semikit.models.weights.file import read_file, read_weights

STATE = {"a.weight": torch.arange(4.0), "a.bias": torch.ones(2)}


class Payload:
    """Touches a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", [None, "model", "model_ema", "state_dict"])
def test_prefixes_and_nests(tmp_path: Path, prefix: str, nest: str | None) -> None:
    state = {prefix + key: value for key, value in STATE.items()}
    torch.save(state if nest is None else {nest: state, "epoch": 3}, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"))


def test_the_teacher_is_preferred(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth")["a"] == 1


@pytest.mark.parametrize("value", [np.float64(79.5), np.float32(79.5), np.int64(79), np.bool_(True)])
def test_numpy_scalars(tmp_path: Path, value: np.generic) -> None:
    torch.save({"previous_best": value}, tmp_path / "w.pth")
    assert read_file(tmp_path / "w.pth")["previous_best"] == value


def test_scalars_written_under_numpy_1(tmp_path: Path) -> None:
    torch.save({"previous_best": np.float64(79.5)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    written = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_file(tmp_path / "w.pt")["previous_best"] == 79.5


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_refused(tmp_path: Path, legacy: bool) -> None:
    marker = tmp_path / "ran"
    torch.save(
        {"model": STATE, "extra": Payload(marker)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(WeightsError, match=r"refused: reading it could run code.*as .safetensors"):
        read_weights(tmp_path / "w.pth")
    assert not marker.exists()


def test_other_numpy_functions_are_refused(tmp_path: Path) -> None:
    torch.save({"model": STATE, "extra": np.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"refused.*_reconstruct"):
        read_file(tmp_path / "w.pth")


def test_the_allowance_does_not_outlive_the_call(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    torch.save({"previous_best": np.float64(1)}, tmp_path / "w.pth")
    read_file(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(STATE, path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="is damaged"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is damaged"):
        read_weights(path)


def test_what_is_no_weight_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*missing.pth"):
        read_weights(tmp_path / "missing.pth")
    (tmp_path / "w.txt").touch()
    with pytest.raises(WeightsError, match=r"weights end in .safetensors.*not in .txt"):
        read_weights(tmp_path / "w.txt")
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds a Tensor, not a dictionary"):
        read_weights(tmp_path / "w.pt")
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no weights; its entries are epoch, lr"):
        read_weights(tmp_path / "w.pt")
