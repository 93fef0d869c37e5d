"""Batches of samples, made by workers."""
