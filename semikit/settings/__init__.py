"""The base of all settings, and what is said of wrong ones."""
