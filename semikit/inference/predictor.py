"""One scene becomes a map: windows → networks → writers, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np
from torch import Tensor

from semikit.core.network import Network
from semikit.core.task import Inference
from semikit.data.formats.images import refuse_loose_place
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.palette import Palette, palette
from semikit.errors import ConfigError, FileFault
from semikit.files import refuse_long_names
from semikit.inference.class_choice import ClassChoice, threshold_of
from semikit.inference.ensemble import Ensemble, Views
from semikit.inference.finishing import area_rows, draw_overlay, polygons_notice, within, without_small_areas
from semikit.inference.map_files import (
    CLASSES,
    SCRATCH,
    Legend,
    MapPredict,
    Outputs,
    outputs_of,
    share_file,
    stored_share,
    write_style,
)
from semikit.inference.scenes import Files, SceneReader
from semikit.inference.streamed import Coverage, MapPart, Piece, ReadRegion, pixels_of, predicted, whole
from semikit.inference.windows import EvaluateSettings, refuse_channels
from semikit.raster.area_of_interest import AreaOfInterest, GridArea
from semikit.raster.polygons import NODATA, PolygonReport, check_outlines, write_polygons
from semikit.raster.region import Region
from semikit.settings.base import one_or_many

_PIXELS = 1 << 20
"""About as many pixels of windows pass the network together."""
_POLYGONS = "gave polygons"

PartProgress = Callable[[int, int], None]
"""Parts that are done, and all."""


@final
@dataclass(frozen=True)
class Predictor:
    """Everything that is the same for all scenes."""

    ensemble: Ensemble
    reader: SceneReader
    colours: Palette
    settings: EvaluateSettings
    crop: int
    options: MapPredict
    side: int
    overlap: int
    choice: ClassChoice
    aoi: AreaOfInterest | None

    @classmethod
    def of(
        cls,
        networks: Sequence[Network],
        metadata: Mapping[str, Any],
        reader: SceneReader,
        options: MapPredict,
        inference: Inference,
    ) -> Predictor:
        """From what a weights file tells.

        Raises:
            ConfigError: a tile or an overlap that does not fit.
        """
        multiple = networks[0].multiple
        side = options.tile or -(-metadata["crop"] // multiple) * multiple
        if side % multiple:
            near = side // multiple * multiple or multiple
            raise ConfigError(f"--tile {side} is not a multiple of the patch, {multiple}. Use {near}.")
        overlap = side // 4 if options.overlap is None else options.overlap
        if overlap > side // 2:
            raise ConfigError(f"--overlap {overlap} is more than half of the tile, {side}. Use at most {side // 2}.")
        unknown = [name for name in options.probability_of if name not in reader.class_names]
        if unknown:
            raise ConfigError(
                f"--probability-of {unknown[0]}: there is no class {unknown[0]!r}; it has "
                f"{', '.join(reader.class_names)}."
            )
        return cls(
            ensemble=Ensemble.ready(networks, inference),
            reader=reader,
            colours=palette(len(reader.class_names), metadata.get("palette")),
            settings=EvaluateSettings.model_validate(metadata["evaluate"]),
            crop=metadata["crop"],
            options=options,
            side=side,
            overlap=overlap,
            choice=ClassChoice.of(
                options.threshold or one_or_many(threshold_of(metadata)), reader.class_names, reader.background
            ),
            aoi=None if options.aoi is None else AreaOfInterest.read(options.aoi),
        )

    @property
    def legend(self) -> Legend:
        """What maps say of their classes."""
        names, background = self.reader.class_names, self.reader.background
        threshold = None if background is None else self.choice.common
        return Legend(names, self.colours[: len(names)], background, threshold)

    def notices(self) -> list[str]:
        """What a user should know of all maps."""
        if self.options.threshold or self.choice.is_most_probable:
            return []
        stated = [*(() if self.choice.common is None else (f"{self.choice.common:g}",))]
        stated += [f"{self.reader.class_names[k]}={share:g}" for k, share in (self.choice.by_class or {}).items()]
        return [f"threshold {', '.join(stated)}, that of the run (evaluate.threshold); --threshold P sets another"]

    @property
    def bands(self) -> tuple[str, ...]:
        """What the bands of the probability are called."""
        return self.options.probability_of or self.reader.bands_of_probability()

    def outputs(self, name: str, files: Files, out: Path, many: bool) -> Outputs:
        """The files that come of a scene; one that cannot be read is named as a map."""
        try:
            is_map = self.reader.is_map(files)
        except FileFault:
            is_map = True
        bands = self.bands
        return outputs_of(name, out, self.options, many=many, is_map=is_map, bands=bands)

    def faults(
        self, scenes: Mapping[str, Files], outputs: Mapping[str, Outputs], fail_fast: bool
    ) -> dict[str, FileFault]:
        """What is wrong with scenes, seen before the first is predicted.

        Raises:
            FileFault: the first, if asked for.
        """
        faults: dict[str, FileFault] = {}
        for name, files in scenes.items():
            try:
                self.check(files, outputs[name])
            except FileFault as fault:
                if fail_fast:
                    raise
                faults[name] = fault
        return faults

    def check(self, files: Files, outputs: Outputs) -> None:
        """Look at a corner of rasters, at their place, and whether their classes could be outlined.

        Raises:
            FileFault: they cannot be read or do not fit.
        """
        refuse_long_names(outputs.all(), files[0])
        if self.options.format != "png":
            for path in files:
                refuse_loose_place(path)
        if outputs.polygons is not None or self.options.areas or self.options.min_area:
            check_outlines(self.reader.grid(files), files[0])
        self.area_on(files)
        self.check_corner(files)

    def check_corner(self, files: Files) -> None:
        """Look at a corner of rasters, which are read later.

        Raises:
            FileFault: they cannot be read, or have other channels than the network was made for.
        """
        if self.reader.by_windows(files):
            unwatched = replace(self.reader, watch=RangeWatch(None))
            corner, _ = unwatched.samples(files, None).image(0, Region(0, 0, 1, 1))
            refuse_channels(self.ensemble.networks[0], corner, files[0])

    def area_on(self, files: Files) -> GridArea | None:
        """The area of interest on the grid of a scene; None: there is none.

        Raises:
            FileFault: the scene has no place on the map, or nothing of it lies within.
        """
        return None if self.aoi is None else self.aoi.on(self.reader.grid(files), files[0])

    def open(self, files: Files) -> ReadRegion:
        """Reads regions of a scene: by windows from the disk, else from memory; the reader's watch sees their values.

        Raises:
            FileFault: cannot be read, or has other channels than the network was made for.
        """
        source = self.reader.samples(files, self.reader.scale or self.reader.range_of(files))
        if self.reader.by_windows(files):
            read: ReadRegion = lambda region: source.image(0, region)  # noqa: E731
            area = self.area_on(files)
            return read if area is None else within(read, area)
        image, valid = source.image(0)
        refuse_channels(self.ensemble.networks[0], image, files[0])
        return pixels_of(image, valid)

    def pieces(
        self,
        read: ReadRegion,
        size: tuple[int, int],
        by_windows: bool,
        from_above: bool,
        share: tuple[int, int] = (0, 1),
        area: GridArea | None = None,
    ) -> Generator[Piece, None, None]:
        """The parts of a map of `size`, each pixel once, or a `share` (a number, of how many); a photo has one."""
        ensemble = replace(self.ensemble, views=Views.of(self.options.tta, from_above))
        if by_windows or self.options.tile is not None:
            batch = max(1, min(self.settings.batch, _PIXELS // self.side**2))
            coverage = Coverage(size, self.side, self.overlap, batch)
            busy = (lambda region: True) if area is None else (lambda region: bool(area.inside(region).any()))
            yield from predicted(read, ensemble, coverage, share, busy)
            return
        if share[0]:
            return
        yield from whole(*read(Region(0, 0, *size)), ensemble, self.settings, self.crop)

    def divisible(self, files: Files) -> bool:
        """Whether a scene has several parts."""
        return self.reader.by_windows(files) or self.options.tile is not None

    def pieces_of(self, files: Files, read: ReadRegion, share: tuple[int, int]) -> Generator[Piece, None, None]:
        """The parts of the map of a scene; as `pieces`.

        Raises:
            FileFault: cannot be read.
        """
        reader = self.reader
        area = None if share[1] == 1 else self.area_on(files)  # which rows touch it matters to shares alone
        return self.pieces(read, reader.grid(files).size, reader.by_windows(files), reader.is_map(files), share, area)

    def drawn(self, piece: Piece, outputs: Outputs) -> MapPart:
        """What files hold of a part: the classes, and of what else is wanted the probabilities."""
        ids, confidence = (values.cpu().numpy() for values in self.choice(piece.probabilities))
        values = {CLASSES: np.where(confidence < self.options.min_confidence, np.uint8(NODATA), ids)}
        if outputs.polygons is not None or "confidence" in outputs.extra:
            values["confidence"] = stored_share(confidence, outputs.extra.get("confidence"))
        if (path := outputs.extra.get("probability")) is not None:
            names, every = self.options.probability_of, piece.probabilities
            chosen: Tensor = self.reader.probability(every)
            if names:
                chosen = every[[self.reader.class_names.index(name) for name in names]]
            values["probability"] = stored_share(np.moveaxis(chosen.cpu().numpy(), 0, -1), path)
        return MapPart(piece.region, piece.valid, values, piece.done, piece.total)

    def write(
        self, files: Files, read: ReadRegion, parts: Iterable[MapPart], outputs: Outputs, progress: PartProgress
    ) -> tuple[dict[str, str], PolygonReport | None]:
        """All outputs of one scene, of which `parts` are predicted; returns notices for the user, by their kind, and
        what was outlined.
        """
        notices = self.reader.notices(files)
        grid, seen = self.reader.grid(files), False
        with ExitStack() as scratch:
            shares = outputs.extra.get("confidence")
            if outputs.polygons is not None and shares is None:
                folder = scratch.enter_context(TemporaryDirectory(prefix=f".{SCRATCH}.", dir=outputs.classes.parent))
                shares = Path(folder, "shares.tif")
            with ExitStack() as stack:
                classes, sinks = outputs.open(stack, grid, self.legend, self.bands)
                if shares is not None and "confidence" not in sinks:
                    sinks["confidence"] = stack.enter_context(share_file(shares, grid, ("confidence",)))
                for part in parts:
                    seen |= bool(part.valid.any())
                    for kind, values in part.values.items():
                        (classes if kind == CLASSES else sinks[kind]).write(part.region, values, part.valid)
                    progress(part.done, part.total)
                least, path = self.options.min_area, outputs.classes
                notices |= without_small_areas(classes, path, grid, files[0], least, self.legend)
                draw_overlay(sinks, classes, read, grid.size, self.colours, self.reader.background)
            if not seen:
                valid = f"valid{self.reader.dates}"
                text = f"{outputs.classes}: no pixel is {valid}, so all of it is nodata"
                notices[f"have no pixel that is {valid}"] = text
            if outputs.style is not None:
                write_style(outputs.style, self.legend)
            report = self._outline(outputs, shares)
        if report is not None and outputs.polygons is not None:
            notices[_POLYGONS] = polygons_notice(report, outputs.polygons, grid.placed)
        return notices, report

    def area_rows(self, files: Files, classes: Path, report: PolygonReport) -> list[list[object]]:
        """The rows of the table of areas: of each class, also of those that the map does not hold."""
        return area_rows(self.reader.class_names, report, self.area_on(files), classes)

    def _outline(self, outputs: Outputs, shares: Path | None) -> PolygonReport | None:
        """The polygons of a map, and the areas of its classes."""
        if outputs.polygons is None and not self.options.areas:
            return None
        return write_polygons(
            outputs.classes,
            outputs.polygons,
            self.reader.class_names,
            simplify=self.options.simplify,
            background=self.reader.background,
            shares=shares if outputs.polygons is not None else None,
            areas=self.options.areas,
        )
