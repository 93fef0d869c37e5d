"""Settings of the optimiser and of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

from pydantic import AfterValidator, Field, field_validator, model_validator

from semikit.core.batch import Normalise
from semikit.core.task import Counts
from semikit.errors import ConfigError
from semikit.settings.base import Settings
from semikit.training.device import device_name

Log = Annotated[
    Literal["wandb", "mlflow", "tensorboard"], AfterValidator(lambda to: to if to != "tensorboard" else None)
]
Compile = Literal["off", "default", "reduce-overhead", "max-autotune"]


@final
class OptimizerSettings(Settings):
    """AdamW or SGD with one rate for the encoder and one for everything else (PROTOCOL: as released)."""

    name: Literal["adamw", "sgd"] = "adamw"
    """Which optimiser; both use torch's fused kernels."""
    lr: float = Field(2e-4, gt=0)
    """Learning rate of everything but the encoder."""
    encoder_lr: float | None = Field(5e-6, gt=0)
    """Learning rate of the encoder; null: the same as `lr` (networks from scratch)."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled (AdamW) or L2 (SGD), on all parameters."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD only."""
    nesterov: bool = False
    """SGD only: look ahead along the momentum."""
    decay_norms: bool = True
    """Whether weights of norms and biases decay too (as released for UniMatch; not in classification)."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Factor by which the encoder's rate falls from one layer to the one before (transformers of timm); null: none."""
    schedule: Literal["poly", "constant", "cosine", "half-cosine"] = "poly"
    """poly: (1 - step / total) ** power, set after the step as released; cosine: cos(cycles · π · step / total);
    half-cosine: from the whole rate after the warm-up down to 0."""
    cycles: float = Field(7 / 16, gt=0, le=0.5)
    """Half turns of the cosine schedule over the run."""
    power: float = Field(0.9, gt=0)
    """Exponent of the poly schedule."""
    warmup: int = Field(0, ge=0)
    """Iterations of linear warm-up."""


@final
class TrainSettings(Settings):
    """Length, batch and engine of a run."""

    iterations: int | None = Field(None, ge=1)
    """Optimiser steps; null: from `epochs`."""
    epochs: int | None = Field(None, ge=1)
    """Optimiser steps as passes over the unlabelled images; instead of `iterations`."""
    batch: int = Field(16, ge=1)
    """Labelled images per step over all processes."""
    ratio: int = Field(1, ge=1)
    """Unlabelled images per labelled image."""
    growth: float | None = Field(None, ge=0, lt=1)
    """The unlabelled batch grows over the run from `batch` to `ratio` times `batch` images (Fast FixMatch): 0 linearly,
    higher values ever later (0..1; 0.7 as published); null: it has all of them from the start. Iterations stay those of
    the full batch, also of `epochs`."""
    group: int = Field(4, ge=1)
    """Consecutive images that were one process's batch in the published recipe."""
    accumulate: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Micro-batches per step and process; the total batch stays the same. auto: as few as fit into the memory of a CUDA
    device, found by trying before the run begins; 1 elsewhere."""
    seed: int = Field(0, ge=0)
    """Of everything that is drawn."""
    device: str = "auto"
    """auto: cuda, else mps, else cpu; a number or cuda:N: that GPU."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of the forward passes; weights stay fp32. auto: bf16 on CUDA devices of compute capability 8.0 and above, fp32
    elsewhere; a run's own config.yaml holds what came of it. tf32: float32 whose products a CUDA device rounds to TF32;
    fp32 elsewhere."""
    compile: Compile = "off"
    """torch.compile the training step, on CUDA the views too (not evaluation or prediction). default: fused kernels;
    reduce-overhead: with CUDA graphs; max-autotune: kernels tried against each other as well, which takes longest.
    true is default, false off."""
    shard: bool = False
    """Share the parameters, gradients and optimiser state of the networks out over the processes (FSDP2)."""
    reduce_dtype: Literal["fp32", "bf16"] = "fp32"
    """Type in which gradients are summed over the processes; bf16 sends half the bytes."""
    workers: int = Field(2, ge=0)
    """Processes that decode and crop."""
    epoch_images: int | None = Field(None, ge=1)
    """Methods without unlabelled images: a shorter labelled list is repeated up to so many images for an epoch, as
    released; null: their epoch is that of the other methods."""
    eval_every: Annotated[int, Field(ge=1)] | Literal["epoch"] | None = None
    """Iterations between evaluations; epoch: once per epoch; null: the same, but at most 20 times a run."""
    patience: int | None = Field(None, ge=1)
    """Evaluations in a row without a better best after which the run ends; null: it never ends early."""
    start_from: str | None = None
    """A run folder or weights file whose best network the run begins with (`--from`); null: the encoder's weights alone
    are taken from elsewhere (`model.weights`)."""
    save_every: int | None = Field(None, ge=1)
    """Iterations between checkpoints; null: as often as evaluations."""
    snapshots: int = Field(0, ge=0)
    """Students that are kept at equal parts of the run, weights/snapshot-1.safetensors and so on, the last one at its
    end (for ST++, which compares them); 0: none."""
    log_every: int = Field(20, ge=1)
    """Iterations between readings of losses from the device."""
    log: Log | None = None
    """A service that the numbers of steps and evaluations go to as well (extras `wandb`, `mlflow`); null or
    tensorboard: TensorBoard alone."""
    max_skipped: int = Field(0, ge=0)
    """Steps with a non-finite loss or gradient that are skipped before the run stops."""
    max_bad_files: int = Field(10, ge=0)
    """Different files that may turn out unreadable before the run stops; each is named, and another image stands in."""
    guard: Literal["tell", "act"] = "tell"
    """Where the unlabelled loss never begins, classes collapse or the teacher lags: tell names what to try next; act
    does it and says so (a threshold for each class, a ramp, a faster teacher)."""
    normalise: Normalise = "total"
    """Denominators of the losses: counts over the total batch, or per process as released."""
    class_weights: Literal["balanced", "effective"] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Weights of the classes in the supervised loss: balanced (1 / pixels or images), effective (by the effective
    number of labelled images, β 0.9999), or name: weight (others 1); a run's own config.yaml holds what came of it."""
    protocol: Literal["strict", "paper"] = "strict"
    """strict: the best is chosen on val and test is read once; paper: chosen on test where there is one."""

    select: Literal["better", "teacher", "student"] = "better"
    """Which network the best is chosen among: the better of both, the teacher (paper), the student (as released)."""

    @field_validator("device", mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        """YAML reads `0` as a number."""
        return device_name(raw) if isinstance(raw, str | int) else raw

    @field_validator("compile", mode="before")
    @classmethod
    def _switched(cls, raw: Any) -> Any:
        """YAML reads `off` as false, and runs of before hold true and false."""
        return ("default" if raw else "off") if isinstance(raw, bool) else raw

    @model_validator(mode="after")
    def _length(self) -> TrainSettings:
        if self.iterations is None and self.epochs is None:
            raise ValueError("give train.iterations or train.epochs (--iterations N, --epochs N)")
        if self.iterations is not None and self.epochs is not None:
            raise ValueError(
                f"train.iterations {self.iterations} and train.epochs {self.epochs} both say how long; keep one"
            )
        if self.batch % self.micro_batches:
            raise ValueError(f"train.batch {self.batch} is not a multiple of train.accumulate {self.accumulate}")
        if self.shard and self.accumulate == "auto":
            raise ValueError("train.accumulate auto tries what fits in one process; with train.shard give a number")
        if self.shard and self.precision == "fp16":
            raise ValueError("train.shard with train.precision fp16: use bf16 or fp32, which need no loss scaling")
        if self.shard and self.compiled:
            raise ValueError("train.shard and train.compile exclude each other; keep one")
        return self

    @model_validator(mode="after")
    def _grows(self) -> TrainSettings:
        if self.growth is not None and self.ratio == 1:
            raise ValueError("train.growth lets the ratio grow from 1 to train.ratio, which is 1; give a larger one")
        if self.growth is not None and self.compiled:
            raise ValueError("train.growth changes the size of a step, which train.compile compiles once; keep one")
        return self

    @property
    def compiled(self) -> bool:
        """Whether the step is compiled."""
        return self.compile != "off"

    @property
    def micro_batches(self) -> int:
        """Micro-batches per step and process; 1 as long as they are not planned."""
        return 1 if self.accumulate == "auto" else self.accumulate


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Lengths in iterations: of the run, of an epoch, between evaluations, between checkpoints."""

    iterations: int
    per_epoch: int
    eval_every: int
    save_every: int


def schedule_of(train: TrainSettings, counts: Counts, learns_unlabeled: bool = True) -> Schedule:
    """Lengths in iterations. An epoch is one pass over the unlabelled images (where there are none, the labelled).

    As released, each of batch / group processes takes its rounded-up share and drops its last incomplete batch, and a
    method that learns from labelled images alone may count its epochs over these (`train.epoch_images`). Where nobody
    has counted the unlabelled images (shards), an epoch is a pass over the labelled ones.
    """
    images, batch = counts.unlabeled or counts.labeled, train.batch * train.ratio
    if counts.unlabeled is None:
        batch = train.batch
    if train.epoch_images is not None and not learns_unlabeled:
        images, batch = max(counts.labeled, train.epoch_images), train.batch
    processes = max(1, batch // train.group)
    per_epoch = max(1, -(-images // processes) // max(1, batch // processes))
    iterations = train.iterations or (train.epochs or 1) * per_epoch
    eval_every = train.eval_every or max(min(per_epoch, iterations), -(-iterations // 20))
    if eval_every == "epoch":
        eval_every = per_epoch
    return Schedule(iterations, per_epoch, eval_every, train.save_every or eval_every)


def check_micro_batches(train: TrainSettings, processes: int, ohem: bool) -> None:
    """Refuse numbers of processes and micro-batches that do not divide the batch.

    Raises:
        ConfigError: also where hard examples are mined inside groups and a micro-batch does not hold whole ones.
    """
    if train.batch % processes:
        fitting = [count for count in range(1, train.batch + 1) if train.batch % count == 0]
        raise ConfigError(
            f"train.batch={train.batch} cannot be shared evenly by {processes} processes. Start "
            f"{' or '.join(map(str, fitting))}, or change --batch."
        )
    own = train.batch // processes
    if own % train.micro_batches:
        raise ConfigError(
            f"each of {processes} processes has {own} of train.batch={train.batch} labelled images, which "
            f"train.accumulate={train.micro_batches} micro-batches cannot share evenly. Change one."
        )
    if ohem and (own // train.micro_batches) % train.group:
        raise ConfigError(
            f"method.ohem mines inside groups of {train.group}, so a micro-batch has to hold whole groups; "
            f"train.batch={train.batch} / {processes} processes / train.accumulate={train.micro_batches} does not. "
            "Change one."
        )


def describe_step(train: TrainSettings, processes: int, learns_unlabeled: bool) -> str:
    """The images of a step and how they are shared: "16 + 16 images = 2 processes x 2 micro-batches of 4 + 4"."""

    def images(labeled: int) -> str:
        few = "" if train.growth is None else f"{labeled} … "
        return f"{labeled} + {few}{labeled * train.ratio}" if learns_unlabeled else f"{labeled}"

    whole = f"{images(train.batch)} images"
    if processes * train.micro_batches == 1:
        return whole
    micro = train.batch // processes // train.micro_batches
    shares = [f"{processes} processes"] if processes > 1 else []
    shares += [f"{train.micro_batches} micro-batches"] if train.micro_batches > 1 else []
    return f"{whole} = {' x '.join(shares)} of {images(micro)}"
