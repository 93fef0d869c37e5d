"""The life of a run: from a configuration to its results."""
