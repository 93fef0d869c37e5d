from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semikit.errors import WeightsError
from semikit.models.weights.metadata import LARGEST_SIDE, checked

WHOLE: dict[str, Any] = {
    "task": "seg",
    "class_names": ["sky", "road"],
    "model": {"encoder": "test_vit"},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "palette": [[0, 0, 0], [255, 1, 2]],
    "crop": 32,
    "bands": None,
    "of_a_plugin": 3,
}
PATH = Path("x.safetensors")


def test_what_is_whole_comes_back_as_it_is() -> None:
    assert checked(WHOLE, PATH) == WHOLE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": None}, "invalid type for key 'task': expected text, got None"),
        ({"class_names": []}, "'class_names': expected at least 1 entries"),
        ({"std": [0.0]}, "'std[0]': expected greater than 0"),
        ({"mean": [float("nan")]}, "'mean[0]': expected a finite number"),
        ({"crop": LARGEST_SIDE + 1}, "'crop': expected less than or equal to 16384"),
        ({"palette": [[0, 0, 256]]}, "'palette[0][2]': expected less than or equal to 255"),
        ({"bands": [0]}, "'bands[0]': expected greater than or equal to 1"),
    ],
)
def test_what_is_damaged(change: dict[str, Any], told: str) -> None:
    with pytest.raises(WeightsError) as error:
        checked({**WHOLE, **change}, PATH)
    assert str(error.value).startswith("x.safetensors: what it says of its network is damaged: ")
    assert told in str(error.value)


@pytest.mark.parametrize("raw", [None, [], "seg", 3])
def test_what_is_no_mapping(raw: Any) -> None:
    with pytest.raises(WeightsError, match="does not say how its network is built"):
        checked(raw, PATH)
