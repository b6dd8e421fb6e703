"""What a run was made of: enough to run it again, and to say what has changed since."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

import readthrough

if TYPE_CHECKING:
    from readthrough.agents.base import Workflow
    from readthrough.memory.shelf import Shelf
    from readthrough.models.base import ModelBackend

_WHAT = {
    "readthrough": "the version of readthrough",
    "workflow": "the workflow or its options",
    "graph": "the workflow's graph or prompts",
    "model": "the model",
    "documents": "the documents",
    "chunks": "the library, where the documents were indexed anew",
}


def recipe(workflow: Workflow, model: ModelBackend, shelf: Shelf) -> dict[str, Any]:
    """Version, workflow, graph, model, documents and chunks of a run, as plain values."""
    return {
        "readthrough": readthrough.__version__,
        "workflow": {workflow.name: _plain(workflow.options())},
        "graph": _graph_hash(workflow),
        "model": model.identity,
        "documents": {entry.path: entry.id for entry in shelf.documents},
        "chunks": _hash([(chunk.id, chunk.start, chunk.end) for chunk in shelf.get(shelf.chunk_ids())]),
    }


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of a recipe is not as it was, in words."""
    found = []
    for key, what in _WHAT.items():
        if then.get(key) == now.get(key):
            continue
        if key == "documents":
            before, after = then.get(key) or {}, now.get(key) or {}
            paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
            found.append(f"{what} ({', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''})")
        elif key == "chunks" and any(each.startswith(_WHAT["documents"]) for each in found):
            continue  # said already
        elif key in ("model", "readthrough"):
            found.append(f"{what} (was {then.get(key)}, is {now.get(key)})")
        else:
            found.append(what)
    return found


def _graph_hash(workflow: Workflow) -> str:
    """Of the graph's nodes and edges, and of the module that holds its prompts and nodes."""
    drawn = workflow.build().get_graph()
    edges = sorted((edge.source, edge.target, bool(edge.conditional)) for edge in drawn.edges)
    module = sys.modules[type(workflow).__module__]
    return _hash([sorted(drawn.nodes), edges, inspect.getsource(module)])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()
