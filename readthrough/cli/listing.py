"""`readthrough list KIND [NAME]`."""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from readthrough import catalogue
from readthrough.cli.flags import Common, command, complete
from readthrough.cli.screen import Screen
from readthrough.types import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class ListFlags(Common):
    """Flags of `list`."""

    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"One of: {', '.join(catalogue.points())}.",
            autocompletion=complete(catalogue.points),
            show_default=False,
        ),
    ]
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one with its options.", show_default=False)
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, ListFlags, "list")(list_parts)


def list_parts(flags: ListFlags) -> None:
    """List the parts of a kind (loaders, chunkers, indexes, models, workflows, ...), or one with its options."""
    screen = Screen(flags)
    if flags.name is not None:
        _show(flags.kind, flags.name, screen)
        return
    parts = {name: summary(_target(flags.kind, name)) for name in catalogue.names(flags.kind)}
    if flags.json:
        rows = [{"name": name, "summary": line} for name, line in parts.items()]
        screen.json({"schema": SCHEMA_VERSION, "kind": flags.kind, "parts": rows})
    else:
        screen.table([[name, line] for name, line in parts.items()])


def _show(kind: str, name: str, screen: Screen) -> None:
    """Print what a part does and its options: name, type, default, meaning."""
    from readthrough.spec import described

    part = catalogue.find(kind, name)
    about = inspect.cleandoc(part.__doc__ or "").partition("\n\nAttributes:")[0]
    said = described(part) if isinstance(part, type) else {}
    options = [
        {"name": field.name, "type": str(field.type), "default": _default(field), "about": said.get(field.name, "")}
        for field in (fields(part) if is_dataclass(part) else ())
        if field.init
    ]
    if screen.as_json:
        screen.json({"schema": SCHEMA_VERSION, "kind": kind, "name": name, "about": about, "options": options})
        return
    screen.data(about)
    for option in options:
        screen.data("")
        screen.data(f"{option['name']}: {option['type']} = {option['default']}", style="bold")
        screen.data(f"    {option['about']}")


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return "(required)" if field.default is MISSING else repr(field.default)


def _target(point: str, name: str) -> str:
    if name in catalogue.PARTS[point]:
        return catalogue.PARTS[point][name]
    return next(entry.value for entry in entry_points(group=f"readthrough.{point}") if entry.name == name)


def summary(target: str) -> str:
    """The first docstring line of `module:Class`, read from the source: importing it could take seconds, or fail."""
    module, _, attribute = target.partition(":")
    try:
        spec = find_spec(module)
    except ImportError as error:
        return f"(broken: {error})"
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return f"(broken: there is no module {module})"
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return f"(broken: {module} has no {attribute})"
