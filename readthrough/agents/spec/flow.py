"""From what a user asks for, a name, options, a YAML file, to a workflow and what it wants to be run with."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from readthrough.agents.base import Workflow
from readthrough.agents.reading.prompts import replacements
from readthrough.agents.spec.checking import check_graph
from readthrough.agents.spec.graph import read_graph
from readthrough.agents.spec.reading import at, mapping, part, unknown
from readthrough.agents.spec.workflow import GraphWorkflow
from readthrough.catalogue import names
from readthrough.errors import ReadthroughError, UsageError
from readthrough.spec import build, names_file
from readthrough.yaml_strict import YamlFile, read

KEYS = ("workflow", "graph", "model", "chunker", "index", "as_of", "prompts")
SETTINGS = ("model", "chunker", "index", "as_of")
INLINE = "graph"
"""The name of a graph that is in no file."""


@dataclass(frozen=True)
class Flow:
    """A workflow, and the settings (model, chunker, index, as_of) that its file wants for it."""

    workflow: Workflow
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Around:
    """What a file is read within.

    Attributes:
        index: the index where the file names none.
        given: the settings that the user gave with the question: they win over the file.
        options: options of the workflow that win over the file's.
    """

    index: str = "hybrid"
    given: Set[str] = frozenset()
    options: Mapping[str, Any] | None = None


def open_flow(spec: str | Mapping[str, Any], around: Around) -> Flow:
    """The workflow that `spec` names: a name of the catalogue, `{name: {option: value}}`, a YAML file, or the
    content of one as a mapping.

    Raises:
        UnknownNameError: no such workflow or option.
        ConfigError: the file cannot be used; `path` is `file:line`.
    """
    file = _file(spec)
    if file is not None:
        return read_flow(file, around)
    workflow: Workflow = build("workflows", spec, around.options, {"index": around.index})
    replacements(workflow)  # raises what is wrong with its prompts
    return Flow(workflow)


def read_flow(file: YamlFile, around: Around) -> Flow:
    """The workflow of a YAML file.

    Raises:
        ConfigError: something in it is wrong; `path` is `file:line`.
    """
    written = mapping(file, known=KEYS)
    if ("workflow" in written) == ("graph" in written):
        hint = "workflow: {retrieve: {k: 20}}, or graph: {nodes: ..., edges: ...}"
        raise file.error("a file has either the key `workflow` or the key `graph`", hint=hint)
    _check_settings(file, written)
    written = _without(written, around.given & frozenset(SETTINGS))
    written.setdefault("index", around.index)
    settings = {name: written[name] for name in SETTINGS if written.get(name) is not None}
    if "workflow" in written:
        return Flow(_built_in(file, written, around), settings)
    if around.options:
        raise UsageError(f"a graph has no option {next(iter(around.options))!r}", hint="options stand at its nodes")
    graph = read_graph(YamlFile(written, file.path, file.lines), written["index"])
    check_graph(graph, file)
    return Flow(GraphWorkflow(Path(file.path).name, graph, written), settings)


def _file(spec: str | Mapping[str, Any]) -> YamlFile | None:
    if isinstance(spec, str):
        return read(Path(spec).expanduser()) if names_file(spec) else None
    if len(spec) == 1:
        name, content = next(iter(spec.items()))
        if isinstance(content, Mapping) and "graph" in content:  # as the recipe of a run has it
            return YamlFile(dict(content), name)
    return YamlFile(dict(spec), INLINE) if "graph" in spec or "workflow" in spec else None


def _check_settings(file: YamlFile, written: Mapping[str, Any]) -> None:
    """Model, chunker, index and position, as far as can be said without opening them."""
    if not isinstance(written.get("as_of"), str | None):
        hint = "as_of: chapter 12, or another position in quotes"
        raise file.error(f"as_of = {written['as_of']!r:.60}: a position is text", "as_of", hint=hint)
    _check_model(file, written, "model")
    if "chunker" in written:
        from readthrough.documents.chunking import open_chunker

        try:
            open_chunker(written["chunker"])
        except ReadthroughError as error:
            raise at(file, error, "chunker") from error
    if "index" in written:
        _check_index(file, written["index"], "index")
    nodes = mapping(file, "graph", "nodes") if "graph" in written else {}
    for name, spec in nodes.items():
        if not isinstance(spec, Mapping):
            continue
        for kind, options in spec.items():
            if isinstance(options, Mapping):
                _check_model(file, options, "graph", "nodes", name, kind, "model")
                if "index" in options:
                    _check_index(file, options["index"], "graph", "nodes", name, kind, "index")


def _check_model(file: YamlFile, options: Mapping[str, Any], *keys: str) -> None:
    from readthrough.models.open import check_spec

    if options.get("model") is None:
        return
    try:
        check_spec(options["model"])
    except ReadthroughError as error:
        raise at(file, error, *keys) from error


def _check_index(file: YamlFile, index: object, *keys: str) -> None:
    if index not in names("indexes"):
        raise unknown(file, "index", str(index), names("indexes"), *keys)


def _without(written: Mapping[str, Any], given: Set[str]) -> dict[str, Any]:
    """The content of a file less the settings that were given: what its nodes or workflow say of them goes too."""
    left = {key: value for key, value in written.items() if key not in given}
    if "workflow" in left:
        left["workflow"] = _part_without(left["workflow"], given)
    nodes = left["graph"].get("nodes") if isinstance(left.get("graph"), Mapping) else None
    if isinstance(nodes, Mapping):
        left["graph"] = {**left["graph"], "nodes": {name: _part_without(spec, given) for name, spec in nodes.items()}}
    return left


def _part_without(spec: object, given: Set[str]) -> object:
    if not isinstance(spec, Mapping):
        return spec
    return {
        name: {key: value for key, value in options.items() if key not in given}
        if isinstance(options, Mapping)
        else options
        for name, options in spec.items()
    }


def _built_in(file: YamlFile, written: Mapping[str, Any], around: Around) -> Workflow:
    options = {**(around.options or {})}
    prompts = mapping(file, "prompts")
    for name, text in prompts.items():
        if not isinstance(text, str):
            raise file.error(f"the prompt {name!r} must be text, not {text!r:.60}", "prompts", name)
    spec = written["workflow"]
    if isinstance(spec, str):
        spec = {spec: {}}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, values = next(iter(spec.items()))
        if isinstance(values, Mapping | None):
            added = {**({"prompts": prompts} if prompts else {}), **options}
            spec = {name: {**(values or {}), **added}}
    workflow: Workflow = part(file, "workflows", spec, "workflow", defaults={"index": written["index"]})
    for name in prompts:
        try:
            replacements(replace(workflow, prompts={name: prompts[name]}))
        except ReadthroughError as error:
            raise at(file, error, "prompts", name) from error
    return workflow
