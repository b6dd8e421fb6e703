"""Does a graph work? Every node is reached, ends, finds what it needs, and every loop has a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from readthrough.agents.nodes.base import ScanningNode
from readthrough.agents.spec.graph import END, Graph
from readthrough.catalogue import find, names
from readthrough.yaml_strict import YamlFile

Ways = Callable[[Graph, str], Mapping[str, str]]

_ALWAYS = frozenset({"question", "choices"})
_REPLY = "reply"


def check_graph(graph: Graph, file: YamlFile) -> None:
    """Raise what is wrong with a graph whose names are right.

    Raises:
        ConfigError: a node is never reached, or never ends; a loop has no bound; a node runs before what it needs
            is there; a way ends without an answer.
    """
    reached = {graph.first, *after(graph, graph.first)}
    for name in graph.nodes:
        if name not in reached:
            raise file.error(f"no way leads to the node {name!r}", "graph", "nodes", name, hint="add an edge to it")
    _check_ends(graph, file)
    looped = in_loops(graph)
    if looped and graph.rounds is None:
        loop = ", ".join(sorted(looped))
        branch = next(name for name in graph.nodes if name in looped and graph.nodes[name].outcomes)
        hint = "limits: {rounds: 4}"
        raise file.error(f"the loop over {loop} has no bound", "graph", "branch", branch, hint=hint)
    if graph.rounds is not None and not looped:
        hint = "a loop over `scan` ends with the text" if _bounded(graph) else "take it out"
        raise file.error("`rounds` bounds nothing here: there is no loop", "graph", "limits", "rounds", hint=hint)
    _check_needs(graph, file)


def unbounded(graph: Graph, name: str) -> dict[str, str]:
    """The ways out of a node, less those that the end of the text bounds."""
    bounded = graph.nodes[name].bounded
    return {outcome: target for outcome, target in graph.ways[name].items() if outcome not in bounded}


def in_loops(graph: Graph) -> set[str]:
    """The nodes of all loops that nothing bounds but `rounds`."""
    return {name for name in graph.nodes if name in after(graph, name, unbounded)}


def scan_of(graph: Graph, name: str) -> ScanningNode | None:
    """The node whose bounded ways lead over `name` and back to it, None where there is none."""
    for other, node in graph.nodes.items():
        if isinstance(node, ScanningNode) and name in after(graph, other) and other in after(graph, name):
            return node
    return None


def after(graph: Graph, name: str, ways: Ways | None = None) -> set[str]:
    """The nodes that can come after `name`, over all ways or over those that `ways` gives of a node."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        source = waiting.pop()
        for target in (graph.ways[source] if ways is None else ways(graph, source)).values():
            if target != END and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def distances(graph: Graph) -> dict[str, int]:
    """How many nodes lie on the shortest way from each node to the end, over ways that are open at any time."""
    found = {END: 0}
    while True:
        more = {
            name: 1 + min(found[target] for target in unbounded(graph, name).values() if target in found)
            for name in graph.nodes
            if name not in found and any(target in found for target in unbounded(graph, name).values())
        }
        if not more:
            return found
        found.update(more)


def _bounded(graph: Graph) -> bool:
    return any(node.bounded for node in graph.nodes.values())


def _check_ends(graph: Graph, file: YamlFile) -> None:
    ending = distances(graph)
    for name in graph.nodes:
        if name in ending:
            continue
        ways = "; ".join(f"{outcome or 'on'} to {target}" for outcome, target in graph.ways[name].items())
        hint = f"it leads {ways}" + ("; once the text has ended there is no `more`" if _bounded(graph) else "")
        raise file.error(f"no way leads from {name!r} to the end", "graph", "nodes", name, hint=hint)


def _check_needs(graph: Graph, file: YamlFile) -> None:
    there = _fields(graph)
    for name, node in graph.nodes.items():
        for group in node.needs:
            if not any(field in there[name] for field in group):
                wanted = " or ".join(group)
                hint = f"these give it: {', '.join(_giving(group))}"
                raise file.error(f"{name!r} may run before there are {wanted}", "graph", "nodes", name, hint=hint)
    for name, ways in graph.ways.items():
        if END in ways.values() and _REPLY not in there[name] | graph.nodes[name].gives:
            hint = f"these answer: {', '.join(_giving((_REPLY,)))}"
            raise file.error(f"the way over {name!r} ends without an answer", "graph", "nodes", name, hint=hint)


def _fields(graph: Graph) -> Mapping[str, frozenset[str]]:
    """The fields of the state that are there before each node, whichever way led to it."""
    everything = _ALWAYS.union(*(node.gives for node in graph.nodes.values()))
    there = dict.fromkeys(graph.nodes, everything)
    there[graph.first] = _ALWAYS
    changed = True
    while changed:
        changed = False
        for name, ways in graph.ways.items():
            after = there[name] | graph.nodes[name].gives
            for target in ways.values():
                if target != END and not there[target] <= after:
                    there[target] &= after
                    changed = True
    return there


def _giving(group: Iterable[str]) -> list[str]:
    return [name for name in names("nodes") if find("nodes", name).gives & set(group)]
