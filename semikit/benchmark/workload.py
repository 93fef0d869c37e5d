"""The step that is measured: UniMatch V2 as training builds it, on made crops."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from semikit import build
from semikit.config import Config, resolve
from semikit.core.batch import Facts, Labeled, Unlabeled
from semikit.core.draws import draw
from semikit.core.mixing import BoxMix, box_mask
from semikit.errors import InputError
from semikit.methods.unimatch_v2 import UniMatchV2, UniMatchV2Config
from semikit.models.segmenter import Segmenter, build_segmenter
from semikit.models.settings import ModelSettings
from semikit.recipes import merge, task_recipe
from semikit.tasks._pixels import PixelViewMaker, PixelViews
from semikit.training.device import choose_device
from semikit.training.step import Stepper


@final
@dataclass(frozen=True)
class Workload:
    """All a measurement needs: `network` as it was before any step, and the step of training."""

    config: Config
    facts: Facts
    network: Segmenter
    method: UniMatchV2
    stepper: Stepper
    maker: PixelViewMaker
    mixing: BoxMix
    device: torch.device

    def views(self, raw: Mapping[str, Any], step: int) -> tuple[Labeled, Unlabeled]:
        """Made crops, turned into views as training does; `strong` is not mixed yet, `boxes` say how it shall be."""
        labeled, unlabeled = self.maker(raw, step, self.device)
        assert unlabeled is not None
        size, count = (unlabeled.valid.shape[-2], unlabeled.valid.shape[-1]), len(unlabeled.index)
        coordinates = (self.mixing.draw(draw(self.facts.seed, "mix", step, v), count, size) for v in (0, 1))
        boxes = tuple(box_mask(box, size, self.device) for box in coordinates)
        return labeled, replace(unlabeled, boxes=boxes[: len(unlabeled.strong)])


def configure(overrides: Mapping[str, Any]) -> Config:
    """The recipe of segmentation with random weights, and `overrides` over it.

    Raises:
        InputError: for another method, or where `resolve` raises it.
    """
    made = {"data": {"shapes": {}}, "model": {"weights": "none"}, "method": {"name": "unimatch_v2"}}
    config = resolve(merge(merge(task_recipe("seg"), made), overrides))
    if config.method_name != "unimatch_v2":
        raise InputError(f"the step that is measured is that of unimatch_v2, not {config.method_name}; leave it out.")
    return config


def build_workload(config: Config, num_classes: int) -> Workload:
    """Network, method, optimiser and views on their device, as `semikit.build` puts them together for a run.

    `network`, which the naive form starts from, keeps the layout it was made in.

    Raises:
        InputError: where training would raise it too.
    """
    train, views = config.train, config.views
    assert isinstance(views, PixelViews)
    assert isinstance(config.model, ModelSettings)
    device = choose_device(train.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = build_segmenter(config.model, num_classes).to(device)
    facts = Facts(num_classes, 1000, 10000, 1000, train.iterations or 1000, train.group, train.seed, train.normalise)
    method = UniMatchV2(build.placed(deepcopy(network), device), config.method, facts).to(device)
    method.train()
    stepper = build.stepper_of(config, method, device)
    assert isinstance(config.method, UniMatchV2Config)
    needs = UniMatchV2.needs(config.method)
    unmixed = views.model_copy(update={"mix": views.mix.model_copy(update={"probability": 0.0})})
    maker = PixelViewMaker(unmixed, build.plan_of(config), needs, network.mean, network.std)
    mixing = BoxMix(views.mix.probability, views.mix.area, views.mix.ratio)
    return Workload(config, facts, network, method, stepper, maker, mixing, device)


def made_crops(config: Config, num_classes: int, step: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """Random uint8 crops of one step, as the loader would give them; all pixels are valid."""
    assert isinstance(config.views, PixelViews)
    side, channels = config.views.weak.crop, config.model.in_channels
    generator = torch.Generator().manual_seed(step)

    def noise(count: int, *shape: int, below: int = 256) -> torch.Tensor:
        return torch.randint(below, (count, *shape), dtype=torch.uint8, generator=generator)

    raw: dict[str, tuple[torch.Tensor, ...]] = {}
    for name, count in (("labeled", config.train.batch), ("unlabeled", config.train.batch * config.train.ratio)):
        valid = torch.ones(count, side, side, dtype=torch.bool)
        raw[name] = (noise(count, channels, side, side), valid, torch.arange(count))
    raw["labeled"] += (noise(config.train.batch, side, side, below=num_classes),)
    return raw
