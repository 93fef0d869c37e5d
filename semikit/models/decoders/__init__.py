"""Decoders, one a file; each binds `plugin` to a `semikit.models.decoders._base.Decoder`."""
