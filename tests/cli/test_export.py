"""Networks written for other programs, and predicted with again."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import semikit as package
from semikit.cli.app import run
from semikit.inference.exported import Exportable
from semikit.run import export as exporting
from tests.helpers import icons, photos
from tests.test_docs import ROOT, code

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

Call = Callable[..., Any]


def learned(folder: Path, task: str, data: Path, *flags: str) -> Path:
    """A run of two iterations, one evaluation."""
    assert run(["train", task, "--data", str(data), *flags, "--iterations", "2", "--out", str(folder), "--quiet"]) == 0
    return folder


CONVOLUTIONS = ["--encoder", "test_resnet", "--weights", "none", "--crop", "32", "--batch", "2", "--workers", "0"]
CONVOLUTIONS += ["--device", "cpu", "model.decoder_channels=8", "optimizer.lr=0.05", "--labels", "4"]


@pytest.fixture(scope="module")
def segmented(photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of convolutions padded by the size of their input, exported to weights/best.onnx."""
    flags = [flag.replace("test_resnet", "test_efficientnet") for flag in CONVOLUTIONS]
    flags.append("model.encoder_args={pad_type: same}")
    folder = learned(tmp_path_factory.mktemp("runs") / "seg", "seg", photo_data, *flags)
    assert run(["export", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def transformer(photo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small transformer, not exported."""
    return learned(tmp_path_factory.mktemp("runs") / "vit", "seg", photo_data, *photos.FLAGS, "--labels", "4")


def entries(path: Path) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}


def same_pictures(first: Path, second: Path, tolerance: int = 0) -> None:
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        one, other = (np.asarray(Image.open(folder / name)).astype(int) for folder in (first, second))
        assert np.abs(one - other).max() <= tolerance, name


class TestSegmentation:
    def test_the_file_says_all_that_a_service_needs(self, segmented: Path) -> None:
        file = segmented / "weights/best.onnx"
        model = onnx.load(file)
        onnx.checker.check_model(model)
        told = entries(file)
        assert (told["task"], told["class_names"]) == ("seg", list(photos.CLASSES))
        assert len(told["palette"]) == 3
        assert told["mean"] == pytest.approx([0.485, 0.456, 0.406])
        assert told["export"] == {"input": "float", "softmax": False, "fp16": False, "size": None, "multiple": 1}
        assert (told["crop"], told["evaluate"]["window"]) == (32, "original")
        sizes = [[axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                 for value in (*model.graph.input, *model.graph.output)]  # fmt: skip
        assert sizes == [["batch", 3, "height", "width"], ["batch", 3, "height", "width"]]
        assert model.producer_name == "semikit"
        assert b"stack_trace" not in file.read_bytes()  # nor the folders of the machine it was made on

    def test_any_size_and_number_as_the_network_itself(self, segmented: Path) -> None:
        session = onnxruntime.InferenceSession(segmented / "weights/best.onnx")
        network = package.load(segmented, device="cpu").network
        exportable = Exportable(network, exporting.Interface())
        for shape in ((1, 3, 32, 32), (3, 3, 45, 71), (1, 3, 90, 33)):
            images = torch.rand(shape)
            (found,) = session.run(None, {"image": images.numpy()})
            with torch.no_grad():
                assert np.abs(found - exportable(images).numpy()).max() < 1e-4

    def test_it_predicts_as_its_run(self, semikit: Call, segmented: Path, photo_data: Path) -> None:
        images = photo_data.parent / "val/images"
        for name, source in (("run", segmented), ("file", segmented / "weights/best.onnx")):
            answer = semikit("predict", source, images, "-o", name, "--confidence", "--tta", "flip+scale")
            assert answer.code == 0, answer.err
            answer = semikit("predict", source, images, "-o", f"{name}-tiles", "--tile", "24", "--overlap", "8")
            assert answer.code == 0, answer.err
        same_pictures(Path("run"), Path("file"), tolerance=1)
        same_pictures(Path("run-tiles"), Path("file-tiles"))

    def test_it_scores_as_its_run(self, semikit: Call, segmented: Path) -> None:
        own, exported = (semikit("evaluate", segmented / name, "--quiet") for name in ("", "weights/best.onnx"))
        assert (own.code, exported.code) == (0, 0), exported.err
        assert own.out == exported.out

    def test_in_memory(self, segmented: Path, photo_data: Path) -> None:
        image = photo_data.parent / "val/images/val0.png"
        own, exported = (
            package.load(segmented / name, device="cpu").predict(image) for name in ("", "weights/best.onnx")
        )
        assert np.array_equal(own.classes, exported.classes)

    def test_the_code_of_the_page_runs(self, semikit: Call, segmented: Path, photo_data: Path) -> None:
        shutil.copy(segmented / "weights/best.onnx", "best.onnx")
        shutil.copy(photo_data.parent / "val/images/val0.png", "street.png")
        (block,) = code(ROOT / "docs/export.md", "python")
        names: dict[str, Any] = {}
        exec(block, names)
        own = package.load(segmented, device="cpu").predict("street.png")
        assert np.array_equal(names["classes"], own.classes)
        assert names["facts"]["class_names"] == list(photos.CLASSES)


@pytest.mark.long
class TestChange:
    def test_two_inputs_of_bytes(self, semikit: Call, pair_data: Path, tmp_path: Path) -> None:
        folder = learned(tmp_path / "run", "cd", pair_data, *CONVOLUTIONS, "train.group=2")
        answer = semikit("export", folder, "-o", "change.onnx", "--input", "uint8", "--softmax", "--size", "40")
        assert answer.code == 0, answer.err
        lines = answer.out.splitlines()
        assert lines[1:4] == [
            "input   before and after: uint8 (batch, 3, 40, 40), 0..255, normalised inside",
            "output  probabilities: float32 (batch, 2, 40, 40)",
            "dynamic batch",
        ]
        assert "of probabilities to torch on three validation images; equal labels 100.00%" in lines[4]
        assert lines[5:7] == [
            "note: all images have 40x40 pixels",
            "note: `semikit predict` gives it windows of 40 pixels, also of photos",
        ]
        assert lines[7] == "next: semikit predict change.onnx BEFORE.tif AFTER.tif -o change.tif --overlay"
        dates = [pair_data.parent / "val" / date for date in ("A", "B")]
        for name, source in (("own", folder), ("exported", "change.onnx")):
            answer = semikit("predict", source, *dates, "-o", name, "--confidence", "--tile", "40")
            assert answer.code == 0, answer.err
        same_pictures(Path("own"), Path("exported"), tolerance=1)
        answer = semikit("predict", "change.onnx", *dates, "-o", "larger", "--tile", "64")
        assert (answer.code, "this ONNX file takes 40x40" in answer.err) == (2, True), answer.err


@pytest.mark.long
class TestClassification:
    def test_one_size_and_the_file_of_a_labelling_program(self, semikit: Call, icon_data: Path, tmp_path: Path) -> None:
        folder = learned(tmp_path / "run", "cls", icon_data, *icons.FLAGS, "views.size=null", "--labels", "6")
        answer = semikit("export", folder, "-o", "classes.onnx", "--for", "x-anylabeling")
        assert answer.code == 0, answer.err
        assert "(batch, 3, 16, 16), 0..1, normalised inside" in answer.out
        assert "output  logits: float32 (batch, 3)\ndynamic batch\n" in answer.out
        rows = []
        for name, source in (("own", folder), ("exported", "classes.onnx")):
            source = semikit("predict", source, icon_data.parent / "val", "-o", f"{name}.csv", "--probability")
            assert source.code == 0, source.err
            with Path(f"{name}.csv").open(newline="") as file:
                rows.append(list(csv.reader(file)))
        own, exported = rows
        assert [row[:2] for row in own] == [row[:2] for row in exported]
        values = [np.array([row[2:] for row in part[1:]], float) for part in rows]
        assert np.abs(values[0] - values[1]).max() <= 1e-4
        yaml = Path("classes.yaml").read_text()
        assert "type: yolov8_cls" in yaml
        assert "model_path: classes.onnx" in yaml


Made = tuple[bytes, Callable[[Any], Any]]


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Made]], None]:
    """Puts another exporter in the place of that of ONNX."""

    def put(make: Callable[..., Made]) -> None:
        monkeypatch.setitem(exporting._FORMATS, "onnx", make)  # type: ignore[attr-defined]

    return put


def runner(module: Exportable, wrong: float = 0.0) -> Callable[[Any], Any]:
    def predicted(arrays: Any) -> Any:
        with torch.no_grad():
            return module(*map(torch.from_numpy, arrays)).numpy() + wrong

    return predicted


class TestWhatIsRefused:
    @pytest.mark.parametrize("wrong", [0.01, float("nan")])
    def test_a_network_that_predicts_otherwise(
        self, semikit: Call, transformer: Path, exporter: Any, wrong: float
    ) -> None:
        exporter(lambda module, batch, metadata: (b"x", runner(module, wrong)))
        answer = semikit("export", transformer, "-o", "a.onnx")
        assert answer.code == 3
        assert "differs from the one it was made of by" in answer.err
        assert not list(Path().iterdir())

    def test_what_torch_cannot_export_to_any_size_has_one(
        self, semikit: Call, transformer: Path, exporter: Any
    ) -> None:
        def make(module: Exportable, batch: Any, metadata: Mapping[str, Any]) -> Made:
            if module.interface.size is None:
                raise RuntimeError("no\nsuch operator")
            assert (metadata["evaluate"]["window"], metadata["crop"]) == ("sliding", 32)
            return b"x", runner(module)

        exporter(make)
        answer = semikit("export", transformer, "-o", "a.onnx")
        assert answer.code == 0, answer.err
        assert "note: images of any size could not be exported (no)\nnote: all images have 32x32 pixels\n" in answer.out
        assert "dynamic batch\n" in answer.out

    def test_what_torch_cannot_export_at_all(self, semikit: Call, transformer: Path, exporter: Any) -> None:
        def make(module: Exportable, batch: Any, metadata: Mapping[str, Any]) -> Made:
            raise RuntimeError("no such operator")

        exporter(make)
        answer = semikit("export", transformer, "-o", "a.onnx")
        assert answer.code == 3
        assert "torch cannot export this network to onnx (RuntimeError: no such operator)" in answer.err

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--size", "40"), "--size 40 is not a multiple of the patch, 16. Use 32 or 48."),
            (("-o", "model.pt"), "-o model.pt: a file of --format onnx ends in .onnx. Use model.onnx."),
            (("--format", "tflite"), "format"),
            (("--input", "int8"), "input"),
            (("--for", "x-anylabeling"), "X-AnyLabeling 4.0.2 has no model type for semantic segmentation"),
        ],
    )
    def test_options(self, semikit: Call, transformer: Path, flags: tuple[str, ...], message: str) -> None:
        answer = semikit("export", transformer, *flags)
        assert answer.code == 2
        assert message in " ".join(answer.err.split())

    def test_what_is_exported_already(self, semikit: Call, segmented: Path) -> None:
        answer = semikit("export", segmented / "weights/best.onnx", "-o", "a.onnx")
        assert answer.code == 2
        assert "is exported already" in answer.err

    @pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package(
        self, semikit: Call, transformer: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setitem(sys.modules, name, None)
        answer = semikit("export", transformer)
        assert answer.code == 2
        assert 'pip install "semikit[export]"' in answer.err

    def test_files_of_others_and_damaged_ones(self, semikit: Call, segmented: Path, photo_data: Path) -> None:
        images = photo_data.parent / "val/images"
        made = Path("made.onnx")
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [
            onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])])  # fmt: skip
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), made)
        answer = semikit("predict", made, images, "-o", "out")
        assert (answer.code, "does not say how it is used" in answer.err) == (2, True), answer.err
        shutil.copy(segmented / "weights/best.onnx", "cut.onnx")
        Path("cut.onnx").write_bytes(Path("cut.onnx").read_bytes()[:2000])
        answer = semikit("predict", "cut.onnx", images, "-o", "out")
        assert (answer.code, "is damaged or no ONNX file" in answer.err) == (2, True), answer.err


@pytest.mark.long
def test_two_dates_of_any_size(semikit: Call, pair_data: Path, tmp_path: Path) -> None:
    folder = learned(tmp_path / "run", "cd", pair_data, *CONVOLUTIONS, "train.group=2", "--decoder", "dpt")
    answer = semikit("export", folder)
    assert answer.code == 0, answer.err
    assert "dynamic batch, height and width\n" in answer.out


@pytest.mark.long
class TestTransformers:
    @pytest.mark.parametrize(
        "flags", [(), ("--fp16",), ("--format", "torch", "--softmax"), ("--size", "48"), ("--input", "normalised")]
    )
    def test_every_way(self, semikit: Call, transformer: Path, photo_data: Path, flags: tuple[str, ...]) -> None:
        suffix = ".pt2" if "torch" in flags else ".onnx"
        answer = semikit("export", transformer, "-o", f"a{suffix}", *flags)
        assert answer.code == 0, answer.err
        dynamic = (
            "dynamic batch\n" if "--size" in flags else "dynamic batch, height and width, sides a multiple of 16\n"
        )
        assert dynamic in answer.out
        if suffix == ".onnx":
            images = photo_data.parent / "val/images"
            for name, source in (("own", transformer), ("exported", "a.onnx")):
                assert semikit("predict", source, images, "-o", name, "--confidence", "--tile", "48").code == 0
            same_pictures(Path("own"), Path("exported"), tolerance=2 if "--fp16" in flags else 1)

    def test_a_mix_transformer_has_a_multiple(self, semikit: Call, photo_data: Path, tmp_path: Path) -> None:
        flags = [flag for flag in CONVOLUTIONS if not flag.startswith("model.decoder_channels")]
        flags[flags.index("test_resnet")] = "mit-b0"
        folder = learned(tmp_path / "run", "seg", photo_data, *flags)
        answer = semikit("export", folder)
        assert answer.code == 0, answer.err
        assert "dynamic batch, height and width, sides a multiple of 32\n" in answer.out
        assert "note: images of any size could not be exported" in answer.out

    @pytest.mark.parametrize(
        "encoder", ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "beit_base_patch16_224"]
    )
    def test_families(self, semikit: Call, photo_data: Path, tmp_path: Path, encoder: str) -> None:
        args = "model.encoder_args={depth: 2, embed_dim: 64, num_heads: 2}"
        flags = [args if flag.startswith("model.encoder_args") else flag for flag in photos.FLAGS]
        flags[flags.index("test_vit")] = encoder
        flags[flags.index("--crop") + 1] = "28" if "14" in encoder else "32"
        folder = learned(tmp_path / "run", "seg", photo_data, *flags, "--labels", "4")
        answer = semikit("export", folder)
        assert answer.code == 0, answer.err
        assert ("dynamic batch\n" in answer.out) == encoder.startswith("beit")
