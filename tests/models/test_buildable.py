from __future__ import annotations

import warnings

import pytest
import torch

from semikit.errors import ConfigError, UnknownNameError
from semikit.models.settings import ModelSettings, buildable

SETTINGS = ModelSettings(encoder="test_vit", weights="none", encoder_args={"embed_dim": 10**12})


def test_more_than_the_memory_holds() -> None:
    with pytest.raises(ConfigError) as error, buildable(SETTINGS):
        torch.empty(1 << 60)
    told = str(error.value)
    assert told.startswith("model: no network can be built from these settings: ")
    assert "{'embed_dim': 1000000000000}" in told
    assert "decoder_widths" in told
    assert ".cpp" not in told


def test_layers_of_nothing() -> None:
    with pytest.raises(ConfigError, match="zero-element"), buildable(SETTINGS):
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=1)


def test_errors_that_speak_for_themselves() -> None:
    with pytest.raises(UnknownNameError, match=r"^said$"), buildable(SETTINGS):
        raise UnknownNameError("said")


def test_widths_that_are_none() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ModelSettings(decoder_widths=(8, 0, 8, 8))
