"""Methods: one paper, one file, with its settings beside it."""
