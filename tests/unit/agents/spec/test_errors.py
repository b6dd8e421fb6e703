"""What is wrong with a graph is said with its line and the nearest right name."""

from __future__ import annotations

import pytest

from readthrough.agents.spec.flow import Around, read_flow
from readthrough.errors import ConfigError
from readthrough.yaml_strict import parse

RIGHT = """graph:
  nodes:
    find: {retrieve: {k: 4}}
    read: reader
    check: {enough: {threshold: 0.7}}
    answer: manager
  edges:
    - start -> find
    - find -> read -> check
    - answer -> end
  branch:
    check: {enough: answer, more: find}
  limits: {rounds: 4}
"""
SCAN = """graph:
  nodes: {next: scan, look: gate, read: reader, answer: manager}
  edges: [start -> next, read -> next, answer -> end]
  branch:
    next: {more: look, done: answer}
    look: {matters: read, skip: next}
"""


def test_the_right_ones_are_right() -> None:
    for text in (RIGHT, SCAN):
        read_flow(parse(text, "own.yaml"), Around())


@pytest.mark.parametrize(
    ("change", "line", "message", "hint"),
    [
        # names
        (("find: {retrieve:", "find: {retreive:"), 3, "unknown node 'retreive'", "'retrieve'"),
        (("{k: 4}", "{kk: 4}"), 3, "unknown option of node 'retrieve' 'kk'", "'k'"),
        (("{k: 4}", "{k: 4, index: hybird}"), 3, "unknown index 'hybird'", "'hybrid'"),
        (("read: reader", "read: {reader: {model: smal}}"), 4, "unknown model 'smal'", "'small'"),
        (("- start -> find", "- start -> fnd"), 8, "unknown node 'fnd'", "'find'"),
        (("- answer -> end", "- answer -> ende"), 10, "unknown node 'ende'", "'end'"),
        (("more: find", "more: fin"), 12, "unknown node 'fin'", "'find'"),
        (("more: find", "mor: find"), 12, "unknown key under 'check' 'mor'", "'more'"),
        (("    check: {enough: answer", "    chekc: {enough: answer"), 12, "unknown node that chooses", "'check'"),
        (("branch:", "branches:"), 11, "unknown key under 'graph' 'branches'", "'branch'"),
        (("rounds: 4", "round: 4"), 13, "unknown key under 'limits' 'round'", "'rounds'"),
        (("graph:\n", "modle: small\ngraph:\n"), 1, "unknown key 'modle'", "'model'"),
        (("graph:\n", "index: bm52\ngraph:\n"), 1, "unknown index 'bm52'", "'bm25'"),
        (("graph:\n", "chunker: {tokens: {size: 9}}\ngraph:\n"), 1, "unknown option of chunker", "'size_tokens'"),
        (("graph:\n", "chunker: {tokens: {size_tokens: x}}\ngraph:\n"), 1, "tokens.size_tokens = 'x'", ""),
        (("graph:\n", "chunker: {tokens: {size_tokens: 0}}\ngraph:\n"), 1, "0 tokens", ""),
        (("graph:\n", "prompts: {raed: x}\ngraph:\n"), 1, "unknown node 'raed'", "'read'"),
        (("graph:\n", "prompts: {find: x}\ngraph:\n"), 1, "'find' has no prompt", ""),
        (("graph:\n", "prompts: {read: '{chunk} {question}'}\ngraph:\n"), 1, "leaves out {message}", ""),
        (("graph:\n", "workflow: retrieve\ngraph:\n"), 1, "either", ""),
        # values
        (("{k: 4}", "{k: many}"), 3, "retrieve.k = 'many'", ""),
        (("threshold: 0.7", "threshold: 7"), 5, "from 0 to 1", ""),
        (("read: reader", "read: [reader]"), 4, "expected a name", ""),
        (("read: reader", "read: {reader: {}, manager: {}}"), 4, "expected a name", ""),
        (("read: reader", "read: {router: {routes: {one: x}}}"), 4, "2 to 26 routes", ""),
        (("    read: reader", "    end: reader"), 4, "cannot be named 'end'", ""),
        (("    read: reader", "    '1 2': reader"), 4, "cannot be named '1 2'", ""),
        (("- answer -> end", "- answer end"), 10, "is no edge", "a -> b"),
        (("- answer -> end", "- {answer: end}"), 10, "is no edge", "a -> b"),
        (("more: find", "more: [find]"), 12, "is no name", ""),
        (("rounds: 4", "rounds: 0"), 13, "rounds = 0", ""),
        (("rounds: 4", "rounds: true"), 13, "rounds = True", ""),
        # ways
        (("- start -> find", "- start -> find\n    - start -> read"), 9, "the start has two edges", ""),
        (("- start -> find\n", "- start -> find\n    - find -> answer\n"), 10, "'find' has two edges", ""),
        (("    - start -> find\n", ""), 7, "no edge leads from the start", "start -> find"),
        (("    - answer -> end\n", ""), 6, "no edge leads on from 'answer'", "answer -> end"),
        (("- answer -> end", "- answer -> end\n    - check -> end"), 11, "'check' chooses its way", "branch"),
        (("branch:\n", "branch:\n    read: {done: check}\n"), 12, "'read' does not choose", "read -> ..."),
        (("enough: answer, more: find", "enough: answer"), 12, "nowhere where it chooses 'more'", "more: ..."),
        (("answer: manager\n", "answer: manager\n    spare: manager\n"), 7, "no edge leads on from 'spare'", ""),
        (
            ("answer: manager\n  edges:\n", "answer: manager\n    spare: manager\n  edges:\n    - spare -> end\n"),
            7,
            "no way leads to the node 'spare'",
            "",
        ),
        # loops
        (("  limits: {rounds: 4}\n", ""), 12, "the loop over check, find, read has no bound", "rounds: 4"),
        (("more: find", "more: answer"), 13, "there is no loop", ""),
        (("- answer -> end", "- answer -> find"), 3, "no way leads from 'find' to the end", ""),
        # fields
        (("- find -> read -> check", "- find -> check\n    - read -> find"), 4, "no way leads to the node 'read'", ""),
        (("- start -> find", "- start -> read"), 4, "'read' may run before there are passages", "retrieve, scan"),
        (("enough: answer, more: find", "enough: end, more: find"), 6, "no way leads to the node 'answer'", ""),
    ],
)
def test_a_graph_of_retrieving(change: tuple[str, str], line: int, message: str, hint: str) -> None:
    before, after = change
    assert RIGHT.count(before) == 1
    with pytest.raises(ConfigError) as caught:
        read_flow(parse(RIGHT.replace(before, after), "own.yaml"), Around())
    assert message in caught.value.message
    assert caught.value.path == f"own.yaml:{line}"
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("done: answer", "done: look"), 2, "no way leads to the node 'answer'"),
        (("{more: look, done: answer}", "{more: answer, done: look}"), 2, "no way leads from 'next' to the end"),
        (("skip: next", "skip: look"), 6, "the loop over look has no bound"),
        (("answer -> end]", "answer -> end]\n  limits: {rounds: 4}"), 4, "there is no loop"),
        (("done: answer", "done: end"), 2, "no way leads to the node 'answer'"),
        (("skip: next", "skip: end"), 2, "the way over 'look' ends without an answer"),
        (("start -> next, read -> next", "start -> look, read -> next"), 2, "may run before there are passages"),
        (("answer -> end", "answer -> next"), 2, "no way leads from 'next' to the end"),
    ],
)
def test_a_graph_of_scanning(change: tuple[str, str], line: int, message: str) -> None:
    before, after = change
    with pytest.raises(ConfigError) as caught:
        read_flow(parse(SCAN.replace(before, after), "own.yaml"), Around())
    assert message in caught.value.message
    assert caught.value.path == f"own.yaml:{line}"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("workflow: retreive", 1, "unknown workflow 'retreive'"),
        ("workflow:\n  retrieve:\n    kk: 4", 3, "unknown option of workflow 'retrieve' 'kk'"),
        ("workflow:\n  retrieve:\n    k: x", 3, "retrieve.k = 'x'"),
        ("workflow: retrieve\nprompts:\n  short-answr: x", 3, "unknown prompt of retrieve 'short-answr'"),
        ("workflow: retrieve\nprompts:\n  short-answer: 3", 3, "must be text"),
        ("workflow: {retrieve: 3}", 1, "expected a name"),
        ("workflow: 3", 1, "expected a name"),
    ],
)
def test_a_built_in(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_flow(parse(text, "own.yaml"), Around())
    assert message in str(caught.value)
    assert caught.value.path == f"own.yaml:{line}"
