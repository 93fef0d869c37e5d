"""What is learned: the frame every task of `semikit.tasks` fills.

A task supplies what differs between pixels, change and whole images: how images become views, which regions mix, which
metric is reported, how a source is predicted. Training knows it only through this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, final

import torch

from semikit.core.batch import Labeled, Normalise, Requirements, Unlabeled
from semikit.core.census import Census, PartCensus
from semikit.core.network import Network
from semikit.core.schedules import Growth
from semikit.errors import ConfigError, FileFault, InputError
from semikit.settings.base import Settings

Split = Literal["val", "test"]
PartName = Literal["train", "val", "test"]
T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class BatchLayout:
    """How a step is put together: `batch` labelled and `unlabeled_batch` unlabelled images over all processes, in
    consecutive groups of `group`; `seed` is the run's.
    """

    batch: int
    unlabeled_batch: int
    group: int
    seed: int
    normalise: Normalise = "total"
    on_test: bool = False
    """Whether the best network is chosen on the test images (`--protocol paper`)."""
    growth: Growth | None = None
    """How the unlabelled batch grows to `unlabeled_batch`; None: it is that of every step."""

    def unlabeled_at(self, step: int) -> int:
        """Unlabelled images of a step."""
        return self.unlabeled_batch if self.growth is None else self.growth.at(step)

    def saved_before(self, step: int) -> int:
        """Unlabelled images that all steps before one have less, for their batch still grows."""
        return 0 if self.growth is None else step * self.unlabeled_batch - self.growth.before(step)

    @property
    def largest_step(self) -> int:
        """A step with as many images as any."""
        return 0 if self.growth is None else self.growth.iterations - 1

    @property
    def typical_step(self) -> int:
        """A step with about as many images as the mean of all."""
        if self.growth is None:
            return 0
        steps = range(self.growth.iterations)
        mean = self.growth.before(len(steps)) / len(steps)
        return next(step for step in steps if self.growth.at(step) >= mean)

    def lasting(self, iterations: int) -> BatchLayout:
        """The same in a run of so many steps, once it is known how many."""
        return replace(self, growth=self.growth and replace(self.growth, iterations=iterations))


@final
@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of images; `unlabeled` is None for a pool in shards, which nobody has counted."""

    labeled: int
    unlabeled: int | None
    val: int
    test: int


@final
@dataclass(frozen=True, slots=True)
class Scores:
    """Result of an evaluation, in percent. `metric` names `value`, the one number runs are compared by.

    `per_class` is the score of each class, `extra` holds other scores by name, and `class_scores` those of each class
    (precision, recall, F1), by name and class. None is a score that is not defined: all those of a class without truth.
    `threshold` is the probability (0..1) from which pixels counted as changed, if it was chosen on these images.
    """

    metric: str
    value: float
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    extra: Mapping[str, float | None] = field(default_factory=dict)
    class_scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    threshold: float | None = None

    def plain(self) -> dict[str, Any]:
        """As plain values for JSON, each score under its name."""
        per_class = {"per_class": dict(self.per_class), "class_scores": dict(self.class_scores)}
        chosen = {} if self.threshold is None else {"threshold": self.threshold}
        return {self.metric: self.value, **self.extra, **chosen, **per_class}


def at_threshold(threshold: float | str | None) -> str:
    """What is said of a threshold behind a score; nothing where there is none."""
    return "" if threshold is None else f" at threshold {threshold}"


@final
@dataclass(frozen=True, slots=True)
class Inference:
    """Where and how networks are evaluated: the device and the context (autocast) of every forward pass, and who is
    told how far a scoring has come.
    """

    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    progress: Progress = lambda what, done, total: None

    def followed(self, batches: Iterable[T], sizes: Callable[[T], int], total: int) -> Iterator[T]:
        """Batches of images that are scored, of `total` images; `sizes` says how many are in one."""
        done = 0
        for batch in batches:
            yield batch
            done += sizes(batch)
            self.progress("scoring", done, total)


@final
@dataclass(frozen=True, slots=True)
class Final:
    """An evaluation of what is kept: with a `threshold` that was chosen before, where one would be chosen, and with the
    mean of the probabilities over `others` (networks, in eval mode on the device) and views (`tta`, as in prediction).
    """

    threshold: float | None = None
    others: Sequence[Network] = ()
    tta: str = "none"

    @property
    def averages(self) -> bool:
        """Whether probabilities are averaged."""
        return bool(self.others) or self.tta != "none"


@final
@dataclass(frozen=True, slots=True)
class Predicted:
    """What prediction came to: the number of images that were predicted, notices for the user, and the faults of the
    images that could not be.
    """

    count: int
    notices: Sequence[str] = ()
    failed: Sequence[FileFault] = ()


Progress = Callable[[str, int, int], None]
"""What is being done, how many parts of it are done, how many there are."""


class BadFileCounter(Protocol):
    """Counts files that cannot be read, for which other images stand in."""

    limit: int
    """Files that may be counted."""

    def add(self, faults: Iterable[tuple[str, str]]) -> None:
        """Count (file, what is wrong with it); raises DataError where they are too many."""
        ...


class Task(ABC):
    """One kind of prediction.

    `Data`, `Model`, `Views` and `Evaluate` are the classes of the configuration's sections of those names, `Predict`
    says what prediction writes besides the classes. Labels and logits keep the shapes of `semikit.core.batch`.
    """

    Data: ClassVar[type[Settings]]
    Model: ClassVar[type[Settings]]
    Views: ClassVar[type[Settings]]
    Evaluate: ClassVar[type[Settings]]
    Predict: ClassVar[type[Settings]]
    per_class: ClassVar[str] = "IoU"
    """What `Scores.per_class` holds, as the head of a column."""
    any_labels: ClassVar[str] = "1"
    """Labelled images that can always be asked for, where nothing is learned (evaluation)."""
    dates: ClassVar[tuple[int, str]] = (1, "an image of one date")
    """How many images a prediction in memory takes, and what they are."""
    example: ClassVar[str] = "IMAGES -o predictions --overlay"
    """What a user may type after `semikit predict RUN`."""

    class_names: tuple[str, ...]
    counts: Counts
    layout: BatchLayout
    bad_files: BadFileCounter | None = None
    """Who counts the files that `batches` cannot read; none: every file has to be read."""
    run_folder: Path | None = None
    """Where the run is kept, once it is known."""
    compile_views: bool = False
    """Whether what makes views on the device is compiled; set before `network`."""
    notices: Sequence[str] = ()
    """Notices about the data before training (a class without a labelled image)."""
    unused: Sequence[str] = ()
    """Sentences about supplied files that no part of the data uses."""
    census: Census | None = None
    """What the parts of the data hold, once they are checked."""
    calibration: Sequence[int] = ()
    """The images of train that pseudo-labels are measured on, where the method asks for some."""

    @abstractmethod
    def __init__(
        self, data: Any, views: Any, evaluate: Any, layout: BatchLayout, requirements: Requirements
    ) -> None: ...

    @abstractmethod
    def network(self, settings: Any) -> Network:
        """A new network for this task; raises ConfigError where the views do not fit it (crop and patch)."""

    @abstractmethod
    def check(self, thorough: bool = False, resumed: bool = False) -> None:
        """Look through the files that will be used, with `thorough` all of them; raises DataError with all faults. What
        a run that is `resumed` could begin with does not end it.
        """

    def labelled_census(self) -> PartCensus:
        """What the labelled images hold, every one of them counted: `check` may have opened only some.

        Raises:
            ConfigError: the task does not count.
        """
        raise ConfigError(
            "train.class_weights, method.alignment.target: this task does not count classes; give a weight, or a "
            "share, for each."
        )

    def settled(self, data: Settings) -> Settings:
        """The section `data` of the configuration with what was measured when the data were opened (the range of their
        values), so that a run that is resumed reads them alike.
        """
        return data

    def lasts(self, iterations: int) -> None:
        """Take note of the length of the run in steps, before `network`."""
        self.layout = self.layout.lasting(iterations)

    @abstractmethod
    def manifest(self) -> Mapping[str, Any]:
        """Which images are labelled and which are not, as plain values: the run's `split.json`."""

    def facts(self) -> Mapping[str, str]:
        """What the images are, for the plan: a sentence by name."""
        return {}

    def typical_side(self) -> int | None:
        """The shorter side that the labelled images typically have, pixels; None where the task does not know."""
        return None

    @abstractmethod
    def batches(self, steps: range, workers: int, pin: bool) -> Iterable[Any]:
        """Raw batches (uint8 crops) for the given steps, in order, whatever the number of workers."""

    def news(self) -> Sequence[str]:
        """What a user should know of the batches that were made since the last call."""
        return ()

    @abstractmethod
    def views(self, raw: Any, step: int, device: torch.device) -> tuple[Labeled, Unlabeled | None]:
        """A raw batch, moved to the device and turned into views; asks the device nothing."""

    def passes(self, networks: Sequence[Network], inference: Inference) -> Iterator[int]:
        """Training images through each network as those that are scored, as many as `evaluate.precise_bn` asks for; how
        many went through, batch by batch. Without that setting none.
        """
        return iter(())

    @abstractmethod
    def evaluate(
        self,
        networks: Mapping[str, Network],
        split: Split,
        inference: Inference,
        final: Final | None = None,
    ) -> dict[str, Scores]:
        """Scores of each network on a split; every image counted once. A `final` evaluation has also those that take
        longer than training waits for.
        """

    def scored_notices(self, split: Split) -> Sequence[str]:
        """What should be known of the images of a split when they are scored; reads headers, and values of a few."""
        return ()

    @abstractmethod
    def pictures(
        self, network: Network, folder: Path, inference: Inference, caption: str, threshold: float | None = None
    ) -> list[Path]:
        """A few validation images with truth, prediction (at a threshold that was chosen) and confidence, below a line
        of text, as PNG files; returns them.
        """

    def labeled(self) -> tuple[Any, Sequence[int]]:
        """The samples of train (see `data.samples`), and which of them are learned from with their labels.

        Raises:
            InputError: the task shows none.
        """
        raise InputError("this task shows no images.")

    def examined(
        self, network: Network, split: PartName, inference: Inference, indices: Sequence[int] | None = None
    ) -> tuple[Sequence[str], Iterator[Any]]:
        """The names of a part's images, and these images, or those of `indices`, one by one with what a network says
        of them; see `inference.inspection`.

        Raises:
            InputError: the task shows none.
        """
        raise InputError("this task shows no images.")

    @abstractmethod
    def write_split(self, folder: Path) -> None:
        """Write split.json, labeled.txt and unlabeled.txt into a run folder."""

    @abstractmethod
    def metadata(self) -> Mapping[str, Any]:
        """What `rebuild` and `predict` need besides the weights, as plain values; kept in every weights file."""

    @classmethod
    @abstractmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Network:
        """The network of a weights file, without its weights."""

    @classmethod
    def views_of(cls, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """What evaluation needs of the section `views`, as it was in training."""
        return {}

    @classmethod
    def custom_data(cls, data: Path | Mapping[str, Any], root: Path | None) -> Mapping[str, Any]:
        """The user's own data, described by a file, as plain values of the section `data`.

        Raises:
            InputError: when they are not as described, or the task takes none.
        """
        raise ConfigError(f"--data {data}: this task takes no data of your own. Use --dataset NAME.")

    def samples(self, folder: Path) -> Sequence[Path]:
        """Files to try prediction on, one for each date, where the task can make them; written into `folder`."""
        return ()

    @classmethod
    @abstractmethod
    def predict(
        cls,
        networks: Sequence[Network],
        metadata: Mapping[str, Any],
        sources: Sequence[str],
        out: Path,
        options: Any,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        """Predict files, folders or globs, one source for each date, into `out`, with the mean of the probabilities of
        all networks; `metadata` are those of the first. `options` is a `Predict`.
        """

    @classmethod
    def predict_in_memory(
        cls, network: Network, metadata: Mapping[str, Any], dates: Sequence[Any], inference: Inference
    ) -> Any:
        """A prediction of as many images (a path, a PIL image, an array) as `dates` says; see `inference.in_memory`.

        Raises:
            InputError: the task offers none.
        """
        raise InputError("this task predicts files only: semikit.predict(run, source, out=...).")
