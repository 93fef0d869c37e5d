"""Prediction of image pairs: maps of change with coordinates, streamed window by window."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.images import is_raster, read_grid
from semikit.data.formats.mask_values import MaskValues
from semikit.data.formats.orientation import Orientation
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.formats.rescale import Scale
from semikit.data.formats.value_range import sampled_scale
from semikit.data.header_notices import parts_notices
from semikit.data.image_pairs import ImagePairs
from semikit.data.pair_grids import aligned
from semikit.data.palette import Palette, palette
from semikit.errors import ConfigError, DataError, FileFault, some
from semikit.files import make_folder, refuse_long_names
from semikit.inference.many_files import Failures, refuse_among_images
from semikit.inference.pair_outputs import Outputs, find_pairs, make_room, outputs_of, refuse_overwriting
from semikit.inference.pictures import displayed, overlay
from semikit.inference.windows import (
    Coverage,
    EvaluateSettings,
    Piece,
    ReadRegion,
    bands_and_scale,
    orientation_of,
    predicted,
    probabilities_of,
    refuse_channels,
)
from semikit.raster.cog import small_cache
from semikit.raster.grid import Grid
from semikit.raster.polygons import PolygonReport, check_outlines, write_polygons
from semikit.raster.region import Region
from semikit.settings.base import Location, Settings

_PIXELS = 1 << 20
"""About as many pixels of windows pass the network together."""

PartProgress = Callable[[int, int], None]
"""Parts that are done, and all."""


@final
class PairPredict(Settings):
    """What prediction writes besides the classes, and how windows cover a raster."""

    confidence: bool = False
    """The probability of the predicted class, NAME-confidence, in percent."""
    probability: bool = False
    """The probability that something changed, NAME-probability, in percent."""
    overlay: bool = False
    """The changes laid over the second date, NAME-overlay."""
    polygons: Location | None = None
    """A file for the changes as polygons (.geojson, .gpkg); of folders, a folder."""
    min_area: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Smaller polygons are left out, square metres (pixels without CRS)."""
    simplify: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How far a simpler outline may be from the pixels', metres (pixels without CRS)."""
    tile: int | None = Field(None, ge=8)
    """Side of the windows that a raster is covered with, pixels; null: the training crop."""
    overlap: int | None = Field(None, ge=0)
    """By how many pixels they overlap; null: a quarter of their side."""
    fail_fast: bool = False
    """Stop at the first pair that cannot be read."""

    @model_validator(mode="after")
    def _of_polygons(self) -> Self:
        if self.polygons is None and (self.min_area or self.simplify):
            raise ValueError("min_area and simplify are of polygons; give --polygons too, or leave them out")
        return self


def predict_pairs(
    network: Network,
    metadata: Mapping[str, Any],
    sources: Sequence[str],
    out: Path,
    options: PairPredict,
    inference: Inference,
    progress: Progress,
) -> Predicted:
    """Write a map of classes for each pair, and what else is wanted.

    Two rasters give a GeoTIFF with the grid of the first, nodata (255) where either date has none; two photos a PNG of
    class ids. Rasters are covered with windows and never read whole; photos are predicted as they are evaluated,
    unless `tile` is given. Of several pairs those that cannot be read are listed in errors.csv, and the others
    predicted.

    Raises:
        InputError: sources that are no pairs, outputs that cannot be written, would take the place of a source or lie
            among the images, a tile that does not fit the network.
        DataError: images that cannot be read or do not fit (of several pairs: all).
        RunError: the disk is full.
    """
    pairs, unused, refused = find_pairs(sources)
    total = len(pairs) + len(refused)
    folders = Path(sources[0]).is_dir()
    outputs = {name: outputs_of(name, files, out, options, folders=folders) for name, files in pairs.items()}
    maker = PairMaker.of(network, metadata, options, inference)
    faults: dict[str, FileFault] = {}
    for name, files in pairs.items():  # before the first is predicted
        try:
            maker.check(files, outputs[name])
        except FileFault as fault:
            if options.fail_fast or total == 1:
                raise
            faults[name] = fault
    images = [path for files in pairs.values() for path in files]
    refuse_overwriting(list(outputs.values()), images)
    if folders or out.is_dir():
        refuse_among_images((one.classes for one in outputs.values()), images, sources)
    make_room([one for name, one in outputs.items() if name not in faults])
    notices = [str(one) for one in unused]
    failures = Failures(
        out if folders else outputs[next(iter(pairs))].classes.parent, total, fail_fast=options.fail_fast
    )
    if total > 1:
        make_folder(failures.path.parent)
    with failures.counted(notices), small_cache() if any(map(is_raster, images)) else ExitStack():
        failures.add_all(refused)
        notices += gathered(_write(maker, pairs, outputs, faults, failures, progress))
    notices += [*maker.watch.notices(), *parts_notices(images)]
    return Predicted(total - len(failures.found), notices, failures.found)


def _write(
    maker: PairMaker,
    pairs: Mapping[str, tuple[Path, Path]],
    outputs: Mapping[str, Outputs],
    faults: Mapping[str, FileFault],
    failures: Failures,
    progress: Progress,
) -> dict[str, list[str]]:
    """All outputs of all pairs but those with `faults`; returns notices for the user, by their kind."""
    notices: dict[str, list[str]] = {}
    what = next(iter(pairs)) if len(pairs) == 1 else f"{len(pairs)} pairs"
    for done, (name, files) in enumerate(pairs.items()):

        def part_progress(part: int, of: int, done: int = done) -> None:
            progress(what, done * of + part, len(pairs) * of)

        try:
            if name in faults:
                raise faults[name]
            for kind, text in maker.write(files, outputs[name], part_progress).items():
                notices.setdefault(kind, []).append(text)
        except FileFault as fault:
            failures.add(fault, outputs[name].all())
            part_progress(1, 1)
    return notices


@final
@dataclass(frozen=True)
class PairMaker:
    """Everything that is the same for all pairs."""

    network: Network
    class_names: tuple[str, ...]
    colours: Palette
    settings: EvaluateSettings
    crop: int
    bands: tuple[int, ...] | None
    scale: Scale | None
    options: PairPredict
    inference: Inference
    side: int
    overlap: int
    orientation: Orientation
    watch: RangeWatch

    @classmethod
    def of(cls, network: Network, metadata: Mapping[str, Any], options: PairPredict, inference: Inference) -> PairMaker:
        """From what a weights file tells."""
        side = options.tile or -(-metadata["crop"] // network.multiple) * network.multiple
        if side % network.multiple:
            near = side // network.multiple * network.multiple
            raise ConfigError(
                f"--tile {side} is not a multiple of the patch, {network.multiple}. Use {near or network.multiple}."
            )
        overlap = side // 4 if options.overlap is None else options.overlap
        if overlap > side // 2:
            raise ConfigError(f"--overlap {overlap} is more than half of the tile, {side}. Use at most {side // 2}.")
        names, (bands, scale) = tuple(metadata["class_names"]), bands_and_scale(metadata)
        return cls(
            network=network.to(inference.device).eval(),
            class_names=names,
            colours=palette(len(names), metadata.get("palette")),
            settings=EvaluateSettings.model_validate(metadata["evaluate"]),
            crop=metadata["crop"],
            bands=bands,
            scale=scale,
            options=options,
            inference=inference,
            side=side,
            overlap=overlap,
            orientation=orientation_of(metadata),
            watch=RangeWatch(scale),
        )

    def grid(self, files: tuple[Path, Path]) -> Grid:
        """The grid of the first date, which maps are drawn on."""
        return read_grid(files[0], self.orientation != "stored")

    def check(self, files: tuple[Path, Path], outputs: Outputs) -> None:
        """Look at a corner of two rasters, and whether their changes could be outlined.

        Raises:
            FileFault: they cannot be read or do not fit.
        """
        refuse_long_names(outputs.all(), files[0])
        if outputs.polygons is not None:
            check_outlines(self.grid(files), files[0], outputs.polygons)
        if all(map(is_raster, files)):
            refuse_channels(self.network, self._source(files, None).image(0, Region(0, 0, 1, 1))[0], files[0])

    def write(self, files: tuple[Path, Path], outputs: Outputs, progress: PartProgress) -> dict[str, str]:
        """All outputs of one pair; returns notices for the user, by their kind."""
        rasters = all(map(is_raster, files))
        notices = notices_of(files)
        grid = self.grid(files)
        scale = self.scale or _sampled(files, self.bands)
        read = self.reader(files, scale)
        seen = False
        with ExitStack() as stack:
            sinks = outputs.open(stack, grid, self.colours, self.class_names)
            for piece in self.pieces(read, grid.size, rasters, progress):
                seen |= bool(piece.valid.any())
                confidence, classes = (values.numpy() for values in piece.probabilities.max(0))
                ids = classes.astype(np.uint8)
                sinks["classes"].write(piece.region, ids, piece.valid)
                if "confidence" in sinks:
                    sinks["confidence"].write(piece.region, _percent(confidence), piece.valid)
                if "probability" in sinks:
                    sinks["probability"].write(piece.region, _percent(1 - piece.probabilities[0].numpy()), piece.valid)
                if "overlay" in sinks:
                    sinks["overlay"].write(piece.region, self._overlay(read, piece.region, ids, piece.valid))
        if not seen:
            notices[NOTHING] = f"{outputs.classes}: no pixel is valid at both dates, so all of it is nodata"
        if outputs.polygons is not None:
            report = write_polygons(
                outputs.classes, outputs.polygons, self.class_names,
                min_area=self.options.min_area, simplify=self.options.simplify,
            )  # fmt: skip
            notices[POLYGONS] = polygons_notice(report, outputs.polygons, grid.placed)
        return notices

    def _source(self, files: tuple[Path, Path], scale: Scale | None, watch: RangeWatch | None = None) -> ImagePairs:
        bounds = None if scale is None else scale.bounds
        (before, after), values = files, MaskValues(len(self.class_names))
        return ImagePairs(
            (before.stem,), (before,), (after,), (None,), values, self.bands, bounds, watch, self.orientation
        )

    def reader(self, files: tuple[Path, Path], scale: Scale | None) -> ReadRegion:
        """Reads regions of a pair: of rasters from the disk, of photos from memory; `watch` sees their values."""
        source = self._source(files, scale, self.watch)
        if all(map(is_raster, files)):
            return lambda region: source.image(0, region)
        image, valid = source.image(0)
        refuse_channels(self.network, image, files[0])

        def part(region: Region) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
            rows, columns = region.slices
            return image[:, rows, columns], None if valid is None else valid[rows, columns]

        return part

    def pieces(
        self, read: ReadRegion, size: tuple[int, int], rasters: bool, progress: PartProgress = lambda done, total: None
    ) -> Iterator[Piece]:
        """The parts of the map, every pixel once."""
        if rasters or self.options.tile is not None:
            batch = max(1, min(self.settings.batch, _PIXELS // self.side**2))
            coverage = Coverage(size, self.side, self.overlap, batch)
            yield from predicted(read, self.network, coverage, self.inference, progress)
            return
        region = Region(0, 0, *size)
        image, valid = read(region)
        shares = probabilities_of(self.network, image, self.settings, self.crop, self.inference).float().cpu()
        progress(1, 1)
        yield Piece(region, shares, np.ones(size, dtype=np.bool_) if valid is None else valid)

    def _overlay(
        self, read: ReadRegion, region: Region, ids: NDArray[np.uint8], valid: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """The second date with the colours of its changes over it; black where not valid."""
        picture = displayed(read(region)[0])[-1]
        tinted = np.asarray(overlay(picture, ids, self.colours))
        shown = np.where((ids > 0)[..., None], tinted, picture)
        return np.where(valid[..., None], shown, np.uint8(0)).astype(np.uint8)


def _sampled(files: tuple[Path, Path], bands: tuple[int, ...] | None) -> Scale | None:
    """The range of values of both dates.

    Raises:
        FileFault: they have none in common.
    """
    try:
        return sampled_scale(files, bands)
    except FileFault:
        raise
    except DataError as error:
        raise FileFault("dates of unlike values", files[1], str(error), "Store both dates in one way.") from error


def _percent(share: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return (share * 100).round().clip(0, 100).astype(np.uint8)


NOTHING, POLYGONS = "have no pixel that is valid at both dates", "gave polygons"
_ONE, _MOVED, _BARE = "are one file twice", "do not lie on one grid", "have no coordinate reference system"


def notices_of(files: tuple[Path, Path]) -> dict[str, str]:
    """Notices about two images before they are predicted, by their kind."""
    found: dict[str, str] = {}
    if os.path.realpath(files[0]) == os.path.realpath(files[1]):
        found[_ONE] = f"{files[0]} was given for both dates: nothing changes between them"
    elif all(map(is_raster, files)):
        alignment = aligned(*files)
        if alignment.notice:
            found[_MOVED] = alignment.notice
        elif not alignment.grid.placed:
            found[_BARE] = f"{files[0]} has no coordinate reference system, and neither has the map"
    return found


def polygons_notice(report: PolygonReport, path: Path, placed: bool) -> str:
    """How many polygons were written, and their area."""
    unit = "m2" if placed else "pixels"
    left = f"; {report.dropped} smaller ones left out" if report.dropped else ""
    return f"{report.count} polygon{'s' if report.count != 1 else ''} of {report.area:,.0f} {unit} in {path}{left}"


def gathered(notices: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each kind: of one pair the notice itself, of several their number and the first."""
    return [
        texts[0] if len(texts) == 1 else f"{len(texts)} pairs {kind}: {some(texts)}" for kind, texts in notices.items()
    ]
