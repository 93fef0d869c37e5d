"""Memory and time of `semikit predict` on made rasters of growing size, each in a process of its own.

    python benchmarks/large_raster.py FOLDER [--task seg,cd] [--sides 5000,10000,20000] [-- FLAGS of predict ...]

The rasters are pairs of four uint16 bands, tiled and compressed, 0.5 m a pixel; segmentation maps the second date. The
networks are tiny (a transformer of depth 2 with 32 channels, DPT with 8) and are trained for 2 steps first, so what
is measured is semikit, not the network. Peak resident memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window

from semikit.data.synthetic.scenes import make_pair
from semikit.raster.cog import small_cache

TILE = 1000
TINY = (
    *("--encoder", "vit_small_patch14_dinov2.lvd142m", "--weights", "none", "--crop", "126", "--iterations", "2"),
    *("model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}", "model.decoder=dpt", "model.decoder_channels=8"),
    *("--method", "supervised", "--labels", "all", "--device", "cpu", "--quiet"),
)
DATA = {
    "seg": "images: {part}/B, masks: {part}/label",
    "cd": "images_a: {part}/A, images_b: {part}/B, masks: {part}/label",
}


def deep(image: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Four bands (4, height, width) of a picture (height, width, 3): its colours and their mean, about 0..10000."""
    bands = np.concatenate([image, image.mean(-1, keepdims=True)], axis=-1)
    return np.moveaxis((bands * 40).astype(np.uint16), -1, 0)


def write(path: Path, bands: NDArray[np.generic]) -> None:
    """A small GeoTIFF of bands (count, height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    with rasterio.open(path, "w", **profile(height, width, count, str(bands.dtype))) as file:
        file.write(bands)


def profile(height: int, width: int, count: int, kind: str) -> dict[str, object]:
    """Of a tiled GeoTIFF in UTM."""
    return {
        "driver": "GTiff", "height": height, "width": width, "count": count, "dtype": kind, "crs": "EPSG:32633",
        "transform": from_origin(390000, 5820000, 0.5, 0.5), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", "zlevel": 1, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip


def train(folder: Path, task: str) -> Path:
    """The run folder of a network of `task` after two steps."""
    run = folder / f"run-{task}"
    if not run.exists():
        for part, count in (("train", 8), ("val", 2)):
            for number in range(count):
                pair, label = make_pair(1, "train", number + count, 128)
                for date, image in zip("AB", pair, strict=True):
                    write(folder / part / date / f"{number}.tif", deep(image))
                write(folder / part / "label" / f"{number}.tif", label[None])
        parts = "".join(f"{part}: {{{DATA[task].format(part=part)}}}\n" for part in ("train", "val"))
        (folder / f"{task}.yaml").write_text(f"{parts}bands: [1, 2, 3, 4]\nclasses: [ground, building]\n")
        command = ["train", task, "--data", str(folder / f"{task}.yaml"), *TINY, "--out", str(run)]
        subprocess.run([sys.executable, "-m", "semikit", *command], check=True)
    return run


def make(folder: Path, side: int) -> tuple[Path, Path]:
    """A pair of side x side pixels, made of 16 different scenes."""
    paths = folder / f"before-{side}.tif", folder / f"after-{side}.tif"
    if not all(path.exists() for path in paths):
        pairs = [make_pair(7, "test", k, TILE)[0] for k in range(16)]
        for date, path in enumerate(paths):
            scenes = [deep(pair[date]) for pair in pairs]
            # What this process holds would count as the peak of those it starts.
            with small_cache(), rasterio.open(path, "w", **profile(side, side, 4, "uint16")) as file:
                for top in range(0, side, TILE):
                    for left in range(0, side, TILE):
                        scene = scenes[(top // TILE * 7 + left // TILE * 3) % 16]
                        file.write(scene, window=Window(left, top, TILE, TILE))
    return paths


def predict(run: Path, sources: tuple[Path, ...], out: Path, flags: list[str]) -> tuple[float, float]:
    """Processor seconds and peak resident memory (MiB) of one prediction."""
    command = [sys.executable, "-m", "semikit", "predict", str(run), *map(str, sources), "-o", str(out), *flags]
    process = subprocess.Popen([*command, "--device", "cpu", "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Measure every task and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="seg,cd")
    parser.add_argument("--sides", default="5000,10000,20000")
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    for side in map(int, given.sides.split(",")):
        for task in given.task.split(","):
            pair, run = make(given.folder, side), train(given.folder, task)
            out = given.folder / f"{task}-{side}.tif"
            seconds, memory = predict(run, pair if task == "cd" else pair[1:], out, flags)
            print(f"{task} {side} x {side}: {seconds:.0f} s of the processor, {memory:.0f} MiB at the most", flush=True)


if __name__ == "__main__":
    main()
