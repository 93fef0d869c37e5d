from __future__ import annotations

import pytest
import torch

from semikit.training.optimizer import build_optimizer, set_learning_rates
from semikit.training.settings import OptimizerSettings
from tests.helpers import tiny


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_encoder_and_the_rest_learn_at_rates_of_their_own(name: str) -> None:
    network = tiny.network()
    settings = OptimizerSettings(name=name, lr=0.4, encoder_lr=0.01, weight_decay=0.02)
    optimizer = build_optimizer(network, settings)
    encoder, rest = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert encoder == {id(p) for p in network.encoder_parameters()}
    assert encoder | rest == {id(p) for p in network.parameters()}
    assert not encoder & rest
    assert rates(optimizer) == [0.01, 0.4]
    assert all(group["weight_decay"] == 0.02 and group["fused"] for group in optimizer.param_groups)


def test_without_a_rate_of_its_own_the_encoder_takes_the_common_one() -> None:
    assert rates(build_optimizer(tiny.network(), OptimizerSettings(lr=0.3, encoder_lr=None))) == [0.3, 0.3]


def test_a_frozen_encoder_is_left_out() -> None:
    network = tiny.network()
    for parameter in network.encoder_parameters():
        parameter.requires_grad_(False)
    optimizer = build_optimizer(network, OptimizerSettings(lr=0.3))
    assert rates(optimizer) == [0.3]


def test_adamw_is_the_released_one() -> None:
    group = build_optimizer(tiny.network(), OptimizerSettings()).param_groups[0]
    assert group["betas"] == (0.9, 0.999)
    assert group["weight_decay"] == 0.01
    assert group["lr"] == 5e-6


def test_rates_fall_one_step_late() -> None:
    settings = OptimizerSettings(lr=2e-4, encoder_lr=5e-6)
    optimizer = build_optimizer(tiny.network(), settings)
    for step, share in ((0, 1.0), (1, 1.0), (2, 0.99**0.9), (99, 0.02**0.9)):
        assert set_learning_rates(optimizer, settings, step, 100) == pytest.approx(2e-4 * share)
        assert rates(optimizer) == pytest.approx([5e-6 * share, 2e-4 * share])


def test_sgd_from_zeros_is_sgd() -> None:
    ours, plain = tiny.network(), tiny.network()
    optimizer = build_optimizer(ours, OptimizerSettings(name="sgd", lr=0.1, encoder_lr=None, weight_decay=1e-4))
    other = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(3):
        for network, rule in ((ours, optimizer), (plain, other)):
            rule.zero_grad()
            network(torch.ones(2, 3, 12, 12)).square().mean().backward()
            rule.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)
