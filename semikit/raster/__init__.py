"""Georeferenced images, read and written; knows nothing of learning."""
