from __future__ import annotations

import datetime

import pytest

from semikit.errors import ConfigError
from semikit.settings import yaml_text
from semikit.settings.yaml_text import expand, in_one_line, parse


@pytest.mark.parametrize(
    "text", ["t: {images: a, masks: labels/{stem}_mask.png}", "masks: {stem}_mask.png", "masks: *_mask.png"]
)
def test_a_pattern_of_files_without_quotes(text: str) -> None:
    with pytest.raises(ConfigError, match=r'in quotes: masks: "labels/\{stem\}_mask\.png"'):
        parse(text, "x")


def test_plain_values() -> None:
    text = "\ufeffa: 1\nb: [x, 2.5, null, 2020-01-02]\nc: {255: no}\n"
    assert parse(text.encode(), "x") == {"a": 1, "b": ["x", 2.5, None, datetime.date(2020, 1, 2)], "c": {255: False}}
    assert parse("", "x") is None


def test_aliases_and_merged_mappings() -> None:
    text = "base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: [*base, *base]\n"
    given = {"a": 1, "b": 2}
    assert parse(text, "x") == {"base": given, "one": {"a": 1, "b": 3}, "two": [given, given]}


def test_what_is_merged_may_be_merged_itself() -> None:
    text = "base: &base {a: 1, b: 2}\nx: {y: {z: &deep {<<: *base, b: 3}}}\nu: {<<: *deep, b: 4}\n"
    read = parse(text, "x")
    assert (read["x"]["y"]["z"], read["u"]) == ({"a": 1, "b": 3}, {"a": 1, "b": 4})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [1, *a]", r"x, line 1: \*a stands inside of what it stands for"),
        ('a: 1\nb: "c\\0d"', "x, line 2: a text holds the character NUL"),
        ("a: !!python/name:os.system x", "x is not valid YAML: could not determine a constructor"),
        ("a: *b", "x is not valid YAML: found undefined alias"),
        ("a: 2020-99-99", "x is not valid YAML: month must be in 1..12"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(text, "x")


def test_variables_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/data")
    monkeypatch.setenv("EMPTY", "")
    assert expand({"a": ["${PLACE}/x", 3], "b": "${"}, "x") == {"a": ["/data/x", 3], "b": "${"}
    with pytest.raises(ConfigError, match=r"x: \$\{\} names no environment variable; write it as \$\{NAME\}"):
        expand("${}", "x")
    for name in ("EMPTY", "NO_SUCH_VARIABLE"):
        words = rf"x uses \$\{{{name}\}}, but the environment variable {name} is not set"
        with pytest.raises(ConfigError, match=words):
            expand([f"${{{name}}}"], "x")


def test_as_deep_and_as_large_as_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    deepest = yaml_text.DEEPEST
    monkeypatch.setattr(yaml_text, "MOST_VALUES", 1000)
    assert str(parse("[" * deepest + "]" * deepest, "x")).count("[") == deepest
    with pytest.raises(ConfigError, match=rf"x, line 1: .* more than {deepest} deep"):
        parse("[" * (deepest + 1) + "]" * (deepest + 1), "x")
    assert parse(f"[{', '.join(['1'] * 999)}]", "x") == [1] * 999  # and the list itself
    with pytest.raises(ConfigError, match="more than 1000 values"):
        parse(f"[{', '.join(['1'] * 1000)}]", "x")


def test_an_alias_counts_as_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "MOST_VALUES", 100)
    ten = f"a: &a [{', '.join('1' * 10)}]\n"
    assert parse(ten + "b: [*a, *a, *a, *a, *a]\n", "x")["b"] == [[1] * 10] * 5
    with pytest.raises(ConfigError, match=r"x, line 2: it holds more than 100 values, aliases"):
        parse(ten + "b: [*a, *a, *a, *a, *a, *a, *a, *a]\n", "x")


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "{a: 1, a: 1}", "x: {b: {c: 1, 'c': 2}}"])
def test_a_key_that_stands_twice(text: str) -> None:
    with pytest.raises(ConfigError, match=r"x, line \d: the key '[ac]' stands in line 1 already; keep one of them"):
        parse(text, "x")


def test_the_same_key_in_two_mappings() -> None:
    assert parse("[{a: 1}, {a: {a: 2}}, a, a]", "x") == [{"a": 1}, {"a": {"a": 2}}, "a", "a"]


def test_keys_that_are_no_texts() -> None:
    assert parse("1: x\nnull: y\n", "x") == {1: "x", None: "y"}
    with pytest.raises(ConfigError, match=r"x is not valid YAML: .*unhashable key"):
        parse("? [1, 2]\n: 3\n", "x")


def test_values_in_one_line_keep_the_order_of_their_keys() -> None:
    """That of `colors:` is the order of the classes; processes that are started from Python get the data so."""
    values = {"colors": {"road": [128, 64, 128], "car": [0, 0, 142]}, "lr": 1e-05, "name": "Straße: ja", "none": None}
    text = in_one_line(values)
    assert "\n" not in text
    assert list(parse(text, "text")["colors"]) == ["road", "car"]
    assert parse(text, "text") == values
    assert parse(in_one_line(1e-05), "text") == 1e-05
