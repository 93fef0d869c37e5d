from __future__ import annotations

import pytest

from semikit.errors import ConfigError, UnknownNameError
from semikit.models.encoders.create import build_encoder, check_encoder, family
from semikit.models.settings import ModelSettings


def test_names_semikit_and_timm_know() -> None:
    assert check_encoder("dinov2-base") == "vit_base_patch14_dinov2.lvd142m"
    assert check_encoder("resnet26d") == "resnet26d"
    assert check_encoder("resnet50.tv_in1k") == "resnet50.tv_in1k"
    assert family("resnet50.tv_in1k") == "resnet"


@pytest.mark.parametrize(
    ("given", "near"),
    [("dinov2-smal", "'dinov2-small'"), ("resnt50", "'resnet50'"), ("resnet50.tv_in2k", "'resnet50.tv_in1k'")],
)
def test_nearest_names(given: str, near: str) -> None:
    with pytest.raises(
        UnknownNameError, match=f"unknown encoder '{given}'. Did you mean .*{near}.*Known: dinov2-small"
    ):
        build_encoder(ModelSettings(encoder=given, weights="none"))


def test_names_without_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown encoder '\$\$\$'. Known: .*timm.list_models"):
        check_encoder("$$$")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "vit-tiny", "encoder_args": {"deepth": 2}}, "encoder_args"),
        ({"encoder": "resnet18", "encoder_args": {"layrs": 2}}, "encoder_args"),
        ({"encoder": "resnet18", "encoder_layers": (0, 1)}, "no transformer"),
        ({"encoder": "vit-tiny", "encoder_layers": (0, 12)}, "has blocks 0 to 11"),
        ({"encoder": "vit-tiny", "output_stride": 16}, "one resolution"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(ModelSettings(weights="none", **changes))
