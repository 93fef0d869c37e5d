"""`python -m benchmarks.step` at a tiny size, from flags to table and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.step.__main__ import run

TINY = [
    "model.encoder_args={depth: 2, embed_dim: 48, num_heads: 2, img_size: 28}",
    "model.decoder_channels=8",
    "model.decoder_widths=[8, 8, 16, 16]",
    *("--encoder", "dinov2-small", "--device", "cpu", "--classes", "4", "--repeats", "2"),
]


def test_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, path = torch.get_num_threads(), tmp_path / "numbers.json"
    assert run(["seg", *TINY, "--crop", "28,42", "--against", "reference", "--json", str(path)]) == 0
    assert torch.get_num_threads() == before
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        *("crop 28, medians of 2", "reference / semikit:", "the step alone", "with views", "where one core loads too"),
        *("teacher forward", "views by PIL", "CPU, 1 threads", "2+2 images", "reference, fp32:", "TFLOP a step"),
    ):
        assert words in told
    numbers = json.loads(path.read_text())
    assert set(numbers) == {"environment", "step, crop 28", "step, crop 42"}
    step = numbers["step, crop 42"]
    assert step["seconds"]["semikit"]["whole step"] > 0
    assert set(step["ratios"]) == {"step", "with_views", "one_core"}
    assert all(len(ratio["pairs"]) == 2 and ratio["median"] > 0 for ratio in step["ratios"].values())
    assert step["speed"]["images_per_second"] == pytest.approx(4 / step["seconds"]["semikit"]["whole step"])
    assert step["moved"]["reference"] > 5 * step["moved"]["semikit"]
    assert numbers["environment"]["torch"] == f"torch {torch.__version__}"


def test_change_detection_with_a_peak_and_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, trace = tmp_path / "numbers.json", tmp_path / "trace.json"
    flags = ["--crop", "28", "--against", "reference", "--peak", "0.5", "--profile", str(trace), "--json", str(path)]
    assert run(["cd", *TINY, *flags]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "% of 0.5 TFLOP/s (given)" in told
    assert "there is no device beside the CPU" in told
    assert "aten::convolution" in trace.read_text()
    step = json.loads(path.read_text())["step, crop 28"]
    speed = step["speed"]
    assert speed["share_of_peak"] == pytest.approx(speed["tflops"] / 0.5)
    assert step["trace"] == dict.fromkeys(("pinned", "pageable", "to_host", "waits", "reads"))


@pytest.mark.long
def test_the_reference_in_the_same_precision(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--crop", "28", "--precision", "bf16", "--against", "reference"]
    assert run(["seg", *TINY, *flags]) == 0
    told = capsys.readouterr().out
    assert "semikit, bf16:" in told
    assert "reference, fp32:" in told
    assert run(["seg", *TINY, *flags, "--same-precision"]) == 0
    assert "reference, bf16:" in capsys.readouterr().out


def test_parts_that_only_one_form_has(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TINY, "--crop", "28", "--against", "reference", "method.forward=fused"]
    assert run(["seg", *arguments]) == 0
    told = capsys.readouterr().out
    assert "student forward, all in one call" in told
    assert "student forward, strong" in told


def test_our_form_alone_in_bf16(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["seg", *TINY, "--crop", "28", "--batch", "1", "--precision", "bf16", "--clock", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "reference" not in told
    assert "bf16" in told
    assert "cpu time" in told


def test_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "numbers.json"
    flags = ["--device", "cpu", "--batch", "1", "--classes", "3", "--repeats", "2", "--json", str(path)]
    assert run(["cls", *flags, "--against", "contiguous", "train.ratio=2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in (
        "fixmatch, medians of 2",
        "contiguous / semikit",
        "host to device, views",
        "wrn-28-2, 1+2 images",
        "PIL, one by one",
    ):
        assert words in told
    numbers = json.loads(path.read_text())
    step = numbers["step, fixmatch"]
    assert step["images"] == 3
    assert f"{3 / step['seconds']['semikit']['whole step']:.1f} images/s" in told
    assert all(len(ratio["pairs"]) == 2 for ratio in step["ratios"].values())
    assert set(step["wall"]) == set(step["cpu"]) == set(step["seconds"]) == {"semikit", "contiguous"}
    assert [speed["batch"] for speed in numbers["RandAugment"]] == [2, 448]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cdd"], "unknown task to benchmark 'cdd'. Did you mean 'cd'? Known: cd, cls, seg."),
        (["seg", "--against", "contiguous"], "unknown --against 'contiguous'."),
        (["cls", "--crop", "32"], "live on the device; leave out --crop."),
        (["cls", "--against", "referenz"], "Did you mean 'reference'? Known: contiguous, reference."),
        (["cd", "--against", "naive"], "unknown --against 'naive'. Known: reference."),
        (["seg", "--same-precision"], "--same-precision is about the reference"),
        (["seg", "--profile", "trace.json"], "--profile traces one step; with it give one --crop, not 2"),
        (["seg", "--profile", "no/dir/x.json", "--crop", "28"], "cannot write to no/dir/x.json"),
        (["seg", "--clock", "gpu"], "unknown --clock 'gpu'. Did you mean 'cpu'? Known: cpu, wall."),
        (["seg", "method.name=fixmatch"], "the step that is measured is that of unimatch_v2, not fixmatch"),
        (["seg", "--json", "no/dir/x.json"], "cannot write to no/dir/x.json: there is no such folder"),
        (["seg", "--crop", "126;266"], "--crop takes whole numbers with commas between them"),
        (["seg", "--crop", "0"], "got '0'"),
        (["seg", *TINY, "--crop", "30"], "multiple of 14. Instead of 30 take 28 or 42"),
        (["seg", *TINY, "--crop", "28", "--against", "reference", "method.dropout.rate=0.3"], "changed here: method"),
    ],
)
def test_wrong_input(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
