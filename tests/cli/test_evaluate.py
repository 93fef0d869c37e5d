from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import photos

Call = Callable[..., Any]


def scores(answer: Any, path: Path = Path("scores.json")) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("which", ["", "weights/best.safetensors"])
def test_the_best_of_a_run_scores_as_it_did(semikit: Call, trained: Path, which: str) -> None:
    results = json.loads((trained / "results.json").read_text())
    answer = semikit("evaluate", trained / which, "--json", "scores.json", "--device", "cpu")
    found = scores(answer)
    assert found["value"] == pytest.approx(results["best"]["value"])
    assert found["per_class"] == pytest.approx(results["per_class"])
    assert (found["metric"], found["split"], found["data"]) == ("mIoU", "val", "data")
    assert f"mIoU {found['value']:.2f} on val of data" in answer.out
    assert all(name in answer.out for name in ("sky", "road", "car", "pixel_accuracy"))


def test_the_last_checkpoint(semikit: Call, trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    found = scores(semikit("evaluate", trained / "weights/last.ckpt", "--json", "scores.json"))
    assert found["value"] == pytest.approx(results[results["best"]["model"]]["mIoU"])


def test_test_images(semikit: Call, trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    found = scores(semikit("evaluate", trained, "--split", "test", "--json", "scores.json"))
    assert found["value"] == pytest.approx(results["test"]["mIoU"])


def test_absent_classes_both_ways(semikit: Call, trained: Path, tmp_path: Path) -> None:
    """Where only two of the classes are true or predicted, their mean is over two or over three."""
    data = photos.write(tmp_path / "own")
    found = {way: scores(semikit("evaluate", trained, "--data", data, "--average", way, "--json", "scores.json"))
             for way in ("paper", "present")}  # fmt: skip
    for way, values in found.items():
        assert values["value"] == values[f"mIoU_{way}"]
    assert found["paper"]["mIoU_present"] == found["present"]["mIoU_present"]


def test_a_class_without_truth(semikit: Call, trained: Path, tmp_path: Path) -> None:
    """Its pixels are ignored in the masks of val."""
    data = photos.write(tmp_path / "own")
    for path in (data.parent / "val/masks").iterdir():
        values = np.asarray(Image.open(path))
        photos.save(path, np.where(values == 2, 9, values))
    for way, counts in (("paper", "counts 0 in the mean (average: paper, as published)"), ("present", "left out of")):
        answer = semikit("evaluate", trained, "--data", data, "--average", way, "--json", "scores.json")
        found = scores(answer)
        assert "NaN" not in Path("scores.json").read_text()
        assert found["per_class"]["car"] is None
        assert [of["car"] for of in found["class_scores"].values()] == [None] * 3
        assert f"\N{EN DASH}: no truth for car, {counts}" in answer.out
        divisor = 3 if way == "paper" else 2
        assert found["value"] == pytest.approx((found["per_class"]["sky"] + found["per_class"]["road"]) / divisor)


def test_sliding_windows(semikit: Call, trained: Path) -> None:
    whole = scores(semikit("evaluate", trained, "--json", "scores.json"))
    sliding = scores(semikit("evaluate", trained, "--window", "sliding", "--json", "scores.json"))
    assert whole["per_class"] != sliding["per_class"]


def test_objects_of_chosen_classes(semikit: Call, trained: Path) -> None:
    plain = scores(semikit("evaluate", trained, "--json", "scores.json"))
    assert not any(name.startswith("object") for name in plain)
    answer = semikit("evaluate", trained, "--objects", "car", "--objects-min-pixels", "5", "--json", "scores.json")
    found = scores(answer)
    assert 0 <= found["object_recall"] <= 100
    assert found["class_scores"]["object_F1"] == {"sky": None, "road": None, "car": found["object_F1"]}
    assert found["evaluation"] | {"objects": ["car"], "objects_min_pixels": 5} == found["evaluation"]
    assert {name: found[name] for name in plain if name not in ("evaluation", "class_scores")} == {
        name: value for name, value in plain.items() if name not in ("evaluation", "class_scores")
    }
    assert "object_precision" in answer.out


def test_views_and_several_runs_are_averaged(semikit: Call, trained: Path, tmp_path: Path) -> None:
    plain = scores(semikit("evaluate", trained, "--json", "scores.json"))
    other = tmp_path / "again.safetensors"
    other.write_bytes((trained / "weights/best.safetensors").read_bytes())
    answer = semikit("evaluate", trained, "--ensemble", other, "--json", "scores.json")
    assert scores(answer)["per_class"] == pytest.approx(plain["per_class"])
    assert f", averaged with {other}" in answer.out
    answer = semikit("evaluate", trained, "--ensemble", other, "--tta", "flip", "--json", "scores.json")
    assert scores(answer)["per_class"] != plain["per_class"]
    assert ", tta flip," in answer.out
    refused = semikit("evaluate", trained, "--tta", "all")
    assert refused.code == 2
    assert "'tta': expected one of 'none', 'flip', 'flip+scale', got 'all'" in " ".join(refused.err.split())


def test_quiet_prints_the_score_only(semikit: Call, trained: Path) -> None:
    answer = semikit("evaluate", trained, "--quiet")
    assert len(answer.out.splitlines()) == 1
    assert answer.out.startswith("mIoU ")


def test_data_of_other_classes(semikit: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text(data.read_text().replace("car]", "car, tree]"))
    answer = semikit("evaluate", trained, "--data", data)
    assert answer.code == 2
    assert "the model knows 3 classes, the data 4: sky, road, car, tree." in answer.err


def test_no_test_images(semikit: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text("".join(line for line in data.read_text().splitlines(True) if not line.startswith("test")))
    answer = semikit("evaluate", trained, "--data", data, "--split", "test")
    assert answer.code == 2
    assert "data has no test split. Use --split val, or state `test:` in the data YAML." in answer.err


def test_weights_without_a_run_need_data(semikit: Call, trained: Path, tmp_path: Path, photo_data: Path) -> None:
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((trained / "weights/best.safetensors").read_bytes())
    answer = semikit("evaluate", lone)
    assert answer.code == 2
    assert "does not lie in a run folder; say on what to evaluate: --data FILE.yaml or --dataset NAME" in answer.err
    assert semikit("evaluate", lone, "--data", photo_data).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--json", "no/such/scores.json"], "cannot write to no/such/scores.json: there is no such folder"),
        (["--json", "."], "cannot write to .: it is a folder"),
        (["--root", "."], "--root . says where a published data set lies or where the paths of --data begin"),
        (["--dataset", "shapes", "--root", "."], "or leave --root out"),
        (["--split", "tset"], "unknown --split 'tset'. Did you mean 'test'"),
        (["--objects", "cat"], "unknown class in evaluate.objects 'cat'. Did you mean 'car'"),
        (["--precision", "fp8"], "expected one of 'auto', 'fp32', 'tf32', 'bf16', 'fp16'"),
        (["--dataset", "shapes"], "the model knows 3 classes, the data 6"),
    ],
)
def test_wrong_input(semikit: Call, trained: Path, arguments: list[str], told: str) -> None:
    answer = semikit("evaluate", trained, *arguments)
    assert answer.code == 2
    assert told in answer.err


def test_a_folder_that_is_no_run(semikit: Call, tmp_path: Path) -> None:
    answer = semikit("evaluate", tmp_path)
    assert answer.code == 2
    assert "no trained weights at" in answer.err


def test_a_mask_of_another_size(semikit: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    photos.save(data.parent / "val/masks/val1.png", [[0] * 48] * 20)
    answer = semikit("evaluate", trained, "--data", data)
    assert answer.code == 2
    assert answer.err.startswith("error: mask of another size than its image: val1 (image 48x40, mask 48x20")


def test_the_same_classes_in_another_order(semikit: Call, trained: Path, tmp_path: Path) -> None:
    data = photos.write(tmp_path / "own")
    data.write_text(data.read_text().replace("sky, road, car", "road, sky, car"))
    answer = semikit("evaluate", trained, "--data", data)
    assert answer.code == 2
    told = "not those of the model, in the same order: road, sky, car. The model's: sky, road, car. Give data with"
    assert told in answer.err


def test_json_is_written_where_nobody_reads_on(
    semikit: Call, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("semikit.cli.console.class_table", closed)
    semikit("evaluate", trained, "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["metric"] == "mIoU"
