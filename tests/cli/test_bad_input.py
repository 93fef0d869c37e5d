"""Wrong input: exit code 2, one message that helps, nothing written and nothing overwritten."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import photos

Call = Callable[..., Any]
NOISE = np.random.default_rng(0).integers(0, 255, (40, 48, 3))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data YAML of this test alone."""
    return photos.write(tmp_path / "own")


@pytest.fixture
def refused(train: Call, own: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs `train` and expects a refusal; returns the message."""

    def call(*arguments: object) -> str:
        before = sorted(path for path in tmp_path.rglob("*") if path != tmp_path / "here")
        answer = train(*arguments, "--out", tmp_path / "out", data=own)
        assert answer.code == 2, answer
        assert answer.err.startswith("error: ")
        assert "Traceback" not in answer.err
        assert sorted(path for path in tmp_path.rglob("*") if path != tmp_path / "here") == before
        return str(answer.err.removeprefix("error: ").strip())

    return call


# ------------------------------------------------------------------------------------------------------------- data


def test_missing_folder(own: Path, refused: Callable[..., str]) -> None:
    shutil.rmtree(own.parent / "val/images")
    assert re.match(r"val\.images: no such folder: .*val/images\. .*val has the folders: masks", refused())


@pytest.mark.parametrize("part", ["val", "test"])
def test_image_without_mask(own: Path, refused: Callable[..., str], part: str) -> None:
    (own.parent / f"{part}/masks/{part}0.png").unlink()
    assert refused().startswith(f"{part}: image without mask: {part}0. Add a mask of the same name")


def test_labelled_image_without_mask(own: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    (own.parent / "list.txt").write_text("train0\ntrain7\n")
    assert "the image 'train7' has no mask, so it cannot be labelled" in refused("--labels", own.parent / "list.txt")


def test_mask_of_another_size(own: Path, refused: Callable[..., str]) -> None:
    photos.save(own.parent / "val/masks/val1.png", np.zeros((20, 48)))
    told = refused()
    assert told.startswith("val: mask of another size than its image: val1 (image 48x40, mask 48x20")


def test_mask_value_outside_the_classes(own: Path, refused: Callable[..., str]) -> None:
    photos.save(own.parent / "val/masks/val1.png", np.where(np.arange(48) < 2, 7, 0) * np.ones((40, 1)))
    told = refused()
    assert told.startswith("val: mask value outside the classes 0 to 2: ")
    assert f"{own.parent}/val/masks/val1.png (7: 80 pixels)" in told
    assert "`mapping: {7: 0}`" in told
    assert "`ignore: [7]`" in told


def test_masks_of_0_and_255(own: Path, refused: Callable[..., str]) -> None:
    for path in own.parent.rglob("masks/*.png"):
        photos.save(path, np.where(np.arange(48) < 9, 255, 0) * np.ones((40, 1)))
    own.write_text(own.read_text().replace("[sky, road, car]", "[rest, road]"))
    assert "Only 0 and 255 occur; if 255 is class 1, add `mapping: {255: 1}`" in refused()


def test_a_class_of_which_all_values_are_ignored(own: Path, refused: Callable[..., str]) -> None:
    own.write_text(own.read_text().replace("ignore: [9]", "ignore: [0, 9]"))
    assert refused().startswith("no mask value is of class 'sky' (0)")


def test_colour_mask(own: Path, refused: Callable[..., str]) -> None:
    photos.save(own.parent / "val/masks/val1.png", NOISE)
    told = refused()
    assert told.startswith("val: colour mask read as RGB: ")
    assert "val1.png (3 channels, 1920 colours)" in told
    assert "or save class numbers" in told


def test_truncated_image(own: Path, refused: Callable[..., str]) -> None:
    path = own.parent / "val/images/val0.png"
    path.write_bytes(path.read_bytes()[:300])
    assert refused().startswith(f"val: unreadable or truncated image: {path} (image file is truncated)")


def test_truncated_unlabelled_image_is_found_by_a_dry_run(own: Path, refused: Callable[..., str]) -> None:
    path = own.parent / "train/images/train7.png"
    path.write_bytes(path.read_bytes()[:300])
    assert refused("--dry-run").startswith(f"unlabelled: unreadable or truncated image: {path}")


def test_all_faults_come_in_one_message(own: Path, refused: Callable[..., str]) -> None:
    photos.save(own.parent / "val/masks/val1.png", NOISE)
    (own.parent / "test/masks/test0.png").unlink()
    told = refused()
    assert told.startswith("2 problems with the data:\n- val: colour mask")
    assert "\n- test: image without mask" in told


def test_a_key_the_data_file_does_not_know(own: Path, refused: Callable[..., str]) -> None:
    own.write_text(own.read_text() + "clases: [a, b]\n")
    assert refused() == f"{own}: unknown key 'clases'. Did you mean 'classes' or 'colors'?"


# ----------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("50", "labels '50' asks for 50 images, but only 6 of train have a mask."),
        ("0", "at least 1 is needed"),
        (
            "1/0",
            "labels '1/0' is not a fraction between 0 and 1. Give a number (46), a fraction (1/16, 10%, 0.1)",
        ),
        ("3/2", "labels '3/2' is not a fraction between 0 and 1"),
        ("half", "labels 'half': no such file, and neither a number nor a fraction"),
        ("200%", "labels '200%' is not a fraction between 0 and 1"),
    ],
)
def test_labels_that_cannot_be_chosen(refused: Callable[..., str], labels: str, told: str) -> None:
    assert told in refused("--labels", labels)


def test_labels_that_are_no_text(refused: Callable[..., str], own: Path) -> None:
    path = own.parent / "train/masks/train0.png"
    assert refused("--labels", path).startswith(f"labels '{path}' is not a text file. Give a number (46), a fraction")


def test_labelled_file_that_is_also_in_val(own: Path, refused: Callable[..., str]) -> None:
    shutil.copy(own.parent / "train/images/train1.png", own.parent / "val/images/val0.png")
    told = refused("--labels", "6")
    assert told.startswith("1 pictures of val are also learned from: val0 (train: train1). A score on them says little")


def test_labels_of_the_validation_images(own: Path, refused: Callable[..., str]) -> None:
    (own.parent / "list.txt").write_text("val0\n")
    assert "'val0' is an image of val, not of train" in refused("--labels", own.parent / "list.txt")


# ---------------------------------------------------------------------------------------------- names, keys, values


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "unimatch"], r"unknown method 'unimatch'. Did you mean 'unimatch_v2' or 'unimatch_v1'"),
        (["method.name=fixmach"], r"unknown method 'fixmach'. Did you mean 'fixmatch'"),
        (["method=fixmatch"], r"method: expected a mapping .*got 'fixmatch'.*named by method.name"),
        (["--encoder", "dinov2-smal"], r"unknown encoder 'dinov2-smal'. Did you mean 'dinov2-small'"),
        (["--encoder", "test_vitt"], r"unknown encoder 'test_vitt'. Did you mean 'test_vit'"),
        (["--decoder", "dptt"], r"unknown decoder 'dptt'. Did you mean 'dpt'"),
        (["--dataset", "shapes"], r"both --dataset shapes and --data .* were given; give one of them"),
        (["method.treshold=0.5"], r"method: unknown key 'treshold'. Did you mean 'threshold'"),
        (["mehtod.threshold=0.5"], r"unknown section of the configuration 'mehtod'. Did you mean 'method'"),
        (["train.batch=many"], r"train: invalid type for key 'batch': expected a whole number, got 'many' \(str\)"),
        (["optimizer.lr=1e-4"], r"optimizer: invalid type for key 'lr'.*YAML reads 1e-4 as text, write 1.0e-4"),
        (["method.threshold=2"], r"method: invalid value for key 'threshold': expected less than or equal to 1, got 2"),
        (["--precision", "fp8"], r"'precision': expected one of 'auto', 'fp32', 'tf32', 'bf16', 'fp16', got 'fp8'"),
        (["--protocol", "papre"], r"'protocol': expected one of 'strict', 'paper'.*Did you mean 'paper'"),
        (["--device", "quantum"], r"'device': unknown device 'quantum'. Known: auto, cpu, cuda, mps, 0, cuda:1"),
        (["--crop", "40"], r"crop 40 is not a multiple of the patch of test_vit, 16. Use 32 or 48"),
        (["--weights", "no.pth"], r"no weights at no.pth: give the path of a file ending in"),
        (["--epochs", "2"], r"train.iterations 2 and train.epochs 2 both say how long"),
        (["--seeds", "1,2", "--seed", "3"], r"both --seeds 1,2 and one seed, 3, were given; give one of them"),
        (["--seeds", "1,2", "train.seed=0"], r"both --seeds 1,2 and one seed, 0, were given"),
        (["--seeds", "1,1"], r"--seeds takes different whole numbers"),
        (["train.accumulate=3"], r"train.batch 2 is not a multiple of train.accumulate 3"),
        (["train.accumulate=2", "--method", "unimatch_v1"], r"unimatch_v1 learns from all images .*accumulate=1"),
        (["model.encoder_args={depht: 2}"], r"test_vit cannot be built with .*depht"),
        (["--config", "no.yaml"], r"no such file: no.yaml"),
        (["name=${NO_SUCH_VARIABLE}"], r"the environment variable NO_SUCH_VARIABLE is not set"),
        (["--unlabeled", "no-folder"], r"unlabeled\[0\].images: no such folder: .*no-folder"),
    ],
)
def test_names_keys_and_values(refused: Callable[..., str], arguments: list[str], told: str) -> None:
    assert re.search(told, refused(*arguments))


def test_all_wrong_keys_come_in_one_message(refused: Callable[..., str]) -> None:
    lines = refused("method.treshold=0.5", "train.batc=4", "optimizer.lr=fast").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["method", "optimizer", "train"]


def test_a_recipe_that_is_no_text(refused: Callable[..., str], own: Path) -> None:
    (own.parent / "recipe.yaml").write_bytes(b"\xff\xfe\x00abc")
    assert "recipe.yaml is not valid YAML" in refused("--config", own.parent / "recipe.yaml")


def test_a_recipe_of_another_task(refused: Callable[..., str], own: Path) -> None:
    (own.parent / "recipe.yaml").write_text("task: cd\n")
    assert "this recipe is for the task 'cd': semikit train cd" in refused("--config", own.parent / "recipe.yaml")


# ----------------------------------------------------------------------------------------------------------- output


def test_output_that_cannot_be_written(train: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    answer = train("--out", tmp_path / "file" / "run")
    assert answer.code == 2
    assert f"cannot write to {tmp_path}/file/run: Not a directory. Choose another --out." in answer.err
    assert train("--out", tmp_path / "file").code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_is_not_empty_is_not_touched(train: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    answer = train("--out", tmp_path / "out")
    assert answer.code == 2
    assert "out exists and is not empty; nothing is overwritten. Choose another --out." in answer.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_an_empty_folder_may_be_used(train: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert train("--out", tmp_path / "out", "--iterations", "1").code == 0


def test_several_seeds_of_a_wrong_run_leave_nothing(refused: Callable[..., str]) -> None:
    assert refused("--seeds", "0,1", "method.treshold=0.5")


def test_a_root_without_data(semikit: Call) -> None:
    answer = semikit("train", "seg", "--dataset", "shapes", "--root", ".", "--dry-run")
    assert answer.code == 2
    assert "--root . says where a published data set lies or where the paths of --data begin" in answer.err
