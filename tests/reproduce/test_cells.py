from __future__ import annotations

import subprocess
import sys

import pytest

from semikit.errors import InputError, UnknownNameError
from semikit.registry import TASKS
from semikit.reproduce.cells import Cell, cells, command, percent
from semikit.reproduce.tables import PAPER, Table, read_logs, read_table, shared_recipes, table_name, table_names

# Rows that are trainings of this system x columns, counted in the paper; + bracketed numbers with every label.
IN_THE_PAPER = {
    "table1": 6 * 5 + 2,
    "table2": 6 * 4 + 2,
    "table3": 4 * 5 + 2,
    "table4": 6 * 5 + 2,
    "table5": 4 * 13,
    "table6": 5 * 10,
    "table7": 4 * 19,
    "table8": 6 * 10,
    "table9": 9 * 4,
    "table10": 2 * 7,
    "table11": 2 * 5,
    "table12": 2 * 7,
    "table13": 3 + 4,  # three baselines, four arrows: two of them begin at the same 54.1
    "table14": 6 * 6,
    "table15": 3 * 5,
    "table16": 4 * 3,
    "table17": 4 * 6,
    "table18": 3,
    "figure5": 5 * 8,
    "figure6": 4 * 8,
}
REFERENCES = {"table1": 17, "table2": 16, "table3": 5, "table4": 7, "table14": 5}


def one(identity: str) -> Cell:
    (cell,) = cells(identity)
    return cell


def test_every_table_has_the_cells_of_the_paper() -> None:
    assert list(table_names()) == list(IN_THE_PAPER)
    assert {name: len(cells(name)) for name in table_names()} == IN_THE_PAPER
    assert {
        name: len(read_table(name).references) for name in table_names() if read_table(name).references
    } == REFERENCES


def test_every_cell_has_a_name_of_its_own() -> None:
    found = cells()
    assert len({cell.id for cell in found}) == len(found) == 593
    assert all(cells(cell.id) == [cell] for cell in found[::40])


def test_every_file_is_used() -> None:
    expected = {f"table{number:02}" for number in range(1, 19)} | {"figure5", "figure6", "recipes", "logs"}
    assert {path.stem for path in PAPER.glob("*.yaml")} == expected
    used = {row.recipe for name in table_names() for row in read_table(name).rows.values()} - {None}
    assert {name.removesuffix("-all") for name in shared_recipes()} == used


@pytest.mark.parametrize(
    ("identity", "values"),
    [
        ("table1/labeled-only-resnet101/92", {"mIoU": 45.1}),
        ("table1/labeled-only-dinov2-base/all", {"mIoU": 86.5}),
        ("table1/unimatch-v2-dinov2-base/183", {"mIoU": 87.9}),
        ("table2/unimatch-v1-resnet101/1_2", {"mIoU": 79.5}),
        ("table2/unimatch-v2-dinov2-small/1_16", {"mIoU": 80.6}),
        ("table3/labeled-only-dinov2-small/all", {"mIoU": 49.0}),
        ("table4/unimatch-v1-xception65/1_128", {"mIoU": 44.4}),
        ("table4/unimatch-v2-dinov2-base/1_32", {"mIoU": 63.3}),
        ("table5/fixmatch/ade20k-1_32", {"mIoU": 43.2}),
        ("table5/unimatch-v1/coco-1_512", {"mIoU": 45.5}),
        ("table6/figure-4c/pascal-183", {"mIoU": 86.1}),
        ("table6/figure-4b/ade20k-1_64", {"mIoU": 37.3}),
        ("table7/frozen-dinov2-small/pascal-92", {"mIoU": 81.8}),
        ("table7/frozen-dinov2-base/coco-1_32", {"mIoU": 58.4}),
        ("table7/dinov2-small/cityscapes-1_2", {"mIoU": 82.6}),
        ("table8/unimatch-v2-dinov2-large/ade20k-1_16", {"mIoU": 49.3}),
        ("table9/resnet152/ade20k-1_4", {"mIoU": 37.2}),
        ("table9/beit-base/pascal-183", {"mIoU": 84.5}),
        ("table10/student/coco-1_256", {"mIoU": 54.1}),
        ("table11/fixmatch-doubled/ade20k-1_64", {"mIoU": 36.8}),
        ("table12/decoder-classifier/pascal-92", {"mIoU": 83.5}),
        ("table13/coco-whole/ade20k-all", {"mIoU": 55.7}),
        ("table14/unimatch-v1-deeplab-resnet50/levir-20%", {"IoU": 81.7, "OA": 99.02}),
        ("table14/unimatch-v2-dinov2-base/whu-40%", {"IoU": 88.6, "OA": 99.52}),
        ("table15/unimatch-v2/250-seed3", {"top-1": 95.09}),
        ("table15/simmatch/250-seed3", {"top-1": 94.06}),
        ("table16/fixmatch/250-seed1", {"top-1": 88.71}),
        ("table16/shrinkmatch/250-seed1", {"top-1": 92.43}),
        ("table17/flexmatch/40-seed2", {"top-1": 96.3}),
        ("table17/shrinkmatch/250-seed0", {"top-1": 98.1}),
        ("table17/unimatch-v2/40-seed2", {"top-1": 98.1}),
        ("table17/fixmatch/250-seed2", {"top-1": 97.9}),
        ("table18/simmatch/10%", {"top-1": 74.1, "top-5": 91.5}),
        ("table18/comatch/10%", {"top-1": 73.6, "top-5": 91.6}),
        ("table18/unimatch-v2/10%", {"top-1": 74.3, "top-5": 91.7}),
        ("figure5/threshold-0.7/coco-1_512", {"mIoU": 45.76}),
        ("figure5/threshold-0/cityscapes-1_4", {"mIoU": 84.83}),
        ("figure6/weight-4/ade20k-1_8", {"mIoU": 48.59}),
    ],
)
def test_published_values(identity: str, values: dict[str, float]) -> None:
    assert dict(one(identity).values) == values


def test_the_same_training_has_the_same_value_wherever_it_is_printed() -> None:
    """Figures have two decimals; FixMatch at 1/8 of ADE20K and the like agree to the paper's one."""
    found: dict[str, set[float]] = {}
    for cell in cells():
        if cell.task == "seg":
            found.setdefault(command(cell), set()).add(cell.values["mIoU"])
    assert {line: values for line, values in found.items() if max(values) - min(values) > 0.051} == {}


@pytest.mark.parametrize(
    ("given", "name"),
    [("table1", "table1"), ("table01", "table1"), ("1", "table1"), ("Table 13", "table13"), ("fig5", "figure5"),
     ("figure6", "figure6")],
)  # fmt: skip
def test_names_of_tables(given: str, name: str) -> None:
    assert table_name(given) == name


@pytest.mark.parametrize("given", ["table19", "figure1", "figure", "0", "tabel1", ""])
def test_no_such_table(given: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: figure5, figure6, table1"):
        table_name(given)


def test_filters() -> None:
    assert [cell.row for cell in cells("1", split="183", encoder="dinov2-b")] == [
        "labeled-only-dinov2-base",
        "unimatch-v2-dinov2-base",
    ]
    assert {cell.id for cell in cells("table2", split="1_16", method="unimatch-v1")} == {
        "table2/unimatch-v1-resnet101/1_16"
    }
    assert cells("5", split="official:1/8") == cells("5", split="1/8", dataset="ade20k")
    assert {cell.table for cell in cells(encoder="mit-b5")} == {"table9"}
    assert len(cells("table9/beit-base")) == 4


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"split": "184"}, r"unknown split '184'.* Did you mean '183'.*Known: 1464, 183"),
        ({"encoder": "dinov2-h"}, r"unknown encoder 'dinov2-h'.*dinov2-small"),
        ({"method": "flexmatch"}, r"unknown method 'flexmatch'.*supervised, unimatch_v1"),
        ({"row": "ours"}, r"unknown row 'ours'.*labeled-only-resnet101"),
        ({"split": "all", "method": "unimatch_v2"}, r"no cell of table1 has split all, method unimatch_v2"),
    ],
)
def test_filters_that_find_nothing(filters: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        cells("table1", **filters)


def test_settings_of_cells() -> None:
    assert one("table1/unimatch-v2-dinov2-small/92").overrides == {
        "method": {"name": "unimatch_v2"},
        "data": {"labels": "official:92"},
        "model": {"encoder": "dinov2-small"},
    }
    v1 = one("table1/unimatch-v1-resnet101/92")
    assert v1.overrides["optimizer"] == {"name": "sgd", "weight_decay": 1e-4, "lr": 0.01, "encoder_lr": 0.001}
    assert (v1.reports, v1.overrides["train"]["select"]) == ("student", "student")
    assert one("table2/unimatch-v1-resnet101/1_8").overrides["method"]["threshold"] == 0
    assert one("table2/labeled-only-dinov2-small/all").overrides["train"]["epochs"] == 360
    assert one("table13/coco-whole/ade20k-all").overrides["data"] == {
        "labels": "all",
        "unlabeled": ["coco", "coco:unlabeled"],
    }
    assert one("table15/unimatch-v2/250-seed4").overrides["train"] == {"protocol": "paper", "seed": 4}
    assert one("table10/student/pascal-92").reports == "better"
    assert one("table9/beit-large/pascal-183").overrides["method"]["teacher"] == "student"
    cell = one("table14/labeled-only-dinov2-small/whu-40%")
    assert cell.overrides["train"] == {"protocol": "paper", "select": "student"}
    assert cell.waits is None


def test_cells_of_tasks_that_are_not_there_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = one("table14/unimatch-v2-dinov2-small/levir-5%")
    monkeypatch.setattr(type(TASKS), "names", lambda self: ["seg"])
    assert cell.waits == "waits for the cd adapter (semikit train cd)"
    assert one("table1/unimatch-v2-dinov2-small/92").waits is None
    monkeypatch.setattr(type(TASKS), "names", lambda self: ["cd", "seg"])
    assert cell.waits is None


def test_the_logs_are_of_cells() -> None:
    logs, known = read_logs(), {cell.id for cell in cells()}
    assert {*logs.early, *logs.best} <= known
    assert logs.early["table1/unimatch-v2-dinov2-small/366"][1].confident == 0.61
    assert one("table4/labeled-only-dinov2-small/all").logged == {"student": 62.66}


def test_a_table_with_a_value_missing_is_refused() -> None:
    raw = {"title": "x", "task": "seg", "metrics": ["mIoU"], "columns": {"pascal": [92, 183]}}
    assert Table.model_validate(raw | {"rows": {"a": {"values": [1.0, None]}}}).places[1] == ("pascal", "183", None)
    with pytest.raises(ValueError, match="row a: needs 2 values for each of mIoU"):
        Table.model_validate(raw | {"rows": {"a": {"values": [1.0]}}})


def test_digits() -> None:
    assert [percent(value) for value in (79.0, 98.62, None)] == ["79.0", "98.62", "-"]


def test_listing_needs_no_torch() -> None:
    program = "import sys; from semikit.reproduce.cells import cells; cells(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
