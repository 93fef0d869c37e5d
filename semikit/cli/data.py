"""`semikit data`: list, fetch, prepare and verify published data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.cli.output import progress_bar, show_table
from semikit.data.published.catalogue import default_root, published_names, read_published, root_of
from semikit.data.published.class_sets import CLASS_SETS, SCORED, PublishedImages, class_set, open_published_images
from semikit.errors import DataError, InputError, unknown
from semikit.files import shell_word
from semikit.run.recipes import merge

data_app = typer.Typer(
    name="data",
    help="Your own data: init, check, convert, split. Published data sets: list, fetch, prepare, verify.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Name = Annotated[
    str, typer.Argument(help="pascal | cityscapes | ade20k | coco | levir | whu | cifar10 | … (semikit data list).")
]
Root = Annotated[
    Path | None,
    typer.Option(help="Where the data set lies or will lie. Default: $SEMIKIT_DATA/NAME, else ./data/NAME."),
]


@data_app.command("list")
def list_sets() -> None:
    """List the published data sets: classes, images (of change detection pairs), official splits, terms, and whether
    they are prepared (those of classification: there).
    """
    from semikit.data.published.prepared import BEGUN, RECORD

    columns = ("name", "classes", "train / val / test", "further images", "official splits", "default root", "terms")
    rows = []
    for name in published_names():
        known, root = read_published(name), default_root(name)
        half = "begun, not finished" if (root / BEGUN).exists() else "not prepared"
        counts = known.counts
        row = [
            name,
            str(len(known.classes)),
            " / ".join(str(counts[part]) for part in known.masked),
            ", ".join(f"{part} {counts[part]}" for part in known.extra),
            ", ".join(known.splits),
            "prepared" if (root / RECORD).is_file() else half,
            f"{known.licence}; {known.homepage}",
        ]
        rows.append(row)
    show_table(columns, [*rows, *class_rows()])


@data_app.command("fetch")
def fetch(
    name: Name,
    root: Root = None,
    splits: Annotated[bool, typer.Option("--splits", help="Only the official lists of labelled images.")] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only the archives of this part, repeatable; some are fetched only by their part."),
    ] = None,
) -> None:
    """Fetch a data set's archives and official lists, and say what has to be fetched by hand.

    Archives go to ROOT/downloads, lists to ROOT/splits. Broken downloads are gone on with by the same command; nothing
    is used before its checksum is right. Data sets of classification lie in ROOT as their makers hand them out.
    """
    if is_class_set(name):
        say(fetch_class_set(name, root, part or (), splits))
        return
    from semikit.data.published import fetch as fetching
    from semikit.data.published.inputs import DOWNLOADS

    place = root_of(read_published(name).name, root)
    if not splits:  # first, for they are of use also where nothing answers
        say(fetching.by_hand(name, place, tuple(part or ())), "by hand")
    with progress_bar() as progress:
        report = fetching.fetch(name, place, tuple(part or ()), splits_only=splits, progress=progress)
    lines = [f"fetched: {item}" for item in report.fetched] + [f"already there: {item}" for item in report.there]
    say(lines)
    say(
        (f"no checksum is published for {item}: its length and the archive were checked" for item in report.unchecked),
        "note",
    )
    say(report.left, "optional")
    if not splits:
        source = place / DOWNLOADS
        where = f"--source {shell_word(source)} --root {shell_word(place)}"
        say([f"{'then' if report.by_hand else 'next'}: semikit data prepare {name} {where}"])


@data_app.command("prepare")
def prepare(
    name: Name,
    source: Annotated[Path, typer.Option(help="Folder with the archives or extracted folders, or one archive.")],
    root: Root = None,
) -> None:
    """Lay out a data set from its archives or folders, as they are downloaded, for `--dataset NAME --root DIR`.

    Scenes of levir and GeoTIFFs of whu (unpacked ones) are cut into tiles. Checks first that all is there and that it
    fits. An interrupted run is gone on with by the same command. SOURCE may be the root itself: files that are in
    place stay.
    """
    _refuse_class_set(name, root)
    from semikit.data.published import prepare as preparing

    place = root_of(read_published(name).name, root)
    with progress_bar() as progress:
        report = preparing.prepare(name, source, place, progress)
    say(report.lines)
    say(report.notices, "note")
    say([f"next: semikit data verify {name} --root {shell_word(place)}"])


@data_app.command("verify")
def verify(
    name: Name,
    root: Root = None,
    every: Annotated[bool, typer.Option("--all", help="Open every mask with its image, not 200 masks.")] = False,
) -> None:
    """Count a prepared data set, open its masks, and say what is wrong and how it is mended."""
    _refuse_class_set(name, root)
    from semikit.data.published import verify as verifying

    with progress_bar() as progress:
        report = verifying.verify(name, root, every, progress)
    say(report.lines)
    say(report.notices, "note")
    if report.problems:
        raise DataError("\n- ".join([f"{name}: {len(report.problems)} found to be wrong", *report.problems]))
    say(["nothing wrong was found"])


@data_app.command("split")
def split(
    task: Annotated[str, typer.Argument(help="seg | cd | cls")],
    labels: Annotated[str, typer.Option(help="How many are labelled: 46 | 1/8 | 10% | official:1/16.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The list to write, for --labels FILE.")],
    dataset: o.Dataset = None,
    data: o.Data = None,
    root: o.Root = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice; a run's --seed makes the same one.")] = 0,
    fold: o.Fold = None,
) -> None:
    """Write the list of labelled images that `train` would choose, to keep, share, or edit.

    semikit data split seg --data my.yaml --labels 1/8 -o labelled.txt
    """
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Choose another --out.")
    from semikit.run.compose import compose

    raw = compose(
        task,
        dataset=dataset,
        data=data,
        root=root,
        above={
            "data": {"labels": labels, **({} if fold is None else {"fold": fold})},
            "method": {"name": "supervised"},
        },
    )
    from semikit.run.build import build_task
    from semikit.run.config import resolve

    names = build_task(resolve(merge(raw, {"train": {"seed": seed}}))).manifest()["labeled"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    say([f"{len(names)} labelled images in {out}", f"next: semikit train {task} … --labels {shell_word(out)}"])


def _refuse_class_set(name: str, root: Path | None) -> None:
    if is_class_set(name):
        raise no_preparation(name, root)


def say(lines: Iterable[str], kind: str = "") -> None:
    """Print lines as they are, each after `kind`."""
    console = Console()
    for line in lines:
        console.print(f"{kind}: {line}" if kind else line, soft_wrap=True, highlight=False, markup=False)


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
        f"nothing has to be prepared or verified. `semikit data fetch {name} --root {shell_word(place)}` {got}. Then "
        f"train, or check all images with --dry-run: {_training(name, place)}"
    )


def _training(name: str, place: Path) -> str:
    known = class_set(name)
    labels = 250 if known.classes == 10 else 10 * known.classes
    return f"semikit train cls --dataset {name} --root {shell_word(place)} --labels {labels}"
