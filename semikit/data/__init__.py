"""Readers, splits and their record, checks, loaders, and the built-in data set."""
