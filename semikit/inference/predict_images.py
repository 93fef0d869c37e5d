"""Prediction of files: class maps, overlays, confidence."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from semikit.core.network import Network
from semikit.core.task import Inference, Progress
from semikit.data.folders import image_files
from semikit.data.masked_images import plain_images
from semikit.data.palette import palette
from semikit.errors import DataError
from semikit.files import OUTPUT, make_folder
from semikit.inference.pictures import class_map, displayed, overlay, save_png
from semikit.inference.windows import EvaluateSettings, bands_and_scale, most_likely, read_ahead
from semikit.settings.base import Settings


@final
class SegPredict(Settings):
    """What prediction writes besides the classes."""

    overlay: bool = False
    """The classes laid over each image, NAME-overlay.png."""
    confidence: bool = False
    """The confidence of each pixel as a gray image, NAME-confidence.png: 0..255 for 0..1."""


def find_sources(source: str) -> dict[str, Path]:
    """Name -> file for a file, a folder (with its subfolders) or a glob.

    Raises:
        DataError: when nothing is found.
    """
    path = Path(source)
    if path.is_file():
        return {path.stem: path}
    if path.is_dir():
        return image_files(path, "SOURCE")
    found = sorted(Path(item) for item in glob.glob(source, recursive=True) if Path(item).is_file())  # noqa: PTH207
    if not found:
        raise DataError(f"nothing to predict: {source!r} is no file, no folder, and as a pattern it fits no file.")
    names = {item.stem: item for item in found}
    if len(names) < len(found):
        raise DataError(f"several files that fit {source!r} have the same name; predict one folder after the other.")
    return names


def predict_files(
    network: Network,
    metadata: Mapping[str, Any],
    source: str,
    out: Path,
    options: SegPredict,
    inference: Inference,
    progress: Progress,
) -> int:
    """Write out/NAME.png (class ids, with palette) for each image, at its size and under its name.

    On request NAME-overlay.png and NAME-confidence.png (gray, 0..255 for 0..1). Files are written under a temporary
    name first. Returns the number of images.

    Raises:
        DataError: nothing to predict, an image that cannot be read or does not fit, `out` holds the
            images or cannot be made.
    """
    files = find_sources(source)
    _refuse_overwriting(files, out)
    with _folder(out):
        _predict(network, metadata, files, out, options, inference, progress)
    return len(files)


def _predict(
    network: Network,
    metadata: Mapping[str, Any],
    files: Mapping[str, Path],
    out: Path,
    options: SegPredict,
    inference: Inference,
    progress: Progress,
) -> None:
    images = plain_images(files, None, *bands_and_scale(metadata))
    settings = EvaluateSettings.model_validate(metadata["evaluate"])
    colours = palette(len(metadata["class_names"]), metadata.get("palette"))
    network.to(inference.device).eval()
    every = zip(files, read_ahead(images.image, len(images)), strict=True)
    for done, (name, (image, valid)) in enumerate(every):
        progress("predicting", done, len(files))
        ids, confidence = most_likely(network, image, valid, settings, metadata["crop"], inference)
        target = out / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_png(class_map(ids, colours), target, OUTPUT)
        if options.overlay:
            tinted = overlay(displayed(image)[0], ids, colours)
            save_png(tinted, target.with_name(f"{target.stem}-overlay.png"), OUTPUT)
        if options.confidence:
            share = (confidence.float().cpu().numpy() * 255).round().astype(np.uint8)
            save_png(Image.fromarray(share), target.with_name(f"{target.stem}-confidence.png"), OUTPUT)


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """The folder of the results; one that was made for them and holds none after a fault is taken away."""
    there = out.exists()
    if there and not out.is_dir():
        raise DataError(f"{out} is a file; -o takes a folder.")
    make_folder(out)
    try:
        yield
    except BaseException:
        if not there and not any(out.iterdir()):
            out.rmdir()
        raise


def _refuse_overwriting(files: Mapping[str, Path], out: Path) -> None:
    """Raise where a result would take the place of an image that is predicted."""
    images = {path.resolve() for path in files.values()}
    for name in files:
        for suffix in ("", "-overlay", "-confidence"):
            target = out / f"{name}{suffix}.png"
            if target.resolve() in images:
                raise DataError(
                    f"{target} is one of the images to predict; it would be overwritten. Choose another -o."
                )
