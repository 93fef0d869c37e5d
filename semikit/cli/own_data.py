"""`semikit data convert`, `init` and `check`: the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semikit.cli import options as o
from semikit.cli.data import say
from semikit.cli.output import progress_bar
from semikit.errors import InputError
from semikit.files import OUTPUT, shell_word, write_text


def convert(
    source: Annotated[Path, typer.Argument(help="File or folder that holds the labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for masks/, classes.txt and data.yaml.")],
    to: Annotated[str, typer.Option(help="What to write: masks.")] = "masks",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images. Default: where the labels say or usually have them.")
    ] = None,
    images_b: Annotated[
        Path | None, typer.Option("--images-b", help="Of pairs: folder of the second date; --images is the first.")
    ] = None,
    format: Annotated[str, typer.Option(help="auto | coco | labelme | yolo | cvat | voc | colors | vector")] = "auto",
    classes: Annotated[
        str | None,
        typer.Option(help="Classes in their order: a,b,c, a file with one a line, or a YAML. Default: all labels."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            help="Class of pixels in no area; ignore: they do not count. Default: background (pairs: unchanged)."
        ),
    ] = None,
    colors: Annotated[
        Path | None, typer.Option(help="Colours of the classes: a YAML `road: [128, 64, 128]`, or labelmap.txt.")
    ] = None,
    attribute: Annotated[str | None, typer.Option(help="Polygons on a map: the attribute that is the class.")] = None,
    layer: Annotated[str | None, typer.Option(help="Polygons on a map: the layer of a file with several.")] = None,
    empty: Annotated[
        str, typer.Option(help="Images without a shape: background, or unlabeled (those to train on).")
    ] = "background",
    labeled_area: Annotated[
        Path | None, typer.Option(help="Polygons on a map: what was labelled; outside of it nothing counts.")
    ] = None,
) -> None:
    """Write masks, the list of classes and the data YAML from labels of another program; also corrected labels.

    A pixel belongs to the area its centre lies in. Masks that are there and still right are kept, so the same command
    goes on where it was stopped, and redoes what was labelled anew.

    semikit data convert instances.json --images photos -o labels
    """
    if to != "masks":
        raise InputError(f"--to {to}: labels are converted to masks. Leave it out.")
    from semikit.data.conversion.convert import convert as converted
    from semikit.data.conversion.label_formats import Reading, classes_of
    from semikit.data.formats.colours import read_colours

    reading = Reading(
        source,
        format,
        images,
        images_b,
        classes=None if classes is None else classes_of(classes),
        background=background,
        colours=None if colors is None else read_colours(colors),
        attribute=attribute,
        labeled_area=labeled_area,
        layer=layer,
        empty=empty,
    )
    with progress_bar() as progress:
        done = converted(reading, out, progress)
    say(done.notices, "note")
    kept = f", {done.kept} were there" if done.kept else ""
    say([f"{done.written} masks written{kept}; {len(done.classes)} classes: {', '.join(done.classes)}"])
    say([f"next: semikit data check {shell_word(done.data)} -o sheet.png"])


def check(
    data: Annotated[Path, typer.Argument(help="A data YAML, or a folder that `semikit train` takes.")],
    task: Annotated[str | None, typer.Argument(help="seg | cd | cls. Default: as the data are described.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A PNG: labelled and validation images with their labels.")
    ] = None,
    root: o.Root = None,
    fold: o.Fold = None,
) -> None:
    """Open every file of your own data and say what is wrong, without a model: the checks of `train --dry-run`.

    semikit data check my.yaml -o sheet.png
    """
    if out is not None and (out.suffix.lower() != ".png" or not out.absolute().parent.is_dir()):
        raise InputError(f"-o {out}: give the name of a PNG in a folder that is there.")
    from semikit.cli.console import census_table, start_panel, verdict
    from semikit.run.data_check import check_data

    found = check_data(data, task, root, fold, sheet=out is not None)
    console = Console()
    start_panel(console, str(data), found.facts)
    if found.census is not None:
        console.print(census_table(found.census))
    say(found.notices, "note")
    if out is not None and found.sheet is not None:
        from semikit.inference.pictures import save_png

        save_png(found.sheet, out, OUTPUT)
        say([f"contact sheet: {out}"])
    flags = {"--root": root, "--fold": fold}
    given = "".join(f" {flag} {shell_word(value)}" for flag, value in flags.items() if value is not None)
    command = f"semikit train {found.task} --data {shell_word(data)}{given}{found.next_labels}"
    say([f"{verdict(found.unused)} next: {command}"])


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images with masks, pairs, or classes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The YAML to write.")] = Path("my.yaml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
) -> None:
    """Look at a folder and write a commented YAML: where images, masks, classes and parts seem to be, and what was not
    understood.

    semikit data init photos -o my.yaml
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; nothing is overwritten. Choose another -o, or give --overwrite.")
    from semikit.data.survey.draft import draft

    made = draft(folder, out)
    write_text(out, made.text)
    Console().out(made.text, end="", highlight=False)
    say(made.notices, "note")
    say([f"written: {out}. next: semikit data check {shell_word(out)} -o sheet.png"])
