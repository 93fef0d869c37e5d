"""Pairs of two dates as their YAML describes them, or a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self, final

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from semikit.core.transitions import Transitions
from semikit.data.formats.colours import Colour
from semikit.data.formats.mask_values import MaskValues
from semikit.data.pair_layouts import described_pairs, part_places
from semikit.data.shards.pool_spec import Shards, kind_of
from semikit.data.spec import DEFAULT_SHARE, ClassSpec, Share, placed, read_spec, share_or_folder
from semikit.data.two_masks import Chosen, TwoMasks, grades, transitions
from semikit.errors import DataError
from semikit.settings.base import Location, Settings, one_or_many
from semikit.settings.messages import validate

BINARY = ("unchanged", "changed")
_FOLDER, _POOL = Tag("folder"), Tag("pool")


def _with_masks(raw: Any) -> Any:
    """A folder by its path stands for its A/, B/ and label/."""
    if not isinstance(raw, (str, Path)):
        return raw
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B"), "masks": Path(raw, "label")}


def _without_masks(raw: Any) -> Any:
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B")} if isinstance(raw, (str, Path)) else raw


class PairImages(Settings):
    """Images of two dates. Each entry is a folder, searched with its subfolders, or a pattern such as scenes/*/A.tif or
    data/{stem}_A.png, where the star or {stem} stands for the pair's name.
    """

    images_a: Location
    """Images of the first date; maps are drawn on their grid."""
    images_b: Location
    """Images of the second date, under the same names."""
    names: tuple[str, ...] | None = None
    """Only the pairs of these names; default all."""


@final
class PairFolders(PairImages):
    """Images of two dates and the folder of their masks, or of those of each date."""

    masks: Location | None = None
    """Masks of the same names, on the grid of the first date."""
    masks_a: Location | None = None
    """Masks of the first date (land cover, or buildings), with `masks_b` in place of `masks`."""
    masks_b: Location | None = None
    """Masks of the second date (land cover, or grades of damage), on the grid of the first."""
    corrected: Location | None = None
    """More masks, which count in place of those of the same names in `masks`: of class numbers, 255 where nothing is
    labelled, as `semikit rank` and `data convert` write them."""

    @model_validator(mode="after")
    def _one_or_both(self) -> Self:
        if self.corrected is not None and self.masks is None:
            raise ValueError("corrected holds masks of the change, and goes with masks, not with masks_a and masks_b")
        if len(self.places) != (1 if self.masks else 2 if self.masks_a or self.masks_b else 0):
            raise ValueError("give either masks, of the change, or both masks_a and masks_b, of the two dates")
        return self

    @property
    def places(self) -> dict[str, Path]:
        """Key -> where masks lie: of none, one, or each of two dates."""
        found = {"masks": self.masks, "masks_a": self.masks_a, "masks_b": self.masks_b}
        return {key: place for key, place in found.items() if place is not None}


_Scored = Annotated[
    Annotated[PairFolders, BeforeValidator(_with_masks), Tag("folder")] | Annotated[Share, Tag("share")],
    Discriminator(share_or_folder),
]


@final
class PairSpec(ClassSpec):
    """Folders and classes of a change detection data set of the user's own.

    A class that `mapping` leads to is stored as `mapping` says and under no other value: with {255: 1} a mask that
    holds 1 is refused, for in a map of 0 and 255 it would be a mistake. Where each date has a mask, `classes` are those
    of these masks.
    """

    classes: Annotated[tuple[str, ...], *ClassSpec.model_fields["classes"].metadata] = BINARY
    """Names of the classes 0..K-1; class 0 is where nothing changed."""
    transitions: Chosen = "all"
    """Of two masks of land cover: which changes are classes. all: from every class to every class; differing: not to
    itself, which is unchanged then; or a list [[from, to], …]."""
    damage: bool = False
    """The classes are grades of damage, and class 0 is no building; they are scored as such."""
    train: Annotated[PairFolders, BeforeValidator(_with_masks)]
    """Pairs to learn from; those with a mask can be labelled."""
    unlabeled: Annotated[
        tuple[
            Annotated[
                Annotated[PairImages, BeforeValidator(_without_masks), _FOLDER] | Annotated[Shards, _POOL],
                Discriminator(kind_of),
            ],
            ...,
        ],
        BeforeValidator(one_or_many),
    ] = ()
    """More pairs to learn from, without masks; one or a list, or the shards of a large pool."""
    val: _Scored | None = Field(None, validate_default=True)
    """Pairs the best model is chosen on, each with a mask; or a share of those of train (0.2)."""
    test: _Scored | None = None
    """Pairs for the final score, each with a mask; or a share of those of train."""

    @model_validator(mode="after")
    def _masks_of_one_kind(self) -> Self:
        kinds = self._masks_of_a_pair
        if len(kinds) > 1:
            raise ValueError("some parts have masks and others masks_a and masks_b; all have to have the same")
        if self.transitions != "all" and (self.damage or kinds != {2}):
            raise ValueError("'transitions' is for masks of land cover of both dates, masks_a and masks_b")
        if self.two_masks is None:
            _refuse_twice(self.classes)
        return self

    @property
    def values(self) -> MaskValues:
        """How mask values become classes."""
        return replace(super().values, exact=True)

    @property
    def two_masks(self) -> TwoMasks | None:
        """How the classes of the masks of both dates become those of the change; None where there is one mask.

        Raises:
            ConfigError: transitions that cannot be meant.
        """
        if self._masks_of_a_pair != {2}:
            return None
        how = grades(self.classes, self.values) if self.damage else None
        return how or transitions(self.classes, self.values, self.transitions)

    @property
    def _masks_of_a_pair(self) -> set[int]:
        """How many masks pairs have, where they have any."""
        parts = (self.train, self.val, self.test)
        return {len(part.places) for part in parts if isinstance(part, PairFolders) and part.places}

    @property
    def drawn(self) -> list[Colour] | None:
        """The colours that classes are drawn with; transitions have their own."""
        return None if self.two_masks is not None and not self.damage else super().drawn

    @property
    def unstored(self) -> frozenset[int]:
        """Classes that need no mask value: unchanged, where it is that both masks say one class."""
        return frozenset() if self.transitions == "all" else frozenset({0})


def _refuse_twice(classes: Sequence[str]) -> None:
    """Raise where two classes are one transition, written otherwise."""
    found = Transitions.of(classes)
    seen: dict[tuple[int, int], str] = {}
    for name, *ends in () if found is None else zip(classes, found.before, found.after, strict=True):
        first = seen.setdefault((ends[0], ends[1]), name)
        if first != name:
            raise ValueError(f"classes {first!r} and {name!r} are one transition. Make them one by `mapping`")


def load_pairs(data: Path | Mapping[str, Any], root: Path | None = None) -> PairSpec:
    """The data set of a YAML file or mapping, or of a folder of pairs: train/ and val/ (test/, unlabeled/), each with
    A/ B/ label/, or with masks of both dates (`described_pairs`). Where there is no val/ a fifth of train is held out.

    Masks in label/ hold 0 and 255, as those of LEVIR-CD; for others write a YAML file.

    Raises:
        DataError: no such file or folder, or a folder without train/ and val/.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping) or not data.is_dir():
        return read_spec(PairSpec, data, root)
    found = part_places(data)
    whole = found.get("train") == str(data)
    strange = not whole and any(item.is_dir() and str(item) not in found.values() for item in data.iterdir())
    if "train" not in found or ("val" not in found and strange):
        missing = [part for part in ("train", "val") if part not in found]
        inner = ", ".join(sorted(item.name for item in data.iterdir())[:10]) or "nothing"
        raise DataError(
            f"--data {data} has no {' and no '.join(missing)}/, only {inner}. A folder of pairs holds train/ and val/ "
            "(test/, unlabeled/), each with A/, B/ and label/, or masks_a/ and masks_b/; others are described by a "
            "YAML file."
        )
    spec = validate(PairSpec, {"val": DEFAULT_SHARE, **described_pairs(data, found)}, f"--data {data}")
    return placed(spec, Path.cwd()).model_copy(update={"folder": data.absolute()})
