"""Weights of the classes in the supervised loss: how they are counted, where they act, and that a run records them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semikit.core.batch import RunInfo
from semikit.core.census import PartCensus
from semikit.core.losses import Ohem
from semikit.errors import ConfigError, UnknownNameError
from semikit.methods.supervised import Supervised, SupervisedConfig
from semikit.run import build
from semikit.run.config import resolve
from semikit.run.folder import unfinished
from semikit.training.class_weights import BETA, label_shares, resolved_weights, weights_line
from semikit.training.reporter import Reporter
from tests.helpers import tiny

Small = dict[str, tuple[ModuleType, Path]]
NAMES = ("sky", "road", "car")
IMAGES = PartCensus("labelled", 100, 100, (60, 40, 0))
MAPS = PartCensus("labelled", 4, 4, (4, 4, 1), (600, 300, 100))


def test_balanced_is_the_inverse_of_the_count_with_a_mean_of_1() -> None:
    assert resolved_weights("balanced", NAMES, lambda: MAPS) == {
        "sky": pytest.approx(1000 / 3 / 600, rel=1e-5),
        "road": pytest.approx(1000 / 3 / 300, rel=1e-5),
        "car": pytest.approx(1000 / 3 / 100, rel=1e-5),
    }
    found = resolved_weights("balanced", NAMES, lambda: IMAGES)
    assert found["car"] == 1, "of a class without a label nothing is known"
    assert (60 * found["sky"] + 40 * found["road"]) / 100 == pytest.approx(1, rel=1e-5)


def test_effective_is_that_of_the_paper() -> None:
    counts = (5000, 500, 5)
    found = resolved_weights("effective", NAMES, lambda: PartCensus("labelled", 5505, 5505, counts))
    raw = np.array([(1 - BETA) / (1 - BETA**count) for count in counts])  # eq. 11 and 12
    np.testing.assert_allclose(list(found.values()), raw * 5505 / (raw * counts).sum(), rtol=1e-5)
    of_maps = resolved_weights("effective", NAMES, lambda: MAPS)
    assert of_maps["sky"] == of_maps["road"] < of_maps["car"], "images that hold a class are what is counted"


def test_weights_by_name() -> None:
    def nobody() -> PartCensus:
        raise AssertionError("what is stated needs no count")

    assert resolved_weights({"car": 5}, NAMES, nobody) == {"sky": 1.0, "road": 1.0, "car": 5.0}
    with pytest.raises(UnknownNameError, match=r"class in train\.class_weights 'cars'.*car"):
        resolved_weights({"cars": 5}, NAMES, nobody)
    with pytest.raises(ConfigError, match="0 for every class"):
        resolved_weights(dict.fromkeys(NAMES, 0), NAMES, nobody)
    assert weights_line({"sky": 0.5, "road": 2.0, "car": 1.25}, most=2) == "road 2, car 1.25 (the 2 heaviest of 3)"


def weighted() -> RunInfo:
    return replace(tiny.run_info(), class_weights=(0.5, 2.0, 3.0))


def test_each_position_of_the_supervised_loss_is_weighted() -> None:
    method = Supervised(tiny.network(), SupervisedConfig(), weighted())
    labeled, _ = tiny.batch(weighted(), Supervised.requirements(SupervisedConfig()))
    loss = method(labeled, None, None).loss
    targets = torch.where(labeled.valid, labeled.labels, 255)
    weight = torch.tensor([0.5, 2.0, 3.0])
    summed = F.cross_entropy(method.student(labeled.images), targets, weight, ignore_index=255, reduction="sum")
    torch.testing.assert_close(loss, summed / labeled.valid.sum())
    assert "class_weights" not in method.state_dict()


def test_hard_positions_are_chosen_as_without_weights() -> None:
    ohem = Ohem(threshold=1.0, min_kept=1)
    labeled, _ = tiny.batch(weighted(), Supervised.requirements(SupervisedConfig()))
    hard, plain = (
        Supervised(tiny.network(), SupervisedConfig(ohem=mined), weighted())(labeled, None, None).loss
        for mined in (ohem, None)
    )
    torch.testing.assert_close(hard, plain)


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_a_run_counts_its_labelled_images_and_records_the_weights(
    small: Small, task: str, kind: str, tmp_path: Path
) -> None:
    module, data = small[task]
    raw: dict[str, Any] = module.raw(data)
    raw["train"]["class_weights"] = kind
    run = build.build_run(resolve(raw), tmp_path, Reporter())
    weights = run.config.train.class_weights
    assert isinstance(weights, dict)
    assert list(weights) == list(run.task.class_names)
    assert weights == resolved_weights(kind, run.task.class_names, run.task.labelled_census)  # type: ignore[arg-type]
    census = run.task.labelled_census()
    counts = np.array(census.pixels or census.holding)
    assert (np.array(list(weights.values())) @ counts) / counts.sum() == pytest.approx(1, rel=1e-4)
    if task == "seg":  # only what is valid in labelled masks counts
        split, source = run.task.learned.split, run.task.learned.train  # type: ignore[attr-defined]
        found = np.zeros(3, np.int64)
        for index in split.labeled:
            labels, valid = source.target(index)
            found += np.bincount(labels[valid], minlength=3)
        assert census.pixels == tuple(found)
    again = build.build_run(resolve(run.config.to_raw()), tmp_path, Reporter())
    assert again.config.to_raw() == run.config.to_raw()
    (tmp_path / "config.yaml").write_text(run.config.to_yaml())
    assert unfinished(resolve(raw), tmp_path) == str(tmp_path), "a restart finds the run in which they were counted"
    raw["train"]["class_weights"] = None
    assert unfinished(resolve(raw), tmp_path) is None


def test_a_run_counts_the_labels_that_alignment_asks_for(small: Small, tmp_path: Path) -> None:
    assert label_shares(MAPS) == (0.6, 0.3, 0.1)
    assert label_shares(IMAGES) == (0.594059, 0.39604, 0.00990099), "a class without a label counts as once labelled"
    module, data = small["cls"]
    raw: dict[str, Any] = module.raw(data, "remixmatch")
    run = build.build_run(resolve(raw), tmp_path, Reporter())
    method: Any = run.trainer.method
    shares = label_shares(run.task.labelled_census())
    assert run.config.to_raw()["method"]["alignment"]["target"] == list(shares)
    torch.testing.assert_close(method.rule.alignment.shares, torch.tensor(shares))
    assert resolve(run.config.to_raw()).to_raw() == run.config.to_raw()
    (tmp_path / "config.yaml").write_text(run.config.to_yaml())
    assert unfinished(resolve(raw), tmp_path) == str(tmp_path)


def test_weights_are_stated_with_words_or_numbers(small: Small) -> None:
    module, data = small["seg"]
    for wrong, sentence in (("even", "balanced"), ({"sky": -1.0}, "greater than or equal to 0"), (3, "a mapping")):
        raw = module.raw(data)
        raw["train"]["class_weights"] = wrong
        with pytest.raises(ConfigError, match=sentence):
            resolve(raw)
