"""Images with masks: how they are described, found and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import BeforeValidator, Discriminator, Field, Tag

from semikit.data.file_patterns import (
    by_name,
    chosen_names,
    is_pattern,
    list_masks,
    list_place,
    no_mask_fits,
    real_places,
    refuse_one_place,
)
from semikit.data.folder_layouts import described_folder
from semikit.data.folders import Listed
from semikit.data.formats.images import image_size, is_raster, orientation_of_mask, read_image, read_mask
from semikit.data.formats.mask_values import MaskValues, MaskWatch
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Range, Scale
from semikit.data.formats.value_range import rescaled
from semikit.data.samples import Bytes, DataParts, Mask, Samples
from semikit.data.shards.pool_spec import Shards, kind_of, pool_among
from semikit.data.spec import ClassSpec, Share, read_spec, share_or_folder
from semikit.data.unused_files import Unused, unread, unused_masks
from semikit.errors import DataError, mask_size_fault
from semikit.raster.reading import Bands
from semikit.raster.region import Region
from semikit.settings.base import Location, Settings, one_or_many


def _with_masks(raw: Any) -> Any:
    """A folder by its path stands for its images/ and masks/."""
    return {"images": Path(raw, "images"), "masks": Path(raw, "masks")} if isinstance(raw, (str, Path)) else raw


def _images(raw: Any) -> Any:
    return {"images": raw} if isinstance(raw, (str, Path)) else raw


class ImageFolder(Settings):
    """A folder of images without masks."""

    images: Location
    """Folder of images, searched with its subfolders, or a pattern such as data/{stem}.jpg."""
    names: tuple[str, ...] | None = None
    """Only the images of these names; default all."""


@final
class Folders(ImageFolder):
    """A folder of images and the folder of their masks."""

    masks: Location | None = None
    """Folder of masks (same subfolder, same stem, any image type), or a pattern such as labels/{stem}_mask.png."""
    corrected: Location | None = None
    """More masks, which count in place of those of the same names: of class numbers, 255 where nothing is labelled, as
    `semikit rank`, `predict` and `data convert` write them."""


_Scored = Annotated[
    Annotated[Folders, BeforeValidator(_with_masks), Tag("folder")] | Annotated[Share, Tag("share")],
    Discriminator(share_or_folder),
]


@final
class DataSpec(ClassSpec):
    """Folders and classes of a segmentation data set of the user's own."""

    train: Annotated[Folders, BeforeValidator(_with_masks)]
    """Images to learn from; those with a mask can be labelled."""
    unlabeled: Annotated[
        tuple[
            Annotated[
                Annotated[ImageFolder, BeforeValidator(_images), Tag("folder")] | Annotated[Shards, Tag("pool")],
                Discriminator(kind_of),
            ],
            ...,
        ],
        BeforeValidator(one_or_many),
    ] = ()
    """More images to learn from, without masks; one folder or a list, or the shards of a large pool."""
    val: _Scored | None = Field(None, validate_default=True)
    """Images the best model is chosen on, each with a mask; or a share of those of train (0.2)."""
    test: _Scored | None = None
    """Images for the final score, each with a mask; or a share of those of train."""


def load_spec(data: Path | Mapping[str, Any], root: Path | None = None) -> DataSpec:
    """The segmentation data set a YAML file or mapping describes (see `read_spec`), or a folder (see `folder_layouts`).

    Raises:
        DataError: no such file, or a folder laid out otherwise or without known classes.
        ConfigError: with everything that is wrong in the file, one line each.
    """
    if isinstance(data, Mapping) or not data.is_dir():
        return read_spec(DataSpec, data, root, maps=True)
    return read_spec(DataSpec, described_folder(data), data).model_copy(update={"folder": data.absolute()})


@final
@dataclass(frozen=True)
class MaskedImages(Samples):
    """Images in files and their masks; nothing is opened before it is asked for.

    `names` are paths below the folder without suffix ("city/0001"); `masks` holds None where there is none; those that
    are `corrected` hold class numbers, and 255 where nothing is labelled. `unused` are files beside them that are not
    used.
    `orientation` says whether photos are turned as their cameras ask, and how masks lie on them.
    """

    names: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    values: MaskValues
    bands: Bands | None = None
    scale: Range | None = None
    watch: RangeWatch | None = None
    orientation: Orientation = "stored"
    unused: tuple[Unused, ...] = ()
    mask_watch: MaskWatch | None = None
    corrected: frozenset[Path] = frozenset()

    def __len__(self) -> int:
        return len(self.names)

    def extent(self, index: int) -> tuple[int, int] | None:
        """(H, W) of a raster, from its header; None for a photo."""
        return _raster_size(self.images[index]) if is_raster(self.images[index]) else None

    def files(self, index: int) -> tuple[Path, ...]:
        """The image's file."""
        return (self.images[index],)

    def image(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask | None]:
        """Image (H, W, C) uint8 and valid (H, W) bool, None where all pixels are.

        Raises:
            FileFault: cannot be read.
        """
        upright = self.orientation != "stored"
        return read_image(self.images[index], self.bands, self.scale, region, upright=upright, watch=self.watch)

    def target(self, index: int, region: Region | None = None) -> tuple[Bytes, Mask]:
        """Labels (H, W) uint8, 0 where invalid, and valid (H, W) bool.

        Raises:
            FileFault: cannot be read, a colour mask, a value outside the classes, one that may or may not be turned.
            DataError: there is no mask.
        """
        path = self.masks[index]
        if path is None:
            raise DataError(f"{self.images[index]} has no mask; only images with a mask can be labelled or scored.")
        if region is not None:
            refuse_other_size(path, self.extent(index))
        turn = orientation_of_mask(path, self.images[index], self.orientation)
        values = self.values.numbers() if path in self.corrected else self.values
        stored = read_mask(path, region, turn, colours=bool(values.colours))
        if self.mask_watch is not None and values is self.values:
            self.mask_watch.add(stored)
        return values.decode(stored, path)

    def watched(self, images: RangeWatch, masks: MaskWatch) -> MaskedImages:
        """The same samples, of which all that is read is seen."""
        return replace(self, watch=images, mask_watch=masks)

    def has_target(self, index: int) -> bool:
        """Whether there is a mask of the same name."""
        return self.masks[index] is not None

    def target_files(self, index: int) -> tuple[Path, ...]:
        """The mask of the same name, if any."""
        mask = self.masks[index]
        return () if mask is None else (mask,)


@lru_cache(maxsize=4096)
def _raster_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header, which every crop would open again."""
    return image_size(path)


def refuse_other_size(mask: Path, extent: tuple[int, int] | None) -> None:
    """Raise where a mask is not as large as its raster: a region of it would fit all the same."""
    size = _raster_size(mask)
    if extent is not None and size != extent:
        raise mask_size_fault(mask, extent, size)


def open_folders(spec: DataSpec) -> DataParts:
    """A data set, opened; lists folders, opens a few images only where a range of values has to be sampled.

    Raises:
        DataError: missing or empty folder, two images of one name, no mask that fits, a file in two parts.
    """
    train = masked_images(spec.train, spec, "train")
    folders, _ = pool_among(spec.unlabeled)
    more = tuple(masked_images(part, spec, f"unlabeled[{k}]") for k, part in enumerate(folders))
    val, test = _scored(spec.val, spec, "val"), _scored(spec.test, spec, "test")
    overlap = spec.allow_overlap
    parts = DataParts(train, more, val, test, spec.classes, bands=spec.bands, allow_overlap=overlap)
    return rescaled(parts, spec.scale, spec.orientation)


def _scored(part: Folders | float | None, spec: DataSpec, key: str) -> MaskedImages | None:
    return masked_images(part, spec, key) if isinstance(part, Folders) else None


def masked_images(folder: ImageFolder, spec: DataSpec, part: str) -> MaskedImages:
    """The images of a folder or pattern, sorted by name, each with the mask of its name.

    Raises:
        DataError: missing or empty folder, two files of one name, no mask that fits.
        UnknownNameError: no image of a name that is chosen.
    """
    masks, corrected = (folder.masks, folder.corrected) if isinstance(folder, Folders) else (None, None)
    found, labels, files = images_and_masks(folder.images, masks, part)
    names = chosen_names(folder.names, found.files, f"image in {part}.names:")
    unused = unread(found, f"{part}.images")
    if masks is not None:
        if not any(name in files for name in names):
            raise no_mask_fits(part, ("images", folder.images, found), ("masks", masks, labels))
        unused += unused_masks(f"{part}.masks", labels, files, found)
    new = {} if corrected is None else corrected_masks(corrected, ("images", folder.images, found), part, unused)
    files = {**files, **new}
    paths, pairs = tuple(found.files[name] for name in names), tuple(files.get(name) for name in names)
    return MaskedImages(
        tuple(names), paths, pairs, spec.values, spec.bands, unused=tuple(unused), corrected=frozenset(new.values())
    )


def corrected_masks(place: Path, images: tuple[str, Path, Listed], part: str, unused: list[Unused]) -> dict[str, Path]:
    """The masks of class numbers in a place by the names of their images, which lie in the place of a key of the part;
    those of no image go to `unused`.

    Raises:
        DataError: missing or empty folder, no mask that fits.
    """
    listed, names = list_masks(place, f"{part}.corrected"), images[2].files
    files = by_name(names, listed, f"{part}.corrected")
    if not any(name in files for name in names):
        raise no_mask_fits(part, images, ("corrected", place, listed))
    unused += unused_masks(f"{part}.corrected", listed, files, images[2])
    return files


def images_and_masks(images: Path, masks: Path | None, part: str) -> tuple[Listed, Listed, dict[str, Path]]:
    """What the places of images and of masks hold, and the masks by the names of their images.

    Raises:
        DataError: missing or empty folder, two files of one name.
    """
    if masks is None:
        return list_place(images, f"{part}.images"), Listed({}), {}
    if is_pattern(masks):  # which may lie among the images
        labels = list_place(masks, f"{part}.masks")
        found = list_place(images, f"{part}.images", taken=set(real_places(labels.files.values())))
    else:
        refuse_one_place(images, masks, part)
        found = list_place(images, f"{part}.images", without=masks)
        labels = list_masks(masks, f"{part}.masks")
    return found, labels, by_name(found.files, labels, f"{part}.masks")


def plain_images(
    files: Mapping[str, Path],
    values: MaskValues | None = None,
    bands: Bands | None = None,
    scale: Scale | None = None,
    watch: RangeWatch | None = None,
    orientation: Orientation = "stored",
) -> MaskedImages:
    """Images by name, without masks; `watch` sees what is read."""
    bounds = None if scale is None else scale.bounds
    nothing = (None,) * len(files)
    return MaskedImages(
        tuple(files), tuple(files.values()), nothing, values or MaskValues(1), bands, bounds, watch, orientation
    )
