"""The JSON Schema fits what the parser takes, and drawings show every way."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from readthrough import catalogue
from readthrough.agents.spec.drawing import draw_mermaid, draw_png, draw_text, ways
from readthrough.agents.spec.flow import Around, open_flow
from readthrough.agents.spec.schema import yaml_schema
from readthrough.compression.plan import KEYS, Plan
from readthrough.compression.store import FORMS
from readthrough.errors import ConfigError, InputError, MissingExtraError
from readthrough.yaml_strict import parse, read

EXAMPLES = sorted((Path(__file__).parents[4] / "examples" / "graphs").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = yaml_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_satisfy_the_schema_and_the_parser(validator, path: Path) -> None:
    validator.validate(read(path).value)
    assert path.read_text(encoding="utf-8").startswith("# "), "a comment says what it is good for"
    assert "# Good for: " in path.read_text(encoding="utf-8")
    open_flow(str(path), Around())


def test_the_graph_of_the_readme(validator) -> None:
    readme = (EXAMPLES[0].parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "graph:" in block]
    assert blocks
    for block in blocks:
        value = parse(block).value
        validator.validate(value)
        open_flow(value, Around())


def test_plans(validator) -> None:
    readme = (EXAMPLES[0].parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "plan:" in block]
    shown = parse(block).value["model"]["local"]["plan"]
    parts = [{key: name} for key, (point, _) in KEYS.items() if point for name in catalogue.names(point)]
    parts += [{"store": form} for form in FORMS] + [{"store": {"int4": {"group": 64, "value_form": "int2"}}}]
    for plan in ["dense", shown, *parts]:
        validator.validate({"workflow": "retrieve", "model": {"local": {"name": "small", "plan": plan}}})
        Plan.of(plan)
    for plan in ("fast", {"selekt": "dense"}, {"keep": {"kvzip": {"ratio": 0.5}}}, {"store": "int3"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({"workflow": "retrieve", "model": {"local": {"name": "small", "plan": plan}}})
        with pytest.raises(ConfigError):
            Plan.of(plan)


GRAPH: dict[str, Any] = {"nodes": {"a": "manager"}, "edges": ["start -> a -> end"]}


@pytest.mark.parametrize("point", ["workflows", "nodes"])
def test_every_part_with_its_defaults_satisfies_the_schema(validator, point: str) -> None:
    for name in catalogue.names(point):
        part = {name: {"routes": {"x": "y", "z": "w"}} if name == "router" else {}}
        value = {"workflow": part} if point == "workflows" else {"graph": {**GRAPH, "nodes": {"a": part}}}
        validator.validate(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"workflow": "retreive"},
        {"workflow": "retrieve", "graph": GRAPH},
        {"workflow": {"retrieve": {"kk": 4}}},
        {"workflow": {"retrieve": {"k": "many"}}},
        {"workflow": {"retrieve": {}, "map-reduce": {}}},
        {"workflow": "retrieve", "modle": "small"},
        {"workflow": "retrieve", "index": "bm52"},
        {"workflow": "retrieve", "chunker": {"tokens": {"size": 3}}},
        {"workflow": "retrieve", "prompts": {"short-answer": 3}},
        {"graph": {**GRAPH, "edges": ["a b"]}},
        {"graph": {**GRAPH, "nodes": {"start": "manager"}}},
        {"graph": {**GRAPH, "nodes": {"a": "managr"}}},
        {"graph": {**GRAPH, "nodes": {"a": "router"}}},
        {"graph": {**GRAPH, "nodes": {"a": {"enough": {"threshold": "high"}}}}},
        {"graph": {**GRAPH, "limits": {"rounds": 0}}},
        {"graph": {"nodes": {"a": "manager"}}},
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(validator, value: dict[str, Any]) -> None:
    assert not validator.is_valid(value)
    with pytest.raises(ConfigError):
        open_flow(value, Around())


def test_options_are_described(validator) -> None:
    nodes = validator.schema["properties"]["graph"]["properties"]["nodes"]["additionalProperties"]
    options = nodes["anyOf"][1]["properties"]
    for name in catalogue.names("nodes"):
        schema = options[name]["anyOf"][0]
        assert schema["description"].endswith(".")
        for option, described in schema.get("properties", {}).items():
            assert described.get("description") or option in ("model",), f"{name}.{option} has no description"


@pytest.mark.parametrize("name", [*catalogue.names("workflows"), *map(str, EXAMPLES)])
def test_every_way_is_drawn(name: str) -> None:
    workflow = open_flow(name, Around()).workflow
    text, mermaid = draw_text(workflow), draw_mermaid(workflow)
    found = ways(workflow)
    assert len(text.splitlines()) == len(found)
    sources, targets = ({getattr(way, side) for way in found} for side in ("source", "target"))
    assert sources - targets <= {"start", "__start__"} and targets - sources == {"end"}
    for way in found:
        assert f"-> {way.target}" in text
        assert way.target in mermaid or way.target == "end"
        assert way.outcome in mermaid


def test_text_says_nodes_options_and_outcomes() -> None:
    path = next(path for path in EXAMPLES if path.stem == "search-again")
    assert draw_text(open_flow(str(path), Around()).workflow).splitlines() == [
        "start                              -> find",
        "find    retrieve (k 8)             -> read",
        "read    reader (notes_tokens 256)  -> check",
        "check   enough (threshold 0.6)     enough -> answer",
        "                                   more -> ask",
        "ask     queries                    -> find",
        "answer  manager                    -> end",
    ]


class TestPicture:
    """A picture is drawn by Graphviz, or not at all."""

    def test_without_graphviz(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(MissingExtraError, match="Graphviz"):
            draw_png(open_flow("retrieve", Around()).workflow, tmp_path / "out.png")

    @pytest.fixture
    def dot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A `dot` that writes what it was given, or fails for a file named `bad.png`."""
        program = tmp_path / "bin" / "dot"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\ncase "$3" in *bad.png) echo "no such font" >&2; exit 1;; esac\ncat > "$3"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return program

    def test_what_graphviz_is_given(self, tmp_path: Path, dot: Path) -> None:
        path = next(path for path in EXAMPLES if path.stem == "search-again")
        draw_png(open_flow(str(path), Around()).workflow, tmp_path / "out.png")
        given = (tmp_path / "out.png").read_text()
        assert given.startswith("digraph {") and given.count("{") == given.count("}")
        assert '"check" -> "ask" [label="more"];' in given
        assert 'label="find\\nretrieve (k 8)"' in given

    def test_graphviz_fails(self, tmp_path: Path, dot: Path) -> None:
        with pytest.raises(InputError, match="no such font"):
            draw_png(open_flow("retrieve", Around()).workflow, tmp_path / "bad.png")
