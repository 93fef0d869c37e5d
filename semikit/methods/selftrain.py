"""Self-training in rounds (Zhang et al. 2025): networks learn from labels alone, label, and a fresh one learns that.

Tasks: seg, cd, cls
Paper: arXiv 2503.09707
Cost: two runs or more
For: pretrained encoders with LoRA; labels of several networks

After V-PET: hard labels of networks that stay as they are, all of them, without a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field
from torch import Tensor

from semikit.core.batch import Labeled, Prediction, Pseudo, Requirements, RunInfo, StepResult, Unlabeled
from semikit.core.losses import UnlabeledLoss
from semikit.core.method import Method, Round
from semikit.core.network import Network
from semikit.core.pseudo_labels import PseudoLabelRule, predict_logits
from semikit.core.settings import GivenTeacher, UnlabeledSettings, named_run
from semikit.core.student_views import check_forward, student_views
from semikit.core.thresholds import FixedThreshold

LABELED_ROUND = "1-labelled"
"""Sub-folder of the run from labelled images alone."""


def named_runs(raw: Any) -> Any:
    """A path, or a list of paths, as the settings of given teachers."""
    runs = [raw] if isinstance(raw, dict) or (isinstance(raw, str) and len(Path(raw).parts) > 1) else raw
    return tuple(named_run(one) for one in runs) if isinstance(runs, list | tuple) else runs


class RoundSettings(UnlabeledSettings):
    """Who labels, and how the labels are learned."""

    teacher: Annotated[Literal["rounds"] | tuple[GivenTeacher, ...], BeforeValidator(named_runs)] = "rounds"  # type: ignore[assignment]
    """Whose labels are learned: the networks of the rounds before, which are trained in sub-folders of the run, or
    those of other runs (`--teacher RUN`, a list of several: the mean of their hard labels)."""
    forward: Literal["auto", "fused", "separate"] = "auto"
    """How images pass through the student: auto, fused or separate."""


@final
class SelfTrainConfig(RoundSettings):
    """Settings of self-training; with a pretrained encoder the paper adapts it by LoRA (`model.lora`)."""

    teachers: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = ({},)
    """Of each labelled-only teacher what is laid over the settings of the run, as {model: {encoder: …}}; another one
    has another seed too, and the mean of the hard labels of all is learned."""
    rounds: int = Field(default=1, ge=1)
    """Rounds of labels and fresh weights after the labelled-only one; the network of each labels for the next."""


@final
class SelfTraining(Method):
    """A student that learns hard labels of frozen networks, at all positions, on one strong view (V-PET, Algorithm 1).

    Labels are those of the weak view at each step, not of whole images stored beforehand. Where no network is given (a
    plan) its own average labels.
    """

    Config = SelfTrainConfig
    config: RoundSettings

    @classmethod
    def requirements(cls, config: RoundSettings) -> Requirements:
        """One strong view."""
        return Requirements(strong_views=1)

    @classmethod
    def rounds(cls, config: Any) -> Sequence[Round]:
        """Labelled-only teachers (a), then rounds of labels (b, c) and fresh weights (d)."""
        if config.teacher != "rounds":
            return ()
        several = len(config.teachers) > 1
        names = [LABELED_ROUND + (f"-{k}" if several else "") for k in range(1, len(config.teachers) + 1)]
        first = [
            Round(name, labeled_only(settings), seeds=k)
            for k, (name, settings) in enumerate(zip(names, config.teachers, strict=True))
        ]
        later: list[Round] = []
        for number in range(2, config.rounds + 1):
            later.append(Round(f"{number}-all", teachers=tuple(names)))
            names = [later[-1].folder]
        return [*first, *later, Round("", teachers=tuple(names))]

    def __init__(self, network: Network, config: RoundSettings, run_info: RunInfo) -> None:
        super().__init__(network, config, run_info)
        check_forward(config.forward, network, config.batch_norm)
        self.unlabeled_loss = UnlabeledLoss(config, run_info)
        threshold = FixedThreshold(0.0)
        self.rule = PseudoLabelRule(run_info, threshold, class_balance=config.class_balance)
        self.mean = PseudoLabelRule(run_info, threshold, soft_labels=1.0, class_balance=config.class_balance)

    def pseudo_labels(self, unlabeled: Unlabeled | None, step: int) -> Pseudo:
        """The likeliest class by one network, or the mean of the hard labels of several (b, c)."""
        assert unlabeled is not None
        self.unlabeled_loss.begin(step)
        sources = self.given or (self.teacher,)
        labels = [predict_logits(source, unlabeled.weak, self.label_pass).argmax(dim=1) for source in sources]
        if len(labels) == 1:
            return self.rule.targets(Prediction(labels[0], torch.ones_like(labels[0], dtype=torch.float)), unlabeled)
        votes = torch.stack([self._one_hot(one) for one in labels]).mean(dim=0)
        confidence, most = votes.max(dim=1)
        return self.mean.targets(Prediction(most, confidence, votes), unlabeled)

    def _one_hot(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.run_info.num_classes).movedim(-1, 1).float()

    def forward(self, labeled: Labeled, unlabeled: Unlabeled | None, pseudo: Pseudo | None) -> StepResult:
        """The supervised loss and that of the labels (d)."""
        assert unlabeled is not None
        assert pseudo is not None
        config = self.config
        pred = student_views(self.student, labeled, unlabeled, config.forward, statistics=config.batch_norm)
        loss_x = self.supervised_loss(pred.labeled, labeled)
        loss_u = self.unlabeled_loss(pred.strong[0], pseudo.views[0])
        return self.unlabeled_loss.combine(loss_x, loss_u, labeled, pseudo.weak)


def labeled_only(settings: Mapping[str, Any], **train: Any) -> dict[str, Any]:
    """What a run from labelled images alone lays over the settings; `train` are keys of that section."""
    method = {"name": "supervised", **settings.get("method", {})}
    return {**settings, "method": method, "train": {**train, **settings.get("train", {})}}


plugin = SelfTraining
