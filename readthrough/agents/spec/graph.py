"""From the key `graph` of a YAML file to its nodes and ways, each name checked where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from readthrough.agents.nodes.base import Node
from readthrough.agents.spec.reading import mapping, part, unknown
from readthrough.errors import ConfigError
from readthrough.spec import options_of
from readthrough.yaml_strict import Keys, YamlFile

START, END = "start", "end"
KEYS = ("nodes", "edges", "branch", "limits")
LIMITS = ("rounds",)
MOST_NODES = 64
MOST_ROUNDS = 1_000

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_ONLY = ""
"""The outcome of a node that does not choose."""


@dataclass(frozen=True)
class Graph:
    """A graph as the user wrote it.

    Attributes:
        nodes: the nodes by name.
        first: the node that the start leads to.
        ways: for each node the node, or `end`, that each outcome leads to; one outcome, "", where it does not choose.
        rounds: how often each branch of a loop may choose; None where no loop needs a bound.
    """

    nodes: dict[str, Node]
    first: str
    ways: dict[str, dict[str, str]]
    rounds: int | None


def read_graph(file: YamlFile, index: str) -> Graph:
    """The graph of a file; `index` is the one that its nodes search where they name none.

    Raises:
        ConfigError: of an unknown or missing name, or a value that does not fit, with file and line.
    """
    mapping(file, "graph", known=KEYS)
    nodes = _nodes(file, index)
    ways: dict[str, dict[str, str]] = {name: {} for name in nodes}
    first: str | None = None
    for source, target, keys in _edges(file, nodes):
        if source == START:
            if first is not None:
                raise file.error(f"the start has two edges, to {first!r} and {target!r}", *keys)
            first = target
            continue
        if nodes[source].outcomes:
            chosen = ", ".join(nodes[source].outcomes)
            raise file.error(f"{source!r} chooses its way", *keys, hint=f"put it under `branch`: {chosen}")
        if ways[source]:
            hint = "only a node that chooses has more than one way, under `branch`"
            raise file.error(f"{source!r} has two edges, to {ways[source][_ONLY]!r} and {target!r}", *keys, hint=hint)
        ways[source][_ONLY] = target
    _branches(file, nodes, ways)
    if first is None:
        raise file.error("no edge leads from the start", "graph", "edges", hint=f"start -> {next(iter(nodes))}")
    for name, out in ways.items():
        if not out:
            raise file.error(f"no edge leads on from {name!r}", "graph", "nodes", name, hint=f"{name} -> end")
    return Graph(nodes, first, ways, _rounds(file))


def _nodes(file: YamlFile, index: str) -> dict[str, Node]:
    given = mapping(file, "graph", "nodes")
    prompts = mapping(file, "prompts")
    if not 1 <= len(given) <= MOST_NODES:
        raise file.error(f"a graph has 1 to {MOST_NODES} nodes, not {len(given)}", "graph", "nodes")
    for name in prompts:
        if name not in given:
            raise unknown(file, "node", name, given, "prompts", name)
    nodes: dict[str, Node] = {}
    for name, value in given.items():
        keys = ("graph", "nodes", name)
        if not _NAME.match(name) or name in (START, END):
            raise file.error(f"a node cannot be named {name!r}", *keys, hint="a letter, then letters, digits, - and _")
        node = part(file, "nodes", value, *keys, defaults={"index": index})
        if name in prompts:
            if "prompt" not in options_of(type(node)):
                raise file.error(f"the node {name!r} has no prompt", "prompts", name)
            node = _with_prompt(file, name, value, prompts[name], index)
        nodes[name] = node
    return nodes


def _with_prompt(file: YamlFile, name: str, value: Any, prompt: object, index: str) -> Node:
    kind, options = (value, {}) if isinstance(value, str) else next(iter(value.items()))
    if options and "prompt" in options:
        raise file.error(f"the node {name!r} has a prompt of its own", "prompts", name, hint="keep one of the two")
    try:
        node: Node = part(
            file, "nodes", {kind: {**(options or {}), "prompt": prompt}}, "graph", defaults={"index": index}
        )
    except ConfigError as error:
        raise file.error(error.message, "prompts", name, hint=error.hint) from error
    return node


def _edges(file: YamlFile, nodes: Mapping[str, Node]) -> list[tuple[str, str, Keys]]:
    """The edges, each with the keys of its place."""
    listed = mapping(file, "graph").get("edges", [])
    if not isinstance(listed, list):
        raise file.error("edges are a list", "graph", "edges", hint="edges: [start -> a, a -> end]")
    edges: list[tuple[str, str, Keys]] = []
    for number, text in enumerate(listed):
        keys = ("graph", "edges", number)
        names = [name.strip() for name in text.split("->")] if isinstance(text, str) else []
        if len(names) < 2 or not all(names):
            raise file.error(f"{text!r:.60} is no edge", *keys, hint="a -> b, or a chain a -> b -> c")
        for source, target in pairwise(names):
            _check_name(file, source, (START, *nodes), *keys)
            _check_name(file, target, (*nodes, END), *keys)
            edges.append((source, target, keys))
    return edges


def _branches(file: YamlFile, nodes: Mapping[str, Node], ways: dict[str, dict[str, str]]) -> None:
    choosing = [name for name, node in nodes.items() if node.outcomes]
    for name in mapping(file, "graph", "branch"):
        if name in nodes and name not in choosing:
            hint = f"an edge `{name} -> ...` leads on from it"
            raise file.error(f"{name!r} does not choose", "graph", "branch", name, hint=hint)
        if name not in nodes:
            raise unknown(file, "node that chooses", name, choosing, "graph", "branch", name)
    for name in choosing:
        keys = ("graph", "branch", name)
        outcomes = nodes[name].outcomes
        for outcome, target in mapping(file, *keys, known=outcomes).items():
            _check_name(file, target, (*nodes, END), *keys, outcome)
            ways[name][outcome] = target
        for outcome in outcomes:
            if outcome not in ways[name]:
                hint = f"branch: {{{name}: {{{', '.join(f'{each}: ...' for each in outcomes)}}}}}"
                raise file.error(f"{name!r} leads nowhere where it chooses {outcome!r}", *keys, hint=hint)


def _check_name(file: YamlFile, name: object, known: tuple[str, ...], *keys: str | int) -> None:
    if not isinstance(name, str):
        raise file.error(f"{name!r:.60} is no name of a node", *keys)
    if name not in known:
        raise unknown(file, "node", name, known, *keys)


def _rounds(file: YamlFile) -> int | None:
    limits = mapping(file, "graph", "limits", known=LIMITS)
    rounds = limits.get("rounds")
    if rounds is None:
        return None
    if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= MOST_ROUNDS:
        raise file.error(f"rounds = {rounds!r:.60}: a number from 1 to {MOST_ROUNDS}", "graph", "limits", "rounds")
    return rounds
