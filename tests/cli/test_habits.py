"""What people try who know other programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semikit import __version__
from semikit.distributed.groups import joined
from semikit.errors import ConfigError
from semikit.run.config import resolve
from semikit.settings.messages import MEANT, meant
from semikit.training.device import choose_device
from tests.helpers import photos

Call = Callable[..., Any]


def test_version_and_completion(semikit: Call) -> None:
    assert (semikit("--version").code, semikit("--version").out) == (0, f"semikit {__version__}\n")
    assert "--show-completion" in semikit("--help").out


@pytest.mark.parametrize("given", [1, "1", "cuda:1"])
def test_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    assert (choose_device(given), used) == (torch.device("cuda", 1), [1])
    config = resolve({"task": "seg", "data": {"shapes": {}}, "train": {"iterations": 1, "device": given}})
    assert config.train.device == "cuda:1"
    with pytest.raises(ConfigError, match="'cuda:2' is not there: this machine has GPUs 0 to 1"):
        choose_device("2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="have a GPU each, not cuda:1 together"), joined("cuda:1"):
        pass


def test_data_as_a_key(train: Call, semikit: Call, photo_data: Path) -> None:
    answer = semikit("train", "seg", f"data={photo_data}", *photos.FLAGS, "--iterations", "2", "--dry-run")
    assert answer.code == 0, answer.err
    assert "both --data" in train(f"data={photo_data}", "--dry-run").err


def test_names_that_settings_have_elsewhere(train: Call) -> None:
    err = train("learning_rate=0.1", "train.batch_size=4", "img_size=64", "optimizer.learning_rate=0.1").err
    for line in (
        "unknown section of the configuration 'learning_rate'. Did you mean 'optimizer.lr'?",
        "unknown section of the configuration 'img_size'. Did you mean 'views.weak.crop' (cls: 'views.size')?",
        "train: unknown key 'batch_size'. Did you mean 'train.batch'?",
        "optimizer: unknown key 'learning_rate'. Did you mean 'optimizer.lr'?",
    ):
        assert line in err


def test_they_are_settings_of_the_configuration() -> None:
    raw = resolve({"task": "seg", "data": {"shapes": {}}, "train": {"iterations": 1}}).to_raw()
    for key in MEANT.values():
        inner: Any = raw
        for part in key.split("."):
            assert part in inner, key
            inner = inner[part]
    assert meant("Learning-Rate") == "'optimizer.lr'"
    assert meant("threshold") is None


def test_log_lines_have_times(trained: Path) -> None:
    lines = (trained / "log.txt").read_text().splitlines()
    assert any(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 4/4 student mIoU .*", line) for line in lines)
