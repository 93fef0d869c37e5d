"""Weak-to-strong learning, free of any task: tensors in, loss out."""
