"""Reference pages as Markdown, from what the code itself says: commands, keys of the configuration, Python."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

import semikit
from semikit.cli.app import app
from semikit.registry import METHODS, TASKS
from semikit.run import recipes
from semikit.settings.base import Settings
from semikit.training.settings import OptimizerSettings, TrainSettings

_WORDS: Mapping[Any, str] = {
    **{int: "whole number", float: "number", str: "text", bool: "`true`, `false`"},
    **{Path: "path", type(None): "`null`"},
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def plain(text: str | None) -> str:
    """A docstring as Markdown in which only the backticks mean something, and words of tables."""
    parts = inspect.cleandoc(text or "").split("`")
    for i in range(0, len(parts), 2):
        for sign in ("*", "<", "_", "|", "["):
            parts[i] = parts[i].replace(sign, f"\\{sign}")
    return "`".join(part.replace("|", "\\|") if i % 2 else part for i, part in enumerate(parts))


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |"


def commands() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    lines = []
    for name, command in leaves(root, "semikit"):
        context = typer.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        text = re.sub(r"^(semikit .*)", r"`\1`", inspect.cleandoc(command.help), flags=re.MULTILINE)
        lines += [f"## {name}", "", plain(text), "", f"```text\n{usage}\n```", "", "| takes | |", "|---|---|"]
        for parameter in command.params:
            left, text = parameter.get_help_record(context) or (parameter.name, "")
            lines.append(row(f"`{left}`".replace("|", "\\|"), plain(text)))
        lines.append("")
    return "\n".join(lines)


def leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands of a group of commands, with their whole names."""
    for key, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, f"{name} {key}")
        else:
            yield f"{name} {key}", inner


@cache
def described(owner: type[Settings]) -> Mapping[str, str]:
    """Key -> the text below it in the class, its bases' included."""
    found: dict[str, str] = {}
    for part in reversed([part for part in owner.__mro__ if issubclass(part, Settings)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0].body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[field.target.id] = str(ast.literal_eval(text.value))
    return found


def allowed(annotation: Any, bounds: list[Any]) -> str:
    """What a key takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [b for extra in arguments[1:] for b in (extra.metadata if isinstance(extra, FieldInfo) else [])]
        return allowed(arguments[0], [*bounds, *inner])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(allowed(part, bounds) for part in arguments))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (tuple, list):
        return f"list of {allowed(arguments[0], [])}"
    if isinstance(annotation, type) and annotation in (int, float):
        limits = [f"{sign} {getattr(b, key):g}" for b in bounds for key, sign in _BOUNDS.items() if hasattr(b, key)]
        return " ".join([_WORDS[annotation], ", ".join(limits)]).strip()
    return _WORDS.get(annotation, "mapping")


def keys(owner: type[Settings], prefix: str) -> Iterator[tuple[str, FieldInfo, str]]:
    """Every key below `prefix` with its field and its description, those of groups behind their group."""
    for name, field in owner.model_fields.items():
        yield f"{prefix}.{name}", field, described(owner).get(name, "")
        for group in groups(field.annotation):
            yield from keys(group, f"{prefix}.{name}")


def groups(annotation: Any) -> Iterator[type[Settings]]:
    """The classes of settings that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from groups(part)


def default(field: FieldInfo, key: str, by_task: Mapping[str, Mapping[str, Any]]) -> str:
    """The value where nothing is given: of the class, and what recipes for one's own data say instead."""
    value = field.get_default(call_default_factory=True) if not field.is_required() else "required"
    if isinstance(value, Settings):
        return ""
    own = {task: shown(value if (raw := at(recipe, key)) is None else raw) for task, recipe in by_task.items()}
    if len(set(own.values())) <= 1:
        return f"`{next(iter(own.values()), shown(value))}`"
    return ", ".join(f"{task} `{text}`" for task, text in own.items())


def shown(value: Any) -> str:
    """As YAML has it."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def at(recipe: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None: it is not there."""
    for part in key.split("."):
        recipe = recipe.get(part) if isinstance(recipe, Mapping) else None
    return None if isinstance(recipe, Mapping) else recipe


def table(owner: type[Settings], prefix: str, tasks: list[str], only: Any = None) -> list[str]:
    """A table of keys."""
    by_task = {task: recipes.task_recipe(task) for task in tasks}
    lines = ["| key | default | takes | |", "|---|---|---|---|"]
    for key, field, text in keys(owner, prefix):
        if only is None or key.split(".")[1] in only:
            takes = allowed(field.annotation, field.metadata)
            lines.append(row(f"`{key}`", default(field, key, by_task), takes, plain(text)))
    return [*lines, ""]


def configuration() -> str:
    """Every key but those of the methods."""
    lines: list[str] = []
    by_owner: dict[tuple[str, type[Settings]], list[str]] = {}
    for section in ("Data", "Model", "Views", "Evaluate"):
        for task in ("seg", "cd", "cls"):
            by_owner.setdefault((section.lower(), getattr(TASKS.get(task), section)), []).append(task)
    for section, owner in (("optimizer", OptimizerSettings), ("train", TrainSettings)):
        by_owner[section, owner] = ["seg", "cd", "cls"]
    for (section, owner), tasks in by_owner.items():
        where = "" if len(tasks) == 3 else f" ({', '.join(tasks)})"
        lines += [f"## {section}{where}", "", plain(owner.__doc__), "", *table(owner, section, tasks)]
    return "\n".join(lines)


def shared(owner: type[Settings]) -> list[type[Settings]]:
    """The classes of settings that a method's settings extend, the most general first."""
    return [part for part in reversed(owner.__mro__) if issubclass(part, Settings) and part not in (Settings, owner)]


def settings_of(name: str) -> str:
    """The keys of a method that are its own, and where the others are; `shared`: those of several methods."""
    if name == "shared":
        parts = dict.fromkeys(part for known in METHODS.names() for part in shared(METHODS.get(known).Config))
        texts = [[f"### {part.__name__}", "", plain(part.__doc__), "", *own_table(part)] for part in parts]
        return "\n".join(line for text in texts for line in text)
    owner = METHODS.get(name).Config
    links = ", ".join(f"[{part.__name__}](#{part.__name__.lower()})" for part in shared(owner))
    lines = own_table(owner) if own_keys(owner) else []
    recipe = recipes.task_recipe("cls").get("methods", {}).get(name, {})
    if recipe:
        values = ", ".join(f"`{key}: {shown(value)}`" for key, value in recipe.items())
        lines += [f"Recipe for one's own images of one class: {values}.", ""]
    return "\n".join([plain(owner.__doc__), "", *lines, f"Further keys: {links}.", ""])


def own_keys(owner: type[Settings]) -> set[str]:
    """Those that the class itself declares."""
    return set(owner.model_fields) & set(inspect.get_annotations(owner))


def own_table(owner: type[Settings]) -> list[str]:
    """A table of these."""
    return table(owner, "method", [], own_keys(owner))


def python() -> str:
    """What `semikit.__all__` names: functions and classes with what is public of them."""
    lines: list[str] = []
    public = {name: getattr(semikit, name) for name in semikit.__all__}
    for name in sorted(public, key=lambda name: (inspect.isclass(public[name]), name.endswith("Error"), name)):
        thing = public[name]
        lines += [f"## {name}", "", *signature(name, thing), plain(thing.__doc__), ""]
        for key, member in vars(thing).items() if inspect.isclass(thing) else ():
            inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not key.startswith("_") and inspect.isfunction(inner):
                lines += [f"### {name}.{key}", "", *signature(key, member), plain(inner.__doc__), ""]
    return "\n".join(lines)


def signature(name: str, thing: Any) -> list[str]:
    """How it is called, as a block of code; of a property its type."""
    if isinstance(thing, property):
        return ["```python", f"{name}: {inspect.get_annotations(thing.fget)['return']}", "```", ""]
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return [f"Raised for exit code {thing.exit_code}.", ""]
    found = inspect.signature(getattr(thing, "__func__", thing))
    parts, keyword_only = [], False
    for key, parameter in found.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts, keyword_only = [*parts, "*"], True
        typed = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        parts.append(f"{key}{typed}" + ("" if parameter.default is parameter.empty else f" = {parameter.default!r}"))
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    text = f"{name}({', '.join(parts)}){result}"
    if len(text) > 100:
        text = "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){result}"])
    return ["```python", text, "```", ""]
