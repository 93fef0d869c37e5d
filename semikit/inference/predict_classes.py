"""Prediction of images that have one class: a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.images import read_rgb
from semikit.errors import InputError
from semikit.files import OUTPUT, write_atomically
from semikit.inference.class_evaluation import ClassEvaluateSettings, ClassEvaluation
from semikit.inference.predict_images import find_sources
from semikit.inference.windows import grouped, read_ahead
from semikit.settings.base import Settings


@final
class ClassPredict(Settings):
    """What prediction writes besides the class and its probability."""

    probability: bool = False
    """The probability of every class, a column each."""


def predict_classes(
    network: Network,
    metadata: Mapping[str, Any],
    source: str,
    out: Path,
    options: ClassPredict,
    inference: Inference,
    progress: Progress,
) -> Predicted:
    """Write a CSV file with the columns file, label, probability (0..1), and on request one for each class.

    Images larger than those the network learned from are cropped as for scoring, or, where it learned from small
    images of one size, resized to it.

    Raises:
        InputError: an output that is no .csv file or would take the place of an image.
        DataError: nothing to predict, an image that cannot be read.
    """
    if out.suffix.lower() != ".csv":
        raise InputError(f"-o {out}: the classes of images are written as a table; give a name that ends in .csv.")
    files = find_sources(source)
    names = tuple(metadata["class_names"])
    settings = ClassEvaluateSettings.model_validate(metadata["evaluate"])
    evaluation = ClassEvaluation(names, settings, metadata["size"])
    paths = list(files.values())
    network.to(inference.device).eval()
    rows: list[list[str]] = []
    seen = read_ahead(lambda k: evaluation.fitted(read_rgb(paths[k]), metadata["side"]), len(files))
    for group in grouped(seen, settings.batch):
        shares = evaluation.logits(network, np.stack(group), inference).float().softmax(1).cpu().numpy()
        for share in shares:
            row = [str(paths[len(rows)]), names[int(share.argmax())], f"{share.max():.4f}"]
            rows.append([*row, *(f"{value:.4f}" for value in share)] if options.probability else row)
        progress("predicting", len(rows), len(files))
    head = ["file", "label", "probability", *(names if options.probability else ())]

    def write(temporary: Path) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *rows])

    write_atomically(out, write, remedy=OUTPUT, durable=False)
    return Predicted(len(files))
