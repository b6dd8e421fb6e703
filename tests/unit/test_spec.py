from __future__ import annotations

from typing import Any

import pytest

from readthrough.errors import ConfigError, UnknownNameError
from readthrough.spec import build, split


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [("a", "a", {}), ({"a": {"k": 1}}, "a", {"k": 1}), ({"a": None}, "a", {}), ({"a": {}}, "a", {})],
)
def test_split(spec: object, name: str, options: dict[str, Any]) -> None:
    assert split(spec) == (name, options)


@pytest.mark.parametrize("spec", [None, 3, [], {}, {"a": {}, "b": {}}, {"a": 3}, {1: {}}])
def test_split_refuses(spec: object) -> None:
    with pytest.raises(ConfigError, match="expected a name"):
        split(spec, "workflow")


def test_who_wins() -> None:
    spec = {"chain-of-agents": {"message_tokens": 10}}
    defaults = {"window_tokens": 100, "message_tokens": 5, "unheard_of": 1}
    flow = build("workflows", spec, {"pointers": 3}, defaults)
    assert (flow.message_tokens, flow.pointers, flow.window_tokens) == (10, 3, 100)
    assert build("workflows", spec, {"message_tokens": 20}).message_tokens == 20


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'chain-of-agents'"):
        build("workflows", "chain-of-agent")
    with pytest.raises(UnknownNameError, match="unknown option of workflow 'chain-of-agents' 'window'"):
        build("workflows", {"chain-of-agents": {"window": 3}})
    with pytest.raises(ConfigError, match=r"chain-of-agents\.window_tokens = 'x'"):
        build("workflows", {"chain-of-agents": {"window_tokens": "x"}})
