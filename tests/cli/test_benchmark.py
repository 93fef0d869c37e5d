"""`semikit benchmark` at a tiny size, from flags to table and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.step.flops import step_flops
from benchmarks.step.subjects import subject_of
from benchmarks.step.workload import configure
from semikit import benchmark
from semikit.benchmark import (
    PEAKS,
    RANGES,
    STEP,
    VIEWS,
    Peak,
    Waits,
    kernels_of,
    known_peak,
    peak_of,
    spans_of,
    waits_of,
)  # fmt: skip
from semikit.cli.app import run
from semikit.training.step import BACKWARD, FORWARD, PARTS

TINY = [
    *("model.encoder_args={depth: 2, embed_dim: 32, num_heads: 2}", "model.decoder_channels=8"),
    *("model.decoder_widths=[8, 8, 8, 8]", "--encoder", "test_vit", "--device", "cpu", "--crop", "32", "--batch", "2"),
]
OF_A_PRESET = ["--preset", "pascal-92-dinov2-s", "--synthetic", "method.dropout=none"]
"""Synthetic images stand in for those of its data."""
CLASSES = ["--encoder", "resnet10t", "--device", "cpu", "--crop", "32", "--batch", "2", "optimizer.layer_decay=null"]


@pytest.mark.parametrize(
    ("task", "flags"),
    [("seg", [*TINY, *OF_A_PRESET]), pytest.param("cd", TINY, marks=pytest.mark.long), ("cls", CLASSES)],
)
def test_a_step_of_every_task(task: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "numbers.json"
    assert run(["benchmark", task, *flags, "--steps", "2", "--peak", "0.5", "--json", str(path)]) == 0
    told = capsys.readouterr().out
    for words in ("pseudo_labels", "optimizer update", "whole step", "steps/s", "images/s", "% of 0.5 TFLOP/s (given)"):
        assert words in told
    numbers = json.loads(path.read_text())
    assert numbers["environment"]["torch"] == f"torch {torch.__version__}"
    step = numbers["step"]
    assert list(step["parts"]) == list(RANGES)
    assert all(seconds > 0 for seconds in step["parts"].values())
    assert 0 < sum(step["parts"].values()) <= step["seconds"]
    assert step["steps_per_second"] == pytest.approx(1 / step["seconds"])
    assert step["images_per_second"] == pytest.approx(4 / step["seconds"])
    assert step["share_of_peak"] == pytest.approx(step["tflops"] / 0.5)
    assert step["waits"] is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("task", ["seg", "cd", "cls"])
def test_own_data_and_their_loader(
    task: str, small: dict[str, tuple[ModuleType, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, flags = tmp_path / "numbers.json", CLASSES if task == "cls" else TINY
    labels = ["--labels", "6"] if task == "cls" else []
    arguments = ["benchmark", task, "--data", str(small[task][1]), *flags, *labels, "--workers", "0"]
    assert run([*arguments, "--loader", "--steps", "3", "--json", str(path)]) == 0
    assert "loader, no workers" in capsys.readouterr().out
    loader = json.loads(path.read_text())["loader"]
    assert loader["images_per_second"] == pytest.approx(4 / loader["seconds"])
    assert loader["first_batch"] > 0


@pytest.mark.parametrize("more", [(), pytest.param(("--compile",), marks=pytest.mark.long)])
def test_a_trace_of_a_step_in_bf16(more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda method, **modes: compiled(method, backend="aot_eager", **modes))
    trace = tmp_path / "trace.json"
    flags = ["--method", "fixmatch", "--precision", "bf16", *more, "--steps", "1", "--profile", str(trace)]
    assert run(["benchmark", "seg", *TINY, *flags]) == 0
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {STEP, VIEWS, *PARTS} <= names


def test_operations_are_those_of_the_shapes() -> None:
    overrides: dict[str, Any] = {
        "data": {"shapes": {"train": 8, "val": 1, "test": 1}, "labels": "4"},
        "model": {"encoder_args": {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 28}},
        "views": {"weak": {"crop": 28}},
        "train": {"batch": 2, "device": "cpu"},
    }
    config = configure(overrides)
    found = benchmark.measure_step(config, steps=1, warmup=0)
    subject = subject_of(config, 6, None)
    counted = step_flops(subject.network, subject.image_shape, *subject.passes)
    assert found.tflop == pytest.approx(counted / 1e12, rel=0.02)


@dataclass
class Event:
    """An event of a trace, as torch's profiler gives it."""

    name: str
    begin: float
    end: float
    kernels: list[Any] = field(default_factory=list)
    device: str = "CPU"

    @property
    def device_type(self) -> Any:
        return SimpleNamespace(name=self.device)

    @property
    def time_range(self) -> Any:
        return SimpleNamespace(start=self.begin, end=self.end)


def kernel(duration: float, name: str = "gemm") -> Any:
    return SimpleNamespace(name=name, duration=duration)


EVENTS = [
    Event(STEP, 0, 100, [kernel(900, STEP)]),
    Event(STEP, 0, 900, device="CUDA"),
    Event(FORWARD, 10, 30, [kernel(7e6, FORWARD), kernel(1e6)]),  # a range may launch kernels itself
    Event("aten::mm", 12, 14, [kernel(2e6), kernel(3e6)]),
    Event(FORWARD, 12, 400, device="CUDA"),
    Event(FORWARD, 40, 50),
    Event("aten::mm", 45, 46, [kernel(4e6)]),
    Event(BACKWARD, 60, 90),
    Event("aten::mm", 70, 71, [kernel(5e6)]),
    Event("aten::zero_", 95, 96, [kernel(8e6)]),
    Event("gemm", 200, 300, device="CUDA"),
    Event("Memcpy HtoD (Pinned -> Device)", 12, 13, device="CUDA"),
    Event("Memcpy HtoD (Pageable -> Device)", 150, 160, device="CUDA"),  # the device is late
    Event("Memcpy DtoD (Device -> Device)", 20, 30, device="CUDA"),
    Event("Memcpy DtoH (Device -> Pageable)", 40, 50, device="CUDA"),
    Event("cudaStreamSynchronize", 41, 50),
    Event("hipDeviceSynchronize", 70, 71),
    Event("cudaLaunchKernel", 42, 43),
    Event("cudaDeviceSynchronize", 101, 120),  # after the step
]


def test_kernels_belong_to_the_range_they_were_launched_in() -> None:
    assert kernels_of(EVENTS) == {**dict.fromkeys(RANGES, 0.0), FORWARD: 10.0, BACKWARD: 5.0}


def test_ranges_on_the_host() -> None:
    assert spans_of(EVENTS)[FORWARD] == pytest.approx(30e-6)
    assert spans_of(EVENTS)[STEP] == pytest.approx(100e-6)


def test_what_copies_and_what_waits() -> None:
    assert waits_of(EVENTS) == Waits(steps=1, pageable=1, to_host=1, waits=2)
    quiet = [event for event in EVENTS if event.name in (STEP, "cudaLaunchKernel")]
    assert waits_of(quiet) == Waits(1, 0, 0, 0)


def test_peaks() -> None:
    sheet = "dense, data sheet of NVIDIA H100 Tensor Core GPU"
    assert known_peak("NVIDIA H100 80GB HBM3", "bf16") == Peak(989.5, f"bf16, {sheet}")
    assert known_peak("NVIDIA H100 80GB HBM3", "tf32") == Peak(494.5, f"tf32, {sheet}")
    assert known_peak("NVIDIA H100 80GB HBM3", "fp32") == Peak(67.0, f"fp32, {sheet}")
    assert known_peak("NVIDIA H100 PCIe", "fp16") == Peak(756.5, f"fp16, {sheet}")
    names = {
        "NVIDIA A100-SXM4-80GB": 312, "NVIDIA A100 80GB PCIe": 312, "NVIDIA H200": 989.5, "NVIDIA H200 NVL": 835.5,
        "NVIDIA H100 NVL": 835.5, "NVIDIA L4": 121, "NVIDIA L40S": 362.05, "NVIDIA GeForce RTX 4090": 165.2,
    }  # fmt: skip
    assert {name: peak.tflops for name in names if (peak := known_peak(name, "bf16"))} == names
    for name in ("NVIDIA L40", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "CPU"):
        assert known_peak(name, "bf16") is None, name
    for full, tf32, half, _ in PEAKS.values():
        assert full <= tf32 < half <= 2.02 * tf32


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16", "auto"])
def test_the_peak_of_a_cpu_is_measured(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(benchmark._SIDE, "cpu", 64)
    monkeypatch.setattr(benchmark, "_ENOUGH", 0.0)
    cpu = torch.device("cpu")
    assert peak_of(cpu, precision, 790.0) == Peak(790.0, "given")
    ticks = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    settled = "fp32" if precision == "auto" else precision
    wanted = Peak(2 * 64**3 / 1e12, f"{settled}, measured, product of 64 x 64 matrices")
    assert peak_of(cpu, precision, None) == wanted, "the fastest of three counts"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cdd"], "unknown task 'cdd'. Did you mean 'cd'? Known: cd, cls, seg."),
        (["seg", "--method", "fixmach"], "Did you mean 'fixmatch' or"),
        (["seg", "--profile", "no/dir/x.json"], "cannot write to no/dir/x.json"),
        (["seg", "--json", "no/dir/x.json"], "cannot write to no/dir/x.json: there is no such folder"),
        (["seg", "--loader", "--peak", "3"], "leave out --peak and --profile."),
        (["seg", *TINY, "--crop", "30"], "crop 30 is not a multiple of the patch of test_vit, 16. Use 16 or 32."),
        (["seg", "--crop", "126", "--against", "reference"], "python -m benchmarks.step seg --crop 126 --against"),
    ],
)
def test_wrong_input(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["benchmark", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
