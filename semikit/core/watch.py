"""Early warning of a teacher that is of no use."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

GAP = 10.0
"""How far the teacher may stay behind the student, in points. With BEiT it stayed 18 behind in the authors' logs
(Table 9); with DINOv2 by 7 (Cityscapes) and 11 (WHU-CD) after the first epoch only."""

PATIENCE = 2
"""Evaluations in a row the teacher has to be behind before the student takes its place."""

COLLAPSE = 0.25
"""Part of its largest value so far below which the confident share has collapsed."""


@final
class TeacherWatch(nn.Module):
    """Looks at every evaluation; `switched` once the student should label instead. Its state is saved with the run."""

    def __init__(self) -> None:
        super().__init__()
        self.behind = 0
        self.share = 0.0
        self.switched = False

    def evaluated(self, student: float, teacher: float, confident: float | None, may_switch: bool) -> list[str]:
        """What a person should know after an evaluation; scores in percent, the confident share in 0..1 or unknown."""
        told = self._gap(student, teacher, may_switch)
        if confident is not None:
            told += self.shared(confident)
        return told

    def _gap(self, student: float, teacher: float, may_switch: bool) -> list[str]:
        self.behind = self.behind + 1 if student - teacher > GAP else 0
        if not self.behind or self.switched:
            return []
        told = f"the teacher is {student - teacher:.1f} points behind the student ({teacher:.1f} against {student:.1f})"
        if self.behind < PATIENCE:
            return [f"{told}. Early on that passes; if it stays, its labels hold the student back."]
        if may_switch:
            self.switched = True
            return [f"{told}, again: from now on the student labels (method.teacher auto)."]
        return [
            f"{told}, again. method.teacher=student or auto lets the student label; a smaller ema_decay follows it."
        ]

    def shared(self, confident: float) -> list[str]:
        """What a person should know of the confident share (0..1) since the evaluation before."""
        # The last bits depend on where a resumed run was interrupted.
        before, self.share = self.share, max(self.share, round(confident, 6))
        if before <= 0 or confident >= COLLAPSE * before:
            return []
        return [
            f"the share of confident pseudo-labels fell to {100 * confident:.1f} %, from up to {100 * before:.1f} %: "
            "there is little left to learn from. Look at the loss and the learning rate; a lower method.threshold "
            "lets more count."
        ]

    def get_extra_state(self) -> Tensor:
        """What is saved: (3,), on the CPU. No buffer: a step that asked the device would wait for it."""
        return torch.tensor([self.behind, self.share, self.switched], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with what was saved."""
        behind, self.share, switched = state.tolist()
        self.behind, self.switched = int(behind), bool(switched)
