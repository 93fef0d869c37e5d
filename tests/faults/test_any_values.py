"""Configurations, descriptions of data, records and texts of any values: taken, or refused in words.

Where test_fuzz_configs.py starts commands, this asks the readers themselves, with many more values; hypothesis makes a
failing one small. The seed is fixed.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semikit.data import manifest
from semikit.data.label_spec import LabelSpec
from semikit.data.masked_images import DataSpec
from semikit.data.pair_spec import PairSpec
from semikit.data.spec import read_spec
from semikit.errors import SemikitError
from semikit.models.weights import metadata
from semikit.run.config import resolve
from semikit.run.recipes import parse_overrides
from semikit.settings import yaml_text
from tests.helpers import mutations

Changed = Callable[[st.DataObject, Any], Any]

TASKS = ("seg", "cd", "cls")
LENGTHS = [100, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
RECORD = {
    "family": "random",
    "seed": 0,
    "labeled": ["a", "b"],
    "counts": {"labeled": 2, "unlabeled": 3, "masked": 5},
    "digests": {"labeled": "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2", "unlabeled": "0" * 64},
    "shards": [{"name": "pool-0.tar", "size": 10240}],
}
WEIGHTS = {
    "task": "seg",
    "class_names": ["sky", "road"],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "palette": [[0, 0, 0], [255, 0, 0]],
    "crop": 518,
    "side": [360, 480],
    "best": {"model": "teacher", "value": 61.2},
}

texts = st.one_of(st.text(max_size=20), st.text(st.characters(), max_size=5), st.sampled_from(["${HOME}", "${", "1/0"]))
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), texts)
values = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=4)
    ),
    max_leaves=12,
)
yaml_like = st.lists(
    st.sampled_from([*"abc019 \n\t:-?[]{},&*!|>'\"%#~.é\x07", "<<", "- ", ": ", "!!", "---\n", "\n  "])
).map("".join)


@pytest.fixture
def changed() -> Changed:
    """The same values with one to three of them in place of others, dropped or added."""

    def changed(data: st.DataObject, raw: Any) -> Any:
        raw = copy.deepcopy(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            found = list(mutations.places(raw))
            if not found:
                break
            owner, key = data.draw(st.sampled_from(found))
            how = data.draw(st.sampled_from(["other", "other", "gone", "more"]))
            if how == "gone":
                del owner[key]
            elif how == "more" and isinstance(owner, dict):
                owner[data.draw(texts)] = data.draw(values)
            else:
                owner[key] = data.draw(values)
        return raw

    return changed


def tried(length: int, body: Callable[[st.DataObject], None]) -> None:
    """Try a property with so many draws."""
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    held = settings(max_examples=length, deadline=None, derandomize=True, database=None, suppress_health_check=quiet)
    held(given(st.data())(body))()


@contextmanager
def told() -> Iterator[None]:
    """What is refused is refused in words that can be printed."""
    said = "taken"
    try:
        yield
    except SemikitError as error:
        said = str(error)
    assert said.strip()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("task", TASKS)
def test_configurations(task: str, length: int, small: dict[str, tuple[ModuleType, Path]], changed: Changed) -> None:
    module, path = small[task]
    raw = module.raw(path)

    def body(data: st.DataObject) -> None:
        with told():
            config = resolve(changed(data, raw))
            again = resolve(yaml.safe_load(config.to_yaml()))
            assert again.to_yaml() == config.to_yaml(), "what is written is not what is read"

    tried(length, body)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("task", "kind"), [("seg", DataSpec), ("cd", PairSpec), ("cls", LabelSpec)])
def test_descriptions_of_data(
    task: str, kind: Any, length: int, small: dict[str, tuple[ModuleType, Path]], changed: Changed, tmp_path: Path
) -> None:
    raw = yaml.safe_load(small[task][1].read_text())

    def body(data: st.DataObject) -> None:
        text = yaml.safe_dump(changed(data, raw), allow_unicode=True)
        (tmp_path / "data.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
        with told():
            read_spec(kind, tmp_path / "data.yaml")

    tried(length, body)


@pytest.mark.parametrize("length", LENGTHS)
def test_records_of_splits(length: int, changed: Changed, tmp_path: Path) -> None:
    assert manifest.Manifest.read(RECORD, "split.json").labeled == ("a", "b")

    def body(data: st.DataObject) -> None:
        (tmp_path / "split.json").write_text(json.dumps(changed(data, RECORD), default=str))
        with told():
            manifest.load(tmp_path)

    tried(length, body)


@pytest.mark.parametrize("length", LENGTHS)
def test_records_of_weights(length: int, changed: Changed) -> None:
    assert metadata.checked(WEIGHTS, Path("best.safetensors")) == WEIGHTS

    def body(data: st.DataObject) -> None:
        with told():
            metadata.checked(changed(data, WEIGHTS), Path("best.safetensors"))

    tried(length, body)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("alphabet", [yaml_like, st.text(st.characters()), st.binary()], ids=["yaml", "text", "bytes"])
def test_texts(length: int, alphabet: st.SearchStrategy[str | bytes]) -> None:
    def body(data: st.DataObject) -> None:
        with told():
            yaml_text.parse(data.draw(alphabet), "some.yaml")

    tried(length, body)


@pytest.mark.parametrize("length", LENGTHS)
def test_overrides(length: int) -> None:
    def body(data: st.DataObject) -> None:
        keys = st.one_of(texts, st.sampled_from(["train.seed", "data", "method.name", "train..x", ".", "train.seed.x"]))
        with told():
            parse_overrides([f"{data.draw(keys)}={data.draw(st.one_of(texts, yaml_like))}" for _ in range(2)])

    tried(length, body)
