"""The parts a step is split in, under the names the tables show."""

from __future__ import annotations

AUGMENT = "augment"
TEACHER = "teacher forward, confidence"
LABELED = "student forward, labelled"
STRONG = "student forward, strong"
FUSED = "student forward, all in one call"
LOSSES = "losses"
COMPILED = "student forward and losses, compiled"
BACKWARD = "backward, zero_grad"
OPTIMIZER = "optimizer"
EMA = "EMA"
MIXING = "mixing"
DRAWS = "dropout masks"
STEP = "whole step"

ORDER = (AUGMENT, TEACHER, LABELED, STRONG, FUSED, LOSSES, COMPILED, BACKWARD, OPTIMIZER, EMA, MIXING, DRAWS)
