from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semikit.data.formats.mask_values import MaskValues
from semikit.errors import FileFault


def fault(values: MaskValues, raw: list[int], file: str = "a.png") -> str:
    with pytest.raises(FileFault) as caught:
        values.decode(np.array([raw], dtype=np.uint8), file)
    return str(caught.value)


@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]))
def test_every_pixel_follows_the_rules(data: st.DataObject, dtype: type[np.integer]) -> None:
    classes = data.draw(st.integers(2, 20))
    low = 0 if np.issubdtype(dtype, np.unsignedinteger) else -5
    some = st.integers(low, 255)
    mapping = data.draw(st.dictionaries(some, st.integers(0, classes - 1), max_size=5))
    ignore = tuple(data.draw(st.sets(some, max_size=3)) - set(mapping))
    known = sorted({*range(classes), *mapping, *ignore})
    raw = np.array(data.draw(st.lists(st.sampled_from(known), min_size=12, max_size=12)), dtype=dtype).reshape(3, 4)
    labels, valid = MaskValues(classes, ignore, tuple(mapping.items())).decode(raw, "a")
    assert labels.dtype == np.uint8
    assert valid.dtype == np.bool_
    for value, label, counts in zip(raw.flat, labels.flat, valid.flat, strict=True):
        assert counts == (int(value) not in ignore)
        assert label == (mapping.get(int(value), int(value)) if counts else 0)


def test_mapping_is_applied_once_to_all_values() -> None:
    labels, _ = MaskValues(2, (), ((0, 1), (1, 0))).decode(np.array([[0, 1]], dtype=np.uint8), "a")
    assert labels.tolist() == [[1, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_values_outside_are_counted(dtype: type[np.integer]) -> None:
    raw = np.array([[0, 1, 7, 7, 9]], dtype=dtype)
    with pytest.raises(FileFault, match=r"outside the classes 0 to 1: a\.png \(7: 2 pixels, 9: 1 pixels\)"):
        MaskValues(2).decode(raw, "a.png")


def test_remedies_fit_the_values() -> None:
    assert "Only 0 and 255 occur; if 255 is class 1, add `mapping: {255: 1}`" in fault(MaskValues(2), [0, 255])
    assert "add `ignore: [255]`" in fault(MaskValues(3), [0, 2, 255])
    assert "stored as 1 to 3, add `mapping: {1: 0, 2: 1, 3: 2}`" in fault(MaskValues(3), [1, 2, 3])
    assert "`mapping: {1: 0, 2: 1, 3: 2, …, 150: 149}`" in fault(MaskValues(150), [5, 150])
    text = fault(MaskValues(2), [0, 7])
    assert "`mapping: {7: 0}`" in text
    assert "`ignore: [7]`" in text
    assert "palette" in text
    assert "save masks as PNG" in fault(MaskValues(2), [0, 7], "a.jpg")
    assert "and 2 more values" in fault(MaskValues(2), [3, 4, 5, 6, 7, 8, 9])
