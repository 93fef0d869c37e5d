from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from semikit.data.manifest import Manifest, difference, load, write
from semikit.data.masked_images import DataSpec, open_folders
from semikit.data.splits import Split, choose
from semikit.errors import DataError


def split_of(spec: DataSpec, labels: str | None, seed: int = 0) -> Split:
    sources = open_folders(spec)
    return choose(labels, sources, seed)


def test_written_and_read(spec: DataSpec, tmp_path: Path) -> None:
    split = split_of(spec, "2")
    written = write(tmp_path, split)
    assert load(tmp_path) == written == Manifest.of(split)
    labeled = (tmp_path / "labeled.txt").read_text().split()
    unlabeled = (tmp_path / "unlabeled.txt").read_text().split()
    assert labeled == list(written.labeled) == [f"train{k}" for k in split.labeled]
    assert sorted(labeled + unlabeled) == [f"train{k}" for k in range(8)]
    assert (written.counts.labeled, written.counts.unlabeled, written.counts.masked) == (2, 6, 6)
    for name in ("labeled", "unlabeled"):
        digest = hashlib.sha256((tmp_path / f"{name}.txt").read_bytes()).hexdigest()
        assert getattr(written.digests, name) == digest
    assert Manifest.read(written.model_dump(mode="json"), "checkpoint") == written


def test_a_written_list_gives_the_same_split(spec: DataSpec, tmp_path: Path) -> None:
    split = split_of(spec, "3", seed=5)
    write(tmp_path, split)
    again = split_of(spec, str(tmp_path / "labeled.txt"))
    assert (again.labeled, again.unlabeled) == (split.labeled, split.unlabeled)


def test_differences_are_phrases(spec: DataSpec) -> None:
    two, three, other = (Manifest.of(split_of(spec, n, seed)) for n, seed in (("2", 0), ("3", 0), ("2", 1)))
    assert difference(two, two) == []
    added = sorted(set(three.labeled) - set(two.labeled))
    assert difference(two, three) == [f"2 labelled images, now 3, with {added[0]}", "6 unlabelled images, now 5"]
    texts = difference(two, other)
    assert texts[0] == "seed 0, now 1"
    assert texts[1].startswith("2 labelled images, now 2, without train")
    assert texts[2] == "6 unlabelled images, but not the same ones"
    everything = Manifest.of(split_of(spec, None))
    assert difference(two, everything)[0] == "labels chosen by 'random', now 'all'"
    assert "and 1 more" in difference(two, everything)[1]


def test_another_split_is_not_written_over(spec: DataSpec, tmp_path: Path) -> None:
    write(tmp_path, split_of(spec, "2"))
    write(tmp_path, split_of(spec, "2"))
    with pytest.raises(DataError, match="holds another split: 2 labelled images, now 3, with train"):
        write(tmp_path, split_of(spec, "3"))
    assert len((tmp_path / "labeled.txt").read_text().split()) == 2


def test_damage_is_told(spec: DataSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split\.json in .*; give a run folder"):
        load(tmp_path)
    write(tmp_path, split_of(spec, "2"))
    path = tmp_path / "split.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "labeled": ["train7"]}))
    with pytest.raises(DataError, match="is damaged: its list of labelled images does not fit its digest"):
        load(tmp_path)
    path.write_text(json.dumps({**raw, "seed": "0"}))
    with pytest.raises(DataError, match="is damaged: invalid type for key 'seed'"):
        load(tmp_path)
    for text in ("[1]", "{"):
        path.write_text(text)
        with pytest.raises(DataError, match="is damaged"):
            load(tmp_path)
