"""CamVid with 46 labelled photographs: labelled-only, FixMatch and UniMatch V2 from random weights, on a CPU.

    python benchmarks/camvid.py --out runs/camvid --iterations 1000 --seeds 0,1

Halves the photographs first (240x180; SEMIKIT_TEST_DATA names the folder that holds camvid/), then trains every method
with the same network, steps and labelled images per step. After each evaluation the teacher labels 60 of the unlabelled
photographs, and its confident pixels are compared with the withheld masks: training never opens those, only this
script does. Writes table.md and pseudo_labels.csv beside the run folders.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from semikit.core.task import Scores
from semikit.inference.windows import normalized
from semikit.run import build, recipes
from semikit.run.compose import compose
from semikit.run.config import resolve
from semikit.run.reporters import Lines
from semikit.run.results import results_of
from semikit.training.reporter import Reporter
from semikit.training.tracking import Tracker

METHODS: dict[str, dict[str, Any]] = {
    "supervised": {"name": "supervised"},
    "fixmatch": {"name": "fixmatch"},
    "unimatch_v2": {"name": "unimatch_v2"},
    "unimatch_v2-scratch": {
        "name": "unimatch_v2",
        "ramp": 0.5,
        "ema_decay": 0.99,
        "dropout": {"levels": [3]},
        "class_balance": 0.5,
    },
}
RECIPE: dict[str, Any] = {
    "model": {"encoder": "mobilenetv3_small_100", "decoder": "dpt", "decoder_channels": 16, "weights": "none"},
    "data": {"labels": "1/8"},
    "views": {"weak": {"crop": 144}},
    "optimizer": {"lr": 1.0e-3, "encoder_lr": None},
    "train": {"batch": 4, "group": 4, "workers": 0, "device": "cpu"},
}


def main() -> None:
    """Train all methods and seeds, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--methods", default=",".join(METHODS))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ["CAMVID"] = str(halved(Path(os.environ["SEMIKIT_TEST_DATA"]) / "camvid", given.out / "camvid"))
    results: dict[str, list[float]] = {}
    for seed in map(int, given.seeds.split(",")):
        for name in given.methods.split(","):
            results.setdefault(name, []).append(train(name, seed, given.iterations, given.out))
            write_table(results, given.out / "table.md")


def halved(source: Path, target: Path) -> Path:
    """The photographs and masks at half their size, as PNG."""
    for path in (path for path in sorted(source.rglob("*")) if path.is_file()):
        place = (target / path.relative_to(source)).with_suffix(".png")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            how = Image.Resampling.NEAREST if "masks" in path.parts else Image.Resampling.BOX
            image.resize((image.width // 2, image.height // 2), how).save(place)
    return target


def train(name: str, seed: int, iterations: int, out: Path) -> float:
    """One run; returns the better mIoU of student and teacher at the end."""
    spec = Path(__file__).parent / "camvid.yaml"
    length = {"iterations": iterations, "seed": seed, "eval_every": max(iterations // 5, 1)}
    above = recipes.merge(RECIPE, {"method": METHODS[name], "train": length})
    config = resolve(compose("seg", data=spec, above=above))
    folder = out / f"{name}-seed-{seed}"
    folder.mkdir()
    watcher = Watcher(Lines(print), folder / "pseudo_labels.csv")
    run = build.build_run(config, folder, watcher)
    watcher.run = run
    (folder / "config.yaml").write_text(config.to_yaml())
    run.task.write_split(folder)
    tracker = Tracker(folder)
    run.trainer.fit(tracker)
    tracker.finish(results_of(run))
    return max(scores.value for scores in run.trainer.latest.values())


class Watcher(Reporter):
    """Passes everything on, and after each evaluation looks at the teacher's confident pixels."""

    run: build.Run

    def __init__(self, inner: Reporter, path: Path) -> None:
        self.inner, self.path = inner, path

    def start(self, first: int, total: int) -> None:
        """Forward."""
        self.inner.start(first, total)

    def advance(self) -> None:
        """Forward."""
        self.inner.advance()

    def log(self, values: Mapping[str, float]) -> None:
        """Forward."""
        self.inner.log(values)

    def notice(self, text: str) -> None:
        """Forward."""
        self.inner.notice(text)

    def end(self) -> None:
        """Forward."""
        self.inner.end()

    def evaluation(self, iteration: int, scores: Mapping[str, Scores], best: Mapping[str, Any]) -> None:
        """Forward, then measure share and accuracy of the confident pixels."""
        self.inner.evaluation(iteration, scores, best)
        share, accuracy = self.confident(0.95)
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["iteration", "confident_share", "confident_accuracy"])
            writer.writerow([iteration, f"{share:.4f}", f"{accuracy:.4f}"])

    def confident(self, threshold: float) -> tuple[float, float]:
        """Share of pixels at or above the threshold, and how many of them are right, over 60 unlabelled images."""
        task: Any = self.run.task
        confident = right = total = 0
        for index in task.learned.split.unlabeled[:60]:
            image, _ = task.learned.train.image(index)
            labels, valid = (torch.from_numpy(part) for part in task.learned.train.target(index))
            with torch.no_grad():
                teacher = self.run.trainer.method.teacher
                share, predicted = teacher(normalized(teacher, image[None], self.run.device)).softmax(1)[0].max(0)
            chosen = (share >= threshold) & valid
            confident, total = confident + int(chosen.sum()), total + int(valid.sum())
            right += int((predicted[chosen] == labels[chosen]).sum())
        return confident / total, right / max(confident, 1)


def write_table(results: Mapping[str, list[float]], path: Path) -> None:
    """Method, mean, and each seed's value."""
    lines = ["| method | mean mIoU | seeds |", "|---|---:|---|"]
    for name, values in results.items():
        lines.append(f"| {name} | {statistics.mean(values):.1f} | {', '.join(f'{v:.1f}' for v in values)} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
