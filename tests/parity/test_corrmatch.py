"""CorrMatch against stored values of BBBBchan/CorrMatch (44f9f9e): `util/thresh_helper.py`, class `Corr` of
`model/semseg/deeplabv3plus.py`, and the loop over regions of `corrmatch.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from semikit.core.pseudo_labels import predicted
from semikit.methods.corrmatch import Correlation, DynamicThreshold, above_middle, propagated


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "data/corrmatch.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def test_the_threshold_follows_the_greatest_confidence_of_each_class(stored: dict[str, Tensor]) -> None:
    threshold = DynamicThreshold(4, 0.85, 0.9)
    for step in range(4):  # in the third a class is missing, in the last nothing is valid
        prediction, valid = predicted(stored[f"thresh_{step}_pred"]), stored[f"thresh_{step}_valid"]
        threshold.observe(prediction, valid)
        torch.testing.assert_close(threshold.value, stored[f"thresh_{step}_after"])
        weights = threshold(prediction, valid, torch.zeros(2))
        assert torch.equal(weights, (prediction.confidence >= threshold.value) & valid)


def test_logits_spread_by_the_correlation_of_places(stored: dict[str, Tensor]) -> None:
    module = Correlation(256, 3)
    module.project = nn.Identity()  # type: ignore[assignment]  # its features are given
    for layer, number in ((module.first, 1), (module.second, 2)):
        layer.weight.data, layer.bias.data = stored[f"corr_w{number}"][:, :, None, None], stored[f"corr_b{number}"]
    maps, spread = module(stored["corr_features"], stored["corr_logits"])
    torch.testing.assert_close(spread, stored["corr_out"], rtol=1e-4, atol=1e-5)
    shape = stored["corr_map_shape"].tolist()
    expected = torch.from_numpy(np.unpackbits(stored["corr_map"].numpy())).view(shape).bool()
    regions = above_middle(maps[:, stored["corr_index"]], (shape[2], shape[3]))
    assert (regions != expected).float().mean() < 1e-4, "but for rounding at the middle"


def test_labels_spread_over_regions(stored: dict[str, Tensor]) -> None:
    """Each region by itself; where some overlap the released loop has the later one read what the earlier one wrote."""
    given = [stored[f"prop_{name}"] for name in ("sure", "free")]
    labels, rows, threshold = stored["prop_labels"].long(), stored["prop_rows"], stored["prop_threshold"]
    accepted = 0
    for number in range(rows.shape[1]):
        found, counted = propagated(labels, *given, rows[:, number : number + 1], threshold, 4)
        assert torch.equal(found, stored["prop_alone_labels"][number].long())
        assert torch.equal(counted, stored["prop_alone_counted"][number])
        accepted += int((counted != given[0]).any((1, 2)).sum())
    assert accepted > 20
