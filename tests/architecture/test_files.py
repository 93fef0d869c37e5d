"""Sizes and names of the source files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "semikit").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines of the body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def statements(function: Function) -> int:
    return sum(isinstance(node, ast.stmt) for part in function.body for node in ast.walk(part))


def test_files_fit_on_a_few_screens_and_functions_on_one() -> None:
    assert len(FILES) > 50
    assert [named(path) for path in FILES if len(path.read_text().splitlines()) > 400] == []
    long = {f"{named(path)}:{f.name}": body_lines(f) for path in FILES for f in functions(path) if body_lines(f) > 50}
    assert long == {}


def test_the_steps_of_the_methods_fit_in_a_glance() -> None:
    steps = [
        (path, function)
        for path in sorted((ROOT / "semikit/methods").glob("[!_]*.py"))
        for function in functions(path)
        if function.name in ("pseudo_labels", "forward", "after_step")
    ]
    assert len(steps) > 10
    assert {f"{named(path)}:{f.name}": statements(f) for path, f in steps if statements(f) > 25} == {}


def test_files_are_named_after_what_they_hold_and_say_what_it_is() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [named(path) for path in FILES if path.stem in vague] == []
    assert [named(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_nothing_is_left_to_do() -> None:
    words = ("TODO", "FIXME", "XXX", "Placeholder")
    assert [named(path) for path in FILES if any(word in path.read_text() for word in words)] == []


@pytest.mark.parametrize("name", ["tasks", "cli", "configs"])
def test_the_map_at_the_root_points_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert Path(link.readlink()) == Path("semikit") / name
    assert link.is_dir()


def test_nothing_imports_through_the_links() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("tasks", "cli", "configs")], path


def test_rasterio_and_its_like_are_imported_only_where_rasters_are_read() -> None:
    heavy = ("rasterio", "shapely", "pyproj", "pyogrio")
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [alias.name for node in top for alias in node.names] + [
            getattr(node, "module", "") or "" for node in top
        ]
        assert not [name for name in names if name.split(".")[0] in heavy], path


def test_tests_mirror_the_sources() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    extra = {"api", "benchmarks", "contracts", "properties", "parity", "architecture", "faults", "golden"}
    for folder in folders - {Path()}:
        assert folder.parts[0] in extra or (ROOT / "semikit" / folder).is_dir(), folder
