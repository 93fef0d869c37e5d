"""Pairs from YAML, and what the settings refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from semikit.augment.settings import (
    ClassStrong,
    MixSettings,
    RandAugmentSettings,
    ShiftSettings,
    StrongSettings,
    WeakSettings,
)

CLASS_STRONG: TypeAdapter[RandAugmentSettings | StrongSettings] = TypeAdapter(ClassStrong)


def test_lists_are_taken_for_pairs() -> None:
    assert WeakSettings.model_validate({"crop": 98, "scale": [0.8, 1.2]}).scale == (0.8, 1.2)
    assert StrongSettings.model_validate({"blur_sigma": [1, 2]}).blur_sigma == (1.0, 2.0)
    assert MixSettings.model_validate({"area": [0.1, 0.2], "ratio": [1, 1]}).ratio == (1.0, 1.0)


def test_settings_survive_their_own_dump() -> None:
    settings = MixSettings(area=(0.1, 0.3))
    assert MixSettings.model_validate(settings.model_dump()) == settings
    assert MixSettings.model_validate_json(settings.model_dump_json()) == settings


def test_defaults_are_the_released_ones() -> None:
    weak, strong, mix = WeakSettings(crop=518), StrongSettings(), MixSettings()
    assert (weak.scale, weak.flip) == ((0.5, 2.0), 0.5)
    assert (strong.jitter_probability, strong.brightness, strong.contrast) == (0.8, 0.5, 0.5)
    assert (strong.saturation, strong.hue, strong.grayscale_probability) == (0.5, 0.25, 0.2)
    assert (strong.blur_probability, strong.blur_sigma) == (0.5, (0.1, 2.0))
    assert (mix.probability, mix.area, mix.ratio) == (0.5, (0.02, 0.4), (0.3, 1 / 0.3))


def test_defaults_of_classification_are_the_published_ones() -> None:
    shift, usb, fixmatch = ShiftSettings(), RandAugmentSettings(), RandAugmentSettings(kind="fixmatch")
    assert (shift.flip, shift.shift) == (0.5, 0.125)
    assert (usb.kind, usb.count, usb.chance, usb.cutout, usb.fill) == ("usb", 3, 1.0, 0.5, (125, 123, 114))
    assert (fixmatch.count, fixmatch.chance, fixmatch.cutout) == (2, 0.5, 0.5)
    changed = RandAugmentSettings.model_validate({"ops": 5, "probability": 0, "fill": [0, 0, 0]})
    assert (changed.count, changed.chance, changed.fill) == (5, 0, (0, 0, 0))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (WeakSettings, {"crop": 0}, "greater than 0"),
        (WeakSettings, {"crop": 98, "scale": [2.0, 0.5]}, r"\[2, 0.5\] is no range; write the lower bound first"),
        (WeakSettings, {"crop": 98, "scale": [0, 1]}, "both above 0"),
        (WeakSettings, {"crop": 98, "scale": [1.0]}, "scale"),
        (WeakSettings, {"crop": 98, "scale": ["0.5", 2.0]}, "valid number"),
        (WeakSettings, {"crop": 98, "flip": 1.5}, "less than or equal to 1"),
        (WeakSettings, {"crop": 98, "zoom": 1}, "Extra inputs"),
        (StrongSettings, {"hue": 0.6}, "less than or equal to 0.5"),
        (StrongSettings, {"brightness": -0.1}, "greater than or equal to 0"),
        (StrongSettings, {"blur_probability": float("nan")}, "blur_probability"),
        (MixSettings, {"area": [0.5, 1.5]}, "no range of shares"),
        (ShiftSettings, {"shift": 1.0}, "less than 1"),
        (ShiftSettings, {"flip": -0.5}, "greater than or equal to 0"),
        (RandAugmentSettings, {"kind": "kornia"}, "'usb' or 'fixmatch'"),
        (RandAugmentSettings, {"ops": 0}, "greater than 0"),
        (RandAugmentSettings, {"cutout": 1.5}, "less than or equal to 1"),
        (RandAugmentSettings, {"fill": [125, 123, 256]}, "less than or equal to 255"),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: type[WeakSettings | StrongSettings | MixSettings | ShiftSettings | RandAugmentSettings],
    values: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(values)


@pytest.mark.parametrize(
    ("given", "kind"), [({}, "usb"), ("fixmatch", "fixmatch"), ({"hue": 0.1, "kind": "jitter"}, "jitter")]
)
def test_strong_views_of_classes_are_of_their_kind(given: object, kind: str) -> None:
    made = CLASS_STRONG.validate_python(given)
    assert made.kind == kind
    assert CLASS_STRONG.validate_json(CLASS_STRONG.dump_json(made)) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "jiter"}, "allowed: usb, fixmatch .*jitter, random .*Did you mean 'jitter'"),
        ({"brightness": 0.4}, "brightness: of kind jitter or random, but the kind is usb. Set views.strong.kind"),
        (
            {"kind": "random", "fill": [0, 0, 0], "ops": 2},
            "fill, ops: of kind usb or fixmatch, but the kind is random.*views.strong=random leaves",
        ),
        ({"kind": "jitter", "hue": 0.6}, "less than or equal to 0.5"),
        ({"kind": "jitter", "hues": 0.1}, "Extra inputs"),
        (None, "expected a mapping"),
    ],
)
def test_strong_views_of_classes_that_make_no_sense(given: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CLASS_STRONG.validate_python(given)


def test_settings_and_geometry_do_not_import_torch() -> None:
    code = "import sys, semikit.augment.settings, semikit.augment.weak; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
