"""What `semikit benchmark` measures: the training step in its parts, a plain form of it beside it, and the loader."""
