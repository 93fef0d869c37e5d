"""Crops a second of one process, beside loops of PIL and torchvision: python -m benchmarks.loading TASK DATA --crop N.

DATA is a data YAML (seg) or a folder of photographs (cls, whose unlabelled images have two strong views besides the
weak one). All go through the loader that training uses and give uint8 crops, by turns, in blocks of 16; the processor's
time counts. "decoding" gives no crops: no loader that decodes every image whole, every time, is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from semikit.augment.settings import WeakSettings
from semikit.augment.weak import draw_window
from semikit.data.labeled_images import unlabeled_files
from semikit.data.loading.decoded import DecodedScenes
from semikit.data.loading.loader import StepLoader
from semikit.data.loading.streams import Stream
from semikit.data.samples import Samples
from semikit.errors import DataError
from semikit.registry import TASKS
from semikit.tasks._class_views import ClassCrops, ClassViews
from semikit.tasks._crops import Crops

BLOCK = 16
STREAMS = ("labeled", "unlabeled")
VIEWS = 2
"""Strong views of an unlabelled photograph."""
Make = Callable[[str, int, np.random.Generator], Any]


def scenes(data: Path, crop: int) -> tuple[Samples, list[int], dict[str, Make]]:
    """Images with masks, which of them have one, and what makes their weak crops.

    Raises:
        InputError: when the data are not as described, or no image has a mask.
    """
    task: Any = TASKS.get("seg")
    source = task.open(task.Data.model_validate(task.custom_data(data, None))).train
    labeled = [index for index in range(len(source)) if source.has_target(index)]
    if not labeled:
        raise DataError(f"{data}: no training image has a mask, so there is no labelled stream to measure.")
    weak = WeakSettings(crop=crop)
    pools = {"labeled": [(source, index) for index in labeled], "unlabeled": [(source, k) for k in range(len(source))]}

    def files(stream: str, index: int) -> list[tuple[Path, Any]]:
        """The image, and of a labelled one the mask, with how Pillow and torchvision enlarge them."""
        number = pools[stream][index][1]
        masks = source.target_files(number) if stream == "labeled" else ()
        modes = (v2.InterpolationMode.BILINEAR, v2.InterpolationMode.NEAREST)
        return list(zip((*source.files(number), *masks), modes, strict=False))

    def plain(stream: str, index: int, rng: np.random.Generator, read: Callable[[Path, bool], Any]) -> Any:
        made: list[Any] = []
        window = None
        for path, mode in files(stream, index):
            image = read(path, mode is v2.InterpolationMode.BILINEAR)
            width, height = v2.functional.get_size(image)[::-1]
            window = window or draw_window((height, width), rng, weak)
            image = v2.functional.resize(image, list(window.scaled), mode)
            right, below = (max(0, crop - side) for side in window.scaled[::-1])
            image = v2.functional.pad(image, [0, 0, right, below])
            image = v2.functional.crop(image, window.top, window.left, crop, crop)
            image = v2.functional.horizontal_flip(image) if window.flip else image
            made.append(v2.functional.pil_to_tensor(image) if isinstance(image, Image.Image) else image)
        return (*made, index)

    def decoded(stream: str, index: int, rng: np.random.Generator) -> int:
        return sum(by_pillow(path, mode is v2.InterpolationMode.BILINEAR).width for path, mode in files(stream, index))

    makers: dict[str, Make] = {
        "decoding": decoded,
        "PIL": lambda *item: plain(*item, by_pillow),
        "torchvision": lambda *item: plain(*item, by_torchvision),
        "semikit": Crops(pools, frozenset({"labeled"}), weak),
    }
    return source, labeled, makers


def photographs(data: Path, crop: int, kept: Path) -> tuple[Samples, list[int], dict[str, Make]]:
    """Images of a folder, all as if labelled, and what makes their crops; `kept` is a folder for decoded ones."""
    source, settings, decoded = unlabeled_files(data, "DATA"), ClassViews(size=crop), DecodedScenes(kept, 10**10)
    reduced = source.reduced(settings.reduction)
    for index in range(len(reduced)):
        decoded.photograph(reduced, index)
    random = v2.Compose([v2.RandomResizedCrop(crop, (0.2, 1.0), antialias=True), v2.RandomHorizontalFlip()])

    def plain(stream: str, index: int, rng: np.random.Generator, read: Callable[[Path], Any]) -> Any:
        image = read(source.paths[index])
        crops = [random(image) for _ in range(1 if stream == "labeled" else 1 + VIEWS)]
        tensors = [v2.functional.pil_to_tensor(made) if isinstance(made, Image.Image) else made for made in crops]
        return torch.stack(tensors), index

    def cropped(images: Samples, quick: bool, decoded: DecodedScenes) -> ClassCrops:
        pool = [(images, index) for index in range(len(images))]
        return ClassCrops(dict.fromkeys(STREAMS, pool), settings, VIEWS, quick, decoded)

    makers: dict[str, Make] = {
        "decoding": lambda stream, index, rng: by_pillow(source.paths[index]).width,
        "PIL": lambda *item: plain(*item, by_pillow),
        "torchvision": lambda *item: plain(*item, by_torchvision),
        "semikit, views.decode=exact": cropped(source, False, DecodedScenes(None)),
        "semikit": cropped(reduced, True, DecodedScenes(None)),
        "semikit, decoded before": cropped(reduced, True, decoded),
    }
    return source, list(range(len(source))), makers


def by_pillow(path: Path, colour: bool = True) -> Image.Image:
    """Decoded by Pillow."""
    with Image.open(path) as image:
        image.load()
        return image.convert("RGB") if colour else image


def by_torchvision(path: Path, colour: bool = True) -> torch.Tensor:
    """Decoded by torchvision (C, H, W)."""
    return decode_image(str(path), ImageReadMode.RGB if colour else ImageReadMode.UNCHANGED)  # type: ignore[no-any-return]


def blocks(make: Make, stream: str, length: int, count: int) -> Iterator[tuple[float, int]]:
    """Seconds of the processor and bytes of each block."""
    batches: Any = iter(StepLoader([Stream(stream, length, BLOCK)], make, seed=0, steps=range(count + 1)))
    next(batches)  # the first one warms caches up
    for _ in range(count):
        begun = process_time()
        batch = next(batches)[stream]
        seconds = process_time() - begun
        parts = batch if isinstance(batch, Sequence) else [batch]
        yield seconds, sum(part.nbytes for part in parts)


def measured(makers: Mapping[str, Make], lengths: Mapping[str, int], items: int) -> dict[str, dict[str, NDArray[Any]]]:
    """For each stream and maker: median milliseconds an item, and bytes an item."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for stream in STREAMS:
        runs = [blocks(make, stream, lengths[stream], max(1, items // BLOCK)) for make in makers.values()]
        turns = list(zip(*runs, strict=True))
        sides = zip(makers, zip(*turns, strict=True), strict=True)
        found[stream] = {
            name: np.array([1000 * median(block[0] for block in own), own[0][1]]) / BLOCK for name, own in sides
        }
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("seg", "cls"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--crop", type=int, required=True)
    parser.add_argument("--items", type=int, default=320)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as kept:
        of = scenes(given.data, given.crop) if given.task == "seg" else photographs(given.data, given.crop, Path(kept))
        source, labeled, makers = of
        speeds = measured(makers, {"labeled": len(labeled), "unlabeled": len(source)}, given.items)
    print(f"{'crop':>5} {given.crop:>4} {'ms':>34} {'items/s':>10} {'crops/s':>10} {'bytes/item':>12}")
    for stream, found in speeds.items():
        crops = 1 + VIEWS if given.task == "cls" and stream == "unlabeled" else 1
        for name, (spent, size) in found.items():
            rates = f"{1000 / spent:>10.0f} {crops * 1000 / spent:>10.0f}"
            print(f"{stream:>10} {name:>27} {spent:>6.2f} {rates} {size:>12.0f}")


if __name__ == "__main__":
    main()
