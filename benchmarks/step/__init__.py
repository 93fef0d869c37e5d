"""The training step in its parts, the forms of public code beside it, and RandAugment beside PIL's."""
