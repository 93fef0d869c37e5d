"""Training on pools in shards by the commands a user types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semikit.data.shards import tar_samples as shard_reading
from semikit.errors import RunError
from semikit.run import build
from semikit.training.checkpoint import read_checkpoint
from tests.helpers import icons, pairs, photos, tars
from tests.helpers.equality import differences

Call = Callable[..., Any]
RGB, SIZES = ("png",), (7, 5, 6)


def said(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def with_shards(yaml: Path, folder: Path, pool: str = "{shards: 'pool-{0..2}.tar', shuffle: 3}") -> Path:
    """The data with a pool beside, in a YAML of its own; paths of the data count from their own folder."""
    text = yaml.read_text()
    for part in ("train", "val", "test"):
        text = text.replace(f" {part}/", f" {yaml.parent}/{part}/").replace(f": {part}\n", f": {yaml.parent}/{part}\n")
    (folder / "pool.yaml").write_text(f"{text}unlabeled: {pool}\n")
    return folder / "pool.yaml"


@pytest.fixture
def data(photo_data: Path, tmp_path: Path) -> Path:
    tars.pool(tmp_path, SIZES)
    return with_shards(photo_data, tmp_path)


class TestSegmentation:
    def test_the_whole_way(self, train: Call, semikit: Call, data: Path) -> None:
        shown = train("--dry-run", data=data)
        assert shown.code == 0, shown.err
        assert "4 labelled · unknown unlabelled · 3 validation · 2 test" in said(shown.out)
        told = "unlabelled images come out of 3 shards alone; 4 images of train that are not labelled are not learned"
        assert told in said(shown.out)
        answer = train("--out", "run", "--iterations", "6", data=data)
        assert answer.code == 0, answer.err
        split = json.loads(Path("run/split.json").read_text())
        sizes = [(data.parent / f"pool-{k}.tar").stat().st_size for k in range(3)]
        assert split["shards"] == [{"name": f"pool-{k}.tar", "size": size} for k, size in enumerate(sizes)]
        assert split["counts"] == {"labeled": 4, "unlabeled": 0, "masked": 6}
        assert Path("run/unlabeled.txt").read_text() == ""
        state = read_checkpoint(Path("run/weights/last.ckpt"))
        assert state["manifest"]["shards"] == split["shards"]
        known = {int(line.split()[0]) for line in Path("run/shard-counts.txt").read_text().splitlines() if line}
        assert known, "six images of each slot: at least one shard was read to its end"
        again = semikit("train", "seg", "--config", "run/config.yaml", "--out", "again")
        assert again.code == 0, again.err

    def test_resumed_as_if_never_stopped_with_other_workers(
        self, train: Call, semikit: Call, data: Path, stop_at: Callable[[int | None], None]
    ) -> None:
        flags = ("--iterations", "12", "--method", "unimatch_v1")  # it has a second unlabelled stream
        assert train("--out", "whole", *flags, data=data).code == 0
        stop_at(7)
        assert train("--out", "run", *flags, data=data).code == 130
        stop_at(None)
        answer = semikit("train", "seg", "--resume", "run", "--workers", "2")
        assert answer.code == 0, answer.err
        found, expected = (read_checkpoint(Path(name, "weights/last.ckpt")) for name in ("run", "whole"))
        for part in ("step", "method", "optimizer", "best", "manifest"):
            assert not differences(found[part], expected[part]), part

    def test_another_pool_is_another_split(
        self, train: Call, semikit: Call, data: Path, stop_at: Callable[[int | None], None]
    ) -> None:
        stop_at(1)
        assert train("--out", "run", data=data).code == 130
        stop_at(None)
        tars.pool(data.parent, (7, 5, 12))
        answer = semikit("train", "seg", "--resume", "run")
        assert answer.code == 2
        assert "was trained on another split" in answer.err
        assert "shards" in answer.err

    def test_a_command(self, train: Call, data: Path, photo_data: Path) -> None:
        pool = with_shards(photo_data, data.parent, f"{{shards: \"pipe:cat '{data.parent}/pool-{{0..2}}.tar'\"}}")
        answer = train("--out", "run", data=pool)
        assert answer.code == 0, answer.err
        split = json.loads(Path("run/split.json").read_text())
        assert split["shards"][2] == {"name": f"pipe:cat '{data.parent}/pool-2.tar'", "size": None}

    def test_an_epoch_has_no_length(self, semikit: Call, data: Path) -> None:
        answer = semikit(
            "train", "seg", "--data", data, *photos.FLAGS, "--labels", "4", "--epochs", "3", "--out", "run"
        )
        assert answer.code == 2
        assert "Say how many steps: --iterations N" in said(answer.err)
        assert not Path("run").exists()

    def test_missing_shards(self, train: Call, data: Path) -> None:
        (data.parent / "pool-1.tar").unlink()
        answer = train("--out", "run", data=data)
        assert answer.code == 2
        assert f"1 of 3 shards are missing: {data.parent}/pool-1.tar" in said(answer.err)
        assert not Path("run").exists()

    def test_a_damaged_first_shard(self, train: Call, data: Path) -> None:
        (data.parent / "pool-0.tar").write_bytes(b"no tar" * 1000)
        answer = train("--out", "run", data=data)
        assert answer.code == 2
        assert f"damaged or truncated shard: {data.parent}/pool-0.tar" in said(answer.err)
        assert not Path("run").exists()

    def test_a_bad_image_while_training(self, train: Call, data: Path) -> None:
        good = ("0.png", tars.encoded(0))
        tars.write(data.parent / "pool-0.tar", [good, *((f"{k}.png", b"no image") for k in range(1, 40))])
        answer = train("--out", "run", "train.max_bad_files=0", data=data)
        assert answer.code == 3
        assert "unreadable or truncated image:" in answer.err
        assert "pool-0.tar!" in said(answer.err)
        assert "cannot identify image file)" in said(answer.err)

    def test_a_damaged_shard_by_a_command_is_a_bad_file(
        self, train: Call, photo_data: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command still has more to send than a pipe holds when the damage is met."""
        monkeypatch.setattr(shard_reading, "_WAIT", 0.0)
        path, folder = data.parent / "pool-1.tar", data.parent
        tars.write(path, [*((f"{k}.png", tars.encoded(k)) for k in range(2)), ("2.json", bytes(900_000))])
        content = bytearray(path.read_bytes())
        content[content.index(b"1.png")] ^= 0xFF
        path.write_bytes(content)
        pool = with_shards(photo_data, folder, f"{{shards: \"pipe:cat '{folder}/pool-{{0..1}}.tar'\", shuffle: 3}}")
        answer = train("--out", "run", "--iterations", "4", data=pool)
        assert answer.code == 0, answer.err
        assert "damaged or truncated shard: pipe:cat" in said(answer.out)
        answer = train("--out", "none", "--iterations", "4", "train.max_bad_files=0", data=pool)
        assert answer.code == 3
        assert "damaged or truncated shard: pipe:cat" in said(answer.err)
        assert "command failed" not in said(answer.err)

    def test_nothing_is_left_of_a_run_that_did_not_fit(
        self, train: Call, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is tried before the run begins may read whole shards, whose counts are in its folder then."""
        tars.pool(data.parent, (1, 1, 1))

        def nothing_fits(method: Any, task: Any, *more: Any) -> None:
            next(iter(task.batches(range(1), 0, False)))
            assert Path("run/shard-counts.txt").stat().st_size > 0
            raise RunError("nothing fits")

        with monkeypatch.context() as patched:
            patched.setattr(build, "planned_micro_batches", nothing_fits)
            answer = train("--out", "run", "train.accumulate=auto", data=data)
        assert answer.code == 3
        assert "nothing fits" in answer.err
        assert not Path("run").exists()
        assert train("--out", "run", data=data).code == 0

    @pytest.mark.parametrize(
        ("pool", "flags", "told"),
        [
            ("[{shards: pool-0.tar}, {images: .}]", (), "shards stand beside folders"),
            ("{shards: pool-0.tar}", ("--unlabeled", "."), "shards stand beside folders"),
            ("{shards: pool-9.tar}", (), "1 of 1 shards are missing"),
            ("{shards: 'pool-*.zip'}", (), "no file fits"),
            ("{shards: 'pipe:exit 3'}", (), "its command failed 1 times (exit status 3)"),
            ("{shards: []}", (), "at least 1 entries"),
        ],
    )
    def test_mistakes(
        self, train: Call, photo_data: Path, data: Path, pool: str, flags: tuple[str, ...], told: str
    ) -> None:
        answer = train("--out", "run", *flags, data=with_shards(photo_data, data.parent, pool))
        assert answer.code == 2
        assert told in said(answer.err)
        assert not Path("run").exists()


class TestChangeDetection:
    @pytest.fixture
    def train_pairs(self, semikit: Call) -> Call:
        flags = (*pairs.FLAGS, "--labels", "4", "--iterations", "3", "--out", "run")
        return lambda data: semikit("train", "cd", "--data", data, *flags)

    def test_two_images_of_a_name(self, train_pairs: Call, pair_data: Path, tmp_path: Path) -> None:
        tars.pool(tmp_path, SIZES, endings=("a.png", "b.png"))
        answer = train_pairs(with_shards(pair_data, tmp_path))
        assert answer.code == 0, answer.err
        assert len(json.loads(Path("run/split.json").read_text())["shards"]) == 3

    def test_one_image_of_a_name(self, train_pairs: Call, pair_data: Path, tmp_path: Path) -> None:
        tars.pool(tmp_path, SIZES)
        answer = train_pairs(with_shards(pair_data, tmp_path))
        assert answer.code == 2
        assert "pool-0.tar!0000 (none)" in said(answer.err)


class TestClassification:
    @pytest.fixture
    def train_icons(self, semikit: Call) -> Call:
        flags = (*icons.FLAGS, "--labels", "6", "--iterations", "3", "--out", "run")
        return lambda data, *more: semikit("train", "cls", "--data", data, *flags, *more)

    @pytest.fixture
    def data(self, icon_data: Path, tmp_path: Path) -> Path:
        tars.pool(tmp_path, SIZES)
        return with_shards(icon_data, tmp_path)

    def test_the_whole_way(self, train_icons: Call, data: Path) -> None:
        answer = train_icons(data, "--crop", "16", "--method", "fixmatch", "--workers", "2")
        assert answer.code == 0, answer.err
        assert len(json.loads(Path("run/split.json").read_text())["shards"]) == 3

    def test_what_has_to_number_the_images(self, train_icons: Call, data: Path) -> None:
        answer = train_icons(data, "--crop", "16", "--method", "flexmatch")
        assert answer.code == 2
        assert "flexmatch keeps the label of every unlabelled image, but those of shards are not numbered" in said(
            answer.err
        )
        answer = train_icons(data, "--crop", "16", "--method", "crest")
        assert answer.code == 2
        assert "crest ranks every unlabelled image, but those of shards are not numbered. Use fixmatch" in said(
            answer.err
        )
        assert not Path("run").exists()

    def test_images_that_live_on_the_device(self, train_icons: Call, data: Path) -> None:
        answer = train_icons(data, "views.size=null")
        assert answer.code == 2
        assert "views.size is not set, but images of shards are read while training" in said(answer.err)
