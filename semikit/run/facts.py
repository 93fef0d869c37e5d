"""The facts of a run and notices about it, shown before training begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from semikit.core.batch_norm import has_batch_norm
from semikit.core.method import Round
from semikit.core.settings import GivenTeacher
from semikit.core.task import BatchLayout, Task
from semikit.models.encoders.names import ENCODERS, SENSORS
from semikit.models.settings import EncoderSettings
from semikit.models.weights.licence import licence_line
from semikit.run import build
from semikit.run.config import Config
from semikit.run.folder import PLANNED
from semikit.run.teacher import rounds_of
from semikit.training.class_weights import weights_line
from semikit.training.device import attention_backends, describe_device, multiplies_bf16
from semikit.training.settings import TrainSettings, describe_step

SMALL = 15_000_000
"""Parameters up to which an encoder is small."""

_SLOWER = 10
"""How many times lower than the others' the encoder's rate is in a recipe for pretrained transformers, at least."""

_FAST = 1e-4
"""Rate of the encoder above which pretrained transformers lose what they know, where all layers have it; below it small
networks with batch norm hardly adapt."""


def notices_of(run: build.Run, processes: int) -> list[str]:
    """Notices for the user before training in so many processes."""
    notices = list(run.task.notices)
    if (processes > 1 or run.config.train.micro_batches > 1) and has_batch_norm(run.network):
        notices.append(
            "the network has batch norm, whose statistics are those of each micro-batch, not of the total batch"
            + ("; the running ones are averaged over the processes" if processes > 1 else "")
        )
    if run.config.train.protocol == "paper" and not run.task.counts.test:
        notices.append("protocol paper: the data have no test images, so the best is chosen and scored on val")
    if run.config.train.guard == "act" and not run.trainer.guards.each:
        notices.append(f"train.guard=act does nothing: {run.config.method_name} learns from labelled images alone")
    return [*notices, *_rate_notices(run.config, getattr(run.network, "encoder", run.network))]


def _rate_notices(config: Config, encoder: nn.Module) -> list[str]:
    """A notice where an encoder is trained by the rates of a recipe for another kind of encoder."""
    optimizer, model = config.optimizer, config.model
    if model.freeze or model.lora is not None:
        return []
    rate = optimizer.lr if optimizer.encoder_lr is None else optimizer.encoder_lr
    slow, by_layer = rate <= optimizer.lr / _SLOWER, (optimizer.layer_decay or 1) < 1
    said = (
        f"optimizer.layer_decay={optimizer.layer_decay:g}"
        if by_layer and not slow
        else f"optimizer.encoder_lr={rate:g}"
    )
    batch_norm = has_batch_norm(encoder)
    if model.weights == "none":
        kinds = ("random weights", "pretrained ones", "it will hardly learn")
        remedy = "small-from-scratch is made for random weights; or give --weights FILE" if slow or by_layer else ""
    elif batch_norm and sum(p.numel() for p in encoder.parameters()) <= SMALL:
        kinds = ("batch norm and is small", "large transformers", "it will hardly adapt to your images")
        remedy = "small-pretrained is made for such networks" if slow and rate < _FAST else ""
    else:
        kinds = ("pretrained weights without batch norm", "small networks", "it may lose what it knows")
        remedy = "foundation is made for such networks" if not batch_norm and rate > _FAST and not by_layer else ""
    what, other, effect = kinds
    notice = f"the encoder has {what} and the recipe is one for {other} ({said}): {effect}. --preset {remedy}."
    return [notice] if remedy else []


def facts_of(run: build.Run, processes: int) -> dict[str, str]:
    """What the start panel says of a run in so many processes."""
    config, counts, schedule = run.config, run.task.counts, run.schedule
    train, network, teacher = config.train, run.network, getattr(config.method, "teacher", None)
    weights, rounds = run.config.train.class_weights, rounds_of(config)
    asked = build.requirements_of(config)
    step = describe_step(train, processes, asked.unlabeled)
    draws = schedule.iterations * train.batch
    parameters = sum(p.numel() for p in network.parameters())
    encoder = sum(p.numel() for p in getattr(network, "encoder", network).parameters())
    unlabeled = "unknown" if counts.unlabeled is None else counts.unlabeled
    counted = f"{counts.labeled} labelled · {unlabeled} unlabelled · {counts.val} validation"
    facts = {
        "device": f"{describe_device(run.device)} · {_computed(train, run.device)}",
        "data": f"{config.name}: {counted}" + (f" · {counts.test} test" if counts.test else ""),
        **run.task.facts(),
        "labels": f"each labelled image is seen about {draws / max(counts.labeled, 1):.0f} times",
        **({"held out": _held_out(run.task)} if run.task.calibration else {}),
        "method": config.method_name
        + (f" · {asked.students} networks are trained, the first is kept" if asked.students > 1 else ""),
        **({"class weights": weights_line(weights)} if isinstance(weights, dict) else {}),
        "encoder": f"{config.model.encoder} · {encoder / 1e6:.1f} M of {parameters / 1e6:.1f} M parameters",
        "weights": f"{config.model.weights}{_origin(config.model)} · licence: {licence_line(config.model)}",
        **({"teacher": f"{teacher.run}, frozen"} if isinstance(teacher, GivenTeacher) else {}),
        **({"rounds": _rounds(rounds)} if rounds else {}),
        **({"from": train.start_from} if train.start_from else {}),
        "length": f"{schedule.iterations} iterations of {step}, "
        f"{schedule.iterations / schedule.per_epoch:.1f} epochs; the time left is shown once some are timed",
    }
    if run.task.layout.growth is not None:
        facts["growth"] = _growth(train, asked.strong_views, schedule.iterations, run.task.layout)
    published = getattr(config.data, "published", None) and "precision" not in config.chosen
    if published and train.precision == "fp32" and multiplies_bf16(run.device):
        facts["precision"] = "fp32, as published; --precision bf16 may be faster on this device"
    facts |= {f"auto: {name}": choice for name, choice in config.chosen.items()}
    return facts if run.folder == PLANNED else {**facts, "run": str(run.folder)}


def _rounds(rounds: Sequence[Round]) -> str:
    """The runs that a run takes, in its sub-folders, and itself."""
    return f"{' → '.join([one.folder for one in rounds[:-1]])} → this run: {len(rounds)} runs with fresh weights"


def _growth(train: TrainSettings, strong: int, iterations: int, layout: BatchLayout) -> str:
    """How the unlabelled batch grows, and what that saves: a pass that learns counts as three that do not."""
    full, saved = iterations * layout.unlabeled_batch, layout.saved_before(iterations)
    passes = 1 + 3 * strong
    labeled = 3 * iterations * train.batch
    times = (labeled + passes * full) / (labeled + passes * (full - saved))
    return (
        f"{train.batch} to {layout.unlabeled_batch} unlabelled images a step (train.growth {train.growth:g}): "
        f"{100 * saved / full:.0f} % fewer over the run, {times:.1f} times less compute"
    )


def _held_out(task: Task) -> str:
    """What labelled images that are not learned from are there for."""
    count, left = len(task.calibration), task.manifest()["counts"]["labeled"]
    return f"{count} of {count + left} labelled images: how often pseudo-labels are right (method.threshold auto)"


def _computed(train: TrainSettings, device: torch.device) -> str:
    """Precision, compilation and, where they are chosen among, the kernels of attention."""
    rounds = device.type == "cuda" or train.precision != "tf32"
    words: list[str] = [train.precision if rounds else "tf32 (fp32 on this device)"]
    words += [f"compiled ({train.compile})"] if train.compiled else []
    kernels = attention_backends(device, train.precision)
    words += [f"attention {', '.join(kernels)}"] if kernels else []
    return " · ".join(words)


def _origin(model: EncoderSettings) -> str:
    """Where pretrained weights of a short name come from."""
    if model.encoder.startswith(SENSORS) and model.weights == "pretrained":
        return " · torchgeo"
    known = ENCODERS.get(model.encoder) if model.weights == "pretrained" else None
    return "" if known is None else f" · {'package ' if known.package else 'huggingface.co/'}{known.repository}"
