"""Prediction of files: class maps, overlays, confidence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.header_notices import parts_notices
from semikit.data.masked_images import MaskedImages, plain_images
from semikit.data.palette import Palette, palette
from semikit.data.samples import Bytes, Mask
from semikit.data.unused_files import unread
from semikit.errors import DataError, FileFault
from semikit.files import OUTPUT, refuse_long_names
from semikit.inference.many_files import Failures, find_sources, output_folder, refuse_among_images
from semikit.inference.pictures import class_map, displayed, overlay, save_png
from semikit.inference.windows import (
    EvaluateSettings,
    bands_and_scale,
    most_likely,
    orientation_of,
    read_ahead,
    refuse_channels,
)
from semikit.settings.base import Settings


@final
class SegPredict(Settings):
    """What prediction writes besides the classes."""

    overlay: bool = False
    """The classes laid over each image, NAME-overlay.png."""
    confidence: bool = False
    """The confidence of each pixel as a gray image, NAME-confidence.png: 0..255 for 0..1."""
    fail_fast: bool = False
    """Stop at the first file that cannot be read."""


def predict_files(
    network: Network,
    metadata: Mapping[str, Any],
    source: str,
    out: Path,
    options: SegPredict,
    inference: Inference,
    progress: Progress,
) -> Predicted:
    """Write out/NAME.png (class ids, with palette) for each image, at its size and under its name.

    On request NAME-overlay.png and NAME-confidence.png (gray, 0..255 for 0..1). Files are written under a temporary
    name first. Of several images those that cannot be read are listed in out/errors.csv, and the others predicted.

    Raises:
        DataError: nothing to predict, an image that cannot be read (of several: none can), `out` holds the images or
            cannot be made.
    """
    listed = find_sources(source)
    files = listed.files
    _refuse_overwriting(files, out, options)
    refuse_among_images((out / f"{name}.png" for name in files), files.values(), [source])
    notices = [str(unused) for unused in unread(listed, "SOURCE")]
    failures = Failures(out, len(files) + len(listed.refused), fail_fast=options.fail_fast)
    bands, scale = bands_and_scale(metadata)
    watch = RangeWatch(scale)
    images = plain_images(files, None, bands, scale, watch, orientation_of(metadata))
    with output_folder(out), failures.counted(notices):
        failures.add_all(listed.refused)
        _predict(network, metadata, images, out, options, inference, progress, failures)
    notices += [*watch.notices(), *parts_notices(files.values())]
    return Predicted(failures.total - len(failures.found), notices, failures.found)


def _predict(
    network: Network,
    metadata: Mapping[str, Any],
    images: MaskedImages,
    out: Path,
    options: SegPredict,
    inference: Inference,
    progress: Progress,
    failures: Failures,
) -> None:
    settings = EvaluateSettings.model_validate(metadata["evaluate"])
    colours = palette(len(metadata["class_names"]), metadata.get("palette"))
    network.to(inference.device).eval()

    def read(index: int) -> tuple[Bytes, Mask | None]:
        refuse_long_names(_results(images.names[index], out, options), images.images[index])
        image, valid = images.image(index)
        refuse_channels(network, image, images.images[index])
        return image, valid

    progress("predicting", 0, len(images))
    for done, (name, found) in enumerate(
        zip(images.names, read_ahead(failures.catch(read), len(images)), strict=True), 1
    ):
        if isinstance(found, FileFault):
            failures.add(found, _results(name, out, options))
        else:
            image, valid = found
            ids, confidence = most_likely(network, image, valid, settings, metadata["crop"], inference)
            _write(out / f"{name}.png", image, ids, confidence, colours, options)
        progress("predicting", done, len(images))


def _write(
    target: Path, image: Bytes, ids: Bytes, confidence: torch.Tensor, colours: Palette, options: SegPredict
) -> None:
    """The classes of one image, and what else is wanted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(class_map(ids, colours), target, OUTPUT)
    if options.overlay:
        tinted = overlay(displayed(image)[0], ids, colours)
        save_png(tinted, target.with_name(f"{target.stem}-overlay.png"), OUTPUT)
    if options.confidence:
        share = (confidence.float().cpu().numpy() * 255).round().astype(np.uint8)
        save_png(Image.fromarray(share), target.with_name(f"{target.stem}-confidence.png"), OUTPUT)


def _results(name: str, out: Path, options: SegPredict) -> list[Path]:
    """The files that come of an image, the classes first."""
    extra = [kind for kind in ("overlay", "confidence") if getattr(options, kind)]
    return [out / f"{name}.png", *(out / f"{name}-{kind}.png" for kind in extra)]


def _refuse_overwriting(files: Mapping[str, Path], out: Path, options: SegPredict) -> None:
    """Raise where a result would take the place of an image that is predicted, or of another result."""
    images = {os.path.realpath(path) for path in files.values()}
    owner: dict[Path, str] = {}
    for name in files:
        for suffix in ("", "-overlay", "-confidence"):
            target = out / f"{name}{suffix}.png"
            if os.path.realpath(target) in images:
                raise DataError(
                    f"{target} is one of the images to predict; it would be overwritten. Choose another -o."
                )
        for target in _results(name, out, options):
            other = owner.setdefault(target, name)
            if other != name:
                raise DataError(
                    f"two results would be {target}, of the images {other} and {name}. Rename one image, predict it "
                    "alone, or leave out --overlay or --confidence."
                )
