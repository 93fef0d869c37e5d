"""Contact sheets: what is labelled and what validates, masks laid over their images, with names and a legend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semikit.data.palette import Palette
from semikit.data.samples import UNKNOWN, Samples, spread
from semikit.inference.pictures import displayed, fitting, font_of
from semikit.raster.region import Region, middle

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_WIDTH, _MARGIN, _GAP, _LINE = 1280, 24, 14, 17
_BETWEEN = 3
"""Between the pictures of one sample."""
_SIDE = 198
_THUMBNAIL = 110
_LARGEST = 1024
"""Side of the middle of a raster that is shown, pixels."""
_INK, _SOFT, _RULE = (28, 32, 38), (110, 116, 124), (222, 225, 229)
_OPACITY = 0.6
_MOST_CLASSES = 40


@final
@dataclass(frozen=True, slots=True)
class Section:
    """Samples under a title."""

    title: str
    source: Samples
    indices: Sequence[int]


@final
@dataclass(frozen=True, slots=True)
class _Cell:
    """Pictures of one height beside each other, and the name below."""

    pictures: Sequence[Image.Image]
    name: str


def mask_sheet(
    title: str, sections: Sequence[Section], class_names: Sequence[str], colours: Palette, dates: Sequence[str]
) -> Image.Image:
    """Each image (both dates of a pair) and, beside it, the same with the colours of its classes laid over it.

    Pixels that do not count are striped. Of a raster larger than 1024 pixels its middle is shown.
    """
    drawn = [(section.title, [_masked(section.source, k, colours) for k in section.indices]) for section in sections]
    legend = [(name, tuple(colours[k].tolist())) for k, name in enumerate(class_names)]
    hatched = any(not valid.all() for section in sections for valid in _valid_of(section))
    note = f"{', '.join(dates)}, labels laid over"
    return _page(title, note, drawn, [*legend, *([("does not count", None)] if hatched else [])])


def class_sheet(title: str, sections: Sequence[Section], class_names: Sequence[str]) -> Image.Image:
    """Images of each class, a row a class; of many classes the first 40."""
    drawn = []
    for section in sections:
        labels = np.asarray(section.source.labels)
        for number, name in enumerate(class_names[:_MOST_CLASSES]):
            chosen = [k for k in section.indices if labels[k] == number]
            if chosen:
                most = (_WIDTH - 2 * _MARGIN + _GAP) // (_THUMBNAIL + _GAP)
                cells = [_thumbnail(section.source, k) for k in spread(chosen, most)]
                drawn.append((f"{section.title} · {name} · {len(chosen)}", cells))
    return _page(title, "", drawn, [])


@final
@dataclass(frozen=True, slots=True)
class Proposed:
    """An image (*T, H, W, C) with its name, and where it is known what a network says: classes (H, W), 255 for none."""

    name: str
    image: Pixels
    classes: Pixels | None = None


def drawn_sheet(
    title: str, note: str, drawn: Iterable[tuple[str, Sequence[Pixels]]], class_names: Sequence[str], colours: Palette
) -> Image.Image:
    """Names with pictures (H, W, 3) beside each other in their order, and the colours of the classes below."""
    cells = [_Cell([_resized(part, _small(part)) for part in pictures], name) for name, pictures in drawn]
    return _page(title, note, [("", cells)], [(name, tuple(colours[k].tolist())) for k, name in enumerate(class_names)])


def _small(picture: Pixels) -> tuple[int, int]:
    """(width, height) on a sheet."""
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def proposal_sheet(
    title: str, note: str, proposed: Iterable[Proposed], class_names: Sequence[str], colours: Palette
) -> Image.Image:
    """Images in their order, beside each the same with the colours of what is predicted laid over it."""
    cells = [_cell(displayed(one.image), one.classes, one.name, colours) for one in proposed]
    keys: list[tuple[str, tuple[int, ...] | None]] = [
        (name, tuple(colours[k].tolist())) for k, name in enumerate(class_names)
    ]
    return _page(title, note, [("", cells)], [*keys, ("unsure", None)] if class_names else [])


def _cell(dates: Sequence[Pixels], classes: Pixels | None, name: str, colours: Palette) -> _Cell:
    size = _small(dates[0])
    small = [_resized(date, size) for date in dates]
    if classes is not None:
        drawn = _nearest(classes, size)
        counted = drawn < 255
        over = _laid_over(np.asarray(small[-1]), np.where(counted, drawn, 0), counted, colours)
        small.append(Image.fromarray(over))
    return _Cell(small, name)


def known(source: Samples) -> list[int]:
    """The samples that have a target."""
    labels = getattr(source, "labels", None)
    if labels is not None:
        return np.flatnonzero(np.asarray(labels) != UNKNOWN).tolist()
    return [k for k in range(len(source)) if source.has_target(k)]


def _region(source: Samples, index: int) -> Region | None:
    extent = source.extent(index)
    return None if extent is None else middle(extent, _LARGEST)


def _valid_of(section: Section) -> Iterator[Mask]:
    for index in section.indices:
        yield section.source.target(index, _region(section.source, index))[1]


def _masked(source: Samples, index: int, colours: Palette) -> _Cell:
    region = _region(source, index)
    image, shown = source.image(index, region)
    labels, valid = source.target(index, region)
    dates = displayed(image)
    counted = valid if shown is None else valid & shown
    size = _small(dates[0])
    small = [_resized(date, size) for date in dates]
    over = _laid_over(np.asarray(small[-1]), _nearest(labels, size), _nearest(counted, size), colours)
    part = region is not None and source.extent(index) != (region.height, region.width)
    return _Cell([*small, Image.fromarray(over)], f"{source.names[index]}{' (its middle)' if part else ''}")


def _resized(picture: Pixels, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    smaller = size[0] < image.width
    return image.resize(size, Image.Resampling.LANCZOS if smaller else Image.Resampling.NEAREST)


def _nearest(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Values (H, W) at the middles of the pixels of a picture of `size` (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * values.shape[0] / size[1]).astype(int)
    columns = ((np.arange(size[0]) + 0.5) * values.shape[1] / size[0]).astype(int)
    chosen: NDArray[Any] = values[np.ix_(rows, columns)]
    return chosen


def _laid_over(image: Pixels, labels: NDArray[Any], counted: Mask, colours: Palette) -> Pixels:
    """Colours over a picture (h, w, 3), outlines darker; what does not count is gray with stripes."""
    mixed = image * (1 - _OPACITY) + colours[labels].astype(float) * _OPACITY
    keys = np.where(counted, labels.astype(int), -1)
    edge = np.zeros(keys.shape, dtype=bool)
    edge[1:] |= keys[1:] != keys[:-1]
    edge[:, 1:] |= keys[:, 1:] != keys[:, :-1]
    mixed[edge] *= 0.45
    rows, columns = np.indices(keys.shape)
    gray = image.mean(axis=2, keepdims=True) * 0.55 + 90 + np.where((rows + columns) % 8 < 2, 30.0, 0.0)[..., None]
    shown: Pixels = np.where(counted[..., None], mixed, gray).clip(0, 255).astype(np.uint8)
    return shown


def _thumbnail(source: Samples, index: int) -> _Cell:
    picture = Image.fromarray(displayed(source.image(index)[0])[0])
    side = max(picture.size)
    size = max(1, round(picture.width * _THUMBNAIL / side)), max(1, round(picture.height * _THUMBNAIL / side))
    return _Cell([_resized(np.asarray(picture), size)], source.names[index].rpartition("/")[2])


# ------------------------------------------------------------------------------------------------------- the page


Legend = Sequence[tuple[str, tuple[int, ...] | None]]
"""Names with colours; None: stripes."""


def _page(title: str, note: str, drawn: Sequence[tuple[str, Sequence[_Cell]]], legend: Legend) -> Image.Image:
    """Title with a note, sections of cells in rows, legend."""
    rows = [(head, _rows(cells)) for head, cells in drawn]
    heights = [sum(_height(row) for row in lines) + 34 for _, lines in rows]
    keys = _legend_rows(legend)
    total = _MARGIN + 40 + sum(heights) + (len(keys) * 24 + 26 if keys else 0) + _MARGIN
    page = Image.new("RGB", (_WIDTH, total), "white")
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN - 4), title, fill=_INK, font=font_of(20))
    draw.text((_WIDTH - _MARGIN, _MARGIN + 2), note, fill=_SOFT, font=font_of(12), anchor="ra")
    top = _MARGIN + 40
    for head, lines in rows:
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_RULE)
        draw.text((_MARGIN, top + 8), head, fill=_INK, font=font_of(14))
        top += 34
        for row in lines:
            _paste(page, draw, row, top)
            top += _height(row)
    if keys:
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_RULE)
        _draw_legend(draw, keys, top + 14)
    return page


def _width(cell: _Cell) -> int:
    return sum(picture.width for picture in cell.pictures) + _BETWEEN * (len(cell.pictures) - 1)


def _height(row: Sequence[_Cell]) -> int:
    return max(picture.height for cell in row for picture in cell.pictures) + _LINE + _GAP


def _rows(cells: Sequence[_Cell]) -> list[list[_Cell]]:
    """Cells in rows that fit."""
    rows: list[list[_Cell]] = []
    right = _WIDTH
    for cell in cells:
        if right + _width(cell) > _WIDTH - _MARGIN:
            rows.append([])
            right = _MARGIN
        rows[-1].append(cell)
        right += _width(cell) + _GAP
    return rows


def _paste(page: Image.Image, draw: ImageDraw.ImageDraw, row: Sequence[_Cell], top: int) -> None:
    left, bottom = _MARGIN, top + _height(row) - _LINE - _GAP
    for cell in row:
        x = left
        for picture in cell.pictures:
            page.paste(picture, (x, top))
            x += picture.width + _BETWEEN
        font = font_of(11)
        draw.text((left, bottom + 3), fitting(cell.name, font, _width(cell)), fill=_SOFT, font=font)
        left += _width(cell) + _GAP


def _legend_rows(legend: Legend) -> list[list[tuple[int, str, tuple[int, ...] | None]]]:
    """Entries of the legend with the column they begin at."""
    font = font_of(13)
    rows: list[list[tuple[int, str, tuple[int, ...] | None]]] = []
    x = _WIDTH
    for name, colour in legend:
        shown = fitting(name, font, _WIDTH // 3)
        need = 22 + int(font.getlength(shown)) + 20
        if x + need > _WIDTH - _MARGIN:
            rows.append([])
            x = _MARGIN
        rows[-1].append((x, shown, colour))
        x += need
    return rows


def _draw_legend(
    draw: ImageDraw.ImageDraw, rows: Sequence[Sequence[tuple[int, str, tuple[int, ...] | None]]], top: int
) -> None:
    for number, row in enumerate(rows):
        y = top + 24 * number
        for x, name, colour in row:
            draw.rectangle((x, y, x + 14, y + 14), fill=colour or (150, 150, 150), outline=_RULE)
            if colour is None:
                for step in range(-14, 15, 6):
                    ends = (x + max(0, step), y + max(0, -step), x + min(14, 14 + step), y + min(14, 14 - step))
                    draw.line(ends, fill=(190, 190, 190))
            draw.text((x + 22, y - 1), name, fill=_INK, font=font_of(13))
