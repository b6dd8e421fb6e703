"""`readthrough library list|show|delete|size|prune`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="The library on disk: what was read and indexed.", no_args_is_help=True)
    app.add_typer(group, name="library")
