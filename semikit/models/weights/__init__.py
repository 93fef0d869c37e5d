"""Weights of networks, in and out."""
