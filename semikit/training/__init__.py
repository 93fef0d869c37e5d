"""The loop around a method and a task: optimiser, checkpoints, tracking. Knows both only as abstractions."""
