"""The step on pixels that is measured: UniMatch V2 as training builds it, on made crops of one date or of two."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from semikit.core.batch import Labeled, RunInfo, Unlabeled, packed
from semikit.core.mixing import BoxMix, box_mask
from semikit.core.network import Network
from semikit.core.rng import rng_for
from semikit.errors import InputError
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from semikit.models.settings import ModelSettings
from semikit.models.siamese import DATES
from semikit.registry import TASKS
from semikit.run import build
from semikit.run.config import Config, resolve
from semikit.run.recipes import compose, merge
from semikit.tasks._pixels import PixelViewMaker, PixelViews
from semikit.training.device import choose_device
from semikit.training.step import Stepper

MADE: Mapping[str, Mapping[str, Any]] = {"seg": {"shapes": {}}, "cd": {"scenes": {}}}
"""Tasks that are measured on made crops, and the data their configuration names (they are not opened)."""
Raw = Mapping[str, tuple[Tensor, ...]]


@final
@dataclass(frozen=True)
class Workload:
    """All a measurement needs: `network` as it was before any step, and the views and the step of training."""

    config: Config
    facts: RunInfo
    network: Network
    method: UniMatchV2
    stepper: Stepper
    maker: PixelViewMaker
    unmixed: PixelViewMaker
    mixing: BoxMix
    device: torch.device

    @property
    def dates(self) -> int:
        """Images of a place: one, or the two of change detection."""
        return dates_of(self.config)

    @property
    def images(self) -> int:
        """Labelled and unlabelled images (or pairs) of a step."""
        return self.config.train.batch * (1 + self.config.train.ratio)

    def host_views(self, raw: Raw, step: int) -> tuple[Labeled, Unlabeled]:
        """The views of training on the host, as a loader would make them; `strong` is not mixed yet, `boxes` say how
        it shall be.
        """
        host = torch.device("cpu")
        labeled, unlabeled = self.unmixed(raw, step, host)
        assert unlabeled is not None
        size, count = (unlabeled.valid.shape[-2], unlabeled.valid.shape[-1]), len(unlabeled.index)
        coordinates = (self.mixing.draw(rng_for(self.facts.seed, "mix", step, v), count, size) for v in (0, 1))
        boxes = tuple(box_mask(box, size) for box in coordinates)
        return labeled, replace(unlabeled, boxes=boxes[: len(unlabeled.strong)])


def dates_of(config: Config) -> int:
    """Images of a place in a step of this task."""
    return DATES if config.task == "cd" else 1


def configure(overrides: Mapping[str, Any], task: str = "seg") -> Config:
    """The recipe of the task with random weights, and `overrides` over it.

    Raises:
        InputError: for another method, or where `resolve` raises it.
    """
    made = {"data": MADE[task], "model": {"weights": "none"}, "method": {"name": "unimatch_v2"}}
    config = resolve(compose(task, above=merge(made, overrides)))
    if config.method_name != "unimatch_v2":
        raise InputError(f"the step that is measured is that of unimatch_v2, not {config.method_name}; leave it out.")
    return config


def build_workload(config: Config, num_classes: int) -> Workload:
    """Network, method, optimiser and views on their device, as `semikit.run.build` puts them together for a run.

    `network`, which the reference starts from, keeps the layout it was made in.

    Raises:
        InputError: where training would raise it too.
    """
    train, views = config.train, config.views
    assert isinstance(views, PixelViews)
    assert isinstance(config.model, ModelSettings)
    device = choose_device(train.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = TASKS.get(config.task).build(config.model, num_classes).to(device)
    config = build.with_passes(config, network, device)
    assert isinstance(config.method, UniMatchV2Config)
    facts = RunInfo(num_classes, 1000, 10000, 1000, train.iterations or 1000, train.group, train.seed, train.normalise)
    method = UniMatchV2(build.placed(deepcopy(network), device), config.method, facts).to(device)
    method.train()
    stepper = build.stepper_of(config, method, device)
    requirements, layout = UniMatchV2.requirements(config.method), build.batch_layout_of(config)
    without = views.model_copy(update={"mix": views.mix.model_copy(update={"probability": 0.0})})
    maker, unmixed = (
        PixelViewMaker(made, layout, requirements, network.mean, network.std) for made in (views, without)
    )
    mixing = BoxMix(views.mix.probability, views.mix.area, views.mix.ratio)
    return Workload(config, facts, network, method, stepper, maker, unmixed, mixing, device)


def made_crops(config: Config, num_classes: int, step: int, pin: bool = False) -> Raw:
    """Random uint8 crops of one step, as the loader gives them; all pixels are valid. `pin`: in page-locked memory."""
    assert isinstance(config.views, PixelViews)
    side, channels = config.views.weak.crop, config.model.in_channels
    shape = (channels, side, side) if config.task != "cd" else (DATES, channels, side, side)
    generator = torch.Generator().manual_seed(step)

    def noise(count: int, *shape: int, below: int = 256) -> Tensor:
        return torch.randint(below, (count, *shape), dtype=torch.uint8, generator=generator)

    raw: dict[str, tuple[Tensor, ...]] = {}
    for name, count in (("labeled", config.train.batch), ("unlabeled", config.train.batch * config.train.ratio)):
        valid = torch.ones(count, side, side, dtype=torch.bool)
        raw[name] = (noise(count, *shape), valid, torch.arange(count))
    raw["labeled"] += (noise(config.train.batch, side, side, below=num_classes),)
    return packed(raw) if pin else raw
