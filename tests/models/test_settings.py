from __future__ import annotations

import pytest
from pydantic import ValidationError

from semikit.errors import ConfigError
from semikit.models.settings import LoraSettings, ModelSettings
from semikit.settings.messages import validate


def test_lists_of_yaml_become_tuples() -> None:
    settings = ModelSettings(encoder_layers=[0, 1, 2, 3], decoder_widths=[8, 8, 8, 8])
    assert settings.encoder_layers == (0, 1, 2, 3)
    assert settings.decoder_widths == (8, 8, 8, 8)
    assert ModelSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("key", "value"),
    [("in_channels", 0), ("freeze", "yes"), ("output_stride", 12), ("encoder_layers", ["a"]), ("decoder_channels", 0)],
)
def test_wrong_values(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        ModelSettings(**{key: value})


def test_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="encodr"):
        ModelSettings(encodr="resnet18")


def test_aliases_are_stored_under_their_full_name() -> None:
    assert ModelSettings(encoder="dinov2-b") == ModelSettings(encoder="dinov2-base")


def test_low_rank_settings() -> None:
    settings = ModelSettings(lora={"rank": 8, "targets": ["qkv"]})
    assert settings.lora is not None
    assert settings.lora.targets == ("qkv",)
    assert settings.lora.scale == 1.0
    assert ModelSettings.model_validate_json(settings.model_dump_json()) == settings
    assert LoraSettings(rank=8, alpha=16.0).scale == 2.0


@pytest.mark.parametrize("lora", [{}, {"rank": 0}, {"rank": 4, "alpha": 0.0}, {"rank": 4, "targets": []}])
def test_wrong_low_rank_settings(lora: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="lora"):
        ModelSettings(lora=lora)


def test_frozen_and_adapted_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"model: freeze: true keeps the encoder as it is, lora adapts it. Set one"):
        validate(ModelSettings, {"freeze": True, "lora": {"rank": 4}}, "model")
