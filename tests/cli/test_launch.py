"""What `--gpus` makes of a command line; runs in several processes are tried in tests/training/test_torchrun.py."""

from __future__ import annotations

import pytest

from semikit.cli.launch import check_gpus, without_gpus
from semikit.errors import InputError


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["train", "seg", "--gpus", "2", "--out", "a"], ["train", "seg", "--out", "a"]),
        (["train", "--gpus=4", "seg"], ["train", "seg"]),
        (["train", "seg"], ["train", "seg"]),
    ],
)
def test_the_command_of_each_process(given: list[str], kept: list[str]) -> None:
    assert without_gpus(given) == kept


def test_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"--gpus 2: CUDA devices of this machine: 0\. .* --device cpu"):
        check_gpus(2, None)
    check_gpus(8, "cpu")
