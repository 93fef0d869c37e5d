"""Under which licence the weights of an encoder are, and what has to be accepted before they are used."""

from __future__ import annotations

from timm.models import get_pretrained_cfg

from semikit.errors import ConfigError
from semikit.models.encoders.names import ENCODERS, SENSORS, is_non_commercial, timm_name
from semikit.models.settings import EncoderSettings
from semikit.models.weights.sensors import sensor_weights


def licence_line(model: EncoderSettings) -> str:
    """The licence of the encoder's weights, for a person."""
    if model.weights != "pretrained":
        return "none needed" if model.weights == "none" else "that of the file"
    licence = _licence(model.encoder)
    if not is_non_commercial(licence):
        return licence
    return f"{licence}, {'accepted' if model.accept_licence else 'to be accepted by --accept-licence'}"


def check_licence(model: EncoderSettings) -> None:
    """Weights that may not be used commercially are used where that was accepted.

    Raises:
        ConfigError: it was not.
    """
    licence = _licence(model.encoder) if model.weights == "pretrained" else ""
    if is_non_commercial(licence) and not model.accept_licence:
        raise ConfigError(
            f"the weights of {model.encoder} are under {licence}: no commercial use, of what is trained from them "
            "neither. Read it at the weights' place (semikit list models), then add --accept-licence "
            "(model.accept_licence=true); or choose another encoder."
        )


def _licence(encoder: str) -> str:
    if encoder in ENCODERS:
        return ENCODERS[encoder].licence
    if encoder.startswith(SENSORS):
        return sensor_weights(encoder).licence
    return getattr(get_pretrained_cfg(timm_name(encoder)), "license", None) or "not stated by timm"
