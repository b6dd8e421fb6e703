"""Nodes of a graph whose work is noted in the run log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.config import get_config
from langgraph.runtime import Runtime

from readthrough.agents.runs.services import Services

_ONE_OF_MANY = "__pregel_push"
"""How LangGraph marks, in a task's path, those that a `Send` started."""


def noted(name: str, node: Callable[..., Any]) -> Callable[[Any, Runtime[Services]], Any]:
    """The node `(state, runtime) -> state` as one that notes each of its steps."""

    def step(state: Any, runtime: Runtime[Services]) -> Any:
        metadata = get_config()["metadata"]
        kind, place, *_ = metadata["langgraph_path"]
        label = f"{name} {place}" if kind == _ONE_OF_MANY else name  # one of many that run side by side
        with runtime.context.step(label, int(metadata["langgraph_step"])):
            return node(state, runtime)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = node.__doc__
    return step
