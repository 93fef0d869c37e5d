"""The user's own labelled images: a YAML file, or a folder with a subfolder for each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, final

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from semikit.data.shards.spec import Shards, kind_of
from semikit.data.spec import placed, read_spec
from semikit.errors import DataError
from semikit.settings.base import Location, Settings, one_or_many

TABLES = frozenset({".csv", ".tsv", ".txt"})
"""Suffixes of lists; anything else is a folder."""


def _labelled(raw: Any) -> Any:
    """A path stands for a folder of classes or, by its suffix, for a table of labels."""
    if not isinstance(raw, (str, Path)):
        return raw
    return {"labels" if Path(raw).suffix.lower() in TABLES else "images": raw}


@final
class LabelledImages(Settings):
    """Images of known class: a folder CLASS/*.jpg, or a table `file,label`."""

    images: Location | None = None
    """Folder with one subfolder for each class; beside `labels`, the folder its files are below."""
    labels: Location | None = None
    """CSV with the columns file and label; files count from `images`, else from the CSV's folder."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.images is None and self.labels is None:
            raise ValueError("give a folder with one subfolder for each class (images), or a CSV file,label (labels)")
        return self


Part = Annotated[LabelledImages, BeforeValidator(_labelled)]


@final
class LabelSpec(Settings):
    """Folders, tables and classes of a classification data set of the user's own."""

    train: Part
    """Images to learn from; a folder of classes or a CSV file,label. No label: never labelled."""
    unlabeled: Annotated[
        tuple[
            Annotated[Annotated[Location, Tag("folder")] | Annotated[Shards, Tag("pool")], Discriminator(kind_of)], ...
        ],
        BeforeValidator(one_or_many),
    ] = ()
    """More images to learn from: folders, searched with their subfolders, or lists with one file a line; or the shards
    of a large pool."""
    val: Annotated[LabelledImages | None, BeforeValidator(_labelled)] = None
    """Images the best model is chosen on; without them some of train are held out."""
    test: Annotated[LabelledImages | None, BeforeValidator(_labelled)] = None
    """Images for the final score."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Names of the classes 0..K-1; default those of train, sorted."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = self.classes or ()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"class names must differ, got twice: {', '.join(twice)}")
        return self


def load_labels(data: Path | Mapping[str, Any], root: Path | None = None) -> LabelSpec:
    """The data set of a YAML file or mapping, or of a folder with train/CLASS/* (val/CLASS/* …).

    Raises:
        DataError: no such file or folder, or a folder without train/.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping) or not data.is_dir():
        return read_spec(LabelSpec, data, root)
    return folder_spec(data)


def folder_spec(folder: Path) -> LabelSpec:
    """The data set of a folder with train/CLASS/* (val/CLASS/*, test/CLASS/*, unlabeled/*).

    Raises:
        DataError: without train/.
    """
    found = {part: str(folder / part) for part in ("train", "val", "test", "unlabeled") if (folder / part).is_dir()}
    if "train" not in found:
        inner = ", ".join(sorted(item.name for item in folder.iterdir())[:10]) or "nothing"
        raise DataError(
            f"{folder} has no train/, only {inner}. A folder of images holds train/CLASS/* (val/CLASS/*, test/CLASS/*, "
            "unlabeled/*); other layouts are described by a YAML file."
        )
    return placed(LabelSpec.model_validate(found), Path.cwd())
