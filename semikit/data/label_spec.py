"""Images of one class each, as the user's own data describe them: folders of classes, or tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from semikit.data.folder_layouts import has_masks
from semikit.data.formats.images import PHOTOS, RASTERS
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.table_columns import Columns, parts_in, read_cells, recognised, similar_names
from semikit.data.shards.pool_spec import Shards, kind_of
from semikit.data.spec import TABLES, Share, SplitSpec, class_names, part_folders, placed, read_spec, share_or_folder
from semikit.errors import DataError, unknown
from semikit.files import at_home
from semikit.settings.base import Location, Settings, one_or_many


def _labelled(raw: Any) -> Any:
    """A path stands for a folder of classes or, by its suffix, for a table of labels."""
    if not isinstance(raw, (str, Path)):
        return raw
    return {"labels" if Path(raw).suffix.lower() in TABLES else "images": raw}


@final
class LabelledImages(Settings):
    """Images of known class: a folder CLASS/*.jpg, or a table of files and labels."""

    images: Location | None = None
    """Folder with one subfolder for each class; beside `labels`, the folder its files are below."""
    labels: Location | None = None
    """CSV with a column of files and one of labels; files count from `images`, else from the CSV's folder."""
    columns: Columns | None = None
    """Its columns, as stated or recognised; null: file and label."""
    rows: Literal["train", "val", "test"] | None = None
    """Only the rows that the column `split` gives to this part; null: all."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.images is None and self.labels is None:
            raise ValueError("give a folder with one subfolder for each class (images), or a CSV file,label (labels)")
        if self.labels is None and (self.columns is not None or self.rows is not None):
            raise ValueError("columns and rows are those of a table; give it as labels")
        return self


Part = Annotated[LabelledImages, BeforeValidator(_labelled)]


_Scored = Annotated[
    Annotated[LabelledImages, BeforeValidator(_labelled), Tag("folder")] | Annotated[Share, Tag("share")],
    Discriminator(share_or_folder),
]


@final
class LabelSpec(SplitSpec):
    """Folders, tables and classes of a classification data set of the user's own."""

    train: Part
    """Images to learn from; a folder of classes or a table. No label: never labelled."""
    unlabeled: Annotated[
        tuple[
            Annotated[Annotated[Location, Tag("folder")] | Annotated[Shards, Tag("pool")], Discriminator(kind_of)], ...
        ],
        BeforeValidator(one_or_many),
    ] = ()
    """More images to learn from: folders, searched with their subfolders, patterns (more/*.jpg), or lists with one file
    a line; or the shards of a large pool."""
    val: _Scored | None = None
    """Images the best model is chosen on, or a share of train (0.2); without them some of train are held out."""
    test: _Scored | None = None
    """Images for the final score, or a share of train."""
    columns: Columns | None = None
    """Columns of all tables that do not state their own: {file: NAME, label: NAME, split: NAME}, or numbers from 1;
    null: known by their usual names."""
    merge: dict[str, str] = Field(default_factory=dict)
    """Class as it is written in folders and tables -> the class it is."""
    classes: Annotated[tuple[str, ...], BeforeValidator(class_names), Field(min_length=2)] | None = None
    """Names of the classes 0..K-1; default those of train, sorted."""
    orientation: Orientation = "auto"
    """Whether photos are turned as their cameras ask (EXIF): viewer and auto, as programs show them; stored: not."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = self.classes or ()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"class names must differ, got twice: {', '.join(twice)}")
        return self


def load_labels(data: Path | Mapping[str, Any], root: Path | None = None) -> LabelSpec:
    """The data set of a YAML file or mapping, of a folder with train/CLASS/* (val/CLASS/* …), or of a table, whose
    files count from `root` or from its own folder. Columns of tables are recognised here, and stated in what comes
    back.

    Raises:
        DataError: no such file or folder, a folder without train/, a table whose columns cannot be told or that gives
            an image several classes, classes that are written in two ways.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping):
        spec = read_spec(LabelSpec, data, root)
    elif data.is_dir():
        spec = folder_spec(data).model_copy(update={"folder": data.absolute()})
    elif data.suffix.lower() in TABLES:
        images = {} if root is None else {"images": str(at_home(root).absolute())}
        spec = LabelSpec.model_validate({"train": {"labels": str(data.absolute()), **images}})
    else:
        spec = read_spec(LabelSpec, data, root)
    spec = _with_columns(spec)
    _refuse_similar(spec)
    return spec


def folder_spec(folder: Path) -> LabelSpec:
    """The data set of a folder with train/CLASS/* (val/CLASS/*, test/CLASS/*, unlabeled/*), or with CLASS/* alone.

    Raises:
        DataError: without train/.
    """
    found = part_folders(folder)
    if not found and _holds_classes(folder):
        found["train"] = str(folder)
    if "train" not in found:
        inner = ", ".join(sorted(item.name for item in folder.iterdir())[:10]) or "nothing"
        raise DataError(
            f"{folder} has no train/, only {inner}. A folder of images holds train/CLASS/* (val/CLASS/*, test/CLASS/*, "
            "unlabeled/*) or CLASS/*; other layouts are described by a YAML file."
        )
    return placed(LabelSpec.model_validate(found), Path.cwd())


def _holds_classes(folder: Path) -> bool:
    """Whether there are folders of images, two or more, and these are neither images and masks nor two dates."""
    if has_masks(folder) or (folder / "A").is_dir():
        return False
    inside = [item for item in folder.iterdir() if item.is_dir() and item.name[0] != "."]
    return len(inside) > 1 and all(
        any(path.suffix.lower() in PHOTOS | RASTERS for path in item.rglob("*")) for item in inside
    )


def _tables(spec: LabelSpec) -> dict[str, LabelledImages]:
    """The parts that are tables, by their names."""
    parts = {"train": spec.train, "val": spec.val, "test": spec.test}
    return {name: part for name, part in parts.items() if isinstance(part, LabelledImages) and part.labels is not None}


def _with_columns(spec: LabelSpec) -> LabelSpec:
    """The same description, which says of each table which columns it has and, where one table holds several parts,
    which rows are for which.
    """
    found: dict[str, Any] = {}
    for name, part in _tables(spec).items():
        assert part.labels is not None
        if not part.labels.is_file():  # is told when it is opened
            continue
        columns = recognised(part.labels, name, part.columns or spec.columns, spec.classes or ())
        found[name] = part.model_copy(update={"columns": columns})
    train = found.get("train")
    if train is not None and train.rows is None:
        parts = parts_in(train.labels, train.columns, "train")
        if parts not in ([], ["train"]):
            found |= _rows_of_parts(spec, train, parts)
    return spec.model_copy(update={**found, "columns": None})


def _rows_of_parts(spec: LabelSpec, train: LabelledImages, parts: list[str]) -> dict[str, Any]:
    """Each part as the rows of one table."""
    assert train.columns is not None
    given = [name for name in parts if name != "train" and getattr(spec, name) is not None]
    given += ["folds"] if spec.folds is not None and "val" in parts else []
    if given or "train" not in parts:
        what = f"and {', '.join(given)} is stated too" if given else "and none of train"
        raise DataError(
            f"train: {train.labels} has images of {', '.join(parts)} by its column {train.columns.split!r}, {what}. "
            f"Leave one out; columns: {{file: {train.columns.file}, label: {train.columns.label}}} reads every row."
        )
    return {part: train.model_copy(update={"rows": part}) for part in parts}


def _refuse_similar(spec: LabelSpec) -> None:
    """Raise where class names differ so little that they are likely one, unless somebody lists or merges them.

    Raises:
        DataError: names them, and the lines that would say what is meant.
    """
    written: Counter[str] = Counter()
    for part in (spec.train, spec.val, spec.test):
        if isinstance(part, LabelledImages):
            written.update(_classes_in(part))
    for name in spec.merge:
        if written and name not in written:
            raise unknown("class in merge", name, sorted(set(written) - {""}))
    classes = Counter({spec.merge.get(name, name): 0 for name in written if name})
    for name in filter(None, written):
        classes[spec.merge.get(name, name)] += written[name]
    for names in similar_names(classes):
        if not set(names) <= set(spec.classes or ()):
            kept, *others = sorted(names, key=lambda name: -classes[name])
            merged = ", ".join(f"{name!r}: {kept!r}" for name in others)
            raise DataError(
                f"the classes {' and '.join(map(repr, names))} differ in letter case, blanks or an s alone. If they "
                f"are one, say so in the data YAML: merge: {{{merged}}}. If they are not, list all classes there: "
                f"classes: [{', '.join(sorted(classes)[:6])}{', …' if len(classes) > 6 else ''}]."
            )


def _classes_in(part: LabelledImages) -> Iterable[str]:
    """The class of each row as it is written, or the folders of classes, in which no image is looked for."""
    if part.labels is not None:
        if part.columns is None:
            return ()
        table = read_cells(part.labels, "labels", numbered=isinstance(part.columns.file, int))
        return table.cells(part.columns.label)
    assert part.images is not None
    return [item.name for item in part.images.iterdir() if item.is_dir()] if part.images.is_dir() else ()
