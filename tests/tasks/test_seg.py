from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semikit.core.task import Inference
from semikit.errors import ConfigError, DataError
from semikit.run import build
from semikit.run import load as trained
from semikit.run.config import Config, resolve
from semikit.tasks.seg import Segmentation
from semikit.training.checkpoint import save_best
from tests.helpers import photos

INFERENCE = Inference(torch.device("cpu"), nullcontext)


@pytest.fixture
def config(photo_data: Path) -> Config:
    return resolve(photos.raw(photo_data))


@pytest.fixture
def task(config: Config) -> Any:
    return build.build_task(config)


def test_counts_and_split(task: Segmentation, tmp_path: Path) -> None:
    assert (task.counts.labeled, task.counts.unlabeled, task.counts.val, task.counts.test) == (4, 4, 3, 2)
    task.write_split(tmp_path)
    labeled, unlabeled = ((tmp_path / f"{name}.txt").read_text().split() for name in ("labeled", "unlabeled"))
    assert sorted([*labeled, *unlabeled]) == [f"train{k}" for k in range(8)]
    assert task.manifest()["labeled"] == labeled


def test_batches_and_views_fit_the_network(task: Segmentation, config: Config) -> None:
    network = task.network(config.model)
    for step, raw in enumerate(task.batches(range(3), 0, False)):
        labeled, unlabeled = task.views(raw, step, torch.device("cpu"))
        assert unlabeled is not None
        assert network(labeled.images).shape == (2, 3, 32, 32)
        assert labeled.labels[labeled.valid].max() <= 2
        assert unlabeled.weak.shape == (2, 3, 32, 32)
        assert set(unlabeled.index.tolist()) <= set(range(4)), "positions in the unlabelled list"


def test_what_is_known_after_the_check(task: Segmentation) -> None:
    task.check()
    assert task.notices[0].startswith("labelled images that hold each class: ")
    assert all(f"{name} 4" in task.notices[0] for name in ("sky", "road", "car"))


def test_a_class_no_labelled_image_holds(tmp_path: Path) -> None:
    data = photos.write(tmp_path)
    raw = photos.raw(data)
    raw["data"]["folders"]["classes"] = [*photos.CLASSES, "unicorn"]
    task = build.build_task(resolve(raw))
    task.check()
    assert "unicorn 0" in task.notices[0]
    assert any("no labelled image holds class 'unicorn'" in notice for notice in task.notices)


def test_the_crop_must_fit_the_patch(photo_data: Path) -> None:
    config = resolve(photos.raw(photo_data, views={"weak": {"crop": 40}}))
    with pytest.raises(ConfigError, match=r"crop 40 is not a multiple of the patch of test_vit, 16. Use 32 or 48"):
        build.build_task(config).network(config.model)


def test_every_image_labelled_leaves_nothing_to_learn_from(tmp_path: Path) -> None:
    data = photos.write(tmp_path, train=3, masks=3)
    raw = photos.raw(data)
    del raw["data"]["labels"]
    with pytest.raises(DataError, match=r"all 3 images are labelled. Give fewer with --labels.* --method supervised"):
        build.build_task(resolve(raw))
    raw["method"] = {"name": "supervised"}
    assert build.build_task(resolve(raw)).counts.unlabeled == 0


def test_more_unlabelled_folders(photo_data: Path, tmp_path: Path) -> None:
    for k in range(3):
        photos.save(tmp_path / f"more/{k}.png", np.zeros((20, 20, 3)))
    raw = photos.raw(photo_data, data={"unlabeled": [str(tmp_path / "more")]})
    assert build.build_task(resolve(raw)).counts.unlabeled == 7


def test_one_source_of_data(photo_data: Path) -> None:
    for data, told in (
        ({}, "no data given: use --data FILE.yaml"),
        (
            {"shapes": {}, "folders": photos.raw(photo_data)["data"]["folders"]},
            "data.folders and data.shapes",
        ),
        ({"shapes": {}, "unlabeled": ["more"]}, "generated images take no others"),
    ):
        with pytest.raises(ConfigError, match=told):
            resolve({**photos.raw(photo_data), "data": data})


def test_made_images(photo_data: Path) -> None:
    raw = {**photos.raw(photo_data), "data": {"shapes": {"size": 32, "train": 6, "val": 2, "test": 1}, "labels": "2"}}
    task = build.build_task(resolve(raw))
    assert (task.counts.labeled, task.counts.unlabeled, task.counts.val, task.counts.test) == (2, 4, 2, 1)
    assert len(task.class_names) == 6


def test_rasters_of_many_bands_take_a_network_of_as_many(tmp_path: Path) -> None:
    import rasterio

    data = photos.write(tmp_path)
    for seed, path in enumerate(tmp_path.rglob("images/*.png")):
        values = np.random.default_rng(seed).integers(0, 4000, (5, *photos.SIZE), dtype=np.uint16)
        profile = {"driver": "GTiff", "width": 48, "height": 40, "count": 5, "dtype": "uint16"}
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(path.with_suffix(".tif"), "w", **profile) as file,
        ):
            file.write(values)
        path.unlink()
    config = resolve(photos.raw(data))
    task: Any = build.build_task(config)
    network = task.network(config.model)
    raw = next(iter(task.batches(range(1), 0, False)))
    labeled, _ = task.views(raw, 0, torch.device("cpu"))
    assert network(labeled.images).shape == (2, 3, 32, 32)
    assert task.metadata()["model"]["in_channels"] == 5
    with pytest.raises(ConfigError, match=r"model.in_channels is 4, but the images have 5 channels"):
        task.network(config.model.model_copy(update={"in_channels": 4}))


def test_a_network_is_rebuilt_as_it_was(task: Segmentation, config: Config, tmp_path: Path) -> None:
    network = task.network(config.model)
    network.mean, network.std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    task.statistics = {"mean": list(network.mean), "std": list(network.std)}
    save_best(tmp_path / "weights", network.state_dict(), {"task": "seg", **task.metadata()})
    again, metadata = trained.load_network(tmp_path)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), network.eval()(images))
    assert (again.mean, again.std) == (network.mean, network.std)
    assert metadata["class_names"] == ["sky", "road", "car"]
    assert not again.training


def test_normalisation_of_pretrained_weights_stays_with_them(
    photo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that learned on images in -1..1 is asked about images in -1..1."""
    from semikit.models.encoders import create as backbone

    monkeypatch.setattr(backbone, "statistics", lambda pretrained, channels, random: ((0.5,) * 3, (0.5,) * 3))
    config = resolve(photos.raw(photo_data))
    task: Any = build.build_task(config)
    network = task.network(config.model)
    save_best(tmp_path / "weights", network.state_dict(), {"task": "seg", **task.metadata()})
    monkeypatch.undo()
    again, _ = trained.load_network(tmp_path)
    assert again.mean == (0.5,) * 3


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_of_student_and_teacher(task: Segmentation, config: Config, split: Any) -> None:
    network = task.network(config.model).eval()
    scores = task.evaluate({"student": network, "teacher": network}, split, INFERENCE)
    assert scores["student"] == scores["teacher"]
    assert scores["student"].metric == "mIoU"
    assert list(scores["student"].per_class) == ["sky", "road", "car"]


def test_pictures(task: Segmentation, config: Config, tmp_path: Path) -> None:
    (path,) = task.pictures(task.network(config.model).eval(), tmp_path / "images", INFERENCE, "the best of all")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > image.height // 2
    assert [item.name for item in path.parent.iterdir()] == ["validation.png"]
