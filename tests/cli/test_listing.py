from __future__ import annotations

import re
import subprocess
import sys
from itertools import product

import pytest

from semikit.cli import listing
from semikit.errors import UnknownNameError
from semikit.models.encoders.names import ALIASES, ENCODERS
from semikit.run.recipes import recipe_names


def models(capsys: pytest.CaptureFixture[str]) -> list[str]:
    listing.list_names("models")
    return capsys.readouterr().out.splitlines()


def test_every_encoder_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = models(capsys)
    for column in ("encoder", "also", "parameters", "patch or stride", "licence of the weights", "weights at"):
        assert column in lines[0]
    for name, entry in ENCODERS.items():
        row = next(line for line in lines if line.split()[:1] == [name])
        assert f"{entry.millions:.1f} M" in row
        assert all(text in row for text in (entry.grid, entry.licence, entry.repository))
        assert all(f" {alias} " in row for alias, known in ALIASES.items() if known == name)


def test_what_else_is_needed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(models(capsys))
    assert 'pip install "semikit[mit]"' in text
    assert "Any other timm encoder" in text
    assert "dpt" in text.split("decoder", 1)[1]


def test_presets_that_differ_by_a_part_of_their_name_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    listing.list_names("presets")
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if line.startswith(" ")]
    parts = [[part.split(",") for part in re.split(r"[{}]", line)] for line in lines]
    named = ["".join(name) for choices in parts for name in product(*choices)]
    assert sorted(named) == sorted(recipe_names("presets"))
    assert sum(line.startswith("usb-{fixmatch,flexmatch,") for line in lines) == 4
    assert len(lines) < 20


def test_it_imports_no_library_of_models() -> None:
    code = (
        "import sys; from semikit.cli.app import run; assert run(['list', 'models']) == 0; "
        "print(sorted({'torch', 'timm', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "timm/vit_small_patch14_dinov2.lvd142m" in done.stdout


def test_unknown_list() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown list 'model'. Did you mean 'models'"):
        listing.list_names("model")
