"""What is measured, one face for pixels and for whole images: inputs, semikit's step, the forms beside it, its size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from benchmarks.step.class_current import CurrentClassStep
from benchmarks.step.class_reference import ClassReferenceStep, check_class_reference
from benchmarks.step.class_workload import SIDE, build_class_workload
from benchmarks.step.current import CurrentStep
from benchmarks.step.forms import Form
from benchmarks.step.host_batch import host_batch
from benchmarks.step.reference import ReferenceStep, check_reference
from benchmarks.step.watch import Watch
from benchmarks.step.workload import build_workload, made_crops
from semikit.core.network import Network
from semikit.core.settings import PseudoLabelSettings
from semikit.run.config import Config

REFERENCE, CONTIGUOUS = "reference", "contiguous"
FORMS = {"seg": (REFERENCE,), "cd": (REFERENCE,), "cls": (CONTIGUOUS, REFERENCE)}
"""Task -> the forms its step is measured against."""


class Subject(ABC):
    """A workload with its forms. `images` a step; `image_shape` of one image or pair; `network` as it was made."""

    device: torch.device
    images: int
    image_shape: tuple[int, ...]
    network: Network

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def raw(self, step: int) -> Any:
        """What the loader gives for a step."""

    @abstractmethod
    def run(self, raw: Any, step: int) -> Tensor:
        """The step of training with its views, without a stopwatch; its loss ()."""

    @abstractmethod
    def ours(self, watch: Watch) -> Form:
        """The same with a stopwatch in it."""

    @abstractmethod
    def other(self, name: str, watch: Watch, precision: str) -> Form:
        """A form beside it, in a precision of its own."""

    @abstractmethod
    def moved(self, name: str) -> int:
        """Bytes a step of a form brings from the host to the device."""

    @property
    def passes(self) -> tuple[int, int]:
        """Images a step passes forward only, and forward and backward."""
        train, method = self.config.train, self.config.method
        assert isinstance(method, PseudoLabelSettings)
        unlabeled = train.batch * train.ratio
        views = getattr(method, "streams", 1) * unlabeled
        if method.joint:
            return 0, train.batch + unlabeled + views
        return unlabeled, train.batch + views


def subject_of(config: Config, num_classes: int, against: str | None) -> Subject:
    """The subject of a configuration's task.

    Raises:
        InputError: for a configuration that training, or the form it is to be measured against, refuses.
    """
    if config.task == "cls":
        if against is not None:
            check_class_reference(config)
        return ClassSubject(config, num_classes)
    if against is not None:
        check_reference(config)
    return PixelSubject(config, num_classes)


@final
class PixelSubject(Subject):
    """Segmentation and change detection, on made crops."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__(config)
        self.workload, self.num_classes = build_workload(config, num_classes), num_classes
        self.device, self.images, self.network = self.workload.device, self.workload.images, self.workload.network
        self.image_shape = tuple(self.raw(0)["labeled"][0].shape[1:])

    def raw(self, step: int) -> Any:
        """Crops, page-locked where the loader's are."""
        return made_crops(self.config, self.num_classes, step, pin=self.device.type == "cuda")

    def run(self, raw: Any, step: int) -> Tensor:
        """Views, then the step."""
        return self.workload.stepper(*self.workload.maker(raw, step, self.device), step)["loss"]

    def ours(self, watch: Watch) -> Form:
        """`CurrentStep`."""
        return CurrentStep(self.workload, watch)

    def other(self, name: str, watch: Watch, precision: str) -> Form:
        """`ReferenceStep`; what PIL does it for is timed for three channels only, as PIL knows no others."""
        return ReferenceStep(self.workload, watch, precision, loader=self.config.model.in_channels == 3)

    def moved(self, name: str) -> int:
        """Crops and maps of bytes, or all float views and maps."""
        raw = self.raw(0)
        if name == REFERENCE:
            return sum(tensor.nbytes for tensor in host_batch(self.workload, raw, 0).tensors)
        return sum(part.nbytes for given in raw.values() for part in given)


@final
class ClassSubject(Subject):
    """Classification of made images that live on the device."""

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__(config)
        self.workload = build_class_workload(config, num_classes)
        self.device, self.images, self.network = self.workload.device, self.workload.per_step, self.workload.network
        self.image_shape = (config.model.in_channels, SIDE, SIDE)

    def raw(self, step: int) -> Any:
        """Numbers of images."""
        return self.workload.numbers(step)

    def run(self, raw: Any, step: int) -> Tensor:
        """Views, then the step."""
        return self.workload.stepper(*self.workload.maker(raw, step, self.device), step)["loss"]

    def ours(self, watch: Watch) -> Form:
        """`CurrentClassStep`."""
        return CurrentClassStep(self.workload, watch)

    def other(self, name: str, watch: Watch, precision: str) -> Form:
        """`ClassReferenceStep`, in one of its two forms."""
        return ClassReferenceStep(self.workload, watch, precision, pil=name == REFERENCE)

    def moved(self, name: str) -> int:
        """Numbers of images, or float images of all views with the labels."""
        train = self.config.train
        if name != REFERENCE:
            return sum(part.nbytes for given in self.raw(0).values() for part in given)
        views = 1 + self.workload.maker.requirements.strong_views
        channels, height, width = self.image_shape
        return (train.batch + views * train.batch * train.ratio) * channels * height * width * 4 + train.batch * 8
