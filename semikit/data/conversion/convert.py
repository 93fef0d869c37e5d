"""Labels of any known format -> masks, the list of classes, and the YAML that describes them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import final

from semikit.data.conversion.label_formats import Reading, read_labels
from semikit.data.conversion.labels import IGNORED, IGNORED_COLOUR, Areas, LabeledImage, LabelSet, Numbers, numbered
from semikit.data.conversion.mask_store import MaskStore, Written
from semikit.data.conversion.yaml_file import (
    Described,
    former_classes,
    images_of_parts,
    refuse_foreign,
    refuse_other_masks,
    write_description,
)
from semikit.data.folders import image_files
from semikit.data.formats.colours import Colour
from semikit.data.formats.images import read_info
from semikit.data.palette import palette
from semikit.errors import DataError, FileFault, as_list, of_one_kind, some, unknown
from semikit.files import make_folder

_EMPTY = ("background", "unlabeled")
"""What becomes of images without a shape."""

Progress = Callable[[str, int, int], None]


@final
@dataclass(frozen=True, slots=True)
class Converted:
    """What was written: masks anew, those that were there, the YAML, the classes; and notices for the user."""

    written: int
    kept: int
    data: Path
    classes: tuple[str, ...]
    notices: Sequence[str]


def convert(reading: Reading, out: Path, progress: Progress = lambda what, done, total: None) -> Converted:
    """Write OUT/masks, OUT/classes.txt and OUT/data.yaml from labels; what is finished and still right is kept.

    Raises:
        DataError: labels that cannot be read or are of no image, sizes that differ, foreign files in OUT.
        ConfigError: classes that do not fit; a format that has to be named.
    """
    found = _with_train(read_labels(reading))
    numbers = numbered(found.labels, reading.classes, reading.uncovered)
    folders = _folders(found, reading)
    _refuse_among(out, [*folders.values(), *([reading.images_b] if reading.images_b else [])])
    refuse_foreign(out)
    refuse_other_masks(out, numbers.classes, list(folders))
    matched, lost = _matched(found, folders)
    matched, empty = _shapeless(matched, reading, numbers)
    drawn = _drawn(found, reading, numbers)
    make_folder(out)
    places = images_of_parts(matched, folders, out / "images")
    second = _second_dates(reading, matched, folders, out)
    labeled = replace(found, images=[image for image, _ in matched])
    described = Described(reading, labeled, numbers, places, second, drawn)
    store = MaskStore(out / "masks", numbers, palette(len(numbers.classes), list(drawn.values()) or None))
    store.clear()
    jobs = [
        (image, path, store.place(described.folder_of(image.part), name, image.drawing.suffix))
        for image, (name, path) in matched
    ]
    edited = store.foreign([place for _, _, place in jobs], former_classes(out))
    written, uncovered = _write([job for job in jobs if job[2] not in set(edited)], store, progress)
    notices = [*found.notices, *empty, *_unmatched(lost, folders), *_other_labels(found, numbers), *_kept(edited)]
    if written == len(jobs) and not uncovered and numbers.uncovered != IGNORED:
        name = numbers.classes[numbers.uncovered]
        notices.append(f"no pixel is of class {name!r}, as areas cover all: --background ignore leaves that class out")
    notices += store.stale([place for _, _, place in jobs])
    notices += write_description(out, described)
    return Converted(written, len(jobs) - written, out / "data.yaml", numbers.classes, notices)


def _with_train(found: LabelSet) -> LabelSet:
    """The same labels; a single part is what is learned from, whatever it is called."""
    if any(image.part == "train" for image in found.images):
        return found
    parts = {image.part for image in found.images}
    if len(parts) > 1:
        return found
    images = [replace(image, part="train") for image in found.images]
    return replace(found, images=images, folders=dict.fromkeys(["train"], *found.folders.values()))


def _refuse_among(out: Path, folders: Sequence[Path]) -> None:
    """Raise where masks would lie among the images, which are searched with all folders below."""
    for folder in folders:
        if out.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{out} lies in {folder}, where masks would be taken for images. Choose another -o.")


def _drawn(found: LabelSet, reading: Reading, numbers: Numbers) -> dict[str, Colour]:
    """The colours of the classes, where all have one and none is that of what does not count."""
    given = {**found.colours, **(reading.colours or {})}
    drawn = {name: given[name] for name in numbers.classes if name in given}
    whole = len(drawn) == len(numbers.classes) and IGNORED_COLOUR not in drawn.values()
    return drawn if whole else {}


def _shapeless(matched: Matched, reading: Reading, numbers: Numbers) -> tuple[Matched, list[str]]:
    """The images that get a mask, without those of train that hold no shape where these stay unlabelled; and notices.

    Raises:
        DataError: none is left.
        ConfigError: it is asked for something else.
    """
    if reading.empty not in _EMPTY:
        raise unknown("--empty", reading.empty, _EMPTY)
    bare = [isinstance(image.drawing, Areas) and not image.drawing.areas for image, _ in matched]
    unlabeled = reading.empty == "unlabeled"
    out = [unlabeled and k and image.part == "train" for k, (image, _) in zip(bare, matched, strict=True)]
    left = [image.name for (image, _), k in zip(matched, out, strict=True) if k]
    rest = [image.name for (image, _), k, gone in zip(matched, bare, out, strict=True) if k and not gone]
    if all(out):
        raise DataError(f"no image holds a shape ({len(left)} of {reading.source}), so none would be labelled.")
    notices = [f"{len(left)} images of train have no shapes and stay unlabelled: {some(left)}"] if left else []
    if rest:
        what = "none of their pixels counts"
        if numbers.uncovered != IGNORED:
            what = f"all their pixels are of class {numbers.classes[numbers.uncovered]!r}"
        hint = "" if left else ". --empty unlabeled leaves those of train unlabelled"
        notices.append(f"{len(rest)} images have no shapes, {what}: {some(rest)}{hint}")
    return [item for item, k in zip(matched, out, strict=True) if not k], notices


def _second_dates(
    reading: Reading, matched: Matched, folders: Mapping[str, Path], out: Path
) -> Mapping[str, Path] | None:
    """The folders of the second dates of pairs.

    Raises:
        DataError: pairs that miss it.
    """
    if reading.images_b is None:
        return None
    second = image_files(reading.images_b, "--images-b")
    missing = [name for _, (name, _) in matched if name not in second]
    if missing:
        raise DataError(
            f"{len(missing)} labelled images have no partner in {reading.images_b}: {some(missing)}. Both dates of a "
            "pair have one name."
        )
    pairs = [(image, (name, second[name])) for image, (name, _) in matched]
    if len(set(folders.values())) > 1:
        raise DataError("--images-b: the first dates lie in several folders. Give one, --images DIR, or convert each.")
    return images_of_parts(pairs, dict.fromkeys(folders, reading.images_b), out / "images_b")


Named = tuple[str, Path]
"""Name of an image (its path below the folder, without suffix) and its file."""
Matched = list[tuple[LabeledImage, Named]]


def _folders(found: LabelSet, reading: Reading) -> dict[str, Path]:
    """The folder of the images of each part."""
    parts = dict.fromkeys(image.part for image in found.images)
    if reading.images is not None:
        return dict.fromkeys(parts, reading.images)
    missing = [part for part in parts if part not in found.folders]
    if missing:
        raise DataError(
            f"{reading.source}: it is not known where the images are ({found.format}). Say it: --images DIR"
        )
    return {part: found.folders[part] for part in parts}


def _matched(found: LabelSet, folders: Mapping[str, Path]) -> tuple[Matched, list[str]]:
    """Each labelled image with its file, and the names of those that have none.

    Raises:
        DataError: no image has a file; two labels of one image.
    """
    listed = {folder: image_files(folder, "images") for folder in dict.fromkeys(folders.values())}
    by_stem = {folder: _by_stem(names) for folder, names in listed.items()}
    matched: Matched = []
    lost: list[str] = []
    owners: dict[tuple[str, Path], LabeledImage] = {}
    for image in found.images:
        folder = folders[image.part]
        name = _name_beside(image, folder, listed[folder]) or _name_in(image.name, listed[folder], by_stem[folder])
        if name is None:
            several = by_stem[folder].get(_pieces(image.name)[-1].rpartition(".")[0], [])
            lost.append(f"{image.name} (of that name are several: {some(several)})" if several else image.name)
            continue
        other = owners.setdefault((name, folder), image)
        if other is not image:
            raise DataError(
                f"two labels of one image, {listed[folder][name]}: {other.where} ({other.name}) and {image.where} "
                f"({image.name}). Take one of them out."
            )
        matched.append((image, (name, listed[folder][name])))
    if not matched:
        raise DataError(
            f"no labelled image was found. The labels name {some(lost)}; there are "
            f"{some([str(path) for paths in listed.values() for path in paths.values()])}. Say where they are: "
            "--images DIR"
        )
    return matched, lost


def _by_stem(names: Mapping[str, Path]) -> dict[str, list[str]]:
    """Last part of a name -> the names that end so."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[name.rpartition("/")[2]].append(name)
    return dict(found)


def _name_beside(image: LabeledImage, folder: Path, names: Mapping[str, Path]) -> str | None:
    """The name under which a folder has the image that lies beside its labels."""
    base = Path(os.path.normpath(folder.absolute()))
    if image.file is None or not image.file.is_relative_to(base):
        return None
    name = image.file.relative_to(base).as_posix().rpartition(".")[0]
    return name if name in names else None


def _pieces(path: str) -> list[str]:
    pieces = [piece for piece in path.replace("\\", "/").split("/") if piece not in ("", ".", "..")]
    return pieces or [""]


def _name_in(given: str, names: Mapping[str, Path], by_stem: Mapping[str, Sequence[str]]) -> str | None:
    """The name under which a folder has an image that labels call `given`: by its end, longest first."""
    pieces = _pieces(given)
    for ends in (pieces[-1].rpartition(".")[0] or pieces[-1], pieces[-1]):
        for first in range(len(pieces)):
            name = "/".join([*pieces[first:-1], ends])
            if name in names:
                return name
        if len(by_stem.get(ends, ())) == 1:
            return by_stem[ends][0]
    return None


def _write(jobs: Sequence[tuple[LabeledImage, Path, Path]], store: MaskStore, progress: Progress) -> tuple[int, bool]:
    """Write the masks that are not there yet; returns their number, and whether a pixel of them is in no area.

    Raises:
        DataError: images that cannot be read or have another size than their labels, in one message.
    """
    results, faults = list[Written](), dict[str, list[FileFault]]()
    with ThreadPoolExecutor() as threads, _given_up(threads):
        made = threads.map(partial(_write_one, store), jobs)
        for done, result in enumerate(made, start=1):
            progress("masks", done, len(jobs))
            if isinstance(result, FileFault):
                faults.setdefault(result.kind, []).append(result)
            else:
                results.append(result)
    if faults:
        raise DataError(as_list("labels", [of_one_kind(found) for found in faults.values()]))
    return sum(result.new for result in results), any(result.uncovered for result in results)


@contextmanager
def _given_up(threads: ThreadPoolExecutor) -> Iterator[None]:
    """What threads have not begun is not begun any more where an error or an interruption ends this."""
    try:
        yield
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        raise


def _write_one(store: MaskStore, job: tuple[LabeledImage, Path, Path]) -> Written | FileFault:
    image, path, place = job
    try:
        return store.write(place, image.drawing, _size(image, path))
    except FileFault as fault:
        return fault


def _size(image: LabeledImage, path: Path) -> tuple[int, int]:
    """(H, W) of the mask: as its labels say, which has to be the image's, stored or turned as a camera noted."""
    info = read_info(path)
    if image.size is None or image.size == info.shown:
        return info.shown
    if image.size != info.size:
        height, width = info.size
        detail = f"labels of {image.size[1]}x{image.size[0]}, {path} {width}x{height} (width x height)"
        remedy = "Labels are drawn in pixels of their own image: give the images they were made on."
        raise FileFault("labels of an image of another size", image.where, detail, remedy)
    return image.size


def _unmatched(lost: Sequence[str], folders: Mapping[str, Path]) -> list[str]:
    if not lost:
        return []
    places = ", ".join(str(folder) for folder in dict.fromkeys(folders.values()))
    return [f"{len(lost)} labelled images are not in {places} and were left out: {some(lost)}"]


def _other_labels(found: LabelSet, numbers: Numbers) -> list[str]:
    others = [label for label in found.labels if label not in numbers.classes]
    return [f"labels that are none of the classes do not count (255): {some(others, 10)}"] if others else []


def _kept(edited: Sequence[Path]) -> list[str]:
    if not edited:
        return []
    return [
        f"{len(edited)} masks no longer say what they were made from, as after an edit by hand, and are kept: "
        f"{some([str(place) for place in edited])}. Take them away to have them drawn again."
    ]
