"""A finished run whose network labels in place of the EMA teacher (`semikit train --teacher`)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import semikit as package
from semikit.core import method as methods
from semikit.core.pseudo_labels import call
from semikit.files import file_digest
from semikit.registry import METHODS
from semikit.run.teacher import Frozen
from semikit.training.checkpoint import read_checkpoint
from semikit.training.guards import Guards, TeacherGuard
from tests.helpers import photos, tiny

Call = Callable[..., Any]

STUDENT = ["--encoder", "test_resnet"]
"""Another encoder than that of the teacher, a transformer."""


@pytest.fixture
def distil(semikit: Call, trained: Path, photo_data: Path) -> Call:
    """Trains another network for two iterations from the labels of `trained`; more arguments go last."""
    flags = [flag for flag in photos.FLAGS if not flag.startswith(("model.encoder_args", "model.decoder_widths"))]

    def distil(*arguments: object, teacher: Path = trained, data: Path = photo_data) -> Any:
        given = ("--data", data, *flags, *STUDENT, "--labels", "4", "--iterations", "2", "--teacher", teacher)
        return semikit("train", "seg", *given, *arguments)

    return distil


def test_images_are_normalised_as_the_teacher_learned() -> None:
    teacher, student = tiny.network(seed=1), tiny.network(seed=2)
    teacher.mean, teacher.std = (0.5, 0.4, 0.3), (0.2, 0.2, 0.4)  # type: ignore[assignment]
    student.mean, student.std = (0.1, 0.2, 0.3), (0.3, 0.1, 0.2)  # type: ignore[assignment]
    images = torch.rand(2, 3, 12, 12)

    def seen(network: Any) -> Tensor:
        return (images - torch.tensor(network.mean)[:, None, None]) / torch.tensor(network.std)[:, None, None]

    frozen = Frozen(teacher, student)
    assert torch.allclose(frozen(seen(student)), teacher(seen(teacher)), atol=1e-4)
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("method", ["unimatch_v2", "fixmatch"])
def test_its_labels_are_learned_and_it_stays_as_it_is(
    distil: Call, semikit: Call, trained: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[nn.Module] = []

    def watched(network: nn.Module, images: Tensor) -> Tensor:
        sources.append(network)
        return call(network, images)

    monkeypatch.setattr(methods, "call", watched)
    answer = distil("--method", method, "--out", "run", "--save-every", "1")
    assert answer.code == 0, answer.err
    assert [type(source) for source in sources] == [Frozen] * 2
    weights = trained / "weights/best.safetensors"
    own = package.load(trained, device="cpu").network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in sources[0].network.state_dict().items())  # type: ignore[union-attr, operator]
    known = yaml.safe_load(Path("run/config.yaml").read_text())["method"]["teacher"]
    assert known == {"run": str(trained.absolute()), "digest": file_digest(weights)}
    parts = {name.partition(".")[0] for name in read_checkpoint(Path("run/weights/last.ckpt"))["method"]}
    assert {"student", "teacher"} <= parts
    assert "given" not in parts
    assert set(json.loads(Path("run/results.json").read_text())) >= {"student", "teacher"}
    answer = semikit("train", "seg", "--resume", "run", "--iterations", "3")
    assert answer.code == 0, answer.err


def test_a_run_goes_on_with_the_same_teacher_alone(distil: Call, semikit: Call, trained: Path) -> None:
    shutil.copytree(trained, "first")
    assert distil("--out", "run", teacher=Path("first")).code == 0
    more = ("train", "seg", "--resume", "run", "--iterations")
    Path("first").rename("moved")
    gone = semikit(*more, "3")
    assert (gone.code, "does not exist. Give a run folder" in gone.err) == (2, True), gone.err
    answer = semikit(*more, "3", "--teacher", "moved")
    assert answer.code == 0, answer.err
    shutil.copy("run/weights/best.safetensors", "moved/weights/best.safetensors")
    other = semikit(*more, "4", "--teacher", "moved")
    assert (other.code, "method.teacher.digest" in other.err) == (2, True), other.err
    other = semikit("train", "seg", "--config", "run/config.yaml", "--out", "again")
    assert (other.code, "its weights are others than those this run began with" in other.err) == (2, True), other.err


def test_the_plan_names_it(distil: Call, trained: Path) -> None:
    answer = distil("--dry-run")
    assert answer.code == 0, answer.err
    assert f"{trained.name},frozen" in "".join(re.split(r"[\s│]+", answer.out))


def test_teachers_that_do_not_fit(distil: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text(data.read_text().replace("car", "truck"))
    for answer, told in (
        (distil("--dry-run", data=data), "its classes: [sky, road, car]; of this run: [sky, road, truck]"),
        (distil("--dry-run", "--crop", "40"), "a multiple of 16; the crops have 40. Use --crop 48."),
        (distil("--dry-run", teacher=tmp_path / "none"), "does not exist. Give a run folder or a weights file."),
        (distil("--dry-run", "--method", "supervised"), "unknown key 'teacher'"),
    ):
        assert (answer.code, told in " ".join(answer.err.split())) == (2, True), answer.err


def test_the_page_names_the_methods_that_take_none() -> None:
    page = (Path(__file__).parents[2] / "docs/small-networks.md").read_text()
    (named,) = re.findall(r"come out of\s+their own passes: (.*?)\. ", page)
    none = []
    for name in set(METHODS.names()) - {"supervised"}:
        try:
            METHODS.get(name).Config(teacher="runs/large")
        except ValueError:
            none.append(name)
    assert set(re.findall(r"`(\w+)`", named)) == set(none)


def test_what_the_average_lags_behind_is_of_no_matter() -> None:
    method = tiny.method("fixmatch")
    method.given = (nn.Identity(),)
    (guard,) = (guard for guard in Guards(method).each if isinstance(guard, TeacherGuard))
    assert guard.evaluated(10, {"student": 90.0, "teacher": 10.0}, 0.5, None) == []
