"""Maps of classes and of change, of one scene or many: what is predicted, what became of it, and going on."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, final

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.images import is_raster
from semikit.data.header_notices import file_notices
from semikit.errors import FileFault, InputError, some
from semikit.files import OUTPUT
from semikit.inference.ahead import Ahead
from semikit.inference.journal import Journal, Rows, identity, job_of
from semikit.inference.many_files import Failures, output_folder, refuse_among_images
from semikit.inference.map_files import (
    MapPredict,
    Outputs,
    make_room,
    named_file,
    refuse_overwriting,
    table_beside,
    write_areas,
)
from semikit.inference.pictures import legend_picture, save_png
from semikit.inference.predictor import PartProgress, Predictor
from semikit.inference.scenes import Files, SceneReader
from semikit.inference.streamed import Piece, ReadRegion
from semikit.inference.windows import read_ahead
from semikit.raster.cog import small_cache


def predict_maps(
    networks: Sequence[Network],
    metadata: Mapping[str, Any],
    reader: SceneReader,
    sources: Sequence[str],
    out: Path,
    options: MapPredict,
    inference: Inference,
    progress: Progress,
) -> Predicted:
    """Write a map of classes for each scene, and what else is wanted. `metadata` are those of the first network; of
    several the probabilities are averaged.

    A georeferenced scene gives a GeoTIFF on its grid, nodata (255) where nothing is known; a photo a PNG of class ids.
    Rasters are covered with windows and never read whole; photos are predicted as they are evaluated, unless `tile` is
    given. Of several scenes those that cannot be read are listed in errors.csv, and the others predicted; with `resume`
    those that are done are kept.

    Raises:
        InputError: sources that do not fit, outputs that cannot be written, would take the place of a source or lie
            among the images, a tile that does not fit the network; nothing to go on with.
        DataError: images that cannot be read or do not fit (of several: all).
        RunError: the disk is full.
    """
    found = reader.find(sources)
    total, many = len(found.scenes) + len(found.refused), found.many
    predictor = Predictor.of(networks, metadata, reader, options, inference)
    outputs = {name: predictor.outputs(name, files, out, many) for name, files in found.scenes.items()}
    single = named_file(out, many)
    folder = out.parent if single else out
    if options.resume and not many:
        raise InputError(f"--resume goes on with a prediction of many images, and {sources[0]} is one. Leave it out.")
    job = job_of(predictor.ensemble, metadata, options) if many else {}
    journal = Journal(folder, job, resume=options.resume) if many else None
    kept = {} if journal is None else journal.kept(found.scenes, outputs)
    rest = {name: files for name, files in found.scenes.items() if name not in kept}
    faults = predictor.faults(rest, outputs, options.fail_fast or total == 1)
    refuse_overwriting(outputs, found.images)
    if not single:
        refuse_among_images((one.classes for one in outputs.values()), found.images, sources)
    failures = Failures(folder, total, fail_fast=options.fail_fast)
    notices = [*map(str, found.unused), *(journal.notices(kept, found.scenes, reader.plural) if journal else ())]
    with output_folder(folder), failures.counted(notices), _cache(found.images):
        work = _Work(predictor, rest, outputs, faults, failures, journal)
        failures.add_all(found.refused)
        notices += work.done(progress)
        if options.areas:
            areas = {**kept, **work.areas}
            rows = [(outputs[name].classes, *row) for name in found.scenes for row in areas.get(name, ())]
            write_areas(table_beside(out) if single else folder / "areas.csv", rows, options.aoi is not None)
        if options.legend:
            picture = legend_picture(predictor.legend.names, predictor.legend.colours, reader.background)
            save_png(picture, out.with_name(f"{out.stem}-legend.png") if single else folder / "legend.png", OUTPUT)
    notices += [*reader.watch.notices(), *file_notices(found.images)]
    return Predicted(total - len(failures.found) - len(kept), notices, failures.found)


def _cache(images: Sequence[Path]) -> Any:
    return small_cache() if any(map(is_raster, images)) else ExitStack()


_Opened = tuple[Any, ReadRegion]
"""What tells whether a scene's files were changed, and how it is read."""
_Step = _Opened | Piece | FileFault | None


@final
class _Work:
    """The scenes of a prediction, and what came of them: rows of the table of areas."""

    def __init__(
        self,
        predictor: Predictor,
        scenes: Mapping[str, Files],
        outputs: Mapping[str, Outputs],
        faults: Mapping[str, FileFault],
        failures: Failures,
        journal: Journal | None,
    ) -> None:
        self.predictor, self.scenes, self.outputs = predictor, scenes, outputs
        self.faults, self.failures, self.journal = faults, failures, journal
        self.areas: dict[str, Rows] = {}

    def done(self, progress: Progress) -> list[str]:
        """Predict all scenes but those with faults; returns notices."""
        make_room([self.outputs[name] for name in self.scenes if name not in self.faults])
        if self.journal is None:
            return self._predict(progress)
        with self.journal.open(self.outputs[name] for name in self.scenes):
            notices = self._predict(progress)
            if not (self.failures.found or self.journal.resume):
                self.journal.forget()  # the folder of a complete prediction holds its maps alone
        return notices

    def _predict(self, progress: Progress) -> list[str]:
        """In this thread maps are written, while the network works in another and files are read in more."""
        names, count = list(self.scenes), len(self.scenes)
        plural = self.predictor.reader.plural
        what = names[0] if count == 1 else f"{count} {plural}"
        notices: dict[str, list[str]] = {}
        with Ahead(self._steps(names), light=lambda step: not isinstance(step, Piece)) as steps:
            for done, name in enumerate(names):

                def part_progress(part: int, of: int, done: int = done) -> None:
                    progress(what, done * of + part, count * of)

                for kind, text in self._one(name, steps, part_progress).items():
                    notices.setdefault(kind, []).append(text)
        return gathered(notices, plural)

    def _steps(self, names: Sequence[str]) -> Generator[_Step, None, None]:
        """Of each scene how it is opened, its pieces and None; a fault ends it at once. Scenes are opened ahead."""

        def opened(index: int) -> _Opened:
            if names[index] in self.faults:
                raise self.faults[names[index]]
            files = self.scenes[names[index]]
            return (identity(files) if self.journal else None), self.predictor.open(files)

        for name, scene in zip(names, read_ahead(self.failures.catch(opened), len(names)), strict=True):
            yield scene
            if isinstance(scene, FileFault):
                continue
            try:
                yield from self.predictor.pieces_of(self.scenes[name], scene[1])
            except FileFault as fault:
                yield fault
            else:
                yield None

    def _one(self, name: str, steps: Iterator[_Step], progress: PartProgress) -> dict[str, str]:
        """Write the maps of a scene, or count it as one that cannot be read; returns notices by their kind."""
        outputs, scene = self.outputs[name], next(steps)
        pieces = iter(()) if isinstance(scene, FileFault) else _pieces(steps)
        try:
            if isinstance(scene, FileFault):
                raise scene
            assert isinstance(scene, tuple)
            images, read = scene
            notices, report = self.predictor.write(self.scenes[name], read, pieces, outputs, progress)
        except FileFault as fault:
            self.failures.add(fault, outputs.former())
            with suppress(FileFault):
                for _ in pieces:  # where it could not be written to the end
                    pass
            progress(1, 1)
            return {}
        if report is not None:
            self.areas[name] = self.predictor.area_rows(self.scenes[name], outputs.classes, report)
        if self.journal is not None:
            self.journal.add(name, images, outputs, self.areas.get(name, ()))
        return notices


def _pieces(steps: Iterator[_Step]) -> Iterator[Piece]:
    """The pieces of a scene; raises the fault that ends it."""
    for step in steps:
        if step is None:
            return
        if isinstance(step, FileFault):
            raise step
        assert isinstance(step, Piece)
        yield step


def gathered(notices: Mapping[str, Sequence[str]], plural: str) -> list[str]:
    """A sentence for each kind: of one scene the notice itself, of several their number and the first."""
    return [
        texts[0] if len(texts) == 1 else f"{len(texts)} {plural} {kind}: {some(texts)}"
        for kind, texts in notices.items()
    ]
