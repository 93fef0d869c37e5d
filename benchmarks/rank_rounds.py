"""Whether images that `semikit rank` chooses teach more than images chosen by chance.

    SEMIKIT_TEST_DATA=… python -m benchmarks.rank_rounds --out runs/rank [--only cifar10] [--rules random,margin]

Every seed begins with a few random labels; in each round a network is trained anew on all labels so far, labelled-only,
and then a rule chooses the next images, whose withheld truth becomes their labels. `random` goes on by chance, `cold`
is what `rank --cold` chooses as the first labels. Seeds differ in labels, network and, for CIFAR-10, in the 2000 images
that are chosen from. What has ended is kept; --rules "" only writes report.md. --films scores the networks of CamVid on
up to 25 images of each of the films they chose from, which no rule of the seed chose.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import semikit
from benchmarks.photographs import prepare

RULES = ("random", "margin", "disagreement", "cold", "entropy")
_POOL, _VAL, _TEST = 2000, 30, 200
"""Images of CIFAR-10 to choose from, and of val and test those of each class."""
STUDIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "cifar10": ("cls", 50, {"iterations": 100, "eval_every": 100, "settings": {"views.size": None}}),
    "camvid": ("seg", 12, {"iterations": 300, "eval_every": 300, "settings": {"views.weak.scale": [0.75, 1.5]}}),
}
"""Task, labels of a round, and what is trained."""


@dataclass(frozen=True)
class Study:
    """A seed of a data set, in its folder."""

    name: str
    data: Path
    folder: Path
    seed: int

    def label(self, rule: str, rounds: int = 2) -> None:
        """All rounds of one rule."""
        task, step, _ = STUDIES[self.name]
        pool = self.data / "train" / "images" if task == "seg" else self._classes()
        every = [path.stem for path in np.random.default_rng(self.seed).permutation(sorted(pool.iterdir()))]
        run, names = self.folder / ("cold" if rule == "cold" else "random") / "0", every[:step]
        if rule == "cold":
            names = self._chosen(None, pool, [], run, encoder="efficientnet-lite0")
        self._train(names, run)
        for number in range(1, rounds + 1) if rule != "cold" else ():
            before, run = run, self.folder / rule / str(number)
            random = every[: step * (number + 1)]
            names = random if rule == "random" else self._chosen(before / "run", pool, names, run, by=rule)
            self._train(names, run)

    def _chosen(self, run: Path | None, pool: Path, names: Sequence[str], folder: Path, **how: str) -> list[str]:
        """The names with those that `semikit rank` adds."""
        listed, out = folder / "labels.txt", folder / "next"
        if not listed.is_file():
            shutil.rmtree(out, ignore_errors=True)
            ranked, _ = semikit.rank(run, pool, n=STUDIES[self.name][1], out=out, device="cpu", **how)
            listed.write_text("\n".join([*names, *(one.name for one in ranked)]) + "\n")
            shutil.rmtree(out)
        return listed.read_text().split()

    def _train(self, names: Sequence[str], folder: Path) -> None:
        """A run in `folder`/run with the labels of these images."""
        if (folder / "run" / "results.json").is_file():
            return
        shutil.rmtree(folder / "run", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.txt").write_text("\n".join(names) + "\n")
        task, _, options = STUDIES[self.name]
        semikit.train(
            task, data=(self.data if task == "seg" else self.folder) / "data.yaml", labels=str(folder / "labels.txt"),
            method="supervised", preset="small-pretrained", seed=self.seed, device="cpu", out=folder / "run", **options,
        )  # fmt: skip
        print(folder, f"{_score(folder / 'run' / 'results.json'):.1f}", flush=True)

    def by_film(self) -> dict[str, float]:
        """Score (mIoU) of each run on images of each film, FILM/RULE/ROUND."""
        chosen = {name for path in self.folder.glob("*/*/labels.txt") for name in path.read_text().split()}
        raw, rng = yaml.safe_load((self.data / "data.yaml").read_text()), np.random.default_rng(self.seed)
        every = {name: str(self.data / "train" / name) for name in ("images", "masks")}
        left = sorted(path.stem for path in (self.data / "train" / "images").iterdir() if path.stem not in chosen)
        found = dict[str, float]()
        for film in ("0001TP", "0006R0", "0016E5"):
            names = sorted(rng.permutation([name for name in left if name.startswith(film)])[:25].tolist())
            parts = {"train": {**every, "names": sorted(chosen)}, "val": {**every, "names": names}}
            data = {"classes": raw["classes"], "ignore": raw["ignore"], **parts}
            for run in sorted(self.folder.glob("*/*/run")):
                found["/".join((film, *run.parts[-3:-1]))] = semikit.evaluate(run, data=data, device="cpu").value
        return found

    def _classes(self) -> Path:
        """Write the images of CIFAR-10 to choose from, and the description of the data; returns their folder."""
        pool, described = self.folder / "pool", self.folder / "data.yaml"
        if described.is_file():
            return pool
        pool.mkdir(parents=True, exist_ok=True)
        every = np.random.default_rng([self.seed, 1]).permutation(sorted((self.data / "train").rglob("*.jpg")))
        for path in every[:_POOL]:
            shutil.copy(path, pool / f"{path.parent.name}-{path.name}")
        rows = {"train": [(path.name, path.name.partition("-")[0]) for path in sorted(pool.iterdir())]}
        for name, count in (("val", _VAL), ("test", _TEST)):
            files = [f for folder in sorted((self.data / name).iterdir()) for f in sorted(folder.iterdir())[:count]]
            rows[name] = [(f"{path.parent.name}/{path.name}", path.parent.name) for path in files]
        for name, listed in rows.items():
            text = "".join(f"{file},{label}\n" for file, label in [("file", "label"), *listed])
            (self.folder / f"{name}.csv").write_text(text)
        places = {"train": pool, "val": self.data / "val", "test": self.data / "test"}
        raw = {name: {"images": str(at), "labels": str(self.folder / f"{name}.csv")} for name, at in places.items()}
        described.write_text(yaml.safe_dump(raw))
        return pool


def _score(results: Path) -> float:
    """On test, percent, of the network that was best on val."""
    found = json.loads(results.read_text())
    return float(found["test"][found["metric"]])


def report(folder: Path, step: int) -> str:
    """The table of a data set."""
    lines = [f"## {folder.name}", "", "| labels | rule | test, by seed | mean | more than random, by seed | mean |"]
    lines.append("|---:|---|---|---:|---|---:|")
    found: dict[str, dict[int, dict[str, float]]] = {rule: {} for rule in RULES}
    for path in sorted(folder.glob("seed-*/*/*/run/results.json")):
        rule, number = path.parts[-4:-2]
        found[rule].setdefault(step * (int(number) + 1), {})[path.parts[-5]] = _score(path)
    for labels, rule in sorted((labels, rule) for rule, every in found.items() for labels in every):
        values, chance = found[rule][labels], found["random"].get(labels, {})
        more = [values[seed] - chance[seed] for seed in values if seed in chance and rule != "random"]
        texts = [", ".join(f"{value:.1f}" for value in values.values()), f"{statistics.mean(values.values()):.1f}"]
        texts += [", ".join(f"{value:+.1f}" for value in more), f"{statistics.mean(more):+.1f}" if more else ""]
        lines.append(f"| {labels} | {rule} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def films_report(folder: Path, found: Sequence[Mapping[str, float]]) -> str:
    """The table of `by_film`, means over the seeds."""
    films = sorted({key.partition("/")[0] for key in found[0]})
    lines = [f"| labels | rule | {' | '.join(films)} | mean |", "|---:|---|" + "---:|" * (len(films) + 1)]
    for rule, number in sorted({tuple(key.split("/")[1:]) for key in found[0]}, key=lambda key: key[::-1]):
        means = [statistics.mean(seed[f"{film}/{rule}/{number}"] for seed in found) for film in films]
        labels = STUDIES[folder.name][1] * (int(number) + 1)
        texts = [f"{mean:.1f}" for mean in (*means, statistics.mean(means))]
        lines.append(f"| {labels} | {rule} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, rule by rule, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for name, default in (("only", ",".join(STUDIES)), ("rules", ",".join(RULES)), ("seeds", "0,1,2")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--films", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    out = given.out.absolute()
    for name in given.only.split(","):
        for rule in filter(None, given.rules.split(",")):
            prepare(name, Path(environ["SEMIKIT_TEST_DATA"]), out / "data" / name)
            for seed in map(int, given.seeds.split(",")):
                Study(name, out / "data" / name, out / name / f"seed-{seed}", seed).label(rule)
    tables = [report(out / name, STUDIES[name][1]) for name in STUDIES if (out / name).is_dir()]
    if given.films:
        seeds = [
            Study("camvid", out / "data/camvid", out / f"camvid/seed-{k}", k) for k in map(int, given.seeds.split(","))
        ]
        tables.append(films_report(out / "camvid", [study.by_film() for study in seeds]))
    (out / "report.md").write_text("\n".join(tables))


if __name__ == "__main__":
    main()
