"""`readthrough schema`."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from readthrough.cli.flags import Common, command
from readthrough.cli.screen import Screen


@dataclass(frozen=True, kw_only=True)
class SchemaFlags(Common):
    """Flags of `schema`."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, SchemaFlags, "schema")(schema)


def schema(flags: SchemaFlags) -> None:
    """Print the JSON Schema of the YAML files, for editors."""
    from readthrough.agents.spec.schema import yaml_schema

    Screen(flags).json(yaml_schema())
