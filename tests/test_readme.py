"""Every `semikit` command of the README and of what can be chosen runs, at tiny size, in the order it is read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semikit.cli.app import run
from tests.helpers import georasters, miniatures, pairs

README = Path(__file__).parents[1] / "README.md"
PAGES = (README, README.parent / "docs/choices.md")
TINY = [
    *("--encoder", "mobilenetv3_small_050", "--decoder", "dpt", "--weights", "none", "--crop", "32", "--batch", "2"),
    *("--iterations", "2", "--workers", "0", "--device", "cpu", "model.decoder_channels=8", "train.group=2"),
]


def commands() -> list[str]:
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("semikit ")]


def make_folders(folder: Path) -> None:
    """Photographs and masks as the README's my.yaml describes them."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 2)):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "masks").mkdir()
        for number in range(count):
            labels = rng.integers(0, 3, (5, 6)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
            noise = rng.integers(0, 60, (*labels.shape, 3))
            image = (labels[..., None] * 80 + noise).astype(np.uint8)
            Image.fromarray(image).save(folder / part / "images" / f"{number}.png")
            Image.fromarray(labels).save(folder / part / "masks" / f"{number}.png")


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMIKIT_DATA", raising=False)
    make_folders(tmp_path)
    pairs.write(tmp_path / "pairs", train=10)
    for date in ("before", "after"):
        georasters.save(tmp_path / f"{date}.tif", georasters.ramp(50, 70))
    (tmp_path / "downloads").mkdir()
    miniatures.make("pascal", tmp_path / "downloads")
    spec = re.search(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert spec is not None
    (tmp_path / "my.yaml").write_text(spec[1])
    found = commands()
    assert len(found) >= 10
    for command in found:
        arguments = shlex.split(command)[1:]
        tiny = TINY if arguments[0] == "train" and not {"--resume", "--help"} & set(arguments) else []
        assert run([*arguments, *tiny]) == 0, f"{command}\n{capsys.readouterr().err}"
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 6
    assert (tmp_path / "runs/mine/results.json").is_file()
    assert (tmp_path / "change-probability.tif").is_file()
    assert (tmp_path / "change.geojson").is_file()
    assert (tmp_path / "runs/seg/my-supervised/summary.json").is_file()
