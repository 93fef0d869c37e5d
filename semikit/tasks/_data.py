"""Where tasks of pixels take images and masks from: the user's folders, a published data set, made images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.core.settings import Location, Settings
from semikit.data.folders import resolve, unlabeled_folder
from semikit.data.published import official
from semikit.data.published.catalogue import published_names
from semikit.data.published.prepared import Prepared, open_prepared, part_of
from semikit.data.shapes import CLASS_NAMES, ShapesSettings, ShapesSource
from semikit.data.sources import PixelSource
from semikit.data.spec import DataSpec, ImageFolder, Scale
from semikit.data.splits import Official
from semikit.errors import DataError
from semikit.tasks._palette import Palette, palette

SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@final
class PublishedData(Settings):
    """A published data set in a prepared root."""

    name: str
    """As `semikit data list` has it."""
    root: Location | None = None
    """The prepared root; null: $SEMIKIT_DATA/NAME, else ./data/NAME."""


class PixelData(Settings):
    """Where images and masks come from; one of `folders`, `published` and `shapes`."""

    folders: DataSpec | None = None
    """The user's own folders, as in the data YAML."""
    published: PublishedData | None = None
    """A published data set."""
    shapes: ShapesSettings | None = None
    """The built-in procedural images."""
    labels: Annotated[str | None, BeforeValidator(_text)] = None
    """Labelled images: a number, a fraction, a file of names, official:SPLIT; null or all: every one with a mask."""
    unlabeled: tuple[str, ...] = ()
    """More unlabelled images: folders, or published data sets (coco, coco:unlabeled)."""
    split_seed: int | None = Field(None, ge=0)
    """Seed of the choice of labelled images; null: the run's."""

    @model_validator(mode="after")
    def _one_source(self) -> PixelData:
        given = [name for name in ("folders", "published", "shapes") if getattr(self, name) is not None]
        if not given:
            raise ValueError(
                "no data given: use --data FILE.yaml for your own folders, or --dataset NAME (semikit list datasets)"
            )
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'data.{name}' for name in given)} are given together; keep one")
        if self.shapes is not None and self.unlabeled:
            raise ValueError("data.unlabeled: the made images take no others; leave out --unlabeled")
        return self


@final
@dataclass(frozen=True, slots=True)
class PixelSources:
    """Everything a task of pixels reads, opened: no image is, unless a range of values had to be sampled.

    `official` resolves official splits and is None where there are none; `scale` is the range of raster values in use.
    """

    train: PixelSource
    unlabeled: Sequence[PixelSource]
    val: PixelSource
    test: PixelSource | None
    class_names: tuple[str, ...]
    palette: Palette
    scale: Scale | None = None
    official: Official | None = None


def open_sources(data: PixelData) -> PixelSources:
    """The sources a configuration names.

    Raises:
        DataError: folders or prepared roots that are not as described.
    """
    if data.shapes is not None:
        train, val, test = (ShapesSource(data.shapes, name) for name in SPLITS)
        return PixelSources(train, (), val, test, CLASS_NAMES, palette(len(CLASS_NAMES)))
    if data.published is not None:
        return _published(data, open_prepared(data.published.name, data.published.root))
    assert data.folders is not None
    named = [text for text in data.unlabeled if _is_published(text)]
    more = [ImageFolder(images=Path(text).absolute()) for text in data.unlabeled if text not in named]
    spec = data.folders.model_copy(update={"unlabeled": (*data.folders.unlabeled, *more)})
    found = resolve(spec)
    extra = (*found.unlabeled, *(_named(text, None) for text in named))
    return PixelSources(found.train, extra, found.val, found.test, spec.classes, palette(spec.num_classes), found.scale)


def _published(data: PixelData, prepared: Prepared) -> PixelSources:
    known = prepared.published
    extra = [
        _named(text, prepared)
        if _is_published(text)
        else unlabeled_folder(Path(text).absolute(), known.values, f"unlabeled[{k}]")
        for k, text in enumerate(data.unlabeled)
    ]

    def names(split: str) -> list[str]:
        return [image.rpartition(".")[0] for image in official.labeled_images(prepared, split)]

    return PixelSources(
        train=prepared.source("train"),
        unlabeled=extra,
        val=prepared.source("val"),
        test=None,
        class_names=known.classes,
        palette=palette(len(known.classes), known.palette),
        official=names,
    )


def _is_published(text: str) -> bool:
    """Whether this names a published data set; a folder of the same name comes first."""
    return text.partition(":")[0] in published_names() and not Path(text).is_dir()


def _named(text: str, own: Prepared | None) -> PixelSource:
    """The images of a part of a published data set, taken from the run's own root where it is the same set.

    Raises:
        DataError: when it is what is learned from already.
    """
    name, part = part_of(text)
    if own is None or own.published.name != name:
        return open_prepared(name).source(part)
    if part in ("train", "val"):
        raise DataError(
            f"--unlabeled {text}: these are the {part} images of {name} itself. Parts without masks: "
            f"{', '.join(f'{name}:{extra}' for extra in own.published.extra) or 'none'}."
        )
    return own.source(part)
