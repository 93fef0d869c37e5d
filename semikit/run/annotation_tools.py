"""What annotation programs read beside an exported network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from semikit.errors import InputError
from semikit.files import write_text

X_ANYLABELING = "X-AnyLabeling 4.0.2"
"""The version whose source was read (anylabeling/services/auto_labeling: model.py, yolov8_cls.py, __base__/yolo.py)."""


def check_x_anylabeling(metadata: Mapping[str, Any], format: str, input: str) -> None:
    """Raise where the program has no use for the export.

    Raises:
        InputError: another task than classification, or another interface than the one it feeds.
    """
    if metadata["task"] != "cls":
        what = {"seg": "semantic segmentation", "cd": "change detection"}.get(metadata["task"], metadata["task"])
        raise InputError(
            f"--for x-anylabeling: {X_ANYLABELING} has no model type for {what}, only for classification. Predict the "
            "images with `semikit predict`, and open the result there."
        )
    if (format, input) != ("onnx", "float"):
        raise InputError("--for x-anylabeling: it takes --format onnx and --input float, which are the defaults.")


def write_x_anylabeling(file: Path, metadata: Mapping[str, Any]) -> Path:
    """The file that its "Load Custom Model" opens, beside the network: NAME.yaml.

    Its type yolov8_cls crops the middle square of an image, resizes it to the fixed size of the input, divides by 255
    and takes the largest output.
    """
    name = metadata.get("name", file.stem)
    values = {
        "type": "yolov8_cls",
        "name": f"{name}-semikit",
        "provider": "semikit",
        "display_name": f"{name} (semikit)",
        "model_path": file.name,
        "classes": list(metadata["class_names"]),
    }
    path = file.with_suffix(".yaml")
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path
