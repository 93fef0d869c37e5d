"""`evaluate.precise_bn`: networks are scored and kept with statistics of images as they are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import semikit
from semikit.core.batch_norm import reestimate, restored_statistics
from semikit.registry import TASKS
from semikit.run.build import build_run, build_task
from semikit.run.config import resolve
from semikit.training.checkpoint import LAST, read_checkpoint
from semikit.training.device import inference_on
from semikit.training.reporter import Reporter
from tests.helpers import icons, photos, tiny

Raw = dict[str, Any]


def test_statistics_are_those_of_all_images_with_the_variance_between_batches() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)).eval()
    network[0].running_mean.fill_(7.0)
    batches = [torch.randn(3, 2, 4, 5), 2 + 3 * torch.randn(1, 2, 4, 5)]
    seen = []

    def passes() -> Any:
        for batch in batches:
            seen.append(network(batch))
            yield len(batch)

    reestimate([network], passes())
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches])
    share = torch.tensor([[0.75], [0.25]])
    mean = (share * means).sum(0)
    torch.testing.assert_close(network[0].running_mean, mean)
    torch.testing.assert_close(network[0].running_var, (share * (variances + means**2)).sum(0) - mean**2)
    assert seen[0].mean().abs() < 1e-6, "a batch is normalised by itself, without dropout"
    assert network[0].momentum == 0.1
    assert not any(module.training for module in network.modules())


def test_no_pass_changes_nothing_and_leaving_puts_statistics_back() -> None:
    network = tiny.network(batch_norm=True).eval()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    reestimate([network], iter(()))
    with restored_statistics([network]):
        assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
        reestimate([network], (len(network(torch.randn(2, 3, 12, 12))) for _ in range(2)))
        assert not torch.equal(before["norm.running_mean"], network.norm.running_mean)
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


def test_images_that_pass_in_windows_count_with_all_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    windows = [shift + torch.randn(1, 2, 4, 4, generator=generator) for shift in (0, 5)]
    found = []
    for calls in (windows, windows[::-1]):
        network = nn.Sequential(nn.BatchNorm2d(2)).eval()

        def passes(network: nn.Module = network, calls: list[torch.Tensor] = calls) -> Any:
            for _ in range(2):  # two images of two windows
                for window in calls:
                    network(window)
                yield 1

        reestimate([network], passes())
        found.append(network[0])
    mean = torch.cat(windows).mean((0, 2, 3))
    for norm in found:
        torch.testing.assert_close(norm.running_mean, mean)
        assert (norm.running_var > 5).all(), "between the windows too"


def test_one_image_is_too_few() -> None:
    network = tiny.network(batch_norm=True).eval()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    reestimate([network], (len(network(torch.randn(2, 3, 12, 12))) - 1 for _ in range(1)))
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


def of_pixels(folder: Path) -> Raw:
    yaml = photos.write(folder)
    with Image.open(folder / "train/images/train0.png") as image:  # one of another size, alone in its batch
        image.resize((64, 40)).save(folder / "train/images/train0.png")
    with Image.open(folder / "train/masks/train0.png") as mask:
        mask.resize((64, 40), Image.Resampling.NEAREST).save(folder / "train/masks/train0.png")
    raw = photos.raw(yaml)
    raw["model"] = {
        **icons.MODEL,
        "decoder": "deeplabv3plus",
        "decoder_channels": 8,
    }  # whose pooled branch is normalised
    return raw


def of_classes(folder: Path) -> Raw:
    return icons.raw(icons.write(folder))


def trained(raw: Raw, folder: Path, images: int) -> dict[str, Any]:
    raw = {**raw, "evaluate": {**raw.get("evaluate", {}), "precise_bn": images}}
    run = build_run(resolve(raw), folder, Reporter())
    run.trainer.fit(None)
    return read_checkpoint(folder / "weights" / LAST)


@pytest.mark.parametrize("described", [of_pixels, of_classes])
def test_training_goes_on_as_without_and_what_is_kept_scores_as_it_was_scored(described: Any, tmp_path: Path) -> None:
    raw = described(tmp_path / "data")
    plain = trained(raw, tmp_path / "plain", 0)
    found = trained(raw, tmp_path / "precise", 100)
    learned = plain["method"]
    assert all(torch.equal(learned[name], values) for name, values in found["method"].items()), "training is disturbed"

    best = found["best"]
    model = semikit.load(tmp_path / "precise")
    norms = [module for module in model.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    task = build_task(resolve(raw | {"evaluate": {**raw.get("evaluate", {}), "precise_bn": 100}}))
    task.network(resolve(raw).model)
    inference = inference_on(torch.device("cpu"), "fp32")
    model.network.eval()
    assert task.evaluate({"kept": model.network}, "val", inference)["kept"].value == best["value"]
    kept = [norm.running_var.clone() for norm in norms]
    reestimate([model.network], task.passes([model.network], inference))
    for before, norm in zip(kept, norms, strict=True):
        torch.testing.assert_close(before, norm.running_var)
    last = [
        values for name, values in learned.items() if name.startswith(best["model"]) and name.endswith("running_var")
    ]
    assert not any(np.allclose(a, b) for a, b in zip(kept, last, strict=True))


@pytest.mark.parametrize("described", [of_pixels, of_classes])
def test_files_that_cannot_be_read_and_images_alone(described: Any, tmp_path: Path) -> None:
    raw = described(tmp_path)
    raw["evaluate"] = {**raw.get("evaluate", {}), "precise_bn": 100, "batch": 1}
    task = build_task(resolve(raw))
    network = task.network(resolve(raw).model).eval()
    inference = inference_on(torch.device("cpu"), "fp32")
    labelled = task.learned.split.labeled
    assert list(task.passes([network], inference)) == [1] * len(labelled)
    Path(task.learned.train.files(labelled[0])[0]).write_bytes(b"cut off")
    reestimate([network], task.passes([network], inference))
    assert list(task.passes([network], inference)) == [1] * (len(labelled) - 1)


def test_tasks_have_the_setting() -> None:
    for name in ("seg", "cd", "cls"):
        assert TASKS.get(name).Evaluate().precise_bn == 0  # type: ignore[attr-defined]
