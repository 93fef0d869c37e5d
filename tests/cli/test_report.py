from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from semikit.cli.app import run
from semikit.inference.inspection import Examined, ImageRecord, Inspection, chosen, fitted_temperature, ranked
from semikit.methods.selftrain import LABELED_ROUND
from semikit.metrics.confusion import accuracy
from semikit.reports.baselines import baselines
from semikit.reports.records import RunRecord, read_entries
from semikit.reports.thumbnails import BUDGET, Album
from semikit.run.evaluate import open_run
from semikit.run.recipes import parse_overrides
from semikit.training.tracking import read_rows

Call = Callable[..., Any]
Runs = dict[str, Path]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_VOID = {"meta", "img", "input", "line", "rect", "circle", "polyline"}


class Page(HTMLParser):
    """The elements of a page by their tag, and the text of the whole."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict[str, str]]] = {}
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.setdefault(tag, []).append({name: value or "" for name, value in attrs})
        self.open += [tag] if tag not in _VOID else []

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += f"{' '.join(data.split())} "

    def cards(self) -> list[dict[str, str]]:
        return [item for item in self.found["li"] if item.get("class") == "card"]


@pytest.fixture(scope="session")
def pages(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The page of each run."""
    folder = tmp_path_factory.mktemp("pages")
    for task, where in runs.items():
        assert run(["report", str(where), "-o", str(folder / f"{task}.html"), "--quiet"]) == 0
    return {task: folder / f"{task}.html" for task in runs}


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
class TestPage:
    def test_it_needs_nothing_from_elsewhere(self, pages: Runs, task: str) -> None:
        page = Page(pages[task].read_text(encoding="utf-8"))
        every = [
            value
            for items in page.found.values()
            for item in items
            for key, value in item.items()
            if key in ("src", "href")
        ]
        assert every
        assert all(value.startswith(("data:image/", "#")) for value in every)
        assert "url(" not in pages[task].read_text(encoding="utf-8")

    def test_it_says_what_was_scored(self, pages: Runs, runs: Runs, task: str) -> None:
        page = Page(pages[task].read_text(encoding="utf-8"))
        (_, _, metadata, _) = open_run(runs[task])
        assert f"{metadata['best']['value']:.2f}" in page.text
        assert "strict: chosen on val, test read once" in page.text
        assert all(name in page.text for name in metadata["class_names"])
        assert "are gone" not in page.text

    def test_pictures_and_controls_are_named(self, pages: Runs, task: str) -> None:
        page = Page(pages[task].read_text(encoding="utf-8"))
        assert all(image["alt"] for image in page.found["img"])
        assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.found["svg"])
        ids = {item["id"] for items in page.found.values() for item in items if "id" in item}
        assert {link["href"][1:] for link in page.found["a"]} <= ids
        assert [one["lang"] for one in page.found["html"]] == ["en"]

    def test_every_image_is_counted_as_in_evaluation(self, runs: Runs, task: str) -> None:
        opened, network, metadata, inference = open_run(runs[task])
        names, every = opened.examined(network, "val", inference)
        inspection = Inspection(len(opened.class_names), len(names))
        for found in every:
            inspection.add(found)
        scores = opened.evaluate({"best": network}, "val", inference)["best"]
        known = {"seg": "pixel_accuracy", "cd": "OA"}.get(task)
        value = scores.extra[known] if known else scores.value
        assert float(accuracy(inspection.matrix)) * 100 == pytest.approx(value)
        assert scores.value == pytest.approx(metadata["best"]["value"])
        assert sorted(record.index for record in inspection.records) == list(range(len(names)))
        if task == "cls":
            assert inspection.calibration().error * 100 == pytest.approx(scores.extra["ECE"])


def test_pseudo_labels_by_class_are_in_the_table(runs: Runs, pages: Runs) -> None:
    rows = read_rows(runs["seg"])
    shares = [value for name, value in rows[-1].items() if name.startswith("pseudo/")]
    assert len(shares) == 3
    assert sum(shares) in (0.0, pytest.approx(1.0))
    assert "among the confident pseudo-labels, beside its share" in pages["seg"].read_text()


def test_runs_side_by_side_and_seeds(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    for seed, value in enumerate((10.0, 40.0, 60.0)):
        results = shutil.copytree(runs["cls"], tmp_path / f"several/seed-{seed}") / "results.json"
        found = json.loads(results.read_text())
        found["best"]["value"] = value
        results.write_text(json.dumps(found))
    other = shutil.copytree(runs["cls"], tmp_path / "other")
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("iterations: 2", "iterations: 3"))
    answer = semikit("report", tmp_path / "several", other, "--images", "2")
    assert answer.code == 0, answer.err
    page = Page(Path("report.html").read_text())
    assert "± 0.00" in page.text
    assert "mean of 3 seeds" in page.text
    assert "shown seed-1, nearest to the mean: network, confusion" in page.text
    assert re.search(r"train.iterations 2 +3 ", page.text)
    assert len(page.cards()) == 2
    assert answer.out.startswith("report.html (")


def test_labelled_images_alone_stand_beside_what_unlabelled_ones_bring(
    semikit: Call, runs: Runs, tmp_path: Path
) -> None:
    lead = shutil.copytree(runs["seg"], tmp_path / "lead")
    for name, change in {"alone": {}, "of other labels": {"labels": "3"}}.items():
        config = shutil.copytree(lead, tmp_path / name) / "config.yaml"
        raw = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump({**raw, "method": {"name": "supervised"}, "data": {**raw["data"], **change}}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("method: {name: supervised}")
    found = baselines(read_entries([lead]))
    assert found is not None
    assert [(row.name, row.entry and row.entry.name, row.command) for row in found[1]] == [
        ("labelled images alone", "alone", "")
    ]
    assert baselines(read_entries([tmp_path / "alone"])) is None
    (tmp_path / "alone").rename(lead / LABELED_ROUND)
    found = baselines(read_entries([lead]))
    assert found is not None
    assert [row.entry and row.entry.name for row in found[1]] == [LABELED_ROUND], "a round of its own"
    shutil.rmtree(lead / LABELED_ROUND)
    assert semikit("report", lead, "--images", "0").code == 0
    command = f"semikit train seg --config {lead}/config.yaml --method supervised --out {lead}-supervised"
    assert f"labelled images alone not trained: {command}" in " ".join(
        Page(Path("report.html").read_text()).text.split()
    )
    assert semikit("train", *command.split()[2:], "--dry-run").code == 0


def _another(run: Path, name: str, method: dict[str, Any], **sections: dict[str, Any]) -> Path:
    """A copy of a run beside it, with another method and other values."""
    config = shutil.copytree(run, run.with_name(name)) / "config.yaml"
    raw = yaml.safe_load(config.read_text()) | {"method": method}
    raw |= {section: raw[section] | values for section, values in sections.items()}
    config.write_text(yaml.safe_dump(raw))
    return config.parent


def _rows(run: Path) -> list[tuple[str | None, str]]:
    found = baselines(read_entries([run]))
    assert found is not None
    return [(row.entry and row.entry.name, row.command) for row in found[1]]


def test_the_command_for_labelled_images_alone_trains_what_is_compared(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(runs["cls"], tmp_path / "lead")
    lead = _another(run, "a run's", {"name": "fixmatch", "ema_decay": 0.9, "ohem": {"threshold": 0.5}})
    monkeypatch.chdir(lead)
    (found, command), *_ = _rows(Path())
    words = shlex.split(command)
    assert (found, words[-2:]) == (None, ["--out", f"{lead}-supervised"])
    assert parse_overrides(words[7:-2])["method"] == {"ema_decay": 0.9, "ohem": {"threshold": 0.5, "min_kept": 200000}}
    monkeypatch.chdir(tmp_path)
    alone = _another(run, "a run's-supervised", {"name": "supervised"})
    (alone / "results.json").rename(alone / "kept.json")
    assert _rows(Path(lead.name)) == [(None, "semikit train cls --resume 'a run'\"'\"'s-supervised'")], "it was begun"
    (alone / "kept.json").rename(alone / "results.json")
    assert _rows(lead) == [(alone.name, "")]
    config = alone / "config.yaml"
    config.write_text("\n".join(line for line in config.read_text().splitlines() if "labeled_as_unlabeled" not in line))
    assert _rows(lead) == [(alone.name, "")], "an older run does not name what came later"
    picking = _another(run, "picking", {"name": "fixmatch"}, data={"also_labeled": str(tmp_path / "picked.csv")})
    assert _rows(picking) == [(alone.name, "")], "what a run was handed on is no label that was given"
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    assert _rows(lead)[0][1].endswith("-supervised-2'"), "nothing is written over"
    assert "--method supervised data.also_labeled=null " in _rows(picking)[0][1]


def test_a_run_with_lora_is_compared_with_and_without(runs: Runs, tmp_path: Path) -> None:
    run = shutil.copytree(runs["seg"], tmp_path / "run")
    model = {"encoder": "dinov2-small", "encoder_args": {}, "weights": "pretrained", "lora": {"rank": 4}}
    lead = _another(run, "lead", {"name": "fixmatch"}, model=model)
    (_, whole), (_, adapted) = _rows(lead)
    assert "--method supervised model.lora=null --out" in whole
    assert "--method supervised --out" in adapted
    _another(run, "adapted", {"name": "supervised"}, model=model)
    _another(run, "whole", {"name": "supervised"}, model={**model, "lora": None})
    assert [name for name, _ in _rows(lead)] == ["whole", "adapted"]


def test_a_configuration_of_another_time_or_damaged(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    run = shutil.copytree(runs["seg"], tmp_path / "run")
    config = run / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("format: 2", "format: 1"))
    assert _rows(run)[0][0] is None
    config.write_text(text.replace("name: unimatch_v2", "name: gone"))
    answer = semikit("report", run, "--images", "0")
    assert (answer.code, answer.out.count("What unlabelled images bring is not compared. unknown method 'gone'")) == (
        0,
        1,
    )
    config.write_text("task: seg\nmethod: 3\n")
    assert "config.yaml is damaged: it lacks data, model, method, train" in semikit("report", run).err


def test_a_run_whose_data_are_gone_has_a_page_without_images(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    run_folder = shutil.copytree(runs["seg"], tmp_path / "run")
    config = run_folder / "config.yaml"
    config.write_text(re.sub(r"(images|masks): /", r"\1: /gone/", config.read_text()))
    answer = semikit("report", run_folder)
    assert answer.code == 0, answer.err
    assert "note: run: no images, confusion and calibration" in answer.out
    text = Path("report.html").read_text()
    assert "/gone/" in Page(text).text
    assert "img" not in Page(text).found
    assert 'id="confusion"' not in text


def test_a_run_that_goes_on_is_shown_as_it_stands(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    run_folder = shutil.copytree(runs["cd"], tmp_path / "run")
    (run_folder / "results.json").unlink()
    assert semikit("report", run_folder, "--images", "0").code == 0
    page = Page(Path("report.html").read_text())
    assert "not ended; the best so far" in page.text
    assert "img" not in page.found


def test_classes_of_every_run_are_shown(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    other = shutil.copytree(runs["seg"], tmp_path / "other")
    results, config = other / "results.json", other / "config.yaml"
    results.write_text(results.read_text().replace('"car"', '"truck"'))
    config.write_text(re.sub(r"(images|masks): /", r"\1: /gone/", config.read_text()))
    assert semikit("report", runs["seg"], other, "--images", "0").code == 0
    page = Page(Path("report.html").read_text())
    classes = page.text[page.text.index("Classes  class") if "Classes  class" in page.text else 0 :]
    assert re.search(r"car\s.*truck\s.*or one that a run does not have", classes)


def test_what_is_no_run_is_said(semikit: Call, runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, text in (
        ((tmp_path / "empty",), "is no run folder"),
        ((tmp_path / "none",), "does not exist"),
        ((runs["seg"], runs["cls"]), "is of seg and"),
        ((runs["seg"], runs["seg"]), "given twice"),
        ((runs["seg"], "-o", "page.txt"), "-o report.html"),
        ((runs["seg"], "-o", "none/page.html"), "-o report.html"),
        ((runs["seg"], "--images", "-1"), "--images -1"),
    ):
        answer = semikit("report", *arguments)
        assert answer.code == 2
        assert text in answer.err
        assert not Path("report.html").exists()
    answer = semikit("report", runs["seg"], "--images", "0", "-o", "/proc/page.html")
    assert (answer.code, answer.err.count("choose another -o."), "--resume" in answer.err) == (3, 1, False)


def test_the_authors_logs_stand_beside_runs_on_the_same_data() -> None:
    rows = [{"iteration": 655.0, "epoch": 1.0}, {"iteration": 1310.0, "epoch": 2.0}]
    config = {"method": {"name": "unimatch_v2"}, "data": {"published": {"name": "pascal"}}}
    found = dict(RunRecord(Path("run"), config, {}, rows).references())
    assert found["dinov2-small, 366 labelled"][1310] == {"student": 79.4, "teacher": 80.6, "confident": 0.84}
    assert list(found["dinov2-small, 366 labelled"]) == [655, 1310]  # not epochs that the run has not reached
    assert "dinov2-base, 92 labelled" in found
    levir = {**config, "data": {"published": {"name": "levir"}}}
    assert [name for name, _ in RunRecord(Path("run"), levir, {}, rows).references()] == ["dinov2-small, 5% labelled"]
    for other in ({"data": {"published": None}}, {"method": {"name": "fixmatch"}}):
        assert RunRecord(Path("run"), {**config, **other}, {}, rows).references() == []


def test_a_temperature_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=generator) * 3
    labels = torch.multinomial((logits / 2.5).softmax(1), 1, generator=generator)[:, 0]
    assert fitted_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)
    assert fitted_temperature(logits, logits.argmax(1)) == pytest.approx(0.05, rel=1e-3)


def examined(index: int, classes: Any, labels: Any) -> Examined:
    shares = torch.nn.functional.one_hot(torch.tensor(classes), 3).movedim(-1, 0) * 0.7 + 0.1
    known = torch.tensor(labels)
    picture = np.random.default_rng(index).integers(0, 256, (400, 500, 3)).astype(np.uint8)
    choose = lambda one: one.max(0)[::-1]  # noqa: E731
    return Examined.of(index, [picture], [((...,), shares)], choose, known.clamp(min=0), known >= 0, 100)


def test_scores_of_one_image() -> None:
    inspection = Inspection(3, 4)
    inspection.add(examined(0, [[0, 0], [1, 1]], [[0, 0], [0, 1]]))
    inspection.add(examined(1, [[0, 2], [1, 1]], [[-1, -1], [-1, -1]]))  # nothing is known of it
    (record,) = inspection.records
    assert record == ImageRecord(0, pytest.approx(7 / 12), pytest.approx(0.8), 0.75, {0: pytest.approx(2 / 3), 1: 0.5})
    change = Inspection(3, 2, background=0)
    change.add(examined(0, [[0, 0], [0, 0]], [[0, 0], [0, 0]]))
    change.add(examined(1, [[0, 2], [0, 0]], [[0, 0], [0, 0]]))
    assert [(one.score, one.by_class) for one in change.records] == [(1.0, {}), (0.0, {2: 0.0})]


def test_images_are_chosen_from_every_order_and_class() -> None:
    shares = np.random.default_rng(0).permutation(100) / 100
    records = [ImageRecord(k, share, 1 - share / 2, share, {k % 7: share}) for k, share in enumerate(shares.tolist())]
    found = chosen(records, 14)
    orders = ranked(records)
    assert len(found) == len({one.index for one in found}) == 14
    assert all(order[0] in found and order[1] in found for order in orders.values())
    assert orders["typical"][0].score in (0.49, 0.5)
    for number in range(7):
        assert min((one for one in records if number in one.by_class), key=lambda one: one.score) in found
    assert len(chosen(records, 500)) == 100
    assert chosen([], 5) == []


@pytest.mark.long
def test_pictures_stay_below_their_budget() -> None:
    album, taken = Album([[0, 0, 0], [255, 0, 0], [0, 255, 0]], budget=1_000_000), 0
    noise = np.random.default_rng(1).integers(-1, 3, (400, 500))
    found = examined(0, np.maximum(noise, 0).tolist(), noise.tolist())
    while not album.full:
        pictures = [*album.photos(found), album.labels(found.labels, found.valid), album.confidence(found.confidence)]
        taken += sum(map(len, pictures))
    assert taken < 1_150_000  # an image of noise more, which nothing makes smaller
    assert BUDGET * 1.02 < 20e6


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of #rgb or #rrggbb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_can_be_read_in_light_dark_and_print(pages: Runs) -> None:
    blocks = re.findall(r":root {(.*?)}", pages["seg"].read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        colours = {name: luminance(value) for name, value in re.findall(r"--(\w+): (#\w+)", block)}
        for name in ("ink", "soft", "good", "bad", "c0", "c1", "c2", "c3", "c4", "c5"):
            low, high = sorted((colours[name], colours["ground"]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, block)


def test_maps_of_many_classes_have_their_colours_and_what_is_not_valid_shines_through() -> None:
    colours = [[k % 256, k // 256, 7] for k in range(300)]
    uri = Album(colours, budget=1_000_000).labels(
        torch.tensor([[299, 256], [3, 3]]), torch.tensor([[True, True], [True, False]])
    )
    found = np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert found.tolist() == [[[43, 1, 7, 255], [0, 1, 7, 255]], [[3, 0, 7, 255], [0, 0, 0, 0]]]


def in_browser(page: Path, asked: str = "") -> Page:
    """The page as a browser without a screen has it once its script has run; nothing was said in the console."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    command = [CHROMIUM, *options, f"{page.as_uri()}{asked}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    return Page(done.stdout)


def test_in_a_browser_the_worst_come_first(pages: Runs) -> None:
    cards = in_browser(pages["seg"]).cards()
    places = [int(card["data-worst"]) for card in cards]
    assert places == sorted(places)
    assert not any("hidden" in card for card in cards)


def test_in_a_browser_a_class_and_an_order_are_chosen(pages: Runs) -> None:
    page = in_browser(pages["cls"], "#order=uncertain&class=1")
    visible = [card for card in page.cards() if "hidden" not in card]
    assert len(visible) == 3
    assert all(card["data-classes"].startswith("1:") for card in visible)
    places = [int(card["data-uncertain"]) for card in visible]
    assert places == sorted(places)
    assert "3 of 3 images" in page.text
