"""The user's own image pairs of two dates as a YAML file, or as folders A/ B/ label/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import BeforeValidator, Discriminator, Tag

from semikit.data.formats.mask_values import MaskValues
from semikit.data.shards.spec import Shards, kind_of
from semikit.data.spec import ClassSpec, placed, read_spec
from semikit.errors import DataError
from semikit.settings.base import Location, Settings, one_or_many

BINARY = ("unchanged", "changed")
PARTS = ("train", "val", "test", "unlabeled")
_FOLDER, _POOL = Tag("folder"), Tag("pool")


def _with_masks(raw: Any) -> Any:
    """A folder by its path stands for its A/, B/ and label/."""
    if not isinstance(raw, (str, Path)):
        return raw
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B"), "masks": Path(raw, "label")}


def _without_masks(raw: Any) -> Any:
    return {"images_a": Path(raw, "A"), "images_b": Path(raw, "B")} if isinstance(raw, (str, Path)) else raw


class PairImages(Settings):
    """Images of two dates. Each entry is a folder, searched with its subfolders, or a pattern such as scenes/*/A.tif,
    where the star stands for the pair's name.
    """

    images_a: Location
    """Images of the first date; maps are drawn on their grid."""
    images_b: Location
    """Images of the second date, under the same names."""
    names: tuple[str, ...] | None = None
    """Only the pairs of these names; default all."""


@final
class PairFolders(PairImages):
    """Images of two dates and the folder of their masks."""

    masks: Location | None = None
    """Masks of the same names, on the grid of the first date."""


@final
class PairSpec(ClassSpec):
    """Folders and classes of a change detection data set of the user's own.

    A class that `mapping` leads to is stored as `mapping` says and under no other value: with {255: 1} a mask that
    holds 1 is refused, for in a map of 0 and 255 it would be a mistake.
    """

    classes: Annotated[tuple[str, ...], *ClassSpec.model_fields["classes"].metadata] = BINARY
    """Names of the classes 0..K-1; class 0 is where nothing changed."""
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
    val: Annotated[PairFolders, BeforeValidator(_with_masks)]
    """Pairs the best model is chosen on; each needs a mask."""
    test: Annotated[PairFolders | None, BeforeValidator(_with_masks)] = None
    """Pairs for the final score; each needs a mask."""

    @property
    def values(self) -> MaskValues:
        """How mask values become classes."""
        return MaskValues(self.num_classes, self.ignore, tuple(sorted(self.mapping.items())), exact=True)


def load_pairs(data: Path | Mapping[str, Any], root: Path | None = None) -> PairSpec:
    """The data set of a YAML file or mapping, or of a folder of pairs: train/ and val/ (test/, unlabeled/), each with
    A/ B/ label/.

    Masks of such a folder hold 0 and 255, as those of LEVIR-CD; for others write a YAML file.

    Raises:
        DataError: no such file or folder, or a folder without train/ and val/.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping) or not data.is_dir():
        return read_spec(PairSpec, data, root)
    found = {part: str(data / part) for part in PARTS if (data / part).is_dir()}
    missing = [part for part in ("train", "val") if part not in found]
    if missing:
        inner = ", ".join(sorted(item.name for item in data.iterdir())[:10]) or "nothing"
        raise DataError(
            f"--data {data} has no {' and no '.join(missing)}/, only {inner}. A folder of pairs holds train/ and val/ "
            "(test/, unlabeled/), each with A/, B/ and label/; other layouts are described by a YAML file."
        )
    spec = PairSpec.model_validate({**found, "mapping": {255: 1}})
    return placed(spec, Path.cwd())
