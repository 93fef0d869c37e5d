"""Encoders: images in, feature maps out."""
