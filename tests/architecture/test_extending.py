"""A new method is one new file; a new task is trained without a change to anything else."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor

from semikit.cli.app import run
from semikit.core.batch import Labeled, Unlabeled
from semikit.core.losses import denominators
from semikit.core.mixing import partners
from semikit.core.network import Network
from semikit.core.rng import rng_for
from semikit.core.task import BatchLayout, Counts, Inference, Predicted, Progress, Scores, Task
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.models.settings import EncoderSettings
from semikit.registry import METHODS, TASKS
from semikit.settings.base import Settings
from semikit.training.checkpoint import read_checkpoint
from tests.helpers import photos, tiny

METHOD = '''
"""Agreement: the student agrees with its average, also where the average is unsure."""

from __future__ import annotations

from typing import final

from pydantic import Field

from semikit.core.batch import RunInfo, Requirements, StepResult
from semikit.core.network import Network
from semikit.settings.base import Settings
from semikit.core.method import Method
from semikit.core.settings import MethodSettings


@final
class AgreementConfig(MethodSettings):
    """Settings of Agreement."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the unlabelled loss."""


@final
class Agreement(Method):
    """Consistency of probabilities."""

    Config = AgreementConfig

    @classmethod
    def requirements(cls, config):
        return Requirements(strong_views=1)

    def pseudo_labels(self, unlabeled, step):
        with __import__("torch").no_grad():
            self.soft = self.teacher(unlabeled.weak).softmax(1)

    def forward(self, labeled, unlabeled, pseudo):
        loss_x = self.supervised_loss(self.student(labeled.images), labeled)
        loss_u = (self.student(unlabeled.weak).softmax(1) - self.soft).square().mean()
        loss = loss_x + self.config.weight * loss_u
        return StepResult(loss, {"loss": loss.detach(), "loss_x": loss_x.detach(), "loss_u": loss_u.detach()})


plugin = Agreement
'''


@pytest.fixture
def agreement(tmp_path: Path) -> Iterator[str]:
    """A method in a file of its own, outside the package."""
    path = tmp_path / "agreement.py"
    path.write_text(METHOD)
    spec = importlib.util.spec_from_file_location("agreement", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    METHODS.register("agreement", module.plugin)
    yield "agreement"
    METHODS.unregister("agreement")


def test_a_new_method_is_one_file(agreement: str, photo_data: Path, tmp_path: Path) -> None:
    flags = ["--data", str(photo_data), *photos.FLAGS, "--labels", "4", "--iterations", "3", "--quiet"]
    settings = ["--method", agreement, "method.weight=0.5", "--out", str(tmp_path / "run")]
    assert run(["train", "seg", *flags, *settings]) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["method"] == "agreement"
    assert read_checkpoint(tmp_path / "run/weights/last.ckpt")["config"]["method"]["weight"] == 0.5


def test_a_new_method_is_checked_like_the_others(
    agreement: str, photo_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "seg", "--data", str(photo_data), "--method", "agrement"]) == 2
    assert "Did you mean 'agreement'" in capsys.readouterr().err
    flags = ["--data", str(photo_data), *photos.FLAGS, "--method", agreement, "method.wieght=1", "--dry-run"]
    assert run(["train", "seg", *flags]) == 2
    assert "unknown key 'wieght'. Did you mean 'weight'" in capsys.readouterr().err


@final
class ToyData(Settings):
    """Images that are drawn when they are needed."""

    classes: int = 3
    """Number of classes."""


@final
class Nothing(Settings):
    """No settings."""


@final
class Toy(Task):
    """Classes of whole images of 12 x 12 pixels: the class is the colour that is strongest."""

    Data: ClassVar[type[Settings]] = ToyData
    Model: ClassVar[type[Settings]] = EncoderSettings
    Views: ClassVar[type[Settings]] = Nothing
    Evaluate: ClassVar[type[Settings]] = Nothing
    Predict: ClassVar[type[Settings]] = Nothing
    metric: ClassVar[str] = "accuracy"

    def __init__(
        self, data: ToyData, views: Nothing, evaluate: Nothing, layout: BatchLayout, requirements: Any
    ) -> None:
        self.layout, self.requirements = layout, requirements
        self.class_names = tuple(f"colour {k}" for k in range(data.classes))
        self.counts = Counts(labeled=6, unlabeled=20, val=9, test=0)

    def image(self, index: int, labels: int | None = None) -> tuple[Tensor, int]:
        label = index % len(self.class_names) if labels is None else labels
        pixels = torch.from_numpy(rng_for(0, "toy", index).random((3, 12, 12), dtype="float32"))
        pixels[label % 3] += 2
        return pixels, label

    def make(self, stream: str, index: int, rng: Any) -> tuple[Tensor, int, int]:
        pixels, label = self.image(index)
        return pixels, label, index

    def network(self, settings: Any) -> Network:
        made: Network = tiny.network(num_classes=len(self.class_names), pixels=False)
        return made

    def check(self, thorough: bool = False, resumed: bool = False) -> None:
        """Nothing can be wrong."""

    def manifest(self) -> Mapping[str, Any]:
        return {"labeled": list(range(6))}

    def batches(self, steps: range, workers: int, pin: bool) -> Iterable[Any]:
        found = [
            Stream("labeled", self.counts.labeled, self.layout.batch),
            Stream("unlabeled", self.counts.unlabeled, self.layout.unlabeled_batch),
        ]
        return StepLoader(found, self.make, self.layout.seed, steps, workers, pin=pin)

    def views(self, raw: Any, step: int, device: torch.device) -> tuple[Labeled, Unlabeled | None]:
        images, labels, index = raw["labeled"]
        valid = torch.ones(len(labels), dtype=torch.bool)
        counted = denominators(valid, self.layout.group, self.layout.normalise)
        labeled = Labeled(images, labels, valid, index, counted)
        images, _, index = raw["unlabeled"]
        valid = torch.ones(len(index), dtype=torch.bool)
        noise = [torch.from_numpy(rng_for(step, "noise", v).normal(size=images.shape)).float() for v in range(2)]
        partner = partners(len(index), self.layout.group)
        strong = tuple(images + part for part in noise)[: self.requirements.strong_views]
        return labeled, Unlabeled(images, strong, valid, (), partner, index, range(len(index)))

    def evaluate(
        self, networks: Mapping[str, Network], split: Any, inference: Inference, final: Any = None
    ) -> dict[str, Scores]:
        pairs = [self.image(100 + k) for k in range(self.counts.val)]
        images, labels = torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
        with torch.no_grad():
            hits = {name: (network(images).argmax(1) == labels).float() for name, network in networks.items()}
        return {name: Scores(self.metric, 100 * float(values.mean())) for name, values in hits.items()}

    def pictures(self, network: Network, folder: Path, inference: Inference, *caption: Any) -> list[Path]:
        return []

    def write_split(self, folder: Path) -> None:
        (folder / "split.json").write_text(json.dumps(self.manifest()))

    def metadata(self) -> Mapping[str, Any]:
        return {"class_names": list(self.class_names)}

    @classmethod
    def rebuild(cls, metadata: Mapping[str, Any]) -> Network:
        made: Network = tiny.network(num_classes=len(metadata["class_names"]), pixels=False)
        return made

    @classmethod
    def predict(
        cls,
        networks: Sequence[Network],
        metadata: Any,
        sources: Sequence[str],
        out: Path,
        wants: Any,
        inference: Inference,
        progress: Progress,
    ) -> Predicted:
        out.mkdir(parents=True, exist_ok=True)
        (out / "predicted.txt").write_text(f"{sources[0]} with {len(metadata['class_names'])} classes")
        return Predicted(1)


@pytest.fixture
def toy() -> Iterator[str]:
    TASKS.register("toy", Toy)
    yield "toy"
    TASKS.unregister("toy")


FLAGS = ["--iterations", "5", "--batch", "2", "train.group=2", "--device", "cpu", "--workers", "0"]


@pytest.mark.parametrize("method", ["unimatch_v2", "fixmatch", "supervised"])
def test_a_new_task_trains_by_every_method(toy: str, tmp_path: Path, method: str) -> None:
    out = tmp_path / "run"
    assert run(["train", toy, *FLAGS, "--method", method, "data.classes=4", "--out", str(out), "--quiet"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["task"], results["metric"], results["iterations"]) == ("toy", "accuracy", 5)
    assert {"accuracy"} <= results["student"].keys() & results["teacher"].keys()
    state = read_checkpoint(out / "weights/last.ckpt")
    assert not torch.equal(state["method"]["student.head.weight"], untrained(Toy))


def untrained(task: type[Toy]) -> Tensor:
    """The classifier's weights before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weight: Tensor = tiny.network(num_classes=4, pixels=False).head.weight
    return weight.detach()


def test_a_new_task_is_resumed_evaluated_and_predicts(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["train", toy, *FLAGS, "--out", str(out)]) == 0
    assert "best accuracy" in capsys.readouterr().out
    assert run(["train", toy, "--resume", str(out)]) == 0
    assert run(["evaluate", str(out)]) == 0
    assert "on val of run" in capsys.readouterr().out
    assert run(["predict", str(out), "somewhere", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/predicted.txt").read_text() == "somewhere with 3 classes"


def test_the_shapes_of_a_label_decide_not_the_core(toy: str) -> None:
    """Positions of whole images are (): the same batch structure without height and width."""
    layout = BatchLayout(batch=2, unlabeled_batch=2, group=2, seed=0)
    task = Toy(
        ToyData(),
        Nothing(),
        Nothing(),
        layout,
        METHODS.get("unimatch_v2").requirements(METHODS.get("unimatch_v2").Config()),
    )
    labeled, unlabeled = task.views(next(iter(task.batches(range(1), 0, False))), 0, torch.device("cpu"))
    assert labeled.labels.shape == (2,)
    assert unlabeled is not None
    assert unlabeled.valid.shape == (2,)
    assert unlabeled.boxes == ()
