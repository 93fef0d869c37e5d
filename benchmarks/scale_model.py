"""The tables of docs/scale.md, computed from its constants: `python -m benchmarks.scale_model`.

Constants are measured, counted or assumed, as the page says of each; change one here, and print the tables anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

# Counted on shapes (benchmarks/step/flops.py): millions of parameters, TFLOP an image forward, with backward; blocks.
NETWORKS = {
    "S": (24.72, 0.1131, 0.3385, 12),
    "B": (97.23, 0.3813, 1.1427, 12),
    "L": (334.4, 1.3256, 3.9752, 24),
    "g": (1256.1, 4.5958, 13.7849, 40),
}
S_798, B_798, S_PAIR, B_PAIR = (0.3807, 1.1407), (1.1296, 3.3859), (0.0364, 0.1088), (0.1371, 0.4108)

PEAK, SHARE = 989.5, 0.40  # H200, bf16, TFLOP/s of the data sheet; assumed: the share a step reaches
LAUNCHES, LAUNCH = 1963, 7e-6  # counted for 12 blocks; assumed: seconds of host for each
DRAW = 18e-6  # measured: seconds of host an unlabelled image of the total batch
HOP = 30e-6  # assumed: seconds of one message between two hosts
NVLINK, FAST, SLOW = (
    360e9,
    40e9,
    10e9,
)  # assumed: bytes/s of a ring inside a machine, at 400 Gb/s a GPU, 100 Gb/s a machine
BUCKET, LATENCY = 25e6, 20e-6  # torch's default; assumed: seconds a collective and level of its tree
BACKWARD = 0.6  # share of the device's time in which sums of gradients can hide: 24 of 40 passes
MACHINE, LABELED, UNLABELED = 8, 4, 4  # GPUs a machine, images of a step and GPU
IMAGE, CROPS = 100e3, 156  # bytes of a photograph; measured: crops of 518 a second and core
LISTED, PATH, ORDER, ORDERED = 10e-6, 700, 8, 0.06e-6  # measured: seconds and bytes a file, bytes and seconds a place

A100, OVERHEAD = 17.5, 0.25  # fitted to the three runs on Pascal: TFLOP/s, seconds a step
LOGGED = [
    ("Pascal, S", 39300, (*NETWORKS["S"][1:3], 4), 5.6), ("Pascal, B", 39300, (*NETWORKS["B"][1:3], 4), 13),
    ("Pascal, L", 39300, (*NETWORKS["L"][1:3], 4), 33), ("ADE20K, S", 149220, (*NETWORKS["S"][1:3], 2), 14),
    ("ADE20K, B", 149220, (*NETWORKS["B"][1:3], 2), 29), ("COCO, S", 147560, (*NETWORKS["S"][1:3], 4), 22),
    ("COCO, B", 147560, (*NETWORKS["B"][1:3], 4), 50), ("Cityscapes, S", 62820, (*S_798, 2), 32),
    ("Cityscapes, B", 62820, (*B_798, 2), 47), ("LEVIR-CD, S", 50700, (*S_PAIR, 8), 5.6),
    ("LEVIR-CD, B", 50700, (*B_PAIR, 8), 13),
]  # fmt: skip
"""Run, steps, TFLOP of an image and images of a step and GPU, hours the authors logged on A100s."""
MEASURED = [
    (1, 4, 1.73, 0.0), (2, 4, 2.19, 100.0), (2, 2, 2.20, 50.5), (4, 4, 3.16, 150.0), (4, 2, 2.96, 75.7),
]  # fmt: skip
"""benchmarks/process_costs.py: processes, bytes a number, processor seconds a step, megabytes each process sent."""


def step_tflop(forward: float, learned: float, labeled: int, unlabeled: int) -> float:
    """UniMatch V2: the teacher on the unlabelled, the student on the labelled and on two strong views."""
    return unlabeled * forward + (labeled + 2 * unlabeled) * learned


def ring_bytes(millions: float, gpus: int, size: int = 4) -> float:
    """What each process sends so that all have the sum."""
    return 2 * (gpus - 1) / gpus * size * millions * 1e6


def reduce_seconds(millions: float, gpus: int, network: float, size: int = 4) -> float:
    """A sum of all gradients: the slowest link, and a latency for every bucket."""
    if gpus == 1:
        return 0.0
    buckets = math.ceil(4 * millions * 1e6 / BUCKET)
    speed = NVLINK if gpus <= MACHINE else network
    return ring_bytes(millions, gpus, size) / speed + buckets * LATENCY * math.log2(gpus)


def device_seconds(name: str) -> float:
    """Of one GPU's share of a step."""
    _, forward, learned, _ = NETWORKS[name]
    return step_tflop(forward, learned, LABELED, UNLABELED) / (PEAK * SHARE)


def host_seconds(name: str, gpus: int) -> float:
    """Launches, draws for the total batch, and the agreement of the hosts, a ring of two rounds."""
    return LAUNCHES * NETWORKS[name][3] / 12 * LAUNCH + DRAW * UNLABELED * gpus + 2 * (gpus - 1) * HOP


def step_seconds(name: str, gpus: int, network: float, size: int = 4) -> float:
    """Device or host, whichever is later; of the sums what the backward pass does not hide."""
    device = device_seconds(name)
    exposed = max(0.0, reduce_seconds(NETWORKS[name][0], gpus, network, size) - BACKWARD * device)
    return max(device + exposed, host_seconds(name, gpus))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def networks() -> str:
    """What a network weighs."""
    rows = []
    for name, (millions, forward, learned, _) in NETWORKS.items():
        work = [step_tflop(forward, learned, LABELED, UNLABELED), 1e3 * device_seconds(name)]
        sizes = [4 * millions, 16 * millions / 1e3, 20 * millions / 1e3]
        rows.append([f"DINOv2-{name} + DPT", *map(number, [millions, *work, *sizes])])
    header = ["network", "parameters, M", "TFLOP a step", "device, ms", "gradients, MB", "checkpoint, GB", "state, GB"]
    return table(header, rows)


def logged() -> str:
    """The authors' hours."""
    rows = []
    for name, steps, (forward, learned, images), hours in LOGGED:
        model = steps * (step_tflop(forward, learned, images, images) / A100 + OVERHEAD) / 3600
        rows.append([name, f"{steps:,}", number(model), number(hours), f"{model / hours:.2f}"])
    return table(["run", "steps", "model, h", "logged, h", "model / logged"], rows)


def processes() -> str:
    """The runs over gloo: from one and two processes follows what four take."""
    millions, alone, each = NETWORKS["S"][0], MEASURED[0][2], MEASURED[1][2] - MEASURED[0][2]
    rows = []
    for count, size, seconds, sent in MEASURED:
        cells = [ring_bytes(millions, count, size) / 1e6, sent, alone + (count - 1) * each, seconds]
        rows.append([count, {4: "fp32", 2: "bf16"}[size], *map(number, cells)])
    return table(
        ["processes", "sums in", "model, MB", "sent by each, MB", "model, s", "processor time a step, s"], rows
    )


def steps() -> str:
    """Milliseconds of a step by network and number of GPUs."""
    rows = []
    for name in NETWORKS:
        for gpus in (1, 8, 64, 512):
            reduce = [1e3 * reduce_seconds(NETWORKS[name][0], gpus, net) for net in (FAST, SLOW)]
            whole = [step_seconds(name, gpus, FAST), step_seconds(name, gpus, SLOW), step_seconds(name, gpus, SLOW, 2)]
            rate = gpus * (LABELED + UNLABELED) / whole[0]
            cells = [
                1e3 * device_seconds(name),
                1e3 * host_seconds(name, gpus),
                *reduce,
                *(1e3 * one for one in whole),
                rate,
            ]
            rows.append([f"{name}, {gpus}", *map(number, cells)])
    sums, whole_step = ["sums, fast", "sums, slow"], ["step, fast", "step, slow", "slow, bf16 sums", "images/s, fast"]
    return table(["network, GPUs", "device", "host", *sums, *whole_step], rows)


def pools() -> str:
    """What grows with the images."""
    rows = []
    for images in (1e6, 1e7, 1e8):
        passes = [images / (gpus * UNLABELED / step_seconds("B", gpus, FAST)) / 3600 for gpus in (8, 64, 512)]
        cells = [
            images * IMAGE / 1e12,
            images * LISTED / 60,
            images * PATH / 1e9,
            images * ORDER / 1e9,
            images * ORDERED,
        ]
        rows.append([f"{images:,.0f}", *map(number, [*cells, *passes])])
    grown = ["storage, TB", "listing, min", "index, GB", "order or state, GB", "shuffling, s"]
    return table(["images", *grown, "a pass: 8 GPUs, h", "64", "512"], rows)


def feeding() -> str:
    """What B asks of disks and cores."""
    rows = []
    for gpus in (1, 8, 64, 512):
        rate = gpus * (LABELED + UNLABELED) / step_seconds("B", gpus, FAST)
        rows.append([gpus, number(rate), number(rate / 2 * IMAGE / 1e6), number(rate / CROPS / gpus)])
    return table(["GPUs", "crops/s", "unlabelled bytes, MB/s", "cores a GPU"], rows)


TABLES = (networks, steps, pools, feeding, processes, logged)

if __name__ == "__main__":
    print("\n\n".join(make() for make in TABLES))
