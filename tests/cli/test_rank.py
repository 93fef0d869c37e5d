from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import semikit as library
from semikit.cli.app import run
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation, of_images
from semikit.inference.ensemble import Ensemble
from semikit.inference.next_labels import outlines
from semikit.inference.ranking import ColourView, Seen, typical, uncertainty, unsure_and_unlike
from semikit.inference.windows import EvaluateSettings
from semikit.run.load import student_and_teacher
from semikit.run.rank import _other_values
from tests.helpers import georasters, icons, photos

Call = Callable[..., Any]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def seen(features: list[list[float]], unsure: list[float], shares: list[list[float]] | None = None) -> list[Seen]:
    classes = shares or [[1.0]] * len(unsure)
    return [
        Seen(str(k), (Path(str(k)),), torch.tensor(one), unsure[k], 0.5, torch.tensor(classes[k]))
        for k, one in enumerate(features)
    ]


class TestChoice:
    def test_uncertainty_is_none_of_a_certain_and_one_of_an_undecided_pixel(self) -> None:
        pixels = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]]).T
        assert uncertainty(pixels, "margin").tolist() == pytest.approx([0, 1, 1])
        assert uncertainty(pixels, "entropy").tolist() == pytest.approx([0, 1, np.log(2) / np.log(3)])

    def test_those_who_agree_are_certain_and_those_who_contradict_are_not(self) -> None:
        one, other = torch.tensor([[1.0, 0.5, 1.0], [0.0, 0.5, 0.0]]), torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
        assert uncertainty(one, "disagreement", [other]).tolist() == pytest.approx([0, 0, 1])

    def test_the_second_is_unlike_the_first_although_others_are_less_certain(self) -> None:
        found = seen([[1, 0], [1, 0.02], [0, 1], [1, 0]], [0.9, 0.8, 0.5, 0.9])
        chosen = unsure_and_unlike(found, 3, [], rare=False)
        assert [one.index for one in chosen] == [0, 2, 1]
        assert chosen[0].distance is None
        assert chosen[1].distance == pytest.approx(2**0.5)

    def test_what_has_a_label_is_not_chosen_and_neither_is_its_like(self) -> None:
        found = seen([[1, 0], [1, 0], [0, 1]], [0.9, 0.9, 0.1])
        assert [one.index for one in unsure_and_unlike(found, 9, [0], rare=False)] == [2, 1]

    def test_rare_classes_weigh_more(self) -> None:
        shares = [[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]
        found = seen([[1, 0], [0, 1], [1, 1]], [0.5, 0.4, 0.45], shares)
        assert unsure_and_unlike(found, 1, [], rare=False)[0].index == 0
        assert unsure_and_unlike(found, 1, [], rare=True)[0].index == 2

    def test_of_each_group_its_middle_is_typical(self) -> None:
        rng = np.random.default_rng(0)
        groups = [(np.array([5.0, 0, 0]), 12), (np.array([0, 5.0, 0]), 8), (np.array([0, 0, 5.0]), 4)]
        features = [(middle + rng.normal(0, 0.3, 3)).tolist() for middle, count in groups for _ in range(count)]
        for start, (middle, _) in zip((0, 12, 20), groups, strict=True):
            features[start] = middle.tolist()
        chosen = typical(seen(features, [0.0] * 24), 3)
        assert [next(k for k, end in enumerate((12, 20, 24)) if one.index < end) for one in chosen] == [0, 1, 2]
        assert len({one.index for one in typical(seen([[1.0, 0, 0]] * 5, [0.0] * 5), 4)}) == 4

    def test_outlines_drawn_one_after_the_other_give_the_map(self) -> None:
        classes = np.zeros((40, 60), dtype=np.uint8)
        classes[8:32, 10:50] = 1
        classes[14:26, 20:40] = 255
        classes[17:22, 26:34] = 2
        found = outlines(classes, ("a", "b", "c"))
        assert [name for name, _ in found] == ["a", "b", "__ignore__", "c"]
        assert [len(ring) for _, ring in found] == [4, 4, 4, 4]
        assert found[3][1].min(0).tolist() == [26, 17]


def confident(run: Path, image: Path) -> float:
    """What half of the pixels of an image exceed."""
    return float(np.median(library.load(run, device="cpu").predict(image).confidence))  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def ranked(runs: dict[str, Path], small: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What is written for each task."""
    folder = tmp_path_factory.mktemp("next")
    middle = confident(runs["seg"], small["seg"][1].parent / "train/images/train7.png")
    for task, trained in runs.items():
        data = small[task][1].parent / "train"
        sources = [data / "A", data / "B"] if task == "cd" else [data / "images" if task == "seg" else data]
        level = 0.3 if task == "cls" else middle if task == "seg" else 0.5
        flags = ["-n", "2", "--confidence", str(level), "--autolabel", "--quiet"]
        out = folder / task
        assert run(["rank", str(trained), *map(str, sources), *flags, "-o", str(out)]) == 0
    return {task: folder / task for task in runs}


class TestFolder:
    def test_images_that_were_labelled_are_left_out(self, ranked: dict[str, Path], runs: dict[str, Path]) -> None:
        for task, out in ranked.items():
            labelled = (runs[task] / "labeled.txt").read_text().split()
            found = rows(out / "ranking.csv")
            assert [row["rank"] for row in found] == ["1", "2"], task
            stems = [Path(row["file"]).with_suffix("") for row in found]
            assert not any(stem.match(f"*/{Path(name).with_suffix('')}") for stem in stems for name in labelled), task
            assert all(0 < float(row["uncertainty"]) <= 1 for row in found)
            with Image.open(out / "sheet.png") as sheet:
                assert sheet.width == 1280

    def test_masks_lie_beside_the_chosen_images_and_of_all(self, ranked: dict[str, Path]) -> None:
        for task, images, of_all in (("seg", "images", 8), ("cd", "A", 8)):
            out = ranked[task]
            names = {path.stem for path in (out / images).iterdir() if path.suffix in (".png", ".tif")}
            assert (
                {path.stem for path in (out / "masks").iterdir()}
                == names
                == {Path(row["file"]).stem for row in rows(out / "ranking.csv")}
            )
            assert len(list((out / "autolabel").iterdir())) == of_all
        assert {row["label"] for row in rows(ranked["cls"] / "autolabel.csv")} - {""}

    def test_unsure_pixels_do_not_count(self, ranked: dict[str, Path], runs: dict[str, Path], small: Any) -> None:
        name = rows(ranked["seg"] / "ranking.csv")[0]["file"]
        level = confident(runs["seg"], small["seg"][1].parent / "train/images/train7.png")
        found = library.load(runs["seg"], device="cpu").predict(name)
        mask = np.asarray(Image.open(next((ranked["seg"] / "masks").glob(f"{Path(name).stem}.*"))))
        wanted = np.where(found.confidence < level, 255, found.classes)  # type: ignore[union-attr]
        np.testing.assert_array_equal(mask, wanted)
        assert 0 < (mask == 255).mean() < 1

    def test_programs_for_labels_find_what_they_read(self, ranked: dict[str, Path]) -> None:
        out = ranked["seg"]
        coco = json.loads((out / "coco.json").read_text())
        assert [item["name"] for item in coco["categories"]] == [*photos.CLASSES, "__ignore__"]
        assert {item["image_id"] for item in coco["annotations"]} == {1, 2}
        assert all((out / "images" / item["file_name"]).is_file() for item in coco["images"])
        flags = [json.loads(path.read_text())["flags"] for path in (ranked["cls"] / "images").rglob("*.json")]
        assert len(flags) == 2
        assert all(isinstance(value, bool) for one in flags for value in one.values())

    @pytest.mark.parametrize("source", ["coco.json", "images"])
    def test_outlines_come_back_as_the_masks(self, ranked: dict[str, Path], tmp_path: Path, source: str) -> None:
        out = ranked["seg"]
        flags = ["--classes", str(out / "data.yaml"), "--background", "ignore", "-o", str(tmp_path)]
        assert run(["data", "convert", str(out / source), *flags]) == 0
        for mask in (out / "masks").iterdir():
            again = np.asarray(Image.open(next((tmp_path / "masks").rglob(mask.name))))
            assert (again == np.asarray(Image.open(mask))).mean() > 0.8


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        ({"train": {"masks": "m"}, "ignore": [255]}, None),
        ({"train": {"masks": "m"}, "ignore": [255], "mapping": {"1": 1}}, None),
        ({"train": {"masks": "m"}, "ignore": [255], "mapping": {"1": 0, "2": 1}}, "mapping: {1: 0, 2: 1}}"),
        ({"train": {"masks": "m"}}, "by number alone. So do not mix them"),
        ({"train": {"masks": "m"}, "ignore": [255], "colors": {"a": [0, 0, 0]}}, "by {ignore: [255], colors"),
        ({"train": {"masks": "m", "corrected": "c"}}, None),
        ({"train": {"masks_a": "a", "masks_b": "b"}}, "the new masks are of the change"),
        ({"train": {"images": "i"}}, None),
    ],
)  # fmt: skip
def test_masks_that_are_stored_otherwise_are_said(tmp_path: Path, folders: dict[str, Any], told: str | None) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps({"task": "seg", "data": {"folders": folders}}))
    notices = _other_values(tmp_path, 2)
    assert len(notices) == (told is not None)
    assert (told or "") in "".join(notices)


def correct(folder: Path, truth: Path, program: str) -> None:
    """Outlines as a person would leave them: those of the truth, in the files of LabelMe or in coco.json."""
    coco = json.loads((folder / "coco.json").read_text())
    names = [one["name"] for one in coco["categories"]]
    coco["annotations"] = []
    for image in coco["images"]:
        mask = np.asarray(Image.open(truth / image["file_name"]))
        areas = outlines(np.where(mask == 9, 255, mask).astype(np.uint8), photos.CLASSES)
        listed = (folder / "images" / image["file_name"]).with_suffix(".json")
        label = json.loads(listed.read_text())
        label["shapes"] = [{"label": name, "points": ring.tolist(), "shape_type": "polygon"} for name, ring in areas]
        if program == "images":
            listed.write_text(json.dumps(label))
        for name, ring in areas:
            item = {"id": len(coco["annotations"]) + 1, "image_id": image["id"], "iscrowd": 0}
            item |= {"category_id": names.index(name) + 1, "segmentation": [ring.ravel().tolist()]}
            coco["annotations"].append(item)
    if program == "coco.json":
        (folder / "coco.json").write_text(json.dumps(coco))


def test_two_rounds_of_labels_come_back(semikit: Call, tmp_path: Path) -> None:
    """The loop: train, rank, correct (here by the withheld truth), convert, train on old and new labels from there."""
    described, truth = photos.write(tmp_path / "data", masks=8, val=2, test=1), tmp_path / "truth"
    images, masks = described.parent / "train/images", described.parent / "train/masks"
    shutil.copytree(masks, truth)
    for mask in sorted(masks.iterdir())[3:]:
        mask.unlink()
    known = {path.stem for path in masks.iterdir()}
    flags = ["--data", described, *photos.FLAGS, "--iterations", "2", "--quiet"]
    assert semikit("train", "seg", *flags, "--out", tmp_path / "run-0").code == 0
    answer = semikit("rank", tmp_path / "run-0", images, "-n", "1", "-o", tmp_path / "next")
    assert "by {ignore: [9]}. So do not mix them: give their folder as `corrected` beside `masks`" in answer.out
    (described.parent / "corrected").mkdir()
    described.write_text(described.read_text().replace("train/masks", "train/masks, corrected: corrected"))
    for number, program in ((1, "images"), (2, "coco.json")):
        run, new, back = (tmp_path / f"{name}-{number}" for name in ("run", "next", "back"))
        answer = semikit("rank", tmp_path / f"run-{number - 1}", images, "-n", "2", "-o", new)
        assert answer.code == 0, answer.err
        assert ("`corrected`" in answer.out) == (number == 1)
        assert f"{len(known)} of 8 images were labelled in" in answer.out
        correct(new, truth, program)
        convert = ["data", "convert", new / program, "--classes", new / "data.yaml", "--background", "ignore"]
        assert semikit(*convert, "-o", back).code == 0
        labels = {path.stem: path for path in (back / "masks").rglob("*.png")}
        assert len(labels) == 2
        assert not known & labels.keys()
        for name, path in labels.items():
            mask, wanted = (np.asarray(Image.open(one)) for one in (path, truth / f"{name}.png"))
            assert (mask == wanted)[wanted != 9].mean() > 0.9
            shutil.copy(path, described.parent / "corrected")
        known |= labels.keys()
        answer = semikit("train", "seg", *flags, "--from", tmp_path / f"run-{number - 1}", "--out", run)
        assert answer.code == 0, answer.err
        assert set((run / "labeled.txt").read_text().split()) == known


def test_names_that_begin_alike_have_masks_of_their_own(runs: dict[str, Path], tmp_path: Path) -> None:
    """1.2.png is no mask of 1.png."""
    rng, sizes = np.random.default_rng(0), {"1": (32, 48), "1.2": (48, 32), "1.2.3": (32, 32)}
    for name, size in sizes.items():
        photos.save(tmp_path / f"images/{name}.png", rng.integers(0, 256, (*size, 3)))
    Image.fromarray(rng.integers(0, 4096, (32, 32)).astype(np.uint16)).save(tmp_path / "images/deep.png")
    ranked, notices = library.rank(runs["seg"], tmp_path / "images", out=tmp_path / "next", device="cpu")
    assert len(ranked) == 4
    assert [one for one in notices if "8-bit images; of these percentiles 2 to 98" in one and "deep.png" in one]
    for name, (height, width) in sizes.items():
        label = json.loads((tmp_path / f"next/images/{name}.json").read_text())
        assert (label["imageHeight"], label["imageWidth"]) == (height, width)


def test_two_rounds_of_classes_come_back(semikit: Call, tmp_path: Path) -> None:
    """The table that rank writes, filled in, and the lines of docs/labelling.md that put images into folders."""
    described = icons.write(tmp_path / "data", train=6, val=1, test=1)
    unlabeled = tmp_path / "data/unlabeled"
    unlabeled.mkdir()
    for image in (tmp_path / "data/train").rglob("[2-5].png"):
        image.rename(unlabeled / f"{image.parent.name}-{image.name}")
    described.write_text(described.read_text() + "unlabeled: unlabeled\n")
    page = (Path(__file__).parents[2] / "docs/labelling.md").read_text()
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "shutil" in part)
    flags, chosen = ["--data", described, *icons.FLAGS, "--iterations", "2", "--quiet"], set[str]()
    for number in range(3):
        before = ["--from", tmp_path / f"run-{number - 1}"] if number else []
        labels = len(list((tmp_path / "data/train").rglob("*.png")))
        run = tmp_path / f"run-{number}"
        answer = semikit("train", "cls", *flags, "--labels", labels, *before, "--out", run)
        assert answer.code == 0, answer.err
        assert labels == len((run / "labeled.txt").read_text().split()) == 6 + len(chosen)
        new = tmp_path / "next"
        assert semikit("rank", run, unlabeled, "-n", "3", "-o", new).code == 0
        found = [row["file"] for row in rows(new / "labels.csv")]
        truth = [f"{file},{Path(file).name.partition('-')[0]}" for file in found]
        (new / "labels.csv").write_text("\n".join(["file,label", *truth, ""]))
        subprocess.run([sys.executable, "-c", code.replace("photos/", "data/")], cwd=tmp_path, check=True)
        assert len(found) == 3
        assert not chosen & set(found), "an image that has a label is chosen again"
        chosen |= set(found)
        shutil.rmtree(new)


@pytest.mark.parametrize("ended", [True, False], ids=["checkpoint", "weights alone"])
@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_student_and_teacher_disagree_on_other_colours(
    runs: dict[str, Path], small: Any, tmp_path: Path, task: str, ended: bool
) -> None:
    run = runs[task]
    if not ended:
        run = shutil.copytree(runs[task], tmp_path / "run", ignore=shutil.ignore_patterns("*.ckpt"))
    images = small[task][1].parent / "val"
    name = {"seg": "images/val0.png", "cd": "{}/val0.*", "cls": "red/0.png"}[task]
    files = [next(images.glob(name.format(date))) for date in ("A", "B")[: 1 + (task == "cd")]]
    (one,), _ = library.rank(run, *files, n=1, out=tmp_path / "next", by="disagreement", device="cpu")
    model, others = library.load(run, device="cpu"), student_and_teacher(run)
    assert len(others) == 2 * ended
    found = []
    for network, change in zip([model.network, *(others or [model.network] * 2)], (0.0, 0.2, -0.2), strict=True):
        image = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        if task == "cls":
            fitted = ClassEvaluation(model.class_names, ClassEvaluateSettings(), model.metadata["size"])
            image = np.array(fitted.fitted(image[0], model.metadata["side"]))[None]
        image = ColourView(change)(image) if change else image
        ensemble = Ensemble.ready([network], model.inference)
        if task == "cls":
            found.append(ensemble.mean(image, of_images)[0])
            continue
        settings = EvaluateSettings.model_validate(model.metadata["evaluate"])
        found.append(ensemble.whole(image if task == "cd" else image[0], settings, model.metadata["crop"]))
    expected = uncertainty(found[0], "disagreement", found[1:]).mean()
    assert one.uncertainty == pytest.approx(float(expected), abs=1e-5)
    assert one.uncertainty > 0


class TestCold:
    def test_kinds_of_image_are_all_there(self, small: Any, tmp_path: Path) -> None:
        source = small["cls"][1].parent / "train"
        found, notices = library.rank(
            None, source, n=3, out=tmp_path / "next", encoder="efficientnet-lite0", device="cpu"
        )
        assert len({path.parent.name for one in found for path in one.files}) > 1
        assert not notices
        assert [row["typicality"] for row in rows(tmp_path / "next" / "ranking.csv")] == [
            f"{one.typicality:.4f}" for one in found
        ]

    def test_rasters_that_hold_nothing_are_left_out(self, tmp_path: Path) -> None:
        for name, value in (("empty", 0), ("full", 9)):
            values = np.full((32, 32, 3), value, np.uint8)
            georasters.save(tmp_path / f"images/{name}.tif", values, nodata=0)
        out = tmp_path / "next"
        found, notices = library.rank(None, tmp_path / "images", out=out, encoder="efficientnet-lite0", device="cpu")
        assert [one.name for one in found] == ["full"]
        assert "1 of 2 not predicted, image without a valid pixel" in notices[0]

    def test_two_dates_are_pairs(self, small: Any, tmp_path: Path) -> None:
        source = small["cd"][1].parent / "train"
        sources = (source / "A", source / "B")
        found, _ = library.rank(
            None, *sources, n=2, out=tmp_path, encoder="efficientnet-lite0", device="cpu", links=False
        )
        assert all((tmp_path / part / one.files[0].name).is_file() for one in found for part in "AB")
        assert not (tmp_path / "A" / found[0].files[0].name).is_symlink()


REFUSED = [
    (["RUN"], "give a run and its images, or images alone with --cold"),
    (["RUN", "IMAGES", "IMAGES"], "ranks an image of one date; give one source, not 2"),
    (["RUN", "IMAGES", "-n", "0"], "key 'n': expected greater than or equal to 1"),
    (
        ["RUN", "IMAGES", "--by", "chance"],
        "expected one of 'margin', 'entropy', 'disagreement', got 'chance'",
    ),
    (["RUN", "IMAGES", "--confidence", "90"], "key 'confidence': expected less than or equal to 1"),
    (["RUN", "IMAGES", "--encoder", "dinov2-small"], "--cold"),
    (["--cold", "IMAGES", "--rare"], "--rare takes what a run predicts"),
    (["--cold", "IMAGES", "IMAGES", "IMAGES"], "--cold takes one source, or two dates"),
    (["nowhere", "IMAGES"], "nowhere does not exist"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_ranked_is_said(
    semikit: Call, trained: Path, photo_data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    known = {"RUN": str(trained), "IMAGES": str(photo_data.parent / "train/images")}
    answer = semikit("rank", *(known.get(item, item) for item in arguments), "-o", tmp_path / "next")
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "next").exists()


def test_files_that_cannot_be_read_are_left_out_and_a_full_folder_is_refused(
    semikit: Call, trained: Path, photo_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photo_data.parent / "val/images/val0.png", tmp_path / "in/good.png")
    (tmp_path / "in/bad.png").write_bytes(b"no image")
    answer = semikit("rank", trained, tmp_path / "in", "-o", tmp_path / "next")
    assert answer.code == 0, answer.err
    assert "1 of 2 not predicted" in answer.out
    assert [Path(row["file"]).name for row in rows(tmp_path / "next/ranking.csv")] == ["good.png"]
    answer = semikit("rank", trained, tmp_path / "in", "-o", tmp_path / "next")
    assert answer.code == 2
    assert "is not empty" in answer.err
    answer = semikit("rank", trained, tmp_path / "in", "-o", tmp_path / "in/next")
    assert "outside of it" in answer.err


def test_a_raster_is_seen_window_by_window(runs: dict[str, Path], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 120), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    georasters.save(tmp_path / "in/wide.tif", values)
    georasters.save(tmp_path / "in/bands.tif", values[:2])
    (one,), notices = library.rank(runs["seg"], tmp_path / "in", out=tmp_path / "next", device="cpu")
    found = library.load(runs["seg"], device="cpu").predict(tmp_path / "in/wide.tif")
    shares = {name: float((found.classes == k).mean()) for k, name in enumerate(photos.CLASSES)}  # type: ignore[union-attr]
    assert one.classes == pytest.approx({name: share for name, share in shares.items() if share})
    assert one.confidence == pytest.approx(float(np.mean(found.confidence)), abs=1e-5)  # type: ignore[union-attr]
    assert {path.name for path in (tmp_path / "next/masks").iterdir()} == {"wide.tif", "wide.tif.aux.xml"}
    assert "1 of 2 not predicted" in notices[0]
    assert "bands.tif" in (tmp_path / "next/errors.csv").read_text()
    assert not (tmp_path / "next/coco.json").exists(), "of no photograph"
