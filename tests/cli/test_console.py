from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from semikit.cli.console import (
    Bars,
    Summary,
    census_table,
    class_table,
    make_reporter,
    say_absent,
    scores_table,
    start_panel,
)
from semikit.cli.output import write_json
from semikit.core.census import Census, PartCensus
from semikit.core.task import Scores
from semikit.files import write_json as write_run_json
from semikit.run import reporters as module
from semikit.run.reporters import Both, Lines, values_line
from semikit.training.reporter import Reporter

VALUES = {"loss": 0.5, "loss_x": 0.25, "confident": 0.4, "images_per_second": 12.0, "waiting": 0.05}
SCORES = {
    "student": Scores("mIoU", 41.5, extra={"pixel_accuracy": 80.0}),
    "teacher": Scores("mIoU", 42.0, extra={"pixel_accuracy": 81.0}),
}
DASH = "\N{EN DASH}"
BEST = {"model": "teacher", "value": 42.0, "iteration": 20}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=160, force_terminal=terminal)


def told(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", made.file.getvalue())


def lines_to(made: Console) -> Lines:
    return Lines(lambda text: made.print(text, soft_wrap=True, highlight=False, markup=False))


def whole_run(reporter: Reporter) -> None:
    reporter.notice("class [sky] is missing")
    reporter.start(10, 30)
    for _ in range(10):
        reporter.advance()
    reporter.log(VALUES)
    reporter.evaluation(20, SCORES, BEST)
    reporter.end()


def test_the_reporter_fits_the_place() -> None:
    for terminal, kind in ((True, Bars), (False, Lines)):
        made = make_reporter(console(terminal), quiet=False)
        assert isinstance(made, Both)
        assert [type(part) for part in made.both] == [kind, Summary]
    assert isinstance(make_reporter(console(True), quiet=True), Summary)


def test_lines_without_a_terminal() -> None:
    made = console(False)
    whole_run(lines_to(made))
    lines = told(made).splitlines()
    assert lines[0] == "note: class [sky] is missing"
    assert lines[1].startswith("20/30 loss 0.500 · loss_x 0.250 · confident 40 % · 12.0 images/s · waiting 5 % · ")
    assert lines[1].endswith(" left")
    assert lines[2] == "20/30 student mIoU 41.50 · teacher mIoU 42.00 · best 42.00 (teacher)"
    assert len(lines) == 3


def test_at_most_a_line_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    made = console(False)
    lines = lines_to(made)
    lines.start(0, 1000)
    for now[0] in (1.0, 5.0, 10.9, 11.1):
        lines.advance()
        lines.log(VALUES)
    assert [line.split(" ")[0] for line in told(made).splitlines()] == ["1/1000", "4/1000"]
    assert told(made).splitlines()[1].endswith("46 min left")


def test_a_bar_with_a_table_on_a_terminal() -> None:
    made = console(True)
    whole_run(Bars(made))
    text = told(made)
    for words in ("class [sky] is missing", "training", "20/30", "images/s", "after iteration 20", "teacher", "81.00"):
        assert words in text
    assert "best: 42.00 (teacher, iteration 20)" in text


def test_two_places_hear_the_same() -> None:
    first, second = console(False), console(False)
    whole_run(Both(lines_to(first), lines_to(second)))
    assert told(first).splitlines()[0::2] == told(second).splitlines()[0::2]
    assert len(told(first).splitlines()) == 3


def test_skipped_steps_are_told() -> None:
    assert values_line({"loss": 1.0, "skipped": 2.0}) == "loss 1.000 · skipped 2"


def test_panel_and_table_take_names_as_they_are() -> None:
    made = console(False)
    start_panel(made, "plan", {"data": "a [b] c"})
    made.print(scores_table(20, SCORES, BEST))
    assert "a [b] c" in told(made)


def test_a_class_without_truth_is_a_dash_with_a_footnote() -> None:
    per_class, more = {"sky": 80.0, "car": None}, {"recall": {"sky": 90.0, "car": None}}
    for average, counts in (("paper", ", counts 0 in the mean (average: paper, as published)"), (None, "")):
        made = console(False)
        made.print(class_table(per_class, "IoU", more))
        say_absent(per_class, average, made)
        say_absent({"sky": 80.0}, average, made)
        lines = [line.split() for line in told(made).splitlines()]
        assert lines[:3] == [["class", "IoU", "recall"], ["sky", "80.0", "90.0"], ["car", DASH, DASH]]
        assert told(made).splitlines()[3:] == [f"{DASH}: no truth for car{counts}"]


def test_a_narrow_table_keeps_the_names_of_transitions_and_of_many_classes_those_with_scores() -> None:
    names = [f"low vegetation → {k:02}" for k in range(30)]
    per_class = {name: 12.5 if name == names[7] else None for name in names}
    more = {key: per_class | {names[0]: None} for key in ("precision", "recall", "F1")}
    more |= {f"object_{key}": {name: 1.5 if value else None for name, value in per_class.items()} for key in more}
    made = Console(file=io.StringIO(), width=80)
    made.print(class_table(per_class, "IoU (test)", more))
    lines = told(made).splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("low")] == [names[7]]
    assert all(word in " ".join(lines).split() for word in ("object", "recall", "F1"))
    made = Console(file=io.StringIO(), width=80)
    made.print(class_table({"sky": 80.0, "car": None}, "IoU", {}))
    assert len(told(made).splitlines()) == 3


def test_a_score_that_is_not_defined_in_the_table_of_an_evaluation() -> None:
    made = console(False)
    made.print(scores_table(20, {"student": Scores("top-1", 40.0, extra={"ECE": None})}, BEST))
    assert told(made).splitlines()[2].split() == ["student", "40.00", DASH]


def test_what_the_data_hold() -> None:
    made = console(False)
    part = PartCensus("labelled", 2, 2, (2, 1), (30, 10), 0)
    made.print(census_table(Census(("[sky]", "car"), (part,))))
    assert [line.split() for line in told(made).splitlines()[1:4]] == [
        ["class", "labelled", "pixels"],
        ["all", "2"],
        ["[sky]", "2", "75.0", "%"],
    ]


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": float("nan"), "b": {"c": [float("inf"), 1, 2.5]}})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"a": None, "b": {"c": [None, 1, 2.5]}}
    write_run_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": None}


def test_scripts_can_read_the_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"Straße": 1.5})
    assert json.loads(path.read_text()) == {"Straße": 1.5}
