"""A step as a GPU would run it, without one (`helpers/fake_device.py`): the host never waits for the device, nothing is
left on the CPU, every copy comes from page-locked memory, and copies and operations stay as few as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import Server

LIMITS: dict[str, tuple[int, int]] = {
    "seg-vit unimatch_v2": (3, 2000), "seg-vit fixmatch": (2, 1800), "seg-vit freematch": (2, 1500),
    "seg-vit unimatch_v2 accumulate": (3, 3350), "seg-vit unimatch_v2 ohem": (3, 2000),
    "seg-vit unimatch_v2 balance": (3, 2000), "seg-vit unimatch_v2 lora": (3, 2250),
    "seg-vit unimatch_v2 processes": (3, 2050), "seg-base unimatch_v2": (3, 2000),
    "seg-resnet unimatch_v2": (3, 2250), "seg-resnet fixmatch": (2, 2050), "seg-resnet freematch": (2, 1150),
    "seg-resnet unimatch_v2 accumulate": (3, 3950),
    "seg-vit corrmatch": (4, 3400), "seg-vit u2pl": (3, 2450), "seg-vit augseg": (3, 1850), "seg-vit imas": (3, 2300),
    "seg-vit allspark": (2, 1850),
    "cd-vit unimatch_v2": (3, 2300), "cd-vit fixmatch": (2, 2000), "cd-vit freematch": (2, 1650),
    "cls-wrn unimatch_v2": (3, 2050), "cls-wrn fixmatch": (2, 1600), "cls-wrn freematch": (2, 1200),
    "cls-wrn comatch": (2, 1650), "cls-wrn remixmatch": (3, 3400), "cls-wrn shrinkmatch": (2, 1200),
    "cls-wrn dash": (2, 1150),
    "cls-vit unimatch_v2": (3, 2100), "cls-vit fixmatch": (2, 1650), "cls-vit freematch": (2, 1500),
}  # fmt: skip
"""Network, method and perhaps an extra: the most copies to the device and operations (rounded up) of a step with its
views, in the precision that takes most of them. Lower a limit when a step gets better.
"""
PRECISIONS = ("fp32", "bf16", "fp16")
SHORT = (
    ("seg-base unimatch_v2", "bf16"),
    ("cd-vit fixmatch", "fp32"),
    ("cls-wrn freematch", "fp16"),
)
"""What `make test` tries; the rest is tried by `make faults`."""
CASES = [
    pytest.param(name, precision, marks=() if (name, precision) in SHORT else pytest.mark.long)
    for name in LIMITS
    for precision in PRECISIONS
]


def found(server: Server, name: str, precision: str, folder: Path) -> dict[str, Any]:
    ended = server.run("-m", "tests.accelerator.case", name, precision, folder)
    assert ended.code == 0, ended.out[-4000:]
    counted: dict[str, Any] = json.loads((folder / "found.json").read_text())
    if "unusable" in counted:
        pytest.skip(counted["unusable"])
    return counted


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_step_asks_the_device_nothing(server: Server, name: str, precision: str, tmp_path: Path) -> None:
    counted, (copies, operations) = found(server, name, precision, tmp_path), LIMITS[name]
    assert counted["pageable"] == 0
    assert counted["copies"] <= copies
    assert counted["operations"] <= operations, counted["by_name"]
    assert counted["evaluation"] == {"copies": 2, "pageable": 0}  # the images and the truth of a batch
    if name.startswith("seg-base"):  # 8 + 8 images of 518 pixels: the network is computed 80 times
        assert counted["flops"] == pytest.approx(31.3e12, rel=0.03)


def test_what_would_wait_is_found(server: Server, tmp_path: Path) -> None:
    faults = found(server, "faults", "fp32", tmp_path)
    assert faults.pop("none") == ""
    assert len(faults) == 5
    assert all(faults.values()), faults
