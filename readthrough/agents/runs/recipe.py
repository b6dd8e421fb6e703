"""What a run was made of: enough to run it again, and to say what has changed since."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import readthrough
from readthrough.errors import UsageError

if TYPE_CHECKING:
    from readthrough.agents.base import Question, Workflow
    from readthrough.config import Overrides, Settings
    from readthrough.memory.runs import Run
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


@dataclass(frozen=True, slots=True)
class Reopening:
    """How to read the texts of a run again, and the folder that its paths start from."""

    paths: tuple[str, ...]
    overrides: Overrides
    folder: str


def recipe(workflow: Workflow, model: ModelBackend, shelf: Shelf) -> dict[str, Any]:
    """Version, workflow, graph, model, documents and chunks of a run, as plain values."""
    return {
        "readthrough": readthrough.__version__,
        "workflow": {workflow.name: _plain(workflow.options())},
        "graph": _graph_hash(workflow),
        "model": model.identity,
        "documents": {entry.path: entry.id for entry in shelf.documents},
        "chunks": _hash(shelf.places()),
    }


def key_of(question: Question, made_of: dict[str, Any]) -> str:
    """What a run has in common with every other run of the same question over the same texts by the same means.

    `made_of` is its recipe with its `settings`. The same question is one that differs in spaces, in the case of its
    first letter, or in the mark at its end, and in nothing else.
    """
    text = " ".join(unicodedata.normalize("NFC", question.text).split()).rstrip("?!. ")
    asked = [text[:1].casefold() + text[1:], question.choices]
    return _hash([asked, {name: made_of.get(name) for name in _WHAT}, made_of.get("settings", {}).get("embedder")])


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


def to_reopen(settings: Settings, paths: Sequence[str], ready: bool) -> dict[str, Any]:
    """What to keep beside a recipe, so that the same texts can be read again by the same model; never a key.

    `ready`: the model was handed over as an object, and must be handed over again.
    """
    kept = settings.to_keep()
    if ready:
        del kept["model"]
    return {**kept, "paths": list(paths), "folder": str(Path.cwd())}


def reopening(run: Run, overrides: Overrides, piped: bool) -> Reopening:
    """How to read the texts of a run again; `overrides` win over what was kept. `piped`: standard input is there.

    Raises:
        UsageError: what is needed was not kept, or must be given again.
    """
    kept = dict(run.recipe.get("settings", {}))
    paths, folder = kept.pop("paths", None), kept.pop("folder", "")
    given = {**kept, **{name: value for name, value in overrides.items() if value is not None}}
    if not paths:
        raise UsageError(f"run {run.id} does not say what it read", hint="read it again, and call `Book.resume`")
    if "model" not in given:
        raise UsageError(
            f"run {run.id} was asked of a model that was handed over ready ({run.model})",
            hint="hand it over again: resume(run, model=...)",
        )
    if "-" in paths and not piped:
        raise UsageError(f"run {run.id} read standard input", hint="pipe the same text in again")
    return Reopening(tuple(paths), cast("Overrides", given), folder)


def _graph_hash(workflow: Workflow) -> str:
    """Of the graph's nodes and edges, and of the modules that hold its prompts and nodes."""
    drawn = workflow.build().get_graph()
    edges = sorted((edge.source, edge.target, bool(edge.conditional)) for edge in drawn.edges)
    sources = [inspect.getsource(sys.modules[module]) for module in workflow.sources()]
    return _hash([sorted(drawn.nodes), edges, *sources])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()
