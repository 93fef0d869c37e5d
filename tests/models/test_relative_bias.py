from __future__ import annotations

import pytest
import torch
from timm.models.beit import gen_relative_position_index
from torch import nn

from semikit.models.encoders.vit import RelativeBias, _index


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 4), (5, 2)])
def test_index_is_timms(grid: tuple[int, int]) -> None:
    assert torch.equal(_index(grid, torch.device("cpu")), gen_relative_position_index(grid))


def test_constant_bias_stays_constant_on_any_grid() -> None:
    table = torch.full((7 * 7 + 3, 2), 1.5)
    table[-3:] = torch.tensor([[10.0], [20.0], [30.0]])
    bias = RelativeBias(nn.Parameter(table), (4, 4))((6, 5))
    assert bias.shape == (1, 2, 31, 31)
    torch.testing.assert_close(bias[:, :, 1:, 1:], torch.full((1, 2, 30, 30), 1.5))
    assert (bias[:, :, 0, 1:] == 10).all()
    assert (bias[:, :, 1:, 0] == 20).all()
    assert (bias[:, :, 0, 0] == 30).all()


def test_mirrored_table_gives_mirrored_bias() -> None:
    plane = torch.randn(5, 5, 1)
    mirrored = torch.cat((plane.flip(0, 1).flatten(0, 1), torch.zeros(3, 1)))
    straight = torch.cat((plane.flatten(0, 1), torch.zeros(3, 1)))
    first = RelativeBias(nn.Parameter(straight), (3, 3))((4, 6))
    second = RelativeBias(nn.Parameter(mirrored), (3, 3))((4, 6))
    torch.testing.assert_close(first, second.transpose(2, 3))


def test_every_entry_learns() -> None:
    module = RelativeBias(nn.Parameter(torch.randn(28, 2)), (3, 3))
    module((5, 4)).square().sum().backward()
    assert (module.table.grad != 0).all()
