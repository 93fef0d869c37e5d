from __future__ import annotations

import re
import subprocess
import sys

import pytest
import timm
import torch

from semikit.errors import ConfigError
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.create import build_encoder, check_encoder
from semikit.models.encoders.encoder import statistics
from semikit.models.encoders.names import (
    ALIASES,
    ENCODERS,
    NORMALISATIONS,
    STRIDE,
    blocks_for,
    canonical,
    dpt_channels,
    is_dinov2,
    is_mit,
    is_non_commercial,
    timm_name,
)
from semikit.models.settings import ModelSettings
from semikit.models.weights.licence import check_licence, licence_line

TIMM = [name for name, entry in ENCODERS.items() if entry.library == "timm"]
OTHERS = [name for name in ENCODERS if name not in TIMM]
FAMILY = re.compile(r"[a-z]+(\d(?!\d))?(-convnext|-large-sat)?")
SMALLEST = {FAMILY.match(name)[0]: name for name in reversed(TIMM)}.values()  # type: ignore[index]
EVERY = [pytest.param(name, marks=[] if name in SMALLEST else pytest.mark.long) for name in TIMM]
"""The smallest of each family, and the others in `make faults`."""


@pytest.mark.parametrize("name", EVERY)
def test_facts_agree_with_timm(name: str) -> None:
    entry = ENCODERS[name]
    with torch.device("meta"):
        model = timm.create_model(entry.source, num_classes=0)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(entry.millions, abs=0.06)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (0,))[0]
    assert entry.patch == patch
    assert entry.multiple == max(1, patch)
    cfg = model.pretrained_cfg
    assert (cfg["license"] or entry.licence.lower()).removesuffix("-license") == entry.licence.lower()
    if entry.package:
        return
    assert entry.source in timm.list_pretrained(f"{entry.source.partition('.')[0]}.*")
    assert entry.repository == cfg["hf_hub_id"]
    assert entry.repository in entry.url


@pytest.mark.parametrize("name", EVERY)
def test_levels_and_normalisation(name: str) -> None:
    """Of sides that the patch divides; the statistics are those of its own pretraining."""
    entry = ENCODERS[name]
    settings = ModelSettings(encoder=name, weights="none", output_stride=None if entry.patch else STRIDE)
    with torch.device("meta"), torch.no_grad():
        encoder = build_encoder(settings)
        levels = encoder.levels(torch.zeros(1, 3, 4 * (entry.patch or STRIDE), 5 * (entry.patch or STRIDE)))
    assert [level.shape[-2:] for level in levels][-1] == (4, 5)
    assert [level.shape[1] for level in levels] == list(encoder.widths)
    assert encoder.multiple == entry.multiple
    assert entry.grid == (f"patch {entry.patch}" if entry.patch else f"stride {STRIDE}")
    if not entry.package:  # whose weights are normalised otherwise than timm's
        found = statistics(encoder.backbone.pretrained_cfg, 3, random=False)
        assert found == tuple(pytest.approx(numbers, abs=6e-4) for numbers in NORMALISATIONS[entry.normalisation])


def test_weights_without_commercial_use_are_asked_for() -> None:
    asked = {name for name, entry in ENCODERS.items() if is_non_commercial(entry.licence)}
    assert asked == {name for name in ENCODERS if name.startswith(("eupe-", "mae-", "mit-"))}
    for settings in (ModelSettings(encoder="eupe-tiny"), ModelSettings(encoder="vit_base_patch16_224.mae")):
        with pytest.raises(ConfigError, match=r"no commercial use.*--accept-licence"):
            build_encoder(settings)
        assert "to be accepted by --accept-licence" in licence_line(settings)
    with pytest.raises(ConfigError, match=r"no commercial use.*--accept-licence"):
        build_classifier(ClassifierSettings(encoder="eupe-tiny", weights="pretrained"), 3)
    check_licence(ModelSettings(encoder="eupe-tiny", accept_licence=True))
    check_licence(ModelSettings(encoder="eupe-tiny", weights="none"))


@pytest.mark.parametrize("name", OTHERS)
def test_facts_of_what_transformers_builds(name: str) -> None:
    entry = ENCODERS[name]
    with torch.device("meta"):
        encoder = build_encoder(ModelSettings(encoder=name, weights="none"))
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(entry.millions, abs=0.06)
    assert encoder.reductions[-1] == STRIDE
    assert encoder.multiple == entry.multiple
    assert entry.repository == f"nvidia/{name}"
    assert entry.repository in entry.url
    assert "non-commercial" in entry.licence
    assert is_mit(name)


def test_aliases_name_encoders_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(ENCODERS)
    assert not set(ALIASES) & set(ENCODERS)
    assert not any(timm.is_model(alias) for alias in ALIASES)
    assert canonical("dinov2-g") == "dinov2-giant"
    assert canonical("sam-l") == canonical("sam-large") == "sam-large"
    assert check_encoder("beit-b") == timm_name("beit-b") == "beit_base_patch16_224.in22k_ft_in22k"
    assert ModelSettings(encoder="dinov3-s").encoder == "dinov3-small"


def test_short_and_other_names() -> None:
    assert timm_name("dinov2-small") == "vit_small_patch14_dinov2.lvd142m"
    assert timm_name("mit-b5") == check_encoder("mit-b5") == "mit-b5"
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
    code = "import sys, semikit.models.encoders.names, semikit.models.settings; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "transformers"} & set(done.stdout.split())
