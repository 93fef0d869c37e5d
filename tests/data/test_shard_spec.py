from __future__ import annotations

from pathlib import Path

import pytest

from semikit.data.label_spec import LabelSpec
from semikit.data.masked_images import DataSpec, ImageFolder
from semikit.data.pair_spec import PairImages, PairSpec
from semikit.data.shards.pool_spec import Shards, expanded, pool_among
from semikit.data.spec import placed
from semikit.errors import ConfigError, DataError
from semikit.settings.messages import validate

SEG = {"train": {"images": "a"}, "val": {"images": "b"}, "classes": ["x", "y"]}


def test_one_pattern_or_a_list() -> None:
    assert Shards.model_validate({"shards": "a.tar"}).shards == ("a.tar",)
    assert Shards.model_validate({"shards": ["a.tar", "b.tar"]}).shards == ("a.tar", "b.tar")


def test_relative_paths_count_from_the_file_and_the_rest_stays() -> None:
    given = {**SEG, "unlabeled": {"shards": ["p/x-{0..3}.tar", "/y.tar", "pipe:cat z.tar", "https://h/q.tar"]}}
    spec = placed(validate(DataSpec, given, "data.yaml"), Path("/base"))
    (found,) = spec.unlabeled
    assert isinstance(found, Shards)
    assert found.shards == ("/base/p/x-{0..3}.tar", "/y.tar", "pipe:cat z.tar", "https://h/q.tar")
    assert validate(DataSpec, spec.model_dump(mode="json"), "again") == spec


def test_every_task_takes_folders_and_shards() -> None:
    pool = {"shards": "p.tar"}
    seg = validate(DataSpec, {**SEG, "unlabeled": [{"images": "c"}, pool]}, "y").unlabeled
    assert [type(entry) for entry in seg] == [ImageFolder, Shards]
    cd = validate(PairSpec, {"train": "t", "val": "v", "unlabeled": ["more", pool]}, "y").unlabeled
    assert [type(entry) for entry in cd] == [PairImages, Shards]
    cls = validate(LabelSpec, {"train": "t", "unlabeled": ["more", pool]}, "y").unlabeled
    assert (cls[0], type(cls[1])) == (Path("more"), Shards)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"shards": []}, "'unlabeled[0].shards': expected at least 1 entries"),
        ({"shards": 3}, "'unlabeled[0].shards[0]': expected text"),
        ({"shards": "a.tar", "shufle": 2}, "unknown key 'unlabeled[0].shufle'. Did you mean 'shuffle'?"),
        ({"shards": "a.tar", "shuffle": 0}, "'unlabeled[0].shuffle': expected greater than or equal to 1"),
        ({"shard": "a.tar"}, "unknown key 'unlabeled[0].shard'"),
    ],
)
def test_mistakes_are_told_of_the_entry_alone(entry: object, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(DataSpec, {**SEG, "unlabeled": entry}, "data.yaml")
    assert told in str(error.value)


def test_a_pool_stands_alone() -> None:
    pool, folder = Shards(shards=("a.tar",)), ImageFolder(images=Path("c"))
    assert pool_among((folder,)) == ((folder,), None)
    assert pool_among((pool,)) == ((), pool)
    with pytest.raises(ConfigError, match="shards stand beside folders"):
        pool_among((folder, pool))
    with pytest.raises(ConfigError, match="shards stand beside folders"):
        pool_among((pool,), ["more"])
    with pytest.raises(ConfigError, match="several entries of shards"):
        pool_among((pool, pool))


def test_braces_as_in_a_shell() -> None:
    assert expanded(["a-{08..11}.tar", "b.tar"]) == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar", "b.tar"]
    assert expanded(["pipe:cat {x,y}.tar"]) == ["pipe:cat x.tar", "pipe:cat y.tar"]
    assert expanded(["https://host/{a,b}/0.tar"]) == ["https://host/a/0.tar", "https://host/b/0.tar"]


def test_stars_are_files_sorted(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "odd[1].tar").touch()
    assert expanded([f"{tmp_path}/?.tar"]) == [f"{tmp_path}/a.tar", f"{tmp_path}/b.tar"]
    assert expanded([f"{tmp_path}/odd[1].tar"]) == [f"{tmp_path}/odd[1].tar"], "a file of that name"
    with pytest.raises(DataError, match="no file fits"):
        expanded([f"{tmp_path}/x*.tar"])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("p-{0..9999999999}.tar", "are 10000000000 files; at most 1000000"),
        ("p-{0..9999}-{0..9999}.tar", "are 100000000 files"),
        ("p-{0..3.tar", "Write them as pool-{000..999}.tar"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, told: str) -> None:
    with pytest.raises(DataError) as error:
        expanded([pattern])
    assert told in str(error.value)
