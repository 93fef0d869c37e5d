from __future__ import annotations

import pytest
from pydantic import ValidationError

from semikit.models.settings import ModelSettings


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
