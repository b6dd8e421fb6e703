"""A workflow's graph as lines of text, as Mermaid, and as a picture."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readthrough.agents.base import Workflow
from readthrough.agents.spec.graph import END, START
from readthrough.agents.spec.workflow import GraphWorkflow
from readthrough.errors import InputError, MissingExtraError
from readthrough.spec import split

_PICTURE_SECONDS = 60.0
_ENDS = {"__start__": START, "__end__": END}


@dataclass(frozen=True, slots=True)
class Way:
    """From a node to the next; `outcome` is what the node must choose for it, empty where it does not say."""

    source: str
    target: str
    outcome: str = ""


def ways(workflow: Workflow) -> list[Way]:
    """The ways of a workflow's graph, in the order of its nodes."""
    drawn = workflow.build().get_graph()
    order = {name: number for number, name in enumerate(drawn.nodes)}
    # A built-in may have a node of that name.
    ends = {drawn_as: name for drawn_as, name in _ENDS.items() if name not in drawn.nodes}
    found = [
        Way(ends.get(edge.source, edge.source), ends.get(edge.target, edge.target), str(edge.data or ""))
        for edge in sorted(drawn.edges, key=lambda edge: order[edge.source])
    ]
    return [Way(way.source, way.target, "" if way.outcome == way.target else way.outcome) for way in found]


def kinds(workflow: Workflow) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """What each node of a user's graph is, with the options it sets; empty for a built-in workflow."""
    if not isinstance(workflow, GraphWorkflow):
        return {}
    return {name: split(spec, "node") for name, spec in workflow.written["graph"]["nodes"].items()}


def draw_text(workflow: Workflow) -> str:
    """The graph as lines: node, what it is, where it leads."""
    described = {name: _described(kind, options) for name, (kind, options) in kinds(workflow).items()}
    rows = [
        (way.source, described.get(way.source, ""), f"{f'{way.outcome} ' if way.outcome else ''}-> {way.target}")
        for way in ways(workflow)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines, before = [], None
    for source, what, way in rows:
        shown = (source, what) if source != before else ("", "")
        cells = [cell.ljust(width) for cell, width in zip(shown, widths, strict=True) if width]
        lines.append("  ".join([*cells, way]).rstrip())
        before = source
    return "\n".join(lines)


def draw_mermaid(workflow: Workflow) -> str:
    """The graph in Mermaid's language."""
    return workflow.build().get_graph().draw_mermaid()


def draw_png(workflow: Workflow, path: Path) -> None:
    """The graph as a picture, drawn on this machine by Graphviz.

    Raises:
        MissingExtraError: Graphviz is not installed.
        InputError: the picture cannot be drawn or written.
    """
    program = shutil.which("dot")
    if program is None:
        hint = "install it, so that the command `dot` is found, or take --mermaid, which many editors draw"
        raise MissingExtraError("a picture needs Graphviz", hint=hint)
    described = {name: _described(kind, options) for name, (kind, options) in kinds(workflow).items()}
    found = ways(workflow)
    names = dict.fromkeys(name for way in found for name in (way.source, way.target))
    lines = [f"{json.dumps(name)} [label={json.dumps(_label(name, described))}];" for name in names]
    lines += [
        f"{json.dumps(way.source)} -> {json.dumps(way.target)} [label={json.dumps(way.outcome)}];" for way in found
    ]
    dot = "digraph {\nnode [shape=box, style=rounded];\n" + "\n".join(lines) + "\n}\n"
    try:
        done = subprocess.run(
            [program, "-Tpng", "-o", str(path)], input=dot.encode(), capture_output=True, timeout=_PICTURE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"Graphviz does not draw it: {error}", path=str(path)) from error
    if done.returncode != 0 or not path.is_file():
        said = done.stderr.decode(errors="replace").strip()
        raise InputError(f"Graphviz does not draw it: {said[:200]}", path=str(path))


def _described(kind: str, options: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name} {_short(value)}" for name, value in options.items())
    return f"{kind} ({shown})" if shown else kind


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "/".join(str(key) for key in value)
    text = " ".join(str(value).split())
    return text if len(text) <= 24 else f"{text[:21]}..."


def _label(name: str, described: Mapping[str, str]) -> str:
    return f"{name}\n{described[name]}" if name in described else name
