"""Which images to label next: what a run, or a pretrained encoder, says of a source becomes a folder to label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, final

from pydantic import Field

from semikit.core.network import Network
from semikit.core.task import Inference, Progress, Task
from semikit.data.conversion.labels import IGNORED
from semikit.data.formats.images import image_size, read_mask
from semikit.data.formats.mask_values import VALID, MaskValues
from semikit.data.formats.range_watch import RangeWatch
from semikit.data.palette import palette
from semikit.errors import DataError, FileFault, InputError, WeightsError
from semikit.files import OUTPUT, write_table
from semikit.inference.contact_sheets import Proposed, proposal_sheet
from semikit.inference.many_files import Failures, output_folder, refuse_among_images
from semikit.inference.map_files import MapPredict
from semikit.inference.next_labels import (
    Ranked,
    place_images,
    write_data_yaml,
    write_flags,
    write_outlines,
    write_ranking,
)
from semikit.inference.pictures import save_png
from semikit.inference.predictor import Predictor
from semikit.inference.ranking import (
    Choice,
    Measure,
    Seen,
    Sight,
    labelled_among,
    seen_classes,
    seen_maps,
    seen_untrained,
    shown_region,
    typical,
    unsure_and_unlike,
)
from semikit.inference.scenes import DatePairs, Found, SceneReader, SingleDates
from semikit.models.classifier import ClassifierSettings, build_classifier
from semikit.models.encoders.names import ENCODERS
from semikit.models.weights.at_hand import at_hand
from semikit.raster.cog import BESIDE
from semikit.registry import TASKS
from semikit.run.begun import read_begun
from semikit.run.folder import existing_run
from semikit.run.load import load_network, student_and_teacher
from semikit.run.reporters import default_progress
from semikit.settings.base import Settings
from semikit.settings.messages import validate
from semikit.settings.yaml_text import in_one_line
from semikit.training.device import choose_device, inference_on

_ENCODERS = ("dinov2-small", "efficientnet-lite0")
"""What images are compared by before there is a run: the first whose weights are on this machine."""
_SHOWN = 60
"""Images on the contact sheet."""


@final
class RankSettings(Settings):
    """How images are chosen, and what is written of them."""

    n: int = Field(50, ge=1)
    """Images to choose, at most."""
    by: Measure = "margin"
    """How uncertainty is measured."""
    rare: bool = False
    """Whether images with rare predicted classes weigh more."""
    confidence: float = Field(0.9, ge=0, le=1)
    """What is less probable stays without a label."""
    autolabel: bool = False
    """Whether all images of the source are labelled too."""
    links: bool = True
    """Links to the chosen images, else copies."""
    encoder: str | None = None
    """What images are compared by without a run."""


def rank(
    run: str | PathLike[str] | None,
    *sources: str | PathLike[str],
    out: str | PathLike[str],
    device: str = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> tuple[list[Ranked], list[str]]:
    """Which images to label next, as `semikit rank` does: of a file, folder or pattern (of change detection two) the
    `n` whose labels a run would learn most from, the best first, and notices. Without a run (None) the most typical of
    each of `n` kinds of image, by a pretrained `encoder`. `out` is a new folder with what is needed to label them;
    `options` are the other flags (n=50, by="entropy", rare=True, confidence=0.9 …).

    Raises:
        InputError: an option that does not fit, another number of sources, a folder that holds something; DataError: no
            image can be read, or all have a label.
    """
    folder, names, wanted = Path(out), [str(source) for source in sources], validate(RankSettings, options, "rank")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{out} is not empty, and labels that were corrected there would be lost. Choose another -o.")
    inference, progress = inference_on(choose_device(device), "fp32"), progress or default_progress()
    if run is None:
        return _rank_untrained(names, folder, wanted, inference, progress)
    if wanted.encoder is not None:
        raise InputError(f"--encoder {wanted.encoder} is for --cold, without a run: {run} has its own. Leave it out.")
    return _rank_by_run(existing_run(run), names, folder, wanted, inference, progress)


def _rank_by_run(
    run: Path, sources: Sequence[str], out: Path, wanted: RankSettings, inference: Inference, progress: Progress
) -> tuple[list[Ranked], list[str]]:
    network, metadata = load_network(run)
    if not hasattr(network, "encoder"):
        raise InputError(f"{run} is an export, of which only predictions are seen. Give the run that it was made of.")
    task: type[Task] = TASKS.get(metadata["task"])
    number, what = task.dates
    if len(sources) != number:
        how_many = "one source" if number == 1 else f"{number} sources"
        raise InputError(f"a run of {metadata['task']} ranks {what}; give {how_many}, not {len(sources)}.")
    reader: SceneReader = getattr(task, "scenes", SingleDates).of(metadata)
    found, notices = reader.find(sources), list[str]()
    networks = [network]
    if wanted.by == "disagreement":
        networks += student_and_teacher(run) or [network, network]
    if metadata["task"] == "cls":
        sights = seen_classes(networks, metadata, found.scenes, wanted.by, inference)
    else:
        predictors = [Predictor.of([one], metadata, reader, MapPredict(), inference) for one in networks]
        sights = seen_maps(predictors, found.scenes, wanted.by)
    with output_folder(out):
        seen = _seen(found, sights, sources, out, notices, progress)
        labelled = _labelled(run, seen)
        if len(labelled) == len(seen):
            raise DataError(f"all {len(seen)} images were labelled in {run}. Give others.")
        if labelled:
            notices.append(f"{len(labelled)} of {len(seen)} images were labelled in {run}; they are not ranked")
        ranked = _ranked(seen, unsure_and_unlike(seen, wanted.n, labelled, wanted.rare), metadata["class_names"])
        notices += _other_values(run, len(metadata["class_names"])) if metadata["task"] != "cls" else ()
        labelling = _Labelling(out, task, network, metadata, wanted, inference, reader)
        notices += labelling.write(ranked)
        if wanted.autolabel:
            labelling.label_all(seen, sources, progress)
    return ranked, notices


def _rank_untrained(
    sources: Sequence[str], out: Path, wanted: RankSettings, inference: Inference, progress: Progress
) -> tuple[list[Ranked], list[str]]:
    if wanted.autolabel or wanted.rare:
        flag = "--autolabel" if wanted.autolabel else "--rare"
        raise InputError(f"{flag} takes what a run predicts, and with --cold there is none. Leave it out.")
    if len(sources) not in (1, 2):
        raise InputError(f"--cold takes one source, or two dates of change detection, not {len(sources)}.")
    reader: SceneReader = (SingleDates, DatePairs)[len(sources) - 1]((), None, None, "viewer", RangeWatch(None))
    found, network, notices = reader.find(sources), _pretrained(wanted.encoder), list[str]()
    with output_folder(out):
        sights = seen_untrained(network, reader, found.scenes, inference)
        seen = _seen(found, sights, sources, out, notices, progress)
        ranked = _ranked(seen, typical(seen, wanted.n), ())
        write_ranking(out / "ranking.csv", ranked)
        place_images(ranked, _folders(out, len(sources)), wanted.links)
        _draw(out, ranked, reader, {}, None)
    return ranked, notices


def _pretrained(name: str | None) -> Network:
    """A pretrained encoder, by its name or the first whose weights are on this machine."""
    here = [one for one in _ENCODERS if at_hand(ENCODERS[one])]
    if name is None and not here:
        raise WeightsError(
            f"--cold compares images by a pretrained encoder, and no weights of {' or '.join(_ENCODERS)} are on this "
            f"machine. Name one that is fetched: --encoder {_ENCODERS[0]}."
        )
    return build_classifier(ClassifierSettings(encoder=name or here[0], weights="pretrained"), 1).eval()


def _seen(
    found: Found, sights: Iterator[Sight], sources: Sequence[str], out: Path, notices: list[str], progress: Progress
) -> list[Seen]:
    """What is said of every image that can be read; the others are listed in errors.csv."""
    seen: list[Seen] = []
    refuse_among_images([out / "ranking.csv"], found.images, sources)
    failures = Failures(out, len(found.scenes) + len(found.refused), fail_fast=False)
    with failures.counted(notices):
        failures.add_all(found.refused)
        for done, sight in enumerate(sights, 1):
            if isinstance(sight, FileFault):
                failures.add(sight)
            else:
                seen.append(sight)
            progress("images", done, len(found.scenes))
    return seen


def _other_values(run: Path, count: int) -> list[str]:
    """What to do with masks of class numbers and 255 where those that a run learned from are read otherwise."""
    folders = _folders_of(run)
    ignore, mapping = folders.get("ignore") or (), folders.get("mapping") or {}
    numbered = {int(value): number for value, number in mapping.items()}  # JSON, and so YAML of it, has only text keys
    read = {"ignore": list(ignore), "mapping": numbered, "colors": folders.get("colors")}
    read = {key: value for key, value in read.items() if value}
    values = MaskValues(count, tuple(ignore), tuple(numbered.items()), exact=True)
    alike = all(values.read(number) == (number, VALID) for number in range(count)) and not values.read(IGNORED)[1]
    train = folders.get("train") or {}
    if train.get("masks_a"):
        return [
            f"the new masks are of the change, and those of {run} of each date, so that they are not trained on "
            "together: data.yaml describes the new ones alone"
        ]
    if not train.get("masks") or train.get("corrected") or (alike and "colors" not in read):
        return []
    known = in_one_line(read) if read else "number alone"
    return [
        f"the new masks hold 0 to {count - 1}, and {IGNORED} where no class is sure; those of {run} are read by "
        f"{known}. So do not mix them: give their folder as `corrected` beside `masks` in the description of the data"
    ]


def _folders_of(run: Path) -> Mapping[str, Any]:
    """What the configuration of a run folder says of the user's own data."""
    return (read_begun(run)["data"].get("folders") or {}) if (run / "config.yaml").is_file() else {}


def _labelled(run: Path, seen: Sequence[Seen]) -> list[int]:
    """The numbers of the images that a run folder learned from with their labels."""
    return labelled_among([one.files for one in seen], run, _folders_of(run).get("train") or {})


def _ranked(seen: Sequence[Seen], chosen: Sequence[Choice], names: Sequence[str]) -> list[Ranked]:
    ranked = []
    for rank, one in enumerate(chosen, 1):
        found = seen[one.index]
        if one.typicality is not None:
            ranked.append(Ranked(rank, found.name, found.files, typicality=one.typicality))
            continue
        shares = {names[k]: float(found.shares[k]) for k in found.shares.argsort(descending=True) if found.shares[k]}
        measures = {"uncertainty": found.uncertainty, "distance": one.distance, "confidence": found.confidence}
        ranked.append(Ranked(rank, found.name, found.files, **measures, classes=shares))
    return ranked


def _folders(out: Path, dates: int) -> list[Path]:
    return [out / "images"] if dates == 1 else [out / "A", out / "B"]


@final
@dataclass(frozen=True, slots=True)
class _Labelling:
    """What a run proposes for the chosen images, as files to correct."""

    out: Path
    task: type[Task]
    network: Network
    metadata: Mapping[str, Any]
    wanted: RankSettings
    inference: Inference
    reader: SceneReader

    def write(self, ranked: Sequence[Ranked]) -> Sequence[str]:
        """The folder; what its predictions remark."""
        out, folders = self.out, _folders(self.out, self.task.dates[0])
        write_ranking(out / "ranking.csv", ranked)
        placed = place_images(ranked, folders, self.wanted.links)
        write_data_yaml(out / "data.yaml", self.metadata["task"], self.metadata)
        if self.metadata["task"] == "cls":
            self._classes(ranked, [files[0] for files in placed])
            _draw(out, ranked, self.reader, self.metadata, None)
            return ()
        at = out / "masks"
        remarks = self.predict([str(folder) for folder in folders], at, lambda *so_far: None)
        written = [file for file in at.rglob("*.*") if not file.name.endswith(BESIDE)]
        found = {file.relative_to(at).with_suffix("").as_posix(): file for file in written}
        masks = [found[one.name] for one in ranked]
        _draw(out, ranked, self.reader, self.metadata, masks)
        photos = [k for k, one in enumerate(ranked) if not self.reader.by_windows(one.files)]
        if photos and self.task.dates[0] == 1:
            images = [placed[k][0] for k in photos]
            write_outlines(out, images, [masks[k] for k in photos], self.metadata["class_names"])
        return remarks

    def predict(self, sources: Sequence[str], out: Path, progress: Progress) -> Sequence[str]:
        """Masks of sources, without the pixels that are not confident enough; returns notices."""
        options = self.task.Predict.model_validate({"min_confidence": self.wanted.confidence})
        return self.task.predict([self.network], self.metadata, sources, out, options, self.inference, progress).notices

    def _classes(self, ranked: Sequence[Ranked], images: Sequence[Path]) -> None:
        """A table of the classes, and LabelMe's files with them as flags."""
        out = self.out
        found = [self.class_of(one.classes or {}, one.confidence or 0.0) for one in ranked]
        files = [image.relative_to(out).as_posix() for image in images]
        write_table(out / "labels.csv", [("file", "label"), *zip(files, found, strict=True)], "\n")
        names = self.metadata["class_names"]
        write_flags(images, map(image_size, images), [{name: name == one for name in names} for one in found])

    def class_of(self, classes: Mapping[str, float], confidence: float) -> str:
        """The predicted class, nothing where it is not confident enough."""
        return next(iter(classes), "") if confidence >= self.wanted.confidence else ""

    def label_all(self, seen: Sequence[Seen], sources: Sequence[str], progress: Progress) -> None:
        """Labels of all images of the sources: masks in OUT/autolabel, or the table OUT/autolabel.csv."""
        out, names = self.out, self.metadata["class_names"]
        if self.metadata["task"] != "cls":
            self.predict(sources, out / "autolabel", progress)
            return
        rows = [(one.files[0], self.class_of({names[int(one.shares.argmax())]: 1.0}, one.confidence)) for one in seen]
        write_table(out / "autolabel.csv", [("file", "label"), *rows], "\n")


def _draw(
    out: Path, ranked: Sequence[Ranked], reader: SceneReader, metadata: Mapping[str, Any], masks: Sequence[Path] | None
) -> None:
    """The contact sheet, sheet.png."""

    def proposed(number: int) -> Proposed:
        one = ranked[number]
        region = shown_region(reader, one.files)
        image = reader.samples(one.files, reader.scale or reader.range_of(one.files)).image(0, region)[0]
        classes = None if masks is None else read_mask(masks[number], region)
        known = "" if masks or not one.classes else f" · {next(iter(one.classes))} {one.confidence:.0%}"
        return Proposed(f"{one.rank} {one.name}{known}", image, classes)

    shown = range(min(len(ranked), _SHOWN))
    names = metadata["class_names"] if masks else ()
    title = f"To label next: {len(ranked)} images" + (f", the first {_SHOWN}" if len(ranked) > _SHOWN else "")
    colours = palette(len(names), metadata.get("palette"))
    sheet = proposal_sheet(title, "labels to correct laid over" if masks else "", map(proposed, shown), names, colours)
    save_png(sheet, out / "sheet.png", OUTPUT)
