"""The parts a step is split in, under the names the tables show."""

from __future__ import annotations

LOADER = "views by PIL, in the loader"
VIEWS = "host to device, views"
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

ORDER = (VIEWS, TEACHER, LABELED, STRONG, FUSED, LOSSES, COMPILED, BACKWARD, OPTIMIZER, EMA, MIXING, DRAWS)
"""The parts of a step, all in the process that trains; `LOADER` is work of other processes."""
