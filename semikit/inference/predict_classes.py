"""Prediction of images that have one class: a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.images import read_rgb
from semikit.data.header_notices import file_notices
from semikit.data.samples import Bytes
from semikit.data.unused_files import unread
from semikit.distributed.together import end_with_others, exchanged, from_first, place
from semikit.errors import FileFault, InputError
from semikit.files import write_table
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation, of_images
from semikit.inference.ensemble import Ensemble, Views
from semikit.inference.many_files import ERRORS, Failures, caught, find_sources, output_folder
from semikit.inference.windows import ValueSettings, grouped, orientation_of, read_ahead


@final
class ClassPredict(ValueSettings):
    """What prediction writes besides the class and its probability."""

    probability: bool = False
    """The probability of every class, a column each."""
    tta: Literal["none", "flip"] = "none"
    """flip: predict each image as it is and mirrored left to right, and average (test-time augmentation)."""
    fail_fast: bool = False
    """Stop at the first file that cannot be read."""


def predict_classes(
    networks: Sequence[Network],
    metadata: Mapping[str, Any],
    sources: Sequence[str],
    out: Path,
    options: ClassPredict,
    inference: Inference,
    progress: Progress,
) -> Predicted:
    """Write a CSV file with the columns file, label, probability (0..1, the mean over all networks), and on request one
    for each class.

    Images larger than those the network learned from are cropped as for scoring, or, where it learned from small
    images of one size, resized to it. Of several images those that cannot be read are listed in errors.csv beside it.

    Raises:
        InputError: an output that is no .csv file or would take the place of an image.
        DataError: nothing to predict, an image that cannot be read (of several: none can).
    """
    if out.suffix.lower() != ".csv" or out.name == ERRORS:
        why = f"{ERRORS} lists what cannot be read" if out.name == ERRORS else "the classes of images are a table"
        raise InputError(f"-o {out}: {why}; give a name that ends in .csv{', another' if out.name == ERRORS else ''}.")
    listed = from_first(lambda: find_sources(*sources, distinct=False))
    notices = [str(unused) for unused in unread(listed, "SOURCE")]
    failures = Failures(out.parent, len(listed.files), fail_fast=options.fail_fast)
    with output_folder(out.parent), failures.counted(notices):
        ensemble = replace(Ensemble.ready(networks, inference), views=Views.of(options.tta))
        rows = _rows(ensemble, metadata, list(listed.files.values()), options, progress, failures)
    head = ["file", "label", "probability", *(metadata["class_names"] if options.probability else ())]

    def finished() -> Predicted:
        write_table(out, [head, *rows])
        return Predicted(len(rows), [*notices, *file_notices(listed.files.values())], failures.found)

    return from_first(finished)


def _rows(
    ensemble: Ensemble,
    metadata: Mapping[str, Any],
    paths: Sequence[Path],
    options: ClassPredict,
    progress: Progress,
    failures: Failures,
) -> list[list[str]]:
    """A row for each image that can be read, in order; every process predicts batches of them."""
    names = tuple(metadata["class_names"])
    settings = ClassEvaluateSettings.model_validate(metadata["evaluate"])
    evaluation = ClassEvaluation(names, settings, metadata["size"])
    upright, scale = orientation_of(metadata) != "stored", options.scale and options.scale.bounds

    rank, count = place()
    own = [index for index in range(len(paths)) if index // settings.batch % count == rank]

    def read(number: int) -> tuple[int, Bytes]:
        image = read_rgb(paths[own[number]], upright=upright, bands=options.bands, scale=scale)
        return own[number], evaluation.fitted(image, metadata["side"])

    def readable() -> Iterator[tuple[int, Bytes]]:
        for index, found in zip(own, read_ahead(caught(read), len(own)), strict=True):
            if isinstance(found, FileFault):
                failures.add(found, at=index)
            else:
                yield found

    rows: dict[int, list[str]] = {}
    for group in grouped(readable(), settings.batch):
        end_with_others()
        images = np.stack([image for _, image in group])
        shares = ensemble.mean(images, of_images).cpu().numpy()
        for (index, _), share in zip(group, shares, strict=True):
            row = [str(paths[index]), names[int(share.argmax())], f"{share.max():.4f}"]
            rows[index] = [*row, *(f"{value:.4f}" for value in share)] if options.probability else row
        progress("predicting", len(rows) + len(failures.found), len(own))
    failures.shared()
    return [row for _, row in sorted(item for part in exchanged(rows) for item in part.items())]
