"""Nodes of a graph whose work is noted in the run log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.config import get_config
from langgraph.runtime import Runtime

from readthrough.agents.services import Services


def noted(name: str, node: Callable[..., Any]) -> Callable[[Any, Runtime[Services]], Any]:
    """The node `(state, runtime) -> state` as one that notes each of its steps."""

    def step(state: Any, runtime: Runtime[Services]) -> Any:
        number = int(get_config()["metadata"]["langgraph_step"])
        with runtime.context.step(name, number):
            return node(state, runtime)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = node.__doc__
    return step
