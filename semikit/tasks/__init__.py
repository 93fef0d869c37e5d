"""The only place that joins model, data, augmentation, metric and picture.

One module a task, found by the name the command line takes (`seg`); modules with a leading underscore are parts that
tasks of pixels share.
"""
