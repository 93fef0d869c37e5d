"""Mix transformers (MiT-B0 … B5, the encoders of SegFormer), which timm has not: built by transformers.

transformers is imported only when such an encoder is built. Source: Xie et al., "SegFormer", arXiv 2105.15203.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any, final

from torch import Tensor

from semikit.errors import ConfigError, WeightsError
from semikit.models.catalogue import ENCODERS, mit_url
from semikit.models.encoder import Encoder
from semikit.models.mit_names import FIRST, in_layout_of, renamed
from semikit.models.pretrained import load_encoder, reach_hub, what_to_fetch
from semikit.models.settings import ModelSettings
from semikit.models.weights_file import read_weights

DEPTHS = {
    "mit-b0": (2, 2, 2, 2),
    "mit-b1": (2, 2, 2, 2),
    "mit-b2": (3, 4, 6, 3),
    "mit-b3": (3, 4, 18, 3),
    "mit-b4": (3, 8, 27, 3),
    "mit-b5": (3, 6, 40, 3),
}
"""Blocks of the four stages."""

_WIDTHS = {"mit-b0": (32, 64, 160, 256)}
_WIDE = (64, 128, 320, 512)
_FILES = ("model.safetensors", "pytorch_model.bin")


@final
class Mit(Encoder):
    """A mix transformer: levels at strides 4, 8, 16, 32 of images of any size that its first stage can reduce.

    Checkpoints are the same under every version of transformers, whatever it calls the parameters.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        config = backbone.config
        self.widths = tuple(config.hidden_sizes)
        self.reductions = tuple(accumulate(config.strides, mul))
        self.multiple = 1
        # The convolution that reduces a stage's keys and values is not padded: it needs `ratio` positions a side.
        self.least = max(step * (ratio - 1) + 1 for step, ratio in zip(self.reductions, config.sr_ratios, strict=True))
        self.register_load_state_dict_pre_hook(_any_version)  # type: ignore[no-untyped-call]

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D_l, h_l, w_l), finest first.

        Raises:
            ConfigError: for an image with a side of less than `least`.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.least:
            raise ConfigError(
                f"an image of {height}x{width}: a mix transformer needs sides of at least {self.least} pixels. "
                "Give larger images, or choose another encoder."
            )
        if not hasattr(self.backbone, "stages"):  # transformers 4
            return tuple(self.backbone(images, output_hidden_states=True, return_dict=True).hidden_states)
        maps = [images]
        for stage in self.backbone.stages:  # one by one: the hooks that would gather them cannot be compiled
            maps.append(stage(maps[-1]))
        return tuple(maps[1:])


def build_mit(name: str, settings: ModelSettings) -> Mit:
    """The mix transformer of this name with its weights; no stochastic depth unless `encoder_args` asks for it.

    Raises:
        ConfigError: when transformers is not installed, or for settings it does not take.
        WeightsError: when the weights cannot be had or do not fit.
    """
    if settings.encoder_layers is not None:
        raise ConfigError(f"encoder_layers {list(settings.encoder_layers)}: {name} is a pyramid; leave it unset.")
    if settings.output_stride is not None:
        raise ConfigError(f"output_stride {settings.output_stride}: {name} cannot be dilated; leave it unset.")
    library = _transformers(name)
    backbone = _random(library, name, {"num_channels": settings.in_channels, **settings.encoder_args})
    backbone.pretrained_cfg = {"first_conv": in_layout_of(backbone, FIRST)}
    if settings.weights == "pretrained":
        repository = ENCODERS[name].repository
        load_encoder(backbone, _published(library, name, repository, settings.encoder_args), repository)
    elif settings.weights != "none":
        load_encoder(backbone, renamed(read_weights(Path(settings.weights)), backbone), settings.weights)
    return Mit(backbone)


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f'{name} is built by transformers, which is not installed ({error}). Install it: pip install "semikit[mit]"'
        ) from error
    return transformers


def _random(library: Any, name: str, args: Mapping[str, Any]) -> Any:
    default = {"depths": DEPTHS[name], "hidden_sizes": _WIDTHS.get(name, _WIDE), "drop_path_rate": 0.0}
    known = library.SegformerConfig().to_dict()  # its constructor takes any key and forgets it
    unknown = [key for key in args if key not in known]
    try:
        if unknown:
            raise TypeError(f"unknown {', '.join(unknown)}")
        return library.SegformerModel(library.SegformerConfig(**{**default, **args})).train()
    except Exception as error:  # what a wrong value raises differs between versions
        raise ConfigError(
            f"{name} cannot be built with {dict(args)}: {error}. Give encoder_args entries of transformers' "
            "SegformerConfig, e.g. {depths: [1, 1, 1, 1], hidden_sizes: [8, 16, 40, 64], drop_path_rate: 0.1}."
        ) from error


def _published(library: Any, name: str, repository: str, args: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state of the published encoder, whose images have three channels."""
    config = _random(library, name, {**args, "num_channels": 3}).config
    try:
        reach_hub(repository, _FILES)
        with _silent(library):
            model, report = library.SegformerModel.from_pretrained(repository, config=config, output_loading_info=True)
    except Exception as error:  # whatever a failed download raises differs between versions
        file = f"{name}.bin"
        raise WeightsError(what_to_fetch(name, mit_url(repository), file, error)) from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise WeightsError(f"{repository} lacks weights of {name} ({some}, …). Fetch {mit_url(repository)} by hand.")
    state: dict[str, Tensor] = model.state_dict()
    return state


@contextmanager
def _silent(library: Any) -> Iterator[None]:
    """Without transformers' report that the classifier in the file is left out; errors and downloads still show."""
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _any_version(module: Any, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Before a state is loaded: its names as the installed transformers has them, in place."""
    start = f"{prefix}backbone."
    for name in [name for name in state if name.startswith(start)]:
        state[start + in_layout_of(module.backbone, name.removeprefix(start))] = state.pop(name)
