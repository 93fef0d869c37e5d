"""Pools of unlabelled images in tar files."""
