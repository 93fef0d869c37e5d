"""Make a pool of small images in tar shards and read it once: images a second, memory, and what going on costs.

    python benchmarks/shard_pool.py POOL [--images 1000000] [--per-shard 1000] [--workers 2] [--batch 64]

POOL is made where it is not there yet. Prints a table and writes POOL/passes.csv.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from semikit.core.rng import rng_for
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.shards.decoders import PoolRgb
from semikit.data.shards.pool import ShardPool, ShardStream
from semikit.data.shards.tar_files import ShardCounts, list_shards
from semikit.data.shards.tar_samples import read_shard

SIDE = 32


class Make:
    """An image of the pool by its position, as the tasks' loaders make it, without views."""

    def __init__(self, stream: ShardStream) -> None:
        self.stream = stream

    def __call__(self, name: str, position: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """The image (H, W, 3) uint8 and its position."""
        return self.stream.image(position), position


def make_pool(folder: Path, images: int, per_shard: int) -> None:
    """Noise of a few pixels, enlarged, as JPEG; the shards are numbered."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, images, per_shard)):
        rng = rng_for(0, "pool", number)
        with tarfile.open(folder / f"pool-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in range(start, min(start + per_shard, images)):
                small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
                buffer = io.BytesIO()
                small.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(buffer, "JPEG")
                info = tarfile.TarInfo(f"{index:09d}.jpg")
                info.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(info, buffer)


def memory(pid: str = "self") -> tuple[float, float]:
    """MiB resident and, of shared pages its share alone, of this process and of its children together."""
    found = [0.0, 0.0]
    children = Path(f"/proc/{pid}/task").glob("*/children")
    for one in [pid, *(word for path in children for word in path.read_text().split())]:
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        for k, key in enumerate(("Rss:", "Pss:")):
            found[k] += int(text.partition(key)[2].split()[0]) / 1024
    return found[0], found[1]


def loader(pool: ShardPool, steps: range, batch: int, workers: int, counts: ShardCounts) -> StepLoader:
    """The pool's images, step by step."""
    stream = ShardStream(pool, 0, "unlabeled", batch, counts)
    return StepLoader([Stream("unlabeled", None, batch)], Make(stream), 0, steps, workers)


def read_once(pool: ShardPool, given: argparse.Namespace, counts: Path) -> None:
    """One pass, with a line every twentieth."""
    steps = given.images // given.batch
    lines = ["percent,images,seconds,images_per_s,rss_mib,pss_mib"]
    began = last = time.perf_counter()
    done, marks = 0, {max(1, steps * k // 20): 5 * k for k in range(1, 21)}
    for number, _ in enumerate(loader(pool, range(steps), given.batch, given.workers, ShardCounts(counts)), 1):
        if number in marks:
            now, images = time.perf_counter(), number * given.batch
            rate, done, last = (images - done) / (now - last), images, now
            rss, pss = memory()
            lines.append(f"{marks[number]},{images},{now - began:.1f},{rate:.0f},{rss:.0f},{pss:.0f}")
            print(lines[-1], flush=True)
    (given.pool / "passes.csv").write_text("\n".join(lines) + "\n")


def go_on(pool: ShardPool, given: argparse.Namespace, counts: Path) -> None:
    """Time to the first batch at nine tenths, and headers a second."""
    step = given.images // given.batch * 9 // 10
    for known, told in ((ShardCounts(), "without counts"), (ShardCounts.read(counts), "with counts")):
        began = time.perf_counter()
        next(iter(loader(pool, range(step, step + 1), given.batch, given.workers, known)))
        seconds = time.perf_counter() - began
        print(f"first batch at step {step} ({step * given.batch} images on) {told}: {seconds:.1f} s")
    began, cpu, passed = time.perf_counter(), time.process_time(), 0
    for shard in pool.shards[:50]:
        walk = read_shard(shard, frozenset({"jpg"}), first=10**9)
        try:
            next(walk)
        except StopIteration as stop:
            passed += stop.value[0]
    for seconds, clock in ((time.perf_counter() - began, "wall"), (time.process_time() - cpu, "processor")):
        print(f"images passed over unread: {passed / seconds:.0f} a second of {clock} time in one process")
    cpu, images = time.process_time(), 200 * given.batch
    for _ in loader(pool, range(200), given.batch, 0, ShardCounts()):
        pass
    print(f"processor time of an image, read and decoded: {(time.process_time() - cpu) / images * 1e6:.0f} µs")


def main() -> None:
    """Make, read once, go on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--per-shard", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--shuffle", type=int, default=64)
    parser.add_argument("--no-pass", action="store_true", help="only what going on costs")
    given = parser.parse_args()
    if not given.pool.is_dir():
        began = time.perf_counter()
        make_pool(given.pool, given.images, given.per_shard)
        print(f"made {given.images} images in {time.perf_counter() - began:.0f} s")
    shards = list_shards([str(given.pool / "pool-*.tar")])
    pool = ShardPool(shards, given.shuffle, PoolRgb())
    print(f"{len(shards)} shards, {sum(shard.size or 0 for shard in shards) / 2**20:.0f} MiB")
    counts = given.pool / "counts.txt"
    if not given.no_pass:
        counts.unlink(missing_ok=True)
        read_once(pool, given, counts)
    go_on(pool, given, counts)


if __name__ == "__main__":
    main()
