"""Memory and time of `semikit predict` on made rasters of growing size, each in a process of its own: on pairs, and
with a run of segmentation on their second date.

python benchmarks/large_raster.py RUN FOLDER [SIDE ...] [-- FLAGS ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
import yaml
from rasterio.transform import from_origin
from rasterio.windows import Window

from semikit.data.synthetic.scenes import make_pair

TILE = 1000


def make(folder: Path, side: int) -> tuple[Path, Path]:
    """A pair of side x side pixels with three bands, 0.5 m a pixel, made of 16 different scenes."""
    paths = folder / f"before-{side}.tif", folder / f"after-{side}.tif"
    if all(path.exists() for path in paths):
        return paths
    pairs = [make_pair(7, "test", k, TILE)[0] for k in range(16)]
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
        "transform": from_origin(390000, 5820000, 0.5, 0.5), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", "zlevel": 1, "BIGTIFF": "IF_SAFER", "photometric": "RGB",
    }  # fmt: skip
    for date, path in enumerate(paths):
        with rasterio.open(path, "w", **profile) as file:
            for top in range(0, side, TILE):
                for left in range(0, side, TILE):
                    scene = pairs[(top // TILE * 7 + left // TILE * 3) % 16][date]
                    file.write(np.moveaxis(scene, -1, 0), window=Window(left, top, TILE, TILE))
    return paths


def predict(run: Path, sources: tuple[Path, ...], out: Path, flags: list[str]) -> tuple[float, float]:
    """Seconds and peak resident memory (MiB) of one prediction."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "semikit", "predict", str(run), *map(str, sources), "-o", str(out), *flags]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def main(arguments: list[str]) -> None:
    """Measure every size."""
    own, flags = arguments, []
    if "--" in arguments:
        own, flags = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    run, folder, *sides = own
    task = yaml.safe_load(Path(run, "config.yaml").read_text(encoding="utf-8"))["task"]
    for side in map(int, sides or ["5000", "10000", "20000"]):
        pair = make(Path(folder), side)
        sources = pair if task == "cd" else pair[1:]
        seconds, memory = predict(Path(run), sources, Path(folder) / f"map-{side}.tif", flags)
        print(f"{side} x {side}: {seconds:.0f} s, {memory:.0f} MiB at the most", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
