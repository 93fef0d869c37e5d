"""Where classification takes its images from: the user's folders and tables, a published data set, made images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from semikit.data.class_folders import plain_images, resolve_labels
from semikit.data.class_sources import ClassSource
from semikit.data.class_spec import LabelSpec
from semikit.data.class_splits import OfficialList
from semikit.data.folders import apart, in_real_folder
from semikit.tasks._data import SourceSettings


@final
class ClassData(SourceSettings):
    """Where labelled images come from; one of `folders`, `published` and `shapes`."""

    KINDS = ("folders",)

    folders: LabelSpec | None = None
    """The user's own images, as in the data YAML."""


@final
@dataclass(frozen=True, slots=True)
class ClassParts:
    """Everything classification reads, opened: no image is.

    `unlabeled` are sources beside train; `official` leads to official lists and is None where there are none;
    `notices` are what a person should know; `made` says that images are made or in memory, so that no file is checked.
    """

    train: ClassSource
    unlabeled: tuple[ClassSource, ...]
    val: ClassSource
    test: ClassSource | None
    class_names: tuple[str, ...]
    official: OfficialList | None = None
    notices: Sequence[str] = ()
    made: bool = False


def open_classes(data: ClassData) -> ClassParts:
    """The sources a configuration names.

    Raises:
        DataError: folders, tables or roots that are not as described.
    """
    assert data.folders is not None
    found = resolve_labels(data.folders)
    more = more_images(data.unlabeled)
    apart({"train": found.train, "val": found.val, "test": found.test, **more}, in_real_folder)
    return ClassParts(found.train, (*found.unlabeled, *more.values()), found.val, found.test, found.class_names)


def more_images(places: Sequence[str]) -> dict[str, ClassSource]:
    """Images of folders or lists given by --unlabeled, by what errors call them."""
    return {f"--unlabeled {text}": plain_images(Path(text).absolute(), f"--unlabeled {text}") for text in places}
