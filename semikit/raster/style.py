"""Styles of QGIS, which are read where they lie beside a layer under its name."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

_HEAD = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def qml(names: Sequence[str], colours: NDArray[np.uint8], clear: int | None = None) -> str:
    """The style (QML) of a raster of class numbers: a colour (K, 3) and a name for each; the class `clear` is shown as
    transparent.
    """
    entries = "\n".join(
        f'        <paletteEntry value="{number}" color="#{red:02x}{green:02x}{blue:02x}" '
        f'alpha="{0 if number == clear else 255}" label={quoteattr(name)}/>'
        for number, (name, (red, green, blue)) in enumerate(zip(names, colours.tolist(), strict=True))
    )
    return (
        f'{_HEAD}<qgis version="3.22.0" styleCategories="Symbology">\n  <pipe>\n'
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        "      <rasterTransparency/>\n      <colorPalette>\n"
        f"{entries}\n"
        "      </colorPalette>\n    </rasterrenderer>\n"
        '    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>\n'
        '    <huesaturation colorizeOn="0" saturation="0" grayscaleMode="0"/>\n'
        '    <rasterresampler maxOversampling="2"/>\n  </pipe>\n  <blendMode>0</blendMode>\n</qgis>\n'
    )
