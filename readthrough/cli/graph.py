"""`readthrough graph check` and `readthrough graph draw`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from readthrough.catalogue import names
from readthrough.cli.flags import Common, command, complete
from readthrough.cli.screen import Screen
from readthrough.errors import UsageError
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.agents.spec.flow import Flow


@dataclass(frozen=True, kw_only=True)
class CheckFlags(Common):
    """Flags of `graph check`."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="The YAML file.", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class DrawFlags(Common):
    """Flags of `graph draw`."""

    graph: Annotated[
        str,
        typer.Argument(
            metavar="FILE|WORKFLOW",
            help="A YAML file, or a built-in workflow.",
            autocompletion=complete(lambda: names("workflows")),
            show_default=False,
        ),
    ]
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print Mermaid.")] = False
    png: Annotated[Path | None, typer.Option(metavar="OUT", help="Write a picture; needs Graphviz.")] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Graphs of your own, and the built-in ones.", no_args_is_help=True)
    command(group, CheckFlags, "check")(check)
    command(group, DrawFlags, "draw")(draw)
    app.add_typer(group, name="graph")


def check(flags: CheckFlags) -> None:
    """Check a YAML file without loading a model, and print what was understood."""
    from readthrough.agents.spec.drawing import draw_text, kinds, ways
    from readthrough.agents.spec.flow import Around, read_flow
    from readthrough.yaml_strict import read

    screen = Screen(flags)
    flow = read_flow(read(Path(flags.file).expanduser()), Around())
    nodes = kinds(flow.workflow)
    if flags.json:
        screen.json(
            {
                "schema": SCHEMA_VERSION,
                "file": flags.file,
                "workflow": flow.workflow.name,
                "settings": dict(flow.settings),
                "nodes": {name: {"kind": kind, "options": dict(options)} for name, (kind, options) in nodes.items()},
                "ways": [{"from": way.source, "to": way.target, "outcome": way.outcome} for way in ways(flow.workflow)],
            }
        )
        return
    screen.data(_heading(flags.file, flow, len(nodes)), style="bold")
    for name, value in flow.settings.items():
        screen.data(f"{name}: {value}")
    screen.data("")
    for line in draw_text(flow.workflow).splitlines():
        screen.data(line)


def draw(flags: DrawFlags) -> None:
    """Draw a graph: as text, as Mermaid, or as a picture."""
    from readthrough.agents.spec.drawing import draw_mermaid, draw_png, draw_text
    from readthrough.agents.spec.flow import Around, open_flow

    if flags.mermaid and flags.png is not None:
        raise UsageError("--mermaid and --png exclude each other")
    screen = Screen(flags)
    workflow = open_flow(flags.graph, Around()).workflow
    if flags.png is not None:
        draw_png(workflow, flags.png)
        screen.say(f"wrote {flags.png}")
        return
    drawn = draw_mermaid(workflow) if flags.mermaid else draw_text(workflow)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "workflow": workflow.name, "drawing": drawn})
        return
    for line in drawn.splitlines():
        screen.data(line.replace("\t", "    "))


def _heading(file: str, flow: Flow, nodes: int) -> str:
    from readthrough.agents.spec.workflow import GraphWorkflow

    if not isinstance(flow.workflow, GraphWorkflow):
        return f"{file} is right: the workflow {flow.workflow.name}"
    rounds = flow.workflow.graph.rounds
    bound = "" if rounds is None else f", at most {rounds} rounds"
    return f"{file} is right: a graph of {nodes} nodes{bound}"
