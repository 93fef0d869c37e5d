from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch

from semikit.models.catalogue import ENCODERS, blocks_for, dpt_channels, is_dinov2, timm_name


@pytest.mark.parametrize("name", ENCODERS)
def test_facts_agree_with_timm(name: str) -> None:
    entry = ENCODERS[name]
    with torch.device("meta"):
        model = timm.create_model(entry.timm, num_classes=0)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(entry.millions, abs=0.06)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (0,))[0]
    assert entry.patch == patch
    assert entry.multiple == max(1, patch)
    assert entry.timm in timm.list_pretrained(f"{entry.timm.partition('.')[0]}.*")
    cfg = model.pretrained_cfg
    assert (cfg["license"] or entry.licence.lower()).removesuffix("-license") == entry.licence.lower()
    assert entry.repository == cfg["hf_hub_id"]
    assert entry.repository in entry.url


def test_short_and_other_names() -> None:
    assert timm_name("dinov2-small") == "vit_small_patch14_dinov2.lvd142m"
    assert timm_name("resnet26d") == "resnet26d"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_small_patch14_dinov2.lvd142m", True),
        ("vit_giant_patch14_dinov2", True),
        ("vit_small_patch14_reg4_dinov2.lvd142m", False),
        ("vit_small_patch16_dinov3.lvd1689m", False),
        ("vit_small_patch16_224", False),
    ],
)
def test_which_are_dinov2(name: str, expected: bool) -> None:
    assert is_dinov2(name) is expected


def test_blocks_as_released_and_for_other_depths() -> None:
    assert blocks_for(12) == (2, 5, 8, 11)
    assert blocks_for(24) == (4, 11, 17, 23)
    assert blocks_for(40) == (9, 19, 29, 39)
    assert blocks_for(4) == (0, 1, 2, 3)
    assert blocks_for(2) == (0, 0, 1, 1)
    assert blocks_for(1) == (0, 0, 0, 0)
    for depth in range(1, 50):
        assert len(blocks_for(depth)) == 4
        assert blocks_for(depth)[-1] == depth - 1


def test_decoder_channels() -> None:
    assert dpt_channels(768) == (128, (96, 192, 384, 768))
    assert dpt_channels(192) == (32, (24, 48, 96, 192))
    assert dpt_channels(32) == (8, (8, 8, 16, 32))
    assert dpt_channels(4096)[0] == 256


def test_needs_neither_torch_nor_timm() -> None:
    code = "import sys, semikit.models.catalogue, semikit.models.settings; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm"} & set(done.stdout.split())
