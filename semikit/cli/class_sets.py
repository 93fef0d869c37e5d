"""What `semikit data` does with the data sets of image classification, which are read as their makers hand them out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from semikit.data.published.catalogue import default_root, published_names, root_of
from semikit.data.published.class_sets import CLASS_SETS, SCORED, PublishedImages, class_set, open_published_images
from semikit.errors import InputError, unknown


def is_class_set(name: str) -> bool:
    """Whether a data set is one of image classification.

    Raises:
        UnknownNameError: with all data sets that `semikit data list` has.
    """
    if name not in CLASS_SETS and name not in published_names():
        raise unknown("published data set", name, [*published_names(), *CLASS_SETS])
    return name in CLASS_SETS


def class_rows() -> list[list[str]]:
    """A row of `semikit data list` for each of them."""
    rows = []
    for name, known in CLASS_SETS.items():
        counts = known.counts
        further = [f"{part} {count}" for part, count in counts.items() if part not in ("train", *SCORED)]
        rows.append(
            [
                name,
                str(known.classes),
                " / ".join(str(counts.get(part, "-")) for part in ("train", "val", "test")),
                ", ".join(further),
                ", ".join(known.official),
                "there" if default_root(name).is_dir() else "not there",
                f"{known.licence}; {known.homepage}",
            ]
        )
    return rows


def fetch_class_set(name: str, root: Path | None, parts: Sequence[str], splits: bool) -> list[str]:
    """Fetch what is missing, read it, and say what is there.

    Raises:
        InputError: asked for a part or for lists, which these have not.
        DataError: it cannot be fetched (says how it is got by hand), or a file is damaged.
    """
    if splits or parts:
        raise InputError(
            f"{name} is fetched as a whole and its makers hand out no lists of labelled images. Leave out "
            f"{'--splits' if splits else '--part'}: semikit data fetch {name}"
        )
    place = root_of(name, root)
    found = open_published_images(PublishedImages(name=name, root=place, download=True))
    scored = {"val": found.val, "test": found.test}
    counts = [f"train {len(found.train)}", *(f"{part} {len(part_of)}" for part, part_of in scored.items() if part_of)]
    counts += [f"unlabeled {len(more)}" for more in found.unlabeled]
    return [f"{name} in {place}: {', '.join(counts)} images", f"next: {_training(name, place)}"]


def no_preparation(name: str, root: Path | None) -> InputError:
    """Says that nothing has to be prepared or verified, and what there is to do."""
    known, place = class_set(name), root_of(name, root)
    got = "tells how to get it" if known.read is None else "fetches it"
    return InputError(
        f"{known.title} is read as its makers hand it out, or from folders of classes, and checked when it is read: "
        f"nothing has to be prepared or verified. `semikit data fetch {name} --root {place}` {got}. Then train, or "
        f"check all images with --dry-run: {_training(name, place)}"
    )


def _training(name: str, place: Path) -> str:
    known = class_set(name)
    labels = 250 if known.classes == 10 else 10 * known.classes
    return f"semikit train cls --dataset {name} --root {place} --labels {labels}"
