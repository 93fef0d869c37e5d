"""What unlabelled photographs bring to a small pretrained encoder, on two processor cores.

    python benchmarks/photographs.py --out runs/photographs [--only camvid,cifar10] [--seeds 0,1,2] [--jobs 2]

CamVid at 240x180 with 23 labels, tiles of LEVIR-CD with 10 labels and CIFAR-10 at 64 pixels with 250 labels
(SEMIKIT_TEST_DATA names the folder they lie in), with efficientnet-lite0 and the ImageNet weights of its package; with
--people DIR also photographs of people (a clone of github.com/VikramShenoy97/Human-Segmentation-Dataset). Every
row of `GRID` runs with every seed, through the command line, one thread each; rows called `tune…` are labelled-only
runs of seed 0, from whose scores on val the tuned row was chosen by hand. Test images are read once a run, with the
network that was best on val. Runs that have ended are kept, stopped ones go on; --report trains nothing. Writes
report.md, numbers.csv and the curves of each data set, of all that there is.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

Arguments: TypeAlias = tuple[str, ...]
_CITY = Image.Resampling.LANCZOS, Image.Resampling.NEAREST
_CAMVID = """\
train: {images: train/images, masks: train/masks}
val: {images: val/images, masks: val/masks}
test: {images: test/images, masks: test/masks}
classes: [sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist]
ignore: [11]
"""
_PEOPLE = """\
train: {images: train/images, masks: train/masks}
val: {images: val/images, masks: val/masks}
test: {images: test/images, masks: test/masks}
classes: [background, person]
"""


@dataclass(frozen=True)
class Study:
    """A data set of the study: its task, arguments of all its runs, and rows: name -> further arguments."""

    task: str
    base: Arguments
    rows: dict[str, Arguments] = field(default_factory=dict)


SUPERVISED = ("--method", "supervised")
FIXMATCH, CUTMIX, V2 = ("--method", "fixmatch"), ("--method", "cutmix_seg"), ("--method", "unimatch_v2")
MILDER = (
    *("views.strong.brightness=0.3", "views.strong.contrast=0.3", "views.strong.saturation=0.3"),
    *("views.strong.hue=0.05", "views.strong.grayscale_probability=0.1", "views.strong.blur_probability=0"),
    "method.dropout=none",
)
MIXED = (
    *("views.strong.jitter_probability=0", "views.strong.grayscale_probability=0", "views.strong.blur_probability=0"),
    *("views.mix.probability=1", "method.dropout=none"),
)
HALVED = ("optimizer.lr=5.0e-4", "optimizer.encoder_lr=1.0e-4")
DOUBLED = ("optimizer.lr=2.0e-3", "optimizer.encoder_lr=4.0e-4")
LONGER = ("--iterations", "3000", "--eval-every", "300")
LONGEST = ("--iterations", "5000", "--eval-every", "500")
PEOPLE_10 = ("--labels", "10", "--iterations", "1000", "--eval-every", "100")
GRID: dict[str, Study] = {
    "cifar10": Study(
        "cls",
        (
            *("--preset", "small-pretrained", "--labels", "250", "--iterations", "2000", "--eval-every", "200"),
            *("views.size=null", "evaluate.batch=100"),
        ),
        {
            "labelled-only": (*SUPERVISED, "views.labeled=weak"),
            "labelled-only tuned": SUPERVISED,
            "fixmatch": FIXMATCH,
            "unimatch_v2": V2,
            "labelled-only tuned 5000 steps": (*SUPERVISED, *LONGEST),
            "unimatch_v2 5000 steps": (*V2, *LONGEST),
            "tune lr 5e-4": (*SUPERVISED, "optimizer.lr=5.0e-4"),
            "tune lr 2e-3": (*SUPERVISED, "optimizer.lr=2.0e-3"),
            "tune weight decay 0.1": (*SUPERVISED, "optimizer.weight_decay=0.1"),
        },
    ),
    "camvid": Study(
        "seg",
        (
            *("--preset", "small-pretrained", "--labels", "23", "--iterations", "1500", "--eval-every", "150"),
            *("views.weak.scale=[0.75,1.5]", "evaluate.batch=20"),
        ),
        {
            "labelled-only": SUPERVISED,
            "unimatch_v2": V2,
            "unimatch_v2 milder views": (*V2, *MILDER),
            "unimatch_v2 mixed alone": (*V2, *MIXED),
            "cutmix_seg": CUTMIX,
            "fixmatch": FIXMATCH,
            "labelled-only 300 labels": (*SUPERVISED, "--labels", "300"),
            "labelled-only 12 labels": (*SUPERVISED, "--labels", "12"),
            "unimatch_v2 milder views 12 labels": (*V2, *MILDER, "--labels", "12"),
            "labelled-only 3000 steps": (*SUPERVISED, *LONGER),
            "unimatch_v2 milder views 3000 steps": (*V2, *MILDER, *LONGER),
            "tune precise_bn 0": (*SUPERVISED, "evaluate.precise_bn=0"),
            "tune strong": (*SUPERVISED, "views.labeled=strong"),
            "tune scale 0.5-2": (*SUPERVISED, "views.weak.scale=[0.5,2]"),
            "tune rates halved": (*SUPERVISED, *HALVED),
            "tune rates doubled": (*SUPERVISED, *DOUBLED),
        },
    ),
    "people": Study(
        "seg",
        (
            *("--preset", "small-pretrained", "--labels", "5", "--iterations", "1500", "--eval-every", "150"),
            *("--crop", "128", "evaluate.batch=10"),
        ),
        {
            "labelled-only": SUPERVISED,
            "labelled-only tuned": (*SUPERVISED, "views.labeled=strong"),
            "unimatch_v2": V2,
            "labelled-only 10 labels": (*SUPERVISED, *PEOPLE_10),
            "unimatch_v2 10 labels": (*V2, *PEOPLE_10),
        },
    ),
    "levir": Study(
        "cd",
        (
            *("--preset", "small-pretrained", "--labels", "{data}/labels-{seed}.txt"),
            *("--iterations", "1000", "--eval-every", "100", "evaluate.batch=8"),
        ),
        {
            "labelled-only": SUPERVISED,
            "unimatch_v2": V2,
            "cutmix_seg": CUTMIX,
            "fixmatch": FIXMATCH,
            "labelled-only 80 labels": (*SUPERVISED, "--labels", "80"),
            "tune precise_bn 0": (*SUPERVISED, "evaluate.precise_bn=0"),
            "tune strong": (*SUPERVISED, "views.labeled=strong"),
            "tune rates halved": (*SUPERVISED, *HALVED),
            "tune rates doubled": (*SUPERVISED, *DOUBLED),
        },
    ),
}


def main() -> None:
    """Prepare the data, train what is missing, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=None, help="data sets (default: all whose images are there)")
    parser.add_argument("--people", type=Path, default=None, help="a clone of Human-Segmentation-Dataset")
    parser.add_argument("--rows", default=None, help="rows of the grid (default: all)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--report", action="store_true", help="report only")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    chosen = None if given.rows is None else given.rows.split(",")
    here = [name for name in GRID if name != "people" or given.people is not None]
    studies = here if given.only is None else given.only.split(",")
    if unknown := {*studies} - {*GRID} or {*(chosen or ())} - {row for study in GRID.values() for row in study.rows}:
        parser.error(f"not in the grid: {', '.join(sorted(unknown))}")
    if not given.report:
        cells = list(missing(given.out, studies, chosen, seeds))
        for name in {cell.study for cell in cells}:
            source = given.people if name == "people" else Path(os.environ["SEMIKIT_TEST_DATA"])
            prepare(name, source, given.out / "data" / name)
        with ThreadPoolExecutor(given.jobs) as pool:
            for line in pool.map(lambda cell: cell.train(), cells):
                print(line, flush=True)
    report(given.out)


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    out: Path
    study: str
    row: str
    seed: int

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.out / self.study / self.row / f"seed-{self.seed}"

    @property
    def tunes(self) -> bool:
        """Whether it is there only to choose the settings of the tuned row."""
        return self.row.startswith("tune ")

    @property
    def test(self) -> float:
        """Score on test of the network that was best on val, percent."""
        results = json.loads((self.folder / "results.json").read_text())
        return float(results["test"][results["metric"]])

    @property
    def val(self) -> float:
        """Best score on val, percent."""
        return float(json.loads((self.folder / "results.json").read_text())["best"]["value"])

    @property
    def seconds(self) -> float:
        """Processor time of the run, evaluations included."""
        return float((self.folder.parent / f"seed-{self.seed}.cpu").read_text())

    def curve(self) -> list[tuple[int, float, float, float]]:
        """Iteration, processor seconds until then, score of student and of teacher on val, at every evaluation."""
        with (self.folder / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        student, teacher = (next(key for key in rows[0] if key.startswith(f"{who}_")) for who in ("student", "teacher"))
        last = float(rows[-1]["iteration"])
        return [
            (
                int(row["iteration"]),
                self.seconds * float(row["iteration"]) / last,
                float(row[student]),
                float(row[teacher]),
            )
            for row in rows
        ]

    def train(self) -> str:
        """Start the run, or go on with it; returns what to print."""
        study = GRID[self.study]
        data = self.out / "data" / self.study
        given = (*study.base, *study.rows[self.row], "--seed", "{seed}")
        words = [argument.format(seed=self.seed, data=data) for argument in given]
        return train([study.task, "--data", str(described(data)), *words], self.folder)


def described(data: Path) -> Path:
    """The data YAML in a folder, or the folder."""
    return data / "data.yaml" if (data / "data.yaml").exists() else data


def train(words: Sequence[str], folder: Path) -> str:
    """`semikit train` with these words, or going on with the run in the folder, in one thread; returns what to print.
    Beside the folder lie the log and the processor time of all starts.
    """
    command = ["nice", sys.executable, "-m", "semikit", "train", words[0]]
    begun = (folder / "config.yaml").exists()
    command += ["--resume", str(folder)] if begun else [*words[1:], "--out", str(folder)]
    log, time = folder.with_name(f"{folder.name}.log"), folder.with_name(f"{folder.name}.cpu")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
        _, status, used = os.wait4(child.pid, 0)
    before = float(time.read_text()) if time.exists() else 0.0
    time.write_text(f"{before + used.ru_utime + used.ru_stime:.1f}\n")
    return f"{folder}: {'ended' if status == 0 else f'failed, see {log}'}"


def missing(out: Path, studies: Sequence[str], rows: Sequence[str] | None, seeds: Sequence[int]) -> Iterator[Cell]:
    """The runs of the grid that have not ended, seed by seed; those of tuning last, and for seed 0 only."""
    cells = [Cell(out, study, row, seed) for seed in seeds for study in studies for row in GRID[study].rows]
    cells = [cell for cell in cells if (rows is None or cell.row in rows) and (cell.seed == 0 or not cell.tunes)]
    for cell in sorted(cells, key=lambda cell: cell.tunes):
        if not (cell.folder / "results.json").exists():
            yield cell


def prepare(name: str, source: Path, target: Path) -> None:
    """Write the images of a study as its runs read them, once."""
    if target.exists():
        return
    partial = target.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    {"camvid": camvid, "people": people, "levir": levir, "cifar10": cifar10}[name](source, partial)
    partial.rename(target)


def camvid(source: Path, target: Path) -> None:
    """CamVid at 240x180; of the 101 photographs of its val, which are one film, every third is val, the others test."""
    for part in ("train", "val"):
        names = sorted(path.stem for path in (source / "camvid" / part / "images").iterdir())
        for number, stem in enumerate(names):
            place = target / ("test" if part == "val" and number % 3 else part)
            for kind, how in zip(("images", "masks"), _CITY, strict=True):
                path = next((source / "camvid" / part / kind).glob(f"{stem}.*"))
                (place / kind).mkdir(parents=True, exist_ok=True)
                image = Image.open(path)
                image = image.convert("RGB") if kind == "images" else image
                image.resize((240, 180), how).save(place / kind / f"{stem}.png")
    (target / "data.yaml").write_text(_CAMVID)


def people(source: Path, target: Path) -> None:
    """Photographs of people, the longer side 160 pixels: 100 test, 30 val, the others train; each picture once."""
    stems = sorted(path.stem for path in (source / "Training_Images").glob("[0-9]*"))
    random.Random(0).shuffle(stems)
    seen: set[bytes] = set()
    for number, stem in enumerate(stems):
        image = Image.open(next((source / "Training_Images").glob(f"{stem}.*"))).convert("RGB")
        mask = Image.open(source / "Ground_Truth" / f"{stem}.png").convert("L")
        size = tuple(round(side * 160 / max(image.size)) for side in image.size)
        image, mask = image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)
        if image.tobytes() in seen:
            continue
        seen.add(image.tobytes())
        place = target / ("test" if number < 100 else "val" if number < 130 else "train")
        for kind, pixels in (("images", image), ("masks", mask.point(lambda value: value > 127))):
            (place / kind).mkdir(parents=True, exist_ok=True)
            pixels.save(place / kind / f"{stem}.png")
    (target / "data.yaml").write_text(_PEOPLE)


def levir(source: Path, target: Path) -> None:
    """Nine scenes of LEVIR-CD, each as 16 tiles of 256x256. The scene that is val there has hardly any change, so it
    goes to train, and a scene of train is val. Ten tiles that hold change are labelled, others for each seed.
    """
    changed: list[str] = []
    for path in sorted((source / "levir-cd").glob("*/*/*.png")):
        part, kind = {"val_1": "train", "test_2": "val"}.get(path.stem, path.parts[-3]), path.parts[-2]
        (target / part / kind).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as scene:
            for top in range(0, scene.height, 256):
                for left in range(0, scene.width, 256):
                    tile = scene.crop((left, top, left + 256, top + 256))
                    name = f"{path.stem}_{top}_{left}.png"
                    tile.save(target / part / kind / name)
                    if part == "train" and kind == "label" and np.asarray(tile).astype(bool).mean() >= 0.005:
                        changed.append(name)
    for seed in range(10):
        chosen = np.random.default_rng(seed).permutation(sorted(changed))[:10]
        (target / f"labels-{seed}.txt").write_text("\n".join(chosen) + "\n")


def cifar10(source: Path, target: Path) -> None:
    """CIFAR-10 enlarged to 64 pixels (bicubic); 200 images of each class of train are val."""
    with tarfile.open(source / "cifar10" / "cifar10-jpeg.tar.xz") as archive:
        for member in archive:
            if member.isfile():
                part, name, file = Path(member.name).parts[-3:]
                held = part == "train" and int(Path(file).stem) % 25 == 0
                place = target / ("val" if held else part) / name
                place.mkdir(parents=True, exist_ok=True)
                image = Image.open(archive.extractfile(member)).convert("RGB")  # type: ignore[arg-type]
                image.resize((64, 64), Image.Resampling.BICUBIC).save(place / f"{Path(file).stem}.jpg", quality=95)


def report(out: Path) -> None:
    """Write report.md, numbers.csv and curves of the runs that have ended."""
    ended = [cell for study in GRID for row in GRID[study].rows for cell in _cells(out, study, row)]
    lines: list[str] = []
    for study in GRID:
        own = [cell for cell in ended if cell.study == study]
        if own:
            lines += ["", f"## {study}", "", *_table(own)]
            curves(own, out / f"{study}.png")
    (out / "report.md").write_text("\n".join(lines).lstrip() + "\n")
    with (out / "numbers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "row", "seed", "iteration", "processor_seconds", "student", "teacher", "test"])
        for cell in ended:
            for iteration, seconds, student, teacher in cell.curve():
                writer.writerow([cell.study, cell.row, cell.seed, iteration, seconds, student, teacher, ""])
            writer.writerow([cell.study, cell.row, cell.seed, "best", cell.seconds, "", "", cell.test])


def _cells(out: Path, study: str, row: str) -> list[Cell]:
    found = sorted((out / study / row).glob("seed-*/results.json"))
    return [Cell(out, study, row, int(path.parent.name.removeprefix("seed-"))) for path in found]


def _table(cells: Sequence[Cell]) -> list[str]:
    """Rows of a data set: test score of the network that was best on val, mean and deviation over the seeds."""
    lines = [
        "| row | test | seeds | val | iterations | processor minutes |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in dict.fromkeys(cell.row for cell in cells):
        own = [cell for cell in cells if cell.row == row]
        test, val = [cell.test for cell in own], [cell.val for cell in own]
        spread = f" ± {statistics.stdev(test):.1f}" if len(test) > 1 else ""
        seeds = ", ".join(f"{cell.seed}: {cell.test:.1f}" for cell in own)
        minutes = statistics.mean(cell.seconds for cell in own) / 60
        last = own[0].curve()[-1][0]
        lines.append(
            f"| {row} | {statistics.mean(test):.1f}{spread} | {seeds} | {statistics.mean(val):.1f} | {last} | "
            f"{minutes:.1f} |"
        )
    return lines


def curves(cells: Sequence[Cell], path: Path) -> None:
    """The better of student and teacher on val, mean over the seeds: by steps, and by processor time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for row in dict.fromkeys(cell.row for cell in cells if not cell.tunes):
        points = zip(*(cell.curve() for cell in cells if cell.row == row), strict=False)
        means = [[statistics.mean(column) for column in zip(*same, strict=True)] for same in points]
        best = [max(student, teacher) for _, _, student, teacher in means]
        by_steps.plot([mean[0] for mean in means], best, label=row, marker=".")
        by_time.plot([mean[1] / 60 for mean in means], best, marker=".")
    by_steps.set(xlabel="steps", ylabel="score on val, %")
    by_time.set(xlabel="minutes of one processor core")
    by_steps.legend()
    for axes in (by_steps, by_time):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
