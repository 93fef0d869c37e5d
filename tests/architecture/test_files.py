"""Of the repository's form what neither ruff nor import-linter looks at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "semikit").rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines of the body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def statements(function: Function) -> int:
    return sum(isinstance(node, ast.stmt) for part in function.body for node in ast.walk(part))


def test_the_steps_of_the_methods_fit_in_a_glance() -> None:
    names = ("pseudo_labels", "forward", "after_step")
    paths = (ROOT / "semikit/methods").glob("[!_]*.py")
    steps = {(path, f.name): statements(f) for path in paths for f in functions(path) if f.name in names}
    assert len(steps) > 10
    assert {step: count for step, count in steps.items() if count > 25} == {}


def test_files_and_functions_are_short_and_named_after_what_they_hold() -> None:
    assert len(FILES) > 50
    assert [path for path in FILES if len(path.read_text().splitlines()) > 400] == []
    assert [(path, f.name) for path in FILES for f in functions(path) if body_lines(f) > 50] == []
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert [path for path in FILES if path.stem in vague] == []


def test_the_links_at_the_root_point_into_the_package() -> None:
    for name in ("tasks", "cli", "configs"):
        assert (ROOT / name).readlink() == Path("semikit") / name
        assert (ROOT / name).is_dir()


def test_tests_mirror_the_sources() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    extra = {
        "api",
        "benchmarks",
        "contracts",
        "properties",
        "parity",
        "architecture",
        "faults",
        "golden",
        "accelerator",
    }
    for folder in folders - {Path()}:
        assert folder.parts[0] in extra or (ROOT / "semikit" / folder).is_dir(), folder
