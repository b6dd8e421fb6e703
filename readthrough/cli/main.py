"""The `readthrough` command: its subcommands, and how it ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from readthrough import __version__
from readthrough.cli import (
    ask,
    batch,
    chat,
    config,
    graph,
    index,
    library,
    listing,
    map,
    models,
    runs,
    schema,
    search,
    summarize,
    write,
)
from readthrough.cli import eval as evaluation
from readthrough.cli.guard import INTERRUPTED, report
from readthrough.errors import UsageError

app = typer.Typer(
    name="readthrough",
    help="Answers about texts longer than a model's window, offline, with verified evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    ask,
    chat,
    summarize,
    write,
    search,
    map,
    index,
    batch,
    library,
    runs,
    graph,
    evaluation,
    schema,
    models,
    listing,
    config,
):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"readthrough {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def run(arguments: list[str]) -> int:
    """Run the command line `arguments` and return the exit code."""
    try:
        return int(app(args=arguments, prog_name="readthrough", standalone_mode=False) or 0)
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        if not message:  # a group without a command has printed its help
            return UsageError.exit_code
        usage = UsageError(message, hint="readthrough COMMAND --help")
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        return report(usage, as_json="--json" in options)


def main() -> None:
    """The installed command."""
    sys.exit(run(sys.argv[1:]))
