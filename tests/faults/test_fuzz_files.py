"""Images, masks, rasters, tables, archives, weights and checkpoints damaged at random: success, or one message."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers import georasters, icons, mutations, pairs, photos, trials

Fuzzed = Callable[..., Counter[str]]

FEW = 6
MANY = {
    "photos": 1200, "masks": 500, "rasters": 900, "prediction": 900, "classes": 400, "tables": 400, "weights": 500,
    "checkpoint": 800, "archives": 700, "training": 100,
}  # fmt: skip
"""Cases of each kind in `make test`, and in `make faults`."""
FORMATS = ("png", "jpg", "webp", "gif", "bmp", "ppm")
RASTERS = (
    {},
    {"compress": "deflate"},
    {"compress": "lzw", "predictor": 2},
    {"tiled": True, "blockxsize": 16, "blockysize": 16},
)


@dataclass(frozen=True)
class Grounds:
    """What is made once and linked by cases."""

    base: Path
    flags: dict[str, list[str]]
    others: list[bytes]
    """Files of other kinds, which may stand where one is expected."""

    def linked(self, name: str, box: Path) -> Path:
        """A folder of the grounds below the box; a file of it is replaced, not written to."""
        shutil.copytree(self.base / name, box / name, copy_function=_linked)
        return box / name

    def damage(self, rng: Any, path: Path) -> None:
        """Put a damaged copy in the place of a file."""
        content = mutations.damaged(rng, path.read_bytes(), self.others)
        path.unlink()
        path.write_bytes(content)

    def any(self, rng: Any, folder: Path, pattern: str) -> Path:
        return mutations.pick(rng, sorted(folder.glob(pattern)))


@pytest.fixture(scope="module")
def grounds(miniature: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    base = tmp_path_factory.mktemp("grounds")
    _photos(base / "seg")
    _rasters(base / "cd")
    icons.write(base / "cls", 2, 1, 1)
    _table(base / "cls")
    flags = {
        "seg": ["--data", "seg/data.yaml", *photos.FLAGS, "--labels", "3", "--iterations", "1"],
        "cd": ["--data", "cd/data.yaml", *pairs.FLAGS, "--labels", "2", "--iterations", "1"],
        "cls": ["--data", "cls/table.yaml", *icons.FLAGS, "--labels", "3", "--iterations", "1"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        for task, run in (("seg", "photo-run"), ("cd", "pair-run")):
            assert trials.called("train", task, *flags[task], "--out", run, "--quiet").code == 0
    _weights(base / "weights")
    for name in ("pascal", "whu"):
        shutil.copytree(miniature(name), base / name)
    others = [
        path.read_bytes() for pattern in ("seg/train/images/*", "cd/train/A/*", "whu/*") for path in base.glob(pattern)
    ]
    others += [b"<!DOCTYPE html><html>404</html>", (base / "photo-run/weights/best.safetensors").read_bytes()]
    return Grounds(base, flags, others)


def _photos(folder: Path) -> None:
    photos.write(folder, len(FORMATS), len(FORMATS), 1, 1)
    for k, suffix in enumerate(FORMATS):
        path = folder / f"train/images/train{k}.png"
        image = Image.open(path)
        path.unlink()
        image.save(path.with_suffix(f".{suffix}"))
    palette = Image.open(folder / "train/masks/train1.png")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(folder / "train/masks/train1.png")


def _rasters(folder: Path) -> None:
    data = pairs.write(folder, 4, 4, 1, 1)
    for number, path in enumerate(sorted(folder.glob("*/*/*.png"))):
        values = np.array(Image.open(path))
        path.unlink()
        bands = np.moveaxis(values, 2, 0) if values.ndim == 3 else values
        georasters.save(path.with_suffix(".tif"), bands, **RASTERS[number % len(RASTERS)])
    data.write_text(data.read_text())


def _table(folder: Path) -> None:
    for path in sorted(folder.glob("*/*/*.png"))[::2]:
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.glob("train/*/*.*"))]
    (folder / "table.csv").write_text("\n".join(["file,label", *rows, ""]))
    (folder / "table.yaml").write_text("train: table.csv\nval: val\ntest: test\n")


def _weights(folder: Path) -> None:
    folder.mkdir()
    state = timm.create_model("test_vit", depth=2, embed_dim=32, num_heads=2, num_classes=0).state_dict()
    torch.save(state, folder / "encoder.pth")
    torch.save({"model": state, "epoch": np.float64(3)}, folder / "nested.pt")
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    save_file(state, folder / "encoder.safetensors")


def photos_(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An image of a training."""
    g.damage(rng, g.any(rng, g.linked("seg", box), "*/images/*"))
    return trial(["train", "seg", *g.flags["seg"], "--dry-run"])


def masks(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A mask of a training."""
    g.damage(rng, g.any(rng, g.linked("seg", box), "*/masks/*"))
    return trial(["train", "seg", *g.flags["seg"], "--dry-run"])


def rasters(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An image or mask of change detection, as GeoTIFF."""
    g.damage(rng, g.any(rng, g.linked("cd", box), "*/*/*.tif"))
    return trial(["train", "cd", *g.flags["cd"], "--dry-run"])


def prediction(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An image that is predicted, or the first of two dates."""
    if rng.random() < 0.5:
        path = g.any(rng, g.linked("seg", box), "train/images/*")
        g.damage(rng, path)
        return trial(["predict", g.base / "photo-run", path, "-o", "out", "--quiet"], [box / "out"], _images)
    path = g.any(rng, g.linked("cd", box), "train/A/*.tif")
    g.damage(rng, path)
    outlines = ["--polygons", "out.geojson"] if rng.random() < 0.3 else []
    after = path.parent.parent / "B" / path.name
    out = [box / "out.tif", box / "out.geojson"]
    return trial(["predict", g.base / "pair-run", path, after, "-o", "out.tif", *outlines, "--quiet"], out, _images)


def classes(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An image of classification."""
    g.damage(rng, g.any(rng, g.linked("cls", box), "*/*/*.*"))
    return trial(["train", "cls", *g.flags["cls"], "--dry-run"])


def tables(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """A table of labels: its text or its bytes."""
    path = g.linked("cls", box) / "table.csv"
    text = path.read_text()
    path.unlink()
    changed = mutations.garbled(rng, text) if rng.random() < 0.7 else mutations.damaged(rng, text.encode())
    path.write_bytes(changed)
    return trial(["train", "cls", *g.flags["cls"], "--dry-run"])


def weights(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """Weights of an encoder."""
    path = g.any(rng, g.linked("weights", box), "*")
    g.damage(rng, path)
    if rng.random() < 0.05:
        path = path.rename(path.with_suffix(mutations.pick(rng, (".pth", ".safetensors", ".ckpt"))))
    g.linked("seg", box)
    return trial(["train", "seg", *g.flags["seg"], "--weights", path, "--dry-run"])


def checkpoint(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """What a run has saved: damaged, or whole with other values in it."""
    run = g.linked("photo-run", box)
    path = run / "weights" / mutations.pick(rng, ("last.ckpt", "best.safetensors"))
    if rng.random() < 0.4:
        g.damage(rng, path)
        mutations.sealed(path) if rng.random() < 0.6 else None
    elif path.suffix == ".ckpt":
        state = mutations.altered(rng, torch.load(path, weights_only=True))
        path.unlink()
        torch.save(state, path)
        mutations.sealed(path)
    else:
        _other_metadata(rng, path)
    g.linked("seg", box)
    picture = g.any(rng, box, "seg/val/images/*")
    return trial(*mutations.pick(rng, _uses(path, picture, box)))


def _uses(path: Path, picture: Path, box: Path) -> list[tuple[Any, ...]]:
    """Commands that read a checkpoint."""
    resume = (["train", "seg", "--resume", "photo-run", "--quiet"],)
    predict = (["predict", path, picture, "-o", "out", "--quiet"], [box / "out"], _images)
    return [
        predict,
        (["evaluate", path, "--data", "seg/data.yaml", "--quiet"],),
        *([resume] if path.suffix == ".ckpt" else []),
    ]


def _other_metadata(rng: Any, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["semikit"]
    tensors = load_file(path)
    path.unlink()
    if rng.random() < 0.7:
        text = json.dumps(mutations.altered(rng, json.loads(text)), default=str)
    else:
        text = mutations.garbled(rng, text).decode("utf-8", "replace")
    save_file(tensors, path, {"semikit": text})


def archives(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An archive of a published data set."""
    name = mutations.pick(rng, ("pascal", "whu"))
    g.damage(rng, g.any(rng, g.linked(name, box), "*"))
    return trial(["data", "prepare", name, "--source", name, "--root", "root"], [box / "root"], _root)


def training(g: Grounds, trial: Any, rng: Any, box: Path) -> Any:
    """An image that only the training itself opens: an unlabelled one."""
    folder = g.linked("seg", box)
    for path in (folder / "train/masks").glob("train[345].png"):
        path.unlink()
    g.damage(rng, g.any(rng, folder, "train/images/train[345].*"))
    return trial(["train", "seg", *g.flags["seg"], "--out", "run", "--quiet"], [box / "run"], _run)


def _images(path: Path) -> bool:
    files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
    for file in (item for item in files if item.suffix in (".png", ".tif")):
        Image.open(file).load()
    return bool(files)


def _root(path: Path) -> bool:
    """Marked as begun, or finished."""
    return (path / "semikit.json").is_file() != (path / ".preparing").is_file() or not any(path.iterdir())


def _run(path: Path) -> bool:
    return {"config.yaml", "split.json", "log.txt"} <= {item.name for item in path.iterdir()}


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


KINDS = {"photos": photos_, "masks": masks, "rasters": rasters, "prediction": prediction, "classes": classes}
KINDS |= {"tables": tables, "weights": weights, "checkpoint": checkpoint, "archives": archives, "training": training}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(kind: str, grounds: Grounds, fuzzed: Fuzzed) -> None:
    fuzzed(kind, partial(KINDS[kind], grounds, trials.Trial), FEW)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, grounds: Grounds, fuzzed: Fuzzed) -> None:
    ends = fuzzed(kind, partial(KINDS[kind], grounds, trials.Trial), MANY[kind])
    assert not ends or {"0", "2"} <= set(ends), "all refused or none: the changes are too large or too small"
