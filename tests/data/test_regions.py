from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semikit.raster.region import Region, tiles


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 60))
def test_tiles_cover_every_pixel_once(height: int, width: int, side: int) -> None:
    seen = np.zeros((height, width), dtype=int)
    for region in tiles((height, width), side):
        assert 1 <= region.height <= side
        assert 1 <= region.width <= side
        seen[region.slices] += 1
    assert (seen == 1).all()


def test_a_region_is_told_with_its_last_row_and_column() -> None:
    assert str(Region(4, 10, 3, 5)) == "rows 4 to 6, columns 10 to 14"
