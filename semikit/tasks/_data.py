"""Where tasks take their samples from: the user's own data, a published data set, generated images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, final

from pydantic import BeforeValidator, Field, model_validator

from semikit.data.formats.orientation import Orientation
from semikit.data.formats.value_range import rescaled
from semikit.data.hold_out import held_out_as_stated
from semikit.data.leftovers import with_leftovers
from semikit.data.palette import palette
from semikit.data.published import official
from semikit.data.published.catalogue import default_root, published_names, read_published
from semikit.data.published.prepared import BEGUN, RECORD, Prepared, open_prepared, part_of, read_record
from semikit.data.samples import DataParts, Samples, refuse_overlap
from semikit.data.shards.decoders import PoolImage, PoolPair
from semikit.data.shards.pool import SampleDecoder, ShardPool
from semikit.data.shards.pool_spec import Shards, pool_among
from semikit.data.shards.tar_files import list_shards
from semikit.data.spec import ClassSpec
from semikit.errors import DataError
from semikit.settings.base import Location, Settings

SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")

S = TypeVar("S", bound=ClassSpec)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


@final
class PublishedData(Settings):
    """A published data set in a prepared root."""

    name: str
    """As `semikit data list` has it."""
    root: Location | None = None
    """The prepared root; null: $SEMIKIT_DATA/NAME, else ./data/NAME."""


class SourceSettings(Settings):
    """What all tasks say of their data; one of the fields in `KINDS` names where they come from."""

    KINDS: ClassVar[tuple[str, ...]]

    published: PublishedData | None = None
    """A published data set."""
    labels: Annotated[str | None, BeforeValidator(_text)] = None
    """Labelled images: a number, a fraction, a file of names, official:SPLIT; null or all: every one with a mask."""
    unlabeled: tuple[str, ...] = ()
    """More unlabelled images: folders, or published data sets (coco, coco:unlabeled)."""
    only: Location | None = None
    """A file of names: of the unlabelled images these alone are learned from (the names of a run's unlabeled.txt)."""
    split_seed: int | None = Field(None, ge=0)
    """Seed of the choice of labelled images; null: the run's."""
    fold: int | None = Field(None, ge=0)
    """Which fold of one's own data (`folds: 5`) are the validation images, from 0."""

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
            raise ValueError("data.unlabeled: generated images take no others; leave out --unlabeled")
        if given[0] != "folders" and self.fold is not None:
            raise ValueError("data.fold: only one's own data are in folds (folds: 5 in their YAML); leave out --fold")
        return self


def open_own(
    data: SourceSettings,
    spec: S,
    task: str,
    folder: Callable[[Path], Settings],
    opened: Callable[[S], DataParts],
    decoder: type[PoolImage] | type[PoolPair],
) -> DataParts:
    """A data set of the user's own; `folder` describes a folder of `data.unlabeled`, `decoder` reads images of shards.

    Raises:
        DataError: folders or prepared roots that are not as described.
    """
    entries, shards = pool_among(spec.unlabeled, data.unlabeled)
    named = {text: prepared_part(text, None, task) for text in data.unlabeled}
    more = [folder(Path(text).absolute()) for text, source in named.items() if source is None]
    parts = opened(spec.model_copy(update={"unlabeled": (*entries, *more)}))
    prepared = {text: source for text, source in named.items() if source is not None}
    if not parts.allow_overlap:
        refuse_overlap({**replace(parts, unlabeled=()).named(), **prepared})
    upright = spec.orientation != "stored"
    decode = decoder(parts.bands, parts.scale and parts.scale.bounds, upright=upright)
    parts = replace(parts, unlabeled=(*parts.unlabeled, *prepared.values()))
    return with_pool(held_out_as_stated(with_leftovers(parts, spec.folder), spec, data.fold), shards, decode)


def with_pool(parts: DataParts, shards: Shards | None, decode: SampleDecoder) -> DataParts:
    """The same data with shards as the unlabelled images, if there are any; files are looked for, not opened.

    Raises:
        DataError: missing files, places named twice.
    """
    if shards is None:
        return parts
    return replace(parts, pool=ShardPool(list_shards(shards.shards), shards.shuffle, decode))


def open_published(
    data: SourceSettings, named: PublishedData, folder: Callable[[Path, Any, str], Samples]
) -> DataParts:
    """A published data set; `folder` opens a folder of more unlabelled images: (path, its description, key).

    Raises:
        DataError: prepared roots that are not as described.
    """
    prepared = open_prepared(named.name, named.root)
    known = prepared.published
    extra = {
        f"unlabeled[{k}]": prepared_part(text, prepared, known.task)
        or folder(Path(text).absolute(), known.values, f"unlabeled[{k}]")
        for k, text in enumerate(data.unlabeled)
    }

    def labeled(split: str, parts: DataParts) -> Sequence[int]:
        numbers = {name: index for index, name in enumerate(parts.train.names)}
        return [numbers[known.named(image)] for image in official.labeled_images(prepared, split)]

    parts = DataParts(
        train=prepared.source("train"),
        unlabeled=tuple(extra.values()),
        val=prepared.source("val"),
        test=prepared.source("test") if "test" in prepared.record.counts else None,
        class_names=known.classes,
        palette=palette(len(known.classes), known.palette),
        official=labeled,
        published=True,
    )
    if known.deep:
        return rescaled(parts, None, "stored")
    refuse_overlap(parts.named())
    return parts


def prepared_part(text: str, own: Prepared | None, task: str) -> Samples | None:
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


def orientation_of(data: SourceSettings) -> Orientation:
    """How photos are turned: as their description says; published and generated ones are not."""
    folders = getattr(data, "folders", None)
    orientation: Orientation = "stored" if folders is None else folders.orientation
    return orientation


def learned_orientation(data: SourceSettings) -> Orientation:
    """How photos are shown to a network that learned from these data: turned as viewers do, unless a user said not."""
    stored = getattr(data, "folders", None) is not None and orientation_of(data) == "stored"
    return "stored" if stored else "viewer"
