"""Where tasks of pixels take images and masks from: the user's folders, a published data set, made images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.data.folders import Sources, apart, in_real_folder, resolve, unlabeled_folder
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.value_range import value_range
from semikit.data.palette import Palette, palette
from semikit.data.published import official
from semikit.data.published.catalogue import default_root, published_names, read_published
from semikit.data.published.prepared import BEGUN, RECORD, Prepared, open_prepared, part_of, read_record
from semikit.data.shards.images import PoolImage, PoolPair
from semikit.data.shards.pool import ShardPool
from semikit.data.shards.spec import pool_among
from semikit.data.sources import PixelSource
from semikit.data.spec import ClassSpec, DataSpec, ImageFolder, Scale
from semikit.data.splits import Official
from semikit.data.synthetic.shapes import CLASS_NAMES, ShapesSettings, ShapesSource
from semikit.errors import DataError
from semikit.settings.base import Location, Settings
from semikit.tasks._shards import open_pool

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


class SourceSettings(Settings):
    """What all tasks on pixels say of their data; one of the fields in `KINDS` tells where they come from."""

    KINDS: ClassVar[tuple[str, ...]]

    published: PublishedData | None = None
    """A published data set."""
    labels: Annotated[str | None, BeforeValidator(_text)] = None
    """Labelled images: a number, a fraction, a file of names, official:SPLIT; null or all: every one with a mask."""
    unlabeled: tuple[str, ...] = ()
    """More unlabelled images: folders, or published data sets (coco, coco:unlabeled)."""
    split_seed: int | None = Field(None, ge=0)
    """Seed of the choice of labelled images; null: the run's."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in self.KINDS if getattr(self, name) is not None]
        if not given:
            raise ValueError(
                "no data given: use --data FILE.yaml for your own folders, or --dataset NAME (semikit list datasets)"
            )
        if len(given) > 1:
            raise ValueError(f"{' and '.join(f'data.{name}' for name in given)} are given together; keep one")
        if given[0] not in ("folders", "published") and self.unlabeled:
            raise ValueError("data.unlabeled: the made images take no others; leave out --unlabeled")
        return self


@final
class PixelData(SourceSettings):
    """Where images and masks come from; one of `folders`, `published` and `shapes`."""

    KINDS = ("folders", "published", "shapes")

    folders: DataSpec | None = None
    """The user's own folders, as in the data YAML."""
    shapes: ShapesSettings | None = None
    """The built-in procedural images."""


@final
@dataclass(frozen=True, slots=True)
class PixelSources:
    """Everything a task on pixels reads, opened: no image is, unless a range of values had to be sampled.

    `official` resolves official splits and is None where there are none; `scale` is the range of raster values in use,
    `bands` the chosen ones; `synthetic` says that images are made, so that there are no files to check; `pool` are
    shards, which are then all that is unlabelled.
    """

    train: PixelSource
    unlabeled: Sequence[PixelSource]
    val: PixelSource
    test: PixelSource | None
    class_names: tuple[str, ...]
    palette: Palette
    bands: tuple[int, ...] | None = None
    scale: Scale | None = None
    official: Official | None = None
    synthetic: bool = False
    pool: ShardPool | None = None


def open_sources(data: PixelData) -> PixelSources:
    """The sources a configuration names.

    Raises:
        DataError: folders or prepared roots that are not as described.
    """
    if data.shapes is not None:
        train, val, test = (ShapesSource(data.shapes, name) for name in SPLITS)
        return PixelSources(train, (), val, test, CLASS_NAMES, palette(len(CLASS_NAMES)), synthetic=True)
    if data.published is not None:
        return open_published(data, data.published, unlabeled_folder)
    assert data.folders is not None
    return open_folders(data, data.folders, "seg", lambda folder: ImageFolder(images=folder), resolve, PoolImage)


S = TypeVar("S", bound=ClassSpec)


def open_folders(
    data: SourceSettings,
    spec: S,
    task: str,
    folder: Callable[[Path], Settings],
    resolve: Callable[[S], Sources[Any]],
    decoder: type[PoolImage] | type[PoolPair],
    colours: Callable[[int], Palette] = palette,
) -> PixelSources:
    """The sources of one's own data; `folder` describes a folder of more unlabelled images, `decoder` reads those
    of shards.

    Raises:
        DataError: folders or prepared roots that are not as described.
    """
    entries, shards = pool_among(spec.unlabeled, data.unlabeled)
    named = {text: prepared_part(text, None, task) for text in data.unlabeled}
    more = [folder(Path(text).absolute()) for text, source in named.items() if source is None]
    found = resolve(spec.model_copy(update={"unlabeled": (*entries, *more)}))
    bounds = None if found.scale is None else value_range(found.scale)
    prepared = {text: source for text, source in named.items() if source is not None}
    apart({"train": found.train, "val": found.val, "test": found.test, **prepared}, in_real_folder)
    return PixelSources(
        train=found.train,
        unlabeled=(*found.unlabeled, *prepared.values()),
        val=found.val,
        test=found.test,
        class_names=spec.classes,
        palette=colours(spec.num_classes),
        bands=spec.bands,
        scale=found.scale,
        pool=None if shards is None else open_pool(shards, decoder(spec.bands, bounds)),
    )


def open_published(
    data: SourceSettings, named: PublishedData, folder: Callable[[Path, MaskValues, str], PixelSource]
) -> PixelSources:
    """The sources of a published data set; `folder` opens a folder of more unlabelled images.

    Raises:
        DataError: prepared roots that are not as described.
    """
    prepared = open_prepared(named.name, named.root)
    known = prepared.published
    train, val = prepared.source("train"), prepared.source("val")
    test = prepared.source("test") if "test" in prepared.record.counts else None
    extra = {
        f"unlabeled[{k}]": prepared_part(text, prepared, known.task)
        or folder(Path(text).absolute(), known.values, f"unlabeled[{k}]")
        for k, text in enumerate(data.unlabeled)
    }
    apart({"train": train, "val": val, "test": test, **extra}, in_real_folder)

    def names(split: str) -> list[str]:
        return [known.named(image) for image in official.labeled_images(prepared, split)]

    return PixelSources(
        train=train,
        unlabeled=tuple(extra.values()),
        val=val,
        test=test,
        class_names=known.classes,
        palette=palette(len(known.classes), known.palette),
        official=names,
    )


def prepared_part(text: str, own: Prepared | None, task: str) -> PixelSource | None:
    """The images of a part of a prepared root, given by name (`coco:unlabeled`) or by folder (`DIR:unlabeled`); of the
    run's own data set they are taken from its own root. None where this is a folder of images.

    Raises:
        DataError: a root that is not whole, one of another task, or the images that are learned from already.
    """
    head, _, tail = text.rpartition(":")
    folder, part = (Path(head), tail) if head and Path(head).is_dir() else (Path(text), "")
    if (folder / RECORD).is_file():
        name, part = part_of(f"{read_record(folder).dataset}:{part}")
    elif (folder / BEGUN).exists():
        raise DataError(f"--unlabeled {text}: `semikit data prepare` was begun and not finished there. Run it again.")
    elif folder.is_dir() or text.partition(":")[0] not in published_names():
        return None
    else:
        (name, part), folder = part_of(text), default_root(text.partition(":")[0])
    if (known := read_published(name)).task != task:
        what, wanted = ("pairs of two dates", "single images") if known.pairs else ("single images", "pairs")
        raise DataError(f"--unlabeled {text}: these are {what}; semikit train {task} learns from {wanted}.")
    if own is None or own.published.name != name:
        where = "give its folder, --unlabeled DIR, or set SEMIKIT_DATA to where all data sets lie"
        return open_prepared(name, folder, where).source(part)
    if part in own.published.masked:
        raise DataError(
            f"--unlabeled {text}: these are the {part} images of {name} itself. Parts without masks: "
            f"{', '.join(f'{name}:{extra}' for extra in own.published.extra) or 'none'}."
        )
    return own.source(part)
