"""Where classification takes its images from: the user's folders and tables, a published data set, made images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

from pydantic import Field

from semikit.data.class_folders import plain_images, resolve_labels
from semikit.data.class_parts import ClassParts
from semikit.data.class_published import PublishedImages, open_published_images
from semikit.data.class_sources import ClassSource
from semikit.data.class_spec import LabelSpec
from semikit.data.class_splits import held_out
from semikit.data.folders import apart, in_real_folder
from semikit.data.shards.images import PoolRgb
from semikit.data.shards.spec import pool_among
from semikit.data.synthetic.class_shapes import ClassShapesSettings, open_shapes
from semikit.tasks._data import SourceSettings
from semikit.tasks._shards import open_pool


@final
class ClassData(SourceSettings):
    """Where labelled images come from; one of `folders`, `published` and `shapes`."""

    KINDS = ("folders", "published", "shapes")

    folders: LabelSpec | None = None
    """The user's own images, as in the data YAML."""
    published: PublishedImages | None = None  # type: ignore[assignment]
    """A published data set."""
    validation: int | None = Field(None, ge=1)
    """Images of train held out to choose the best on, in balance, where there are none for that and it is not chosen on
    the test images (`--protocol paper`); null: a tenth, at most 5000."""
    shapes: ClassShapesSettings | None = None
    """The built-in procedural images."""


def open_classes(data: ClassData, on_test: bool) -> tuple[ClassParts, ClassSource]:
    """The sources a configuration names, and the images the best is chosen on; `on_test`: these are the test images.

    Raises:
        DataError: folders, tables or roots that are not as described.
    """
    parts = _opened(data)
    if parts.val is None and not (on_test and parts.test is not None):
        parts = held_out(parts, data.validation)
    val = parts.test if parts.val is None else parts.val
    assert val is not None
    return parts, val


def _opened(data: ClassData) -> ClassParts:
    if data.shapes is not None:
        return open_shapes(data.shapes)
    places = tuple(Path(text).absolute() for text in data.unlabeled)
    if data.folders is not None:
        spec = data.folders
        folders, shards = pool_among(spec.unlabeled, data.unlabeled)
        parts = resolve_labels(spec.model_copy(update={"unlabeled": (*folders, *places)}))
        return parts if shards is None else replace(parts, pool=open_pool(shards, PoolRgb()))
    assert data.published is not None
    parts = open_published_images(data.published)
    more = {f"--unlabeled {place}": plain_images(place, f"--unlabeled {place}") for place in places}
    apart({"train": parts.train, "val": parts.val, "test": parts.test, **more}, in_real_folder)
    return replace(parts, unlabeled=(*parts.unlabeled, *more.values()))
