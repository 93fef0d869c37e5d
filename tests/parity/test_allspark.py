"""AllSpark against stored values of xmed-lab/AllSpark (9da63e2): class `AllSpark` of `model/semseg/allspark.py`,
without dropout, and with a memory that begins with zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semikit.core.channel_attention import Bottleneck
from semikit.methods.allspark import AllSpark, AllSparkConfig
from tests.helpers import tiny

NAMES = {
    "inward": "map_in.0", "norm": "attn_norm", "norm_out": "encoder_norm", "outward": "map_out.0",
    "attention.query": "attn.q_l2u", "attention.key": "attn.k_l2u", "attention.value": "attn.v_l2u",
    "attention.out": "attn.out_l2u",
    "query": "attn.q_u", "key": "attn.k_u", "value": "attn.v_u", "out": "attn.out_u",
}  # fmt: skip
"""Module here, of the bottleneck or of the attention among unlabelled images: module there."""


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data/allspark.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def method(stored: dict[str, Tensor]) -> AllSpark:
    """On a network whose bottleneck is the published module of 5 channels, 6 inside, at 3x3 positions."""
    network = tiny.network(last=5, channel_attention=True)
    network.bottleneck = Bottleneck(5, 6, heads=2, reduction=4)
    made = AllSpark(network, AllSparkConfig(warmup=1.5), tiny.run_info()).train()
    for module in (network.bottleneck, made.among):
        for name, parameter in module.named_parameters():
            layer, _, kind = name.rpartition(".")
            parameter.data.copy_(stored[f"state_{NAMES[layer]}.{kind}"].view_as(parameter))
    return made


def test_features_are_rebuilt_and_remembered_as_released(method: AllSpark, stored: dict[str, Tensor]) -> None:
    """One step of warm-up and four with the memory, whose queues begin anew in between: outputs, gradients of the level
    and of weights, and the memory after each.
    """
    bottleneck = method.student.bottleneck
    _, unlabeled = tiny.batch(method.run_info, method.requirements(method.config), size=2)
    assert bottleneck is not None
    for step in range(5):
        method.zero_grad()
        method.label_pass = lambda network, images, step=step: stored[f"{step}_logits"]  # type: ignore[misc]
        logits = method.pseudo_labels(unlabeled, 2 * step).logits
        assert logits is not None
        level = stored[f"{step}_level"].clone().requires_grad_()
        found = bottleneck(level, method._rebuilt(2, logits))
        torch.testing.assert_close(found, stored[f"{step}_out"], rtol=1e-4, atol=1e-5)
        (found * stored[f"{step}_weights"]).sum().backward()
        torch.testing.assert_close(level.grad, stored[f"{step}_gradient"], rtol=1e-4, atol=1e-5)
        for layer in (bottleneck.attention.key, method.among.query, bottleneck.inward):
            name = next(
                name for name, one in [*bottleneck.named_modules(), *method.among.named_modules()] if one is layer
            )
            expected = stored[f"{step}_gradient_{NAMES[name]}"]
            torch.testing.assert_close(layer.weight.grad, expected.view_as(layer.weight), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(method.memory.rows[:-1].view(3, 6, 9), stored[f"{step}_memory"])
        assert torch.equal(method.memory.written % 6, stored[f"{step}_pointer"])


def test_an_image_is_predicted_with_channels_of_its_own(method: AllSpark, stored: dict[str, Tensor]) -> None:
    """At a size that nothing was trained at."""
    bottleneck = method.student.bottleneck
    assert bottleneck is not None
    torch.testing.assert_close(bottleneck(stored["eval_level"]), stored["eval_out"], rtol=1e-4, atol=1e-5)
