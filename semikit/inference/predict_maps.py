"""Maps of classes and of change, of one scene or many: what is predicted, what became of it, and going on."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, final

from semikit.core.network import Network
from semikit.core.task import Inference, Predicted, Progress
from semikit.data.formats.images import is_raster
from semikit.data.header_notices import file_notices
from semikit.distributed.together import end_with_others, exchanged, place
from semikit.errors import FileFault, InputError, some
from semikit.files import OUTPUT
from semikit.inference.ahead import Ahead
from semikit.inference.journal import Journal, Rows, identity, job_of
from semikit.inference.many_files import Failures, caught, output_folder, refuse_among_images
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
from semikit.inference.sharing import Shares, give, with_others
from semikit.inference.streamed import MapPart, Piece, ReadRegion
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
    predictor = Predictor.of(networks, metadata, reader, options, inference)
    if place()[0]:
        return _helping(predictor)
    found = reader.find(sources)
    total, many = len(found.scenes) + len(found.refused), found.many
    outputs = {name: predictor.outputs(name, files, out, many) for name, files in found.scenes.items()}
    single = named_file(out, many)
    folder = out.parent if single else out
    if options.resume and not many:
        raise InputError(f"--resume goes on with a prediction of many images, and {sources[0]} is one. Leave it out.")
    asked = job_of(predictor.ensemble, metadata, options) if many else {}
    journal = Journal(folder, asked, resume=options.resume) if many else None
    kept = {} if journal is None else journal.kept(found.scenes, outputs)
    rest = {name: files for name, files in found.scenes.items() if name not in kept}
    faults = predictor.faults(rest, outputs, options.fail_fast or total == 1)
    refuse_overwriting(outputs, found.images)
    if not single:
        refuse_among_images((one.classes for one in outputs.values()), found.images, sources)
    failures = Failures(folder, total, fail_fast=options.fail_fast)
    went_on = journal.notices(kept, found.scenes, reader.plural) if journal else ()
    notices = [*predictor.notices(), *map(str, found.unused), *went_on]
    job = _Job(rest, outputs, faults, failures, journal, _shares(predictor, rest, faults))
    with output_folder(folder), failures.counted(notices), _cache(found.images):
        work = _Work(predictor, job)
        notices += work.done(found.refused, progress)
        if options.areas:
            areas = {**kept, **work.areas}
            rows = [(outputs[name].classes, *row) for name in found.scenes for row in areas.get(name, ())]
            write_areas(table_beside(out) if single else folder / "areas.csv", rows, options.aoi is not None)
        if options.legend:
            picture = legend_picture(predictor.legend.names, predictor.legend.colours, reader.background)
            save_png(picture, out.with_name(f"{out.stem}-legend.png") if single else folder / "legend.png", OUTPUT)
    notices += [*reader.watch.notices(), *file_notices(found.images)]
    done = Predicted(total - len(failures.found) - len(kept), notices, failures.found)
    return exchanged(done)[0]


def _helping(predictor: Predictor) -> Predicted:
    """What other processes than the first do."""
    job: _Job = exchanged(None)[0]  # type: ignore[assignment]
    with _cache([path for files in job.scenes.values() for path in files]):
        _Work(predictor, job).predict(lambda *at: None)
    return exchanged(None)[0]  # type: ignore[return-value]


def _cache(images: Sequence[Path]) -> Any:
    return small_cache() if any(map(is_raster, images)) else ExitStack()


def _shares(predictor: Predictor, scenes: Mapping[str, Files], faults: Mapping[str, FileFault]) -> Shares:
    pixels, divisible = dict.fromkeys(scenes, 0), dict.fromkeys(scenes, False)
    for name, files in scenes.items() if place()[1] > 1 else ():
        with suppress(FileFault):
            pixels[name] = 0 if name in faults else prod(predictor.reader.grid(files).size)
            divisible[name] = predictor.divisible(files)
    return Shares.of(pixels, divisible, place()[1])


_Opened = tuple[Any, ReadRegion]
"""What tells whether a scene's files were changed, and how it is read."""
_Step = _Opened | Piece | FileFault | None


@final
@dataclass(frozen=True, slots=True)
class _Job:
    """The same in all processes: scenes to predict, those with faults among them, their files, and who does what."""

    scenes: Mapping[str, Files]
    outputs: Mapping[str, Outputs]
    faults: Mapping[str, FileFault]
    failures: Failures
    journal: Journal | None
    shares: Shares


@final
class _Work:
    """The scenes that a process predicts, and what came of them: rows of the table of areas."""

    def __init__(self, predictor: Predictor, job: _Job) -> None:
        self.predictor, self.job, self.scenes, self.outputs = predictor, job, job.scenes, job.outputs
        self.failures, self.journal = job.failures, job.journal
        self.places = {name: number for number, name in enumerate(job.scenes)}
        self.areas: dict[str, Rows] = {}

    def done(self, refused: Iterable[FileFault], progress: Progress) -> list[str]:
        """Predict all scenes but those with faults, and count the `refused`; returns notices. In the first process."""
        make_room([self.outputs[name] for name in self.scenes if name not in self.job.faults])
        with ExitStack() if self.journal is None else self.journal.open(self.outputs[name] for name in self.scenes):
            exchanged(self.job)  # the others begin
            self.failures.add_all(refused)
            notices = self.predict(progress)
            if self.journal is not None and not (self.failures.found or self.journal.resume):
                self.journal.forget()  # the folder of a complete prediction holds its maps alone
        return notices

    def predict(self, progress: Progress) -> list[str]:
        """What this process has to do: in this thread maps are written, while the network works in another and files
        are read in more. Returns the notices of all processes.
        """
        names = [*self.job.shares.together, *self.job.shares.alone[place()[0]]]
        count, plural = len(names), self.predictor.reader.plural
        what = names[0] if count == 1 else f"{count} {plural}"
        notices: dict[str, Mapping[str, str]] = {}
        with Ahead(self._steps(names), light=lambda step: not isinstance(step, Piece)) as steps:
            for done, name in enumerate(names):

                def part_progress(part: int, of: int, done: int = done) -> None:
                    end_with_others()
                    progress(what, done * of + part, count * of)

                notices[name] = self._one(name, steps, part_progress)
        return gathered(self._everyones(notices), plural)

    def _everyones(self, notices: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
        """The notices of all processes by their kind, in the order of the scenes; takes their areas and faults too."""
        self.failures.shared()
        watch, by_scene, by_kind = self.predictor.reader.watch, dict(notices), dict[str, list[str]]()
        for texts, areas, seen in exchanged((notices, self.areas, watch.seen()))[1:]:
            by_scene |= {name: found for name, found in texts.items() if name not in self.job.shares.together}
            self.areas |= areas
            watch.add_seen(seen)
        for name in self.scenes:
            for kind, text in by_scene.get(name, {}).items():
                by_kind.setdefault(kind, []).append(text)
        return by_kind

    def _steps(self, names: Sequence[str]) -> Generator[_Step, None, None]:
        """Of each scene how it is opened, its pieces and None; a fault ends it at once. Scenes are opened ahead."""
        faults, shared = self.job.faults, dict.fromkeys(self.job.shares.together, place())

        def opened(index: int) -> _Opened:
            if names[index] in faults:
                raise faults[names[index]]
            files = self.scenes[names[index]]
            return (identity(files) if self.journal else None), self.predictor.open(files)

        for name, scene in zip(names, read_ahead(caught(opened), len(names)), strict=True):
            yield scene
            if isinstance(scene, FileFault):
                continue
            try:
                yield from self.predictor.pieces_of(self.scenes[name], scene[1], shared.get(name, (0, 1)))
            except FileFault as fault:
                yield fault
            else:
                yield None

    def _one(self, name: str, steps: Iterator[_Step], progress: PartProgress) -> dict[str, str]:
        """Write the maps of a scene, or count it as one that cannot be read; returns notices by their kind."""
        outputs, scene = self.outputs[name], next(steps)
        parts: Iterator[MapPart] = map(partial(self.predictor.drawn, outputs=outputs), _pieces(scene, steps))
        if name in self.job.shares.together:
            if place()[0]:
                give(parts, outputs, progress)
                return {}
            parts = with_others(parts)
        try:
            if isinstance(scene, FileFault):
                raise scene
            assert isinstance(scene, tuple)
            images, read = scene
            notices, report = self.predictor.write(self.scenes[name], read, parts, outputs, progress)
        except FileFault as fault:
            self.failures.add(fault, outputs.former(), self.places[name])
            with suppress(FileFault):
                for _ in parts:  # where it could not be written to the end
                    pass
            progress(1, 1)
            return {}
        if report is not None:
            self.areas[name] = self.predictor.area_rows(self.scenes[name], outputs.classes, report)
        if self.journal is not None:
            self.journal.add(name, images, outputs, self.areas.get(name, ()))
        return notices


def _pieces(scene: _Step, steps: Iterator[_Step]) -> Iterator[Piece]:
    """The pieces of a scene that was opened; raises the fault that ends it."""
    for step in chain([scene] if isinstance(scene, FileFault) else [], steps):
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
