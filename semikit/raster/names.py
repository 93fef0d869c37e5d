"""Rasters by names that only GDAL knows: in archives, on servers, parts of files that hold several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    _Path = Path
else:  # before Python 3.12 only the class of this system's paths can be a base
    _Path = type(Path())

_PREFIX = re.compile(r"/vsi|[A-Za-z][\w+.-]+:")
"""Of GDAL's file systems, an address or a driver; one letter before a colon is a disk of Windows."""
_CONTAINERS = frozenset({".nc", ".nc4", ".h5", ".hdf", ".hdf5", ".he5", ".img"})
"""Suffixes of files that are no images to Pillow and hold rasters."""
_SUFFIX = re.compile(r"\.(tiff?|jp2|vrt|img)$", re.IGNORECASE)


@final
class RasterName(_Path):
    """A raster as a user names it to GDAL: `/vsizip/scenes.zip/a.tif`, `https://host/a.tif`, `netcdf:a.nc:ndvi`.

    It goes where paths of files go, with its text as it was given: two slashes stay two.
    """

    _text: str

    def __new__(cls, text: str) -> Self:  # noqa: D102
        made = super().__new__(cls, text)
        made._text = text
        return made

    def __str__(self) -> str:
        return getattr(self, "_text", None) or super().__str__()  # a parent has no text of its own

    def __reduce__(self) -> Any:
        return RasterName, (self._text,)

    @property
    def stem(self) -> str:
        """What results are called: the last part of the name, without query and suffix, fit for a file name."""
        last = re.split(r"[/!]", self._text.partition("?")[0].rstrip("/"))[-1]
        return re.sub(r"[^\w.-]+", "-", _SUFFIX.sub("", last)).strip("-.") or "raster"

    def is_file(self, **how: Any) -> bool:
        """So that it is taken for one."""
        return True

    def exists(self, **how: Any) -> bool:
        """As `is_file`."""
        return True


def raster_name(source: str) -> RasterName | None:
    """The raster that a source means by a name that only GDAL knows; None: it is none, or an image, folder or pattern.

    It is not opened.
    """
    path = Path(source)
    if path.is_file():
        return RasterName(source) if path.suffix.lower() in _CONTAINERS else None
    return RasterName(source) if _PREFIX.match(source) and not path.exists() else None
