from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from semikit.errors import ConfigError
from semikit.settings.base import Location, Settings
from semikit.settings.messages import explain, validate


class Inner(Settings):
    threshold: float = Field(default=0.95, ge=0, le=1)
    teacher: Literal["ema", "student"] = "ema"
    betas: tuple[float, float] = (0.9, 0.999)
    values: dict[int, int] = Field(default_factory=dict)
    amount: Literal["auto"] | float = "auto"
    names: dict[int, str] | tuple[str, ...] = ()
    folder: Location | None = None


class Outer(Settings):
    steps: int
    method: Inner = Inner()
    many: tuple[Inner, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    @model_validator(mode="after")
    def _some(self) -> Outer:
        if self.steps == 13:
            raise ValueError("steps may not be 13")
        return self


def message(**raw: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"steps": 1, **raw}, "my.yaml")
    return str(caught.value)


def test_lists_stand_for_tuples_and_whole_numbers_for_numbers() -> None:
    raw = {"steps": 1, "method": {"betas": [1, 0.5], "amount": 2, "folder": "a/b"}, "many": [{}], "pairs": [[1, 2]]}
    made = validate(Outer, raw, "here")
    assert made.method.betas == (1.0, 0.5)
    assert made.method.amount == 2.0
    assert str(made.method.folder) == "a/b"
    assert made.pairs == ((1, 2),)
    assert validate(Outer, made.model_dump(), "here") == made


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"method": {"threshhold": 1.0}}, "unknown key 'method.threshhold'. Did you mean 'threshold'?"),
        ({"qqq": 1}, "unknown key 'qqq'. Known here: many, method, pairs, steps."),
        ({"many": [{}, {"betaz": 1}]}, "unknown key 'many[1].betaz'. Did you mean 'betas'"),
        (
            {"steps": "1"},
            "invalid type for key 'steps': expected a whole number, got '1' (str); write it without quotes",
        ),
        ({"steps": True}, "expected a whole number, got True (bool)"),
        (
            {"method": {"threshold": "1e-4"}},
            "expected a number, got '1e-4' (str); YAML reads 1e-4 as text, write 1.0e-4",
        ),
        ({"method": {"threshold": 2.0}}, "invalid value for key 'method.threshold': expected less than or equal to 1"),
        ({"method": {"teacher": "emma"}}, "expected one of 'ema', 'student', got 'emma' (str). Did you mean 'ema'?"),
        ({"method": {"amount": "aut"}}, "expected one of 'auto' or a number, got 'aut' (str). Did you mean 'auto'?"),
        ({"method": {"betas": [1]}}, "missing entry 'method.betas[1]'"),
        ({"method": {"betas": [1, 2, 3]}}, "'method.betas': expected at most 2 entries, got [1, 2, 3] (list)"),
        ({"method": {"values": {1: "a"}}}, "invalid type for key 'method.values.1': expected a whole number, got 'a'"),
        ({"method": {"names": 3}}, "'method.names': expected a mapping (key: value) or a list, got 3 (int)"),
        ({"method": [1]}, "invalid type for key 'method': expected a mapping (key: value), got [1] (list)"),
        ({"pairs": [[1, 2], [1, "b"]]}, "invalid type for key 'pairs[1][1]': expected a whole number"),
        ({"steps": 13}, "my.yaml: steps may not be 13"),
    ],
)
def test_each_error_is_a_sentence(raw: dict[str, Any], sentence: str) -> None:
    assert sentence in message(**raw)


def test_all_errors_are_told_one_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"method": {"threshhold": 1, "teacher": "x"}, "stepz": 1}, "my.yaml")
    lines = str(caught.value).split("\n")
    assert lines[0] == "my.yaml: 4 errors"
    assert lines[1] == "- missing key 'steps'"
    assert len(lines) == 5


def test_only_a_mapping_is_taken() -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml: expected a mapping \(key: value\), got \[1\] \(list\)"):
        validate(Outer, [1], "my.yaml")  # type: ignore[arg-type]


def test_explain_alone_gives_lines_without_a_head() -> None:
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"threshold": "x"})
    assert explain(caught.value, Inner) == "invalid type for key 'threshold': expected a number, got 'x' (str)"


def test_a_renamed_key_is_answered_with_its_new_name() -> None:
    class Inner(Settings):
        RENAMED: ClassVar[Mapping[str, str]] = {"kept": "undropped"}
        undropped: float = 0.5

    class Outer(Settings):
        dropout: Inner = Inner()

    with pytest.raises(ConfigError, match=r"^x: unknown key 'dropout\.kept': it is called 'undropped' now$"):
        validate(Outer, {"dropout": {"kept": 0.3}}, "x")
    with pytest.raises(ConfigError, match=r"unknown key 'dropout\.undroped'\. Did you mean 'undropped'"):
        validate(Outer, {"dropout": {"undroped": 0.3}}, "x")
