"""The step of classification that is measured: a method on CIFAR-10's recipe as training builds it, on made images."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from semikit.core.batch import RunInfo
from semikit.data.loading.streams import Stream
from semikit.errors import ConfigError, InputError
from semikit.methods.fixmatch import FixMatch
from semikit.methods.unimatch_v2 import UniMatchV2
from semikit.models.classifier import Classifier, ClassifierSettings, build_classifier
from semikit.registry import METHODS
from semikit.run import build
from semikit.run.config import Config, resolve
from semikit.run.recipes import compose, merge
from semikit.tasks._class_views import ClassViewMaker, ClassViews, numbers_of
from semikit.tasks._training_data import LABELED, UNLABELED
from semikit.training.device import choose_device
from semikit.training.step import Stepper

METHODS_MEASURED = ("fixmatch", "unimatch_v2")
BATCH = 8
SIDE, IMAGES, LABELLED = 32, 4096, 256
Raw = Mapping[str, tuple[Tensor]]


@final
@dataclass(frozen=True)
class ClassWorkload:
    """All a measurement needs: `network` as it was before any step, the step of training, and the images it sees.

    `images` (N, C, S, S) uint8 lie on the device, the first `LABELLED` of them with `labels` (L,).
    """

    config: Config
    facts: RunInfo
    network: Classifier
    method: FixMatch | UniMatchV2
    stepper: Stepper
    maker: ClassViewMaker
    images: Tensor
    labels: Tensor
    device: torch.device

    @property
    def per_step(self) -> int:
        """Labelled and unlabelled images of a step."""
        return self.config.train.batch * (1 + self.config.train.ratio)

    def numbers(self, step: int) -> Raw:
        """Which images a step takes, as training draws them."""
        train = self.config.train
        lengths = {LABELED: (LABELLED, train.batch), UNLABELED: (IMAGES, train.batch * train.ratio)}
        streams = [Stream(name, *length) for name, length in lengths.items()]
        return next(numbers_of(streams, train.seed, range(step, step + 1)))


def configure_classes(overrides: Mapping[str, Any]) -> Config:
    """The recipe of CIFAR-10 in batches of 8 + 56, FixMatch unless another method is named, `overrides` over it.

    Without alignment, which the plain forms do not have.

    Raises:
        InputError: for another method, for images that are not kept on the device, or where `resolve` raises it.
    """
    plain = {name: {"alignment": "none"} for name in METHODS_MEASURED}
    made = {"method": {"name": "fixmatch"}, "methods": plain, "data": {"labels": "250"}, "train": {"batch": BATCH}}
    config = resolve(compose("cls", "cifar10", above=merge(made, overrides)))
    if config.method_name not in METHODS_MEASURED:
        raise InputError(
            f"the step that is measured is that of {' or '.join(METHODS_MEASURED)}, not {config.method_name}."
        )
    assert isinstance(config.views, ClassViews)
    if config.views.size is not None:
        raise ConfigError(f"views.size={config.views.size}: the images that are measured live on the device; leave it.")
    return config


def build_class_workload(config: Config, num_classes: int) -> ClassWorkload:
    """Network, method, optimiser and views on their device, as `semikit.run.build` puts them together for a run.

    `network`, which the reference starts from, keeps the layout it was made in.

    Raises:
        InputError: where training would raise it too.
    """
    train, views = config.train, config.views
    assert isinstance(views, ClassViews)
    assert isinstance(config.model, ClassifierSettings)
    requirements, device = build.requirements_of(config), choose_device(train.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = build_classifier(config.model, num_classes).to(device)
        images = torch.randint(256, (IMAGES, config.model.in_channels, SIDE, SIDE), dtype=torch.uint8)
        labels = torch.randint(num_classes, (LABELLED,))
    iterations = train.iterations or 1000
    facts = RunInfo(num_classes, LABELLED, IMAGES, 1000, iterations, train.group, train.seed, train.normalise)
    placed = build.placed(deepcopy(network), device)
    method = METHODS.get(config.method_name)(placed, config.method, facts).to(device)
    method.train()
    rows = {LABELED: torch.arange(LABELLED), UNLABELED: torch.arange(IMAGES)}
    statistics, unknown = (network.mean, network.std), torch.full((IMAGES,), -1)
    maker = ClassViewMaker(
        views, build.batch_layout_of(config), requirements, statistics, labels, unknown, images, rows
    )
    stepper = build.stepper_of(config, method, device)
    return ClassWorkload(config, facts, network, method, stepper, maker, images, labels, device)
