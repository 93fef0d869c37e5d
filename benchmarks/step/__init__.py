"""The training step in its parts, the forms of public code beside it, RandAugment beside PIL's, and the loader."""
