"""`readthrough config show`."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from readthrough.cli.flags import Asking, command
from readthrough.cli.screen import Screen
from readthrough.cli.session import overrides
from readthrough.types import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Asking):
    """Flags of `config show`."""


def show(flags: ShowFlags) -> None:
    """Print every setting, and where its value comes from."""
    from readthrough.config import load_settings

    screen = Screen(flags)
    loaded = load_settings(overrides(flags))
    values = loaded.settings.model_dump(mode="json")
    if flags.json:
        rows = {name: {"value": value, "origin": loaded.origins[name]} for name, value in values.items()}
        screen.json({"schema": SCHEMA_VERSION, "settings": rows})
    else:
        screen.table(
            [[name, "-" if value is None else str(value), loaded.origins[name]] for name, value in values.items()]
        )


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    group = typer.Typer(help="The settings.", no_args_is_help=True)
    command(group, ShowFlags, "show")(show)
    app.add_typer(group, name="config")
