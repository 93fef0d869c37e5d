"""semikit: few labels, many images.

Where things live:
    semikit.core       weak-to-strong learning, free of any task: tensors in, loss out
    semikit.methods    one paper, one file: supervised, fixmatch, unimatch_v1, unimatch_v2
    semikit.models     encoders (timm), decoders, weights in and out
    semikit.augment    weak geometry in the workers, strong views on the device (kornia)
    semikit.data       readers, splits, checks, loaders, rasters, the built-in data sets
    semikit.tasks      seg, cd: what joins all of these
    semikit.training   the loop, checkpoints, tracking
    semikit.run.recipes    YAML files and overrides, laid over one another; the files are in semikit/configs
    semikit.run.config     their values -> one validated object
    semikit.run.build      that object -> a trainer (semikit.run.resume goes on with one)
    semikit.run.load    a path -> a trained network
    semikit.benchmark  the training step measured, against the form of the field's public code
    semikit.cli        the command line
"""

__version__ = "0.1.0"
