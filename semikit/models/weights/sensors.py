"""Weights of satellite sensors by torchgeo's names: their network, bands, and what values are normalised by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, final

import timm
import torch
from torch import Tensor
from torch.hub import get_dir, load_state_dict_from_url

from semikit.errors import ConfigError, WeightsError, unknown
from semikit.models.encoders.names import SENSORS
from semikit.models.settings import EncoderSettings
from semikit.models.weights.file import unpacked
from semikit.models.weights.hub import answers, what_to_fetch
from semikit.raster.band_names import plain

S = TypeVar("S", bound=EncoderSettings)

EXTRA = 'pip install "semikit[torchgeo]"'


@final
@dataclass(frozen=True, slots=True)
class SensorWeights:
    """Weights of torchgeo for a network of timm, `architecture`, with its arguments `args`.

    `bands` are the sensor's names of the channels that are taken, None where torchgeo does not say; `channels` are
    their places in the file. Values are normalised by `mean` and `std`, one a channel, in the units of the sensor.
    """

    name: str
    architecture: str
    args: Mapping[str, Any]
    bands: tuple[str, ...] | None
    channels: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    url: str
    licence: str

    def of_images(self, names: Sequence[str] | None, channels: int) -> SensorWeights:
        """The weights for images of so many channels, which are called by `names`, if these are known.

        Raises:
            ConfigError: another number of bands, or one that the weights do not know.
        """
        takes = f"the {len(self.channels)} bands {', '.join(self.bands or ())}".rstrip()
        if names is None or self.bands is None:
            if channels == len(self.channels):
                return self
            raise ConfigError(
                f"{self.name} takes {takes}, but the images have {channels}, without names. Name them in their order, "
                "model.band_names=[B4,B3,B2] or as descriptions in the files, or choose bands in the data YAML."
            )
        known = {plain(band): k for k, band in enumerate(self.bands)}
        if strange := [name for name in names if plain(name) not in known]:
            raise ConfigError(
                f"{self.name} takes {takes}, or some of them, but the images have {', '.join(strange)}. Leave them out "
                "(bands: in the data YAML), or give the sensor's names in their order, model.band_names=[B4,B3,B2]."
            )
        if len(names) != channels:
            raise ConfigError(f"model.band_names has {len(names)} names, but the images have {channels} channels.")
        places = [known[plain(name)] for name in names]
        mean, std = (tuple(part[k] for k in places) for part in (self.mean, self.std))
        return replace(self, bands=tuple(self.bands[k] for k in places), channels=tuple(places), mean=mean, std=std)

    def fetched(self) -> dict[str, Tensor]:
        """The tensors of the file, which is kept where torch keeps downloads; no code in it is run.

        Raises:
            WeightsError: it cannot be had.
        """
        file = self.url.rpartition("/")[2]
        try:
            if not Path(get_dir(), "checkpoints", file).is_file():
                answers(self.url)
            content = load_state_dict_from_url(
                self.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except Exception as error:  # whatever a failed download or a damaged file raises
            raise WeightsError(what_to_fetch(self.name, self.url, file, error)) from error
        return unpacked(content, Path(file))


@cache
def sensor_weights(name: str) -> SensorWeights:
    """What torchgeo knows of weights by their name, torchgeo:ENUM.MEMBER.

    Raises:
        ConfigError: torchgeo is not installed.
        UnknownNameError: it has no such weights for a network of timm.
    """
    try:
        from torchgeo.models import get_model_weights, list_models
    except ImportError:
        raise ConfigError(f"{name}: these weights need torchgeo, which is not installed: {EXTRA}.") from None
    usable: dict[str, tuple[str, Any]] = {}
    for model in filter(timm.is_model, list_models()):
        with suppress(KeyError):  # a model without weights
            usable |= {str(entry): (model, entry) for entry in get_model_weights(model)}
    wanted = name.removeprefix(SENSORS)
    if wanted not in usable:
        raise unknown("weights of torchgeo for a network of timm:", wanted, usable)
    model, entry = usable[wanted]
    meta, channels = entry.meta, entry.meta["in_chans"]
    mean, std = _statistics(entry.transforms, channels)
    return SensorWeights(
        name,
        model,
        {"img_size": meta["img_size"]} if "img_size" in meta else {},
        tuple(meta["bands"]) if meta.get("bands") else None,
        tuple(range(channels)),
        mean,
        std,
        entry.url,
        meta.get("license", "not stated by torchgeo"),
    )


def _statistics(transforms: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that values are normalised by, in however many steps: seen of images of 0 and 1."""
    side = 32
    images = (torch.full((1, channels, side, side), float(value), dtype=torch.float64) for value in (0, 1))
    zero, one = (shown[0, :, shown.shape[-2] // 2, shown.shape[-1] // 2] for shown in map(transforms, images))
    std = 1 / (one - zero)
    return tuple((0 - zero * std).tolist()), tuple(std.tolist())


def sensor_of(settings: EncoderSettings) -> SensorWeights | None:
    """The weights for the channels of these settings, where they are those of a satellite sensor.

    Raises:
        ConfigError, UnknownNameError: as `sensor_weights` and `SensorWeights.of_images`.
    """
    if not settings.encoder.startswith(SENSORS):
        return None
    return sensor_weights(settings.encoder).of_images(settings.band_names, settings.in_channels)


def without_torchgeo(settings: S) -> S:
    """The settings of the same network by timm's name."""
    if not settings.encoder.startswith(SENSORS):
        return settings
    sensor = sensor_weights(settings.encoder)
    args = {**sensor.args, **settings.encoder_args}
    return settings.model_copy(update={"encoder": sensor.architecture, "encoder_args": args})
