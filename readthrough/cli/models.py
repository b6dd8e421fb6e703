"""`readthrough models list|show|pull`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.flags import Common, command
from readthrough.cli.screen import Screen
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.models.weights import ModelInfo


@dataclass(frozen=True, kw_only=True)
class ListFlags(Common):
    """Flags of `models list`."""


@dataclass(frozen=True, kw_only=True)
class ModelFlags(Common):
    """Flags of `models show` and `models pull`."""

    name: Annotated[str, typer.Argument(metavar="MODEL", help="Its name, or default or small.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="The models that come with readthrough.", no_args_is_help=True)
    command(group, ListFlags, "list")(list_all)
    command(group, ModelFlags, "show")(show)
    command(group, ModelFlags, "pull")(pull)
    app.add_typer(group, name="models")


def list_all(flags: ListFlags) -> None:
    """List the models that come as Python packages, and what is there of each."""
    from readthrough.models.weights import list_models

    screen = Screen(flags)
    models = list_models()
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "models": [_row(model) for model in models]})
        return
    screen.table([[model.name, model.task, f"{model.bytes / 1e6:,.0f} MB", _state(model)] for model in models])
    screen.say("any other model: a folder, a hub id (owner/name), or openai:MODEL@URL")


def show(flags: ModelFlags) -> None:
    """Show where a model's weights come from, their licence, size and pinned hash."""
    from readthrough.models.weights import info

    screen = Screen(flags)
    model = info(flags.name)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "model": _row(model)})
    else:
        row = {**_row(model), "packages": f"{model.packages[0]} .. {model.packages[-1]} ({len(model.packages)})"}
        screen.table([[name, "-" if value is None else str(value)] for name, value in row.items()])


def pull(flags: ModelFlags) -> None:
    """Make a model ready now: join, check and convert embedded weights, or fetch a hub id."""
    from readthrough.models.weights import resolve

    screen = Screen(flags)
    with screen.progress():
        folder = resolve(flags.name, screen.on_event)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "model": flags.name, "path": str(folder)})
    else:
        screen.data(str(folder))


def _row(model: ModelInfo) -> dict[str, Any]:
    return {**asdict(model), "packages": list(model.packages), "path": None if model.path is None else str(model.path)}


def _state(model: ModelInfo) -> str:
    if not model.installed:
        return "not installed"
    return "ready" if model.path is not None else "installed, converted on first use"
