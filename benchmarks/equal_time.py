"""All methods on real photographs, each for the same processor time.

    SEMIKIT_TEST_DATA=… python -m benchmarks.equal_time --out runs/equal [--only camvid,levir,cifar10] [--minutes 5]
        [--methods fixmatch,unimatch_v2] [--seeds 0,1] [--start runs/photographs] [--evaluations 3] [--report]

Data, labels, network and recipe are those of benchmarks/photographs.py (efficientnet-lite0 from ImageNet weights); the
settings of each method are its own, as published. With --start all begin with the network that the same labels alone
taught there, with the same seed, and share its data. How many steps each method makes in the time is measured before
the first begins, as in benchmarks/methods.py, so that all are measured alike; evaluations do not count. One run after
the other, one thread; the network that was best on val is scored on test once. What has ended is kept. Methods of
several runs (stpp), and with --start those of another network (allspark), are left out. Writes report.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.methods import cost_of, of_one_run
from benchmarks.photographs import GRID, SUPERVISED, described, prepare, train
from semikit.cli.train import passed_on
from semikit.registry import METHODS

_TIMED = 6


def arguments(study: str, data: Path, seed: int) -> list[str]:
    """What `semikit train` is given, but for method, seed and the number of steps."""
    base = list(GRID[study].base)
    for flag in ("--iterations", "--eval-every"):
        at = base.index(flag)
        del base[at : at + 2]
    given = [GRID[study].task, "--data", str(described(data)), *base, "--device", "cpu"]
    return [word.format(seed=seed, data=data) for word in given]


def seconds_a_step(study: str, data: Path, methods: Sequence[str], known: Path) -> dict[str, float]:
    """Processor seconds a step of each method; measured once, and kept in a file."""
    times: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    for method in methods:
        if method not in times:
            times[method] = cost_of(_TIMED, **passed_on(arguments(study, data, 0)), method=method)[0]
            known.write_text(json.dumps(times, indent=1, sort_keys=True) + "\n")
    return times


def report(out: Path, study: str) -> str:
    """The table of a data set, the best first."""
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for path in sorted((out / study).glob("*/seed-*/results.json")):
        results = json.loads(path.read_text())
        score = {"test": results["test"][results["metric"]], "val": results["best"]["value"]}
        of = found.setdefault(path.parts[-3], {})
        of[path.parts[-2]] = {**score, "steps": int(_last_step(path.with_name("results.csv")))}
    lines = [
        f"## {study}",
        "",
        "| method | steps | test, by seed | mean | best on val, mean |",
        "|---|---:|---|---:|---:|",
    ]
    for method, seeds in sorted(found.items(), key=lambda item: -statistics.mean(s["test"] for s in item[1].values())):
        tests = [seed["test"] for seed in seeds.values()]
        steps, val = (statistics.mean(seed[key] for seed in seeds.values()) for key in ("steps", "val"))
        by_seed = ", ".join(f"{value:.1f}" for value in tests)
        lines.append(f"| `{method}` | {steps:.0f} | {by_seed} | {statistics.mean(tests):.1f} | {val:.1f} |")
    return "\n".join(lines) + "\n"


def _last_step(table: Path) -> str:
    return table.read_text().splitlines()[-1].partition(",")[0]


def main() -> None:
    """Train what is missing, seed by seed, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="camvid,levir,cifar10")
    parser.add_argument("--methods", default=",".join(METHODS.names()))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--start", type=Path, default=None, help="--out of benchmarks/photographs.py")
    parser.add_argument("--evaluations", type=int, default=3, help="of a run, the last at its end")
    parser.add_argument("--report", action="store_true", help="report only")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    studies = given.only.split(",")
    for study in studies if not given.report else ():
        data = (given.start or given.out) / "data" / study
        prepare(study, Path(os.environ["SEMIKIT_TEST_DATA"]), data)
        methods = of_one_run(given.methods.split(","), GRID[study].task)
        methods = [name for name in methods if given.start is None or not _of_another_network(name)]
        times = seconds_a_step(study, data, methods, given.out / f"{study}.json")
        for seed in given.seeds.split(","):
            for method in methods:
                steps = max(given.evaluations, round(60 * given.minutes / times[method]))
                run(given, study, data, method, int(seed), steps)
    (given.out / "report.md").write_text("\n".join(report(given.out, study) for study in studies))


def _of_another_network(name: str) -> bool:
    method = METHODS.get(name)
    return bool(method.requirements(method.Config()).channel_attention)


def run(given: argparse.Namespace, study: str, data: Path, method: str, seed: int, steps: int) -> None:
    """Train so many steps, if that has not been done."""
    folder = given.out / study / method / f"seed-{seed}"
    if (folder / "results.json").exists():
        return
    alone = next(row for row, words in GRID[study].rows.items() if words == SUPERVISED)
    start = () if given.start is None else ("--from", str(given.start / study / alone / f"seed-{seed}"))
    words = [*arguments(study, data, seed), "--method", method, "--seed", str(seed), "--iterations", str(steps)]
    print(train([*words, "--eval-every", str(-(-steps // given.evaluations)), *start], folder), flush=True)


if __name__ == "__main__":
    main()
