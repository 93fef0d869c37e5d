"""Semantic change and grades of damage by the commands a user types."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from semikit import load
from semikit.data.pair_layouts import SECOND
from semikit.data.pair_spec import load_pairs
from tests.helpers import georasters, pairs

Call = Callable[..., Any]
GROUND, BUILDING = list(SECOND).index("ground"), list(SECOND).index("building")


def table(path: str) -> list[list[str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def train(semikit: Call) -> Call:
    def call(data: Path | str, *arguments: object) -> Any:
        flags = (*pairs.FLAGS, "--iterations", "2", "--labels", "2", "--out", "run")
        return semikit("train", "cd", "--data", data, *flags, *arguments)

    return call


def dates(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Both dates (H, W, 3), and where a building is new (H, W)."""
    before, after, labels = pairs.scene(rng)
    return before, after, labels > 0


def test_semantic_change_in_the_layout_of_second(train: Call, semikit: Call) -> None:
    """Masks in colour become transitions, which are scored, mapped and summed up from → to."""
    rng, colours = np.random.default_rng(0), np.array(list(SECOND.values()), np.uint8)
    for part, count in (("train", 4), ("test", 2)):
        for k in range(count):
            before, after, new = dates(rng)
            masks = (colours[np.where(new, cover, 0)] for cover in (GROUND, BUILDING))
            for place, values in zip(("im1", "im2", "label1", "label2"), (before, after, *masks), strict=True):
                pairs.save(Path(f"second/{part}/{place}/{k}.png"), values)
    answer = train("second")
    assert answer.code == 0, answer.err
    results = json.loads(Path("run/results.json").read_text())
    assert results["metric"] == "SeK"
    assert list(results["test"])[:4] == ["SeK", "mIoU", "Fscd", "score"]
    assert len(results["per_class"]) == 37
    scored = semikit("evaluate", "run", "--split", "test", "--json", "scores.json")
    assert scored.code == 0, scored.err
    assert json.loads(Path("scores.json").read_text())["value"] == pytest.approx(results["test"]["SeK"])

    for k, date in enumerate((before, after)):
        georasters.save(Path(f"{k}.tif"), np.moveaxis(date, -1, 0))
    made = semikit("predict", "run", "0.tif", "1.tif", "-o", "out/map.tif", "--areas", "--polygons", "out/map.shp")
    assert made.code == 0, made.err
    assert load("run").metadata["model"]["ordered"] is True  # or from A to B would look as from B to A
    with rasterio.open("out/map.tif") as file:
        assert file.tags()["CLASS_11"] == "ground → building"
    areas = {row[2]: row for row in table("out/map-areas.csv")[1:]}
    head, *rows = table("out/map-transitions.csv")
    assert head == ["file", "unit", "from", *list(SECOND)[1:]]
    assert [row[1] for row in rows] == ["m2"] * 6
    for row in rows:
        for name, cell in zip(head[3:], row[3:], strict=True):
            assert float(cell) == float(areas[f"{row[2]} → {name}"][4])
    assert sum(float(cell) for row in rows for cell in row[3:]) > 0

    outlined = semikit("polygons", "out/map.tif", "-o", "again.gpkg", "--areas")
    assert outlined.code == 0, outlined.err
    assert [row[1:] for row in table("again-transitions.csv")] == [row[1:] for row in (head, *rows)]
    test = Path("second/test")
    made = semikit("predict", "run", test / "im1", test / "im2", "-o", "maps", "--format", "tif", "--areas")
    assert made.code == 0, made.err
    assert [row[1] for row in table("maps/transitions.csv")] == ["unit", *["pixels"] * 12]


def test_one_mask_of_named_transitions(train: Call, semikit: Call) -> None:
    """Classes whose names lead from → to are semantic change too; a transition that is no class stays empty."""
    rng = np.random.default_rng(0)
    for k in range(4):
        before, after, new = dates(rng)
        for place, values in zip(("A", "B", "label"), (before, after, new * (1 + k % 2)), strict=True):
            pairs.save(Path(f"train/{place}/{k}.png"), values)
    Path("data.yaml").write_text("train: train\nval: 0.5\nclasses: [same, ground -> house, tree -> house]\n")
    answer = train("data.yaml", "--method", "supervised")
    assert answer.code == 0, answer.err
    assert json.loads(Path("run/results.json").read_text())["metric"] == "SeK"
    georasters.save(Path("0.tif"), np.moveaxis(before, -1, 0))
    georasters.save(Path("1.tif"), np.moveaxis(after, -1, 0))
    made = semikit("predict", "run", "0.tif", "1.tif", "-o", "map.tif", "--areas")
    assert made.code == 0, made.err
    assert table("map-transitions.csv")[0] == ["file", "unit", "from", "ground", "tree", "house"]
    assert [row[3:5] for row in table("map-transitions.csv")[1:]] == [["", ""]] * 3


def test_grades_of_damage_in_the_layout_of_xbd(train: Call, semikit: Call) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("hold", 2), ("test", 1)):
        for k in range(count):
            before, after, new = dates(rng)
            for date, image, mask in (("pre", before, new), ("post", after, new * (1 + k % 4))):
                pairs.save(Path(f"xbd/{part}/images/fire_{k}_{date}_disaster.png"), image)
                pairs.save(Path(f"xbd/{part}/targets/fire_{k}_{date}_disaster_target.png"), mask)
    checked = semikit("data", "check", "xbd")
    assert checked.code == 0, checked.err
    assert "major damage" in checked.out
    answer = train("xbd")
    assert answer.code == 0, answer.err
    test = json.loads(Path("run/results.json").read_text())["test"]
    assert list(test)[:3] == ["score", "damage_F1", "localisation_F1"]
    assert test["score"] == pytest.approx(0.3 * test["localisation_F1"] + 0.7 * test["damage_F1"])
    assert set(test["class_scores"]["damage_F1"]) == {
        "no building", "no damage", "minor damage", "major damage", "destroyed",
    }  # fmt: skip
    one = Path("xbd/test/images")
    made = semikit("predict", "run", one / "fire_0_pre_disaster.png", one / "fire_0_post_disaster.png", "-o", "a.png")
    assert made.code == 0, made.err
    patterns = (f"{one}/{{stem}}_{date}_disaster.png" for date in ("pre", "post"))
    made = semikit("predict", "run", *patterns, "-o", "maps")
    assert made.code == 0, made.err
    assert Path("maps/fire_0.png").is_file()
    drafted = semikit("data", "init", "xbd", "-o", "xbd.yaml")
    assert drafted.code == 0, drafted.err
    assert load_pairs(Path("xbd.yaml")).train == load_pairs(Path("xbd").absolute()).train
    assert load_pairs(Path("xbd.yaml")).damage
    with Image.open("a.png") as image:
        assert set(np.unique(np.asarray(image)).tolist()) <= {0, 1, 2, 3, 4}
