"""How many labels that were falsified on purpose `semikit audit` finds, by the run's own network and out of fold.

    python benchmarks/audit_labels.py --data runs/photographs/data --out runs/audit [--only levir,cifar10,camvid]

CIFAR-10 at 64 pixels with 600 labels, 60 of which name another class, and CamVid at 240x180 with 120 labels, in 12 of
which one area has another class and in 12 the mask lies 8 pixels to the right; of tiles of LEVIR-CD the later date is
moved by 3 to 12 pixels. `data` are those that photographs.py prepared. Labelled-only efficientnet-lite0 with the
weights of its package, one thread; beside its own network and those out of fold, the run of photographs.py in whose
folder `data` lies, which learned from few labels that are right. What has ended is kept. Prints a line for each.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import semikit
from semikit.inference.label_quality import CLEAR, SHIFTED, phase_shift
from semikit.raster.connected import connected

PER_CLASS, FALSE = 60, 6
"""CIFAR-10: labelled images of each class, and how many of them are falsified."""
MASKS, OBJECTS, MOVED, PIXELS = 120, 12, 12, 8
STEPS = 200
FEW = {"cifar10": "fixmatch/seed-0", "camvid": "unimatch_v2/seed-0"}
"""Runs of photographs.py."""
_TASK = {"cifar10": "cls", "camvid": "seg"}
_SETTINGS: dict[str, dict[str, Any]] = {
    "cifar10": {"views.size": None, "evaluate.batch": 100},
    "camvid": {"views.weak.scale": [0.75, 1.5], "evaluate.batch": 20},
}


def cifar10(source: Path, target: Path) -> dict[str, str]:
    """Write images into folders of their classes, some into that of another; those, by their names."""
    rng, false = np.random.default_rng(0), {}
    names = sorted(path.name for path in (source / "train").iterdir())
    for number, name in enumerate(names):
        files = rng.permutation(sorted((source / "train" / name).iterdir()))[:PER_CLASS]
        for k, file in enumerate(files):
            other = names[(number + rng.integers(1, len(names))) % len(names)] if k < FALSE else name
            place = target / "train" / other / f"{name}-{file.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
            if other != name:
                false[place.stem] = "class"
        shutil.copytree(source / "val" / name, target / "val" / name, ignore=lambda _, files: files[20:])
    return false


def camvid(source: Path, target: Path) -> dict[str, str]:
    """Write images and masks, some of these falsified: how, by their names."""
    rng, false = np.random.default_rng(0), {}
    files = sorted((source / "train" / "images").iterdir())
    for k, number in enumerate(rng.permutation(len(files))[:MASKS]):
        file, mask = files[number], np.asarray(Image.open(source / "train" / "masks" / files[number].name)).copy()
        if k < OBJECTS:
            mask, false[file.stem] = _swapped(mask, rng), "object"
        elif k < OBJECTS + MOVED:
            mask[:, PIXELS:], mask[:, :PIXELS], false[file.stem] = mask[:, :-PIXELS].copy(), 11, "shift"
        for kind in ("images", "masks"):
            (target / "train" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / "train" / "images" / file.name)
        Image.fromarray(mask).save(target / "train" / "masks" / file.name)
    shutil.copytree(source / "val", target / "val")
    (target / "data.yaml").write_text((source / "data.yaml").read_text().replace("test: ", "# test: "))
    return false


def _swapped(mask: Any, rng: np.random.Generator) -> Any:
    """One of the areas of 200 to 6000 pixels (of 43,200), by chance, with the class of another, by chance."""
    areas, first = connected(mask)
    sizes, classes = np.bincount(areas.ravel()), mask.flat[first]
    chosen = rng.choice(np.flatnonzero((sizes >= 200) & (sizes <= 6000) & (classes < 11)))
    others = np.setdiff1d(np.arange(11), classes[chosen])
    return np.where(areas == chosen, np.uint8(rng.choice(others)), mask)


def levir(source: Path) -> None:
    """Print how many pairs count as shifted as they are; moved, how many, and how many of them by the move."""
    rng, own, moved, right = np.random.default_rng(0), [], 0, 0
    files = sorted((source / "A").iterdir())
    for file in files:
        first, second = (np.asarray(Image.open(source / date / file.name).convert("RGB")) for date in "AB")
        unchanged = np.asarray(Image.open(source / "label" / file.name).convert("L")) == 0
        before = phase_shift([first, second], unchanged)
        move = rng.integers(3, 13, 2) * rng.choice([-1, 1], 2)
        after = phase_shift([first, np.roll(second, move, (0, 1))], unchanged)
        own += [before[:2]] if _listed(before) else []
        moved += _listed(after)
        right += _listed(after) and bool(np.abs(np.subtract(after[:2], before[:2]) - move).max() <= 1)
    print(f"levir: {len(files)} pairs; as they are {len(own)} are listed: {own}")
    print(f"levir: moved, {moved} are listed, {right} of these with the move", flush=True)


def _listed(shift: tuple[int, int, float]) -> bool:
    return bool(np.hypot(*shift[:2]) > SHIFTED and shift[2] >= CLEAR)


def found(folder: Path, false: dict[str, str], labels: int) -> list[str]:
    """Of the first k suspects the share whose label was falsified, the shares found of each kind, and the estimate."""
    with (folder / "audit.csv").open(newline="") as file:
        names = [Path(row["file"]).stem for row in csv.DictReader(file)]
    at = sorted({10, 25, 50, len(false)})
    cells = [f"at {k}: {sum(name in false for name in names[:k]) / k:.0%}" for k in at if k <= len(false)]
    for kind in sorted(set(false.values())):
        mine = {name for name, how in false.items() if how == kind}
        cells.append(f"{kind}: {len(mine & set(names[: len(false)]))} of {len(mine)}")
    return [*cells, f"listed {len(names)} of {labels}", f"falsified {len(false) / labels:.0%}"]


def study(name: str, source: Path, out: Path) -> None:
    """One data set: data, the run, both audits."""
    data = out / name / "data"
    if not data.exists():
        partial = out / name / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        false = {"cifar10": cifar10, "camvid": camvid}[name](source / name, partial)
        (partial / "false.csv").write_text("".join(f"{one},{how}\n" for one, how in false.items()))
        partial.rename(data)
    false = dict(line.split(",") for line in (data / "false.csv").read_text().split())
    run, described = out / name / "run", data if name == "cifar10" else data / "data.yaml"
    if not (run / "results.json").exists():
        semikit.train(
            _TASK[name], data=described, labels="all", method="supervised",
            preset="small-pretrained", iterations=STEPS, eval_every=STEPS // 2, seed=0, device="cpu",
            workers=0, out=run, settings=_SETTINGS[name],
        )  # fmt: skip
    audits = {"in sample": (run, None, None), "3 folds": (run, 3, None)}
    audits = {"few right labels": (source.parent / name / FEW[name], None, described), **audits}
    for title, (network, count, labelled) in audits.items():
        place = out / name / title.replace(" ", "-")
        if not (place / "audit.csv").exists():
            semikit.audit(network, out=place, folds=count, data=labelled, device="cpu")
        labels = len((run / "labeled.txt").read_text().splitlines())
        print(f"{name}, {title}: " + "; ".join(found(place, false, labels)), flush=True)


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="levir,cifar10,camvid")
    given = parser.parse_args()
    for name in given.only.split(","):
        levir(given.data / "levir" / "train") if name == "levir" else study(name, given.data, given.out)


if __name__ == "__main__":
    main()
