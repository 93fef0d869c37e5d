"""CReST: how much of each class is picked, and what the generations are."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from semikit.core.method import Round
from semikit.methods.crest import CReSTConfig, crest
from semikit.registry import METHODS
from semikit.run.rounds import picked, sampling_rates
from tests.helpers import tiny


def test_the_rarest_class_is_taken_whole_and_the_most_frequent_least() -> None:
    """μ_l = (N_{L+1-l} / N_1)^α by hand for N = 1000, 125, 8 and α = 1/3: (8/1000)^α = 0.2, (125/1000)^α = 0.5, 1; in
    google-research/crest@e270139:data/cifar.py `sample_rate = gt_p_data[::-1] / gt_p_data[0]`, to the power 1 / alpha.
    """
    assert sampling_rates([1000, 125, 8], 1 / 3) == pytest.approx([0.2, 0.5, 1.0])
    assert sampling_rates([8, 1000, 125], 1 / 3) == pytest.approx([1.0, 0.2, 0.5]), "in the order of the classes"
    assert sampling_rates([1000, 125, 8], 0) == [1, 1, 1]
    assert sampling_rates([5, 5, 5], 1 / 3) == [1, 1, 1], "balanced labels"
    assert sampling_rates([8, 8, 1], 1 / 3) == pytest.approx([0.75, 0.75, 1]), "the mean of 0.5 and 1"
    assert sampling_rates([8, 0], 1 / 3) == [0, 1], "a class without a label"


def test_the_surest_of_each_class_are_picked_without_a_threshold() -> None:
    """⌊0.5 · 3⌋ of class 0, all of class 1, none of class 2; of equally sure ones the first name."""
    rows = [("d", 0.0, 0.2), ("a", 0.0, 0.4), ("c", 0.0, 0.4), ("e", 1.0, 0.1), ("b", 1.0, 0.9), ("f", -1.0, 0.0)]
    assert [(name, label) for name, label, _ in picked(rows, [0.5, 1.0, 1.0])] == [("a", 0), ("b", 1), ("e", 1)]


def test_generations_learn_what_the_one_before_picked_with_flatter_and_flatter_alignment() -> None:
    """t_g = (1 - g/G) + g/G · t_min with G = 2 and t_min = 0.5: 1, 0.75, 0.5."""
    powers = {number: {"generations": 1, "alignment": {"progressive": t}} for number, t in ((1, 1.0), (2, 0.75))}
    assert METHODS.get("crest").rounds(CReSTConfig(generations=3)) == [
        Round("1-generation", {"method": powers[1]}, picks=1 / 3),
        Round("2-generation", {"method": powers[2]}, also="1-generation", picks=1 / 3),
        Round("", also="2-generation"),
    ]
    plain = METHODS.get("crest").rounds(CReSTConfig(generations=2, alignment=None, sampling=0.5))
    assert plain == [Round("1-generation", {"method": {"generations": 1}}, picks=0.5), Round("", also="1-generation")]
    assert not METHODS.get("crest").rounds(CReSTConfig(generations=1))
    with pytest.raises(ValidationError, match="'labeled' changes at every step"):
        CReSTConfig(alignment={"target": "labeled"})


def test_a_generation_keeps_its_power() -> None:
    """Shares 0.64, 0.32, 0.04 to the power 0.5: 0.8, 0.5657, 0.2, summing to 1.5657."""
    alignment = {"target": (0.64, 0.32, 0.04), "progressive": 0.5}
    method = crest(tiny.network(pixels=False), CReSTConfig(alignment=alignment), tiny.run_info())
    torch.testing.assert_close(method.rule.alignment.shares, torch.tensor([0.8, 0.565685, 0.2]) / 1.565685)
    assert not hasattr(method.rule.alignment, "steps")
