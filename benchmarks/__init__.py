"""Measurements of the repository; not in the wheel."""
