"""The tools that programs call: search, and asking a model; live ones, and those of a program that is run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.programs.texts import Place, Texts
from readthrough.errors import BudgetError
from readthrough.memory.runs import text_hash
from readthrough.models.base import Request
from readthrough.sandbox.programs import Tool, ToolError
from readthrough.types import Cost, Event

SEARCH, QUERY = "search", "llm_query_batched"

_MOST_HITS = 20
_NOT_ASKED = "(not asked: the budget is over)"

Call = tuple[str, dict[str, Any]]
"""A call that was made: the hash of the tool's name and of what it was given, and its `result` or `error`."""


class LiveTools:
    """The tools of one program over a shelf.

    Attributes:
        calls: every call so far, as a run that is resumed answers it again.
        shown: the places of the text that the model was shown.
    """

    def __init__(self, services: Services, texts: Texts, index: str, most_queries: int, query_tokens: int) -> None:
        """At most `most_queries` prompts are answered, in `query_tokens` each."""
        self.calls: list[Call] = []
        self.shown: list[Place] = []
        self._services, self._texts, self._index = services, texts, index
        self._queries_left, self._query_tokens = most_queries, query_tokens

    def tools(self) -> Mapping[str, Tool]:
        """The tools by name."""
        return {name: self._kept(name, tool) for name, tool in ((SEARCH, self._search), (QUERY, self._query))}

    def _kept(self, name: str, tool: Tool) -> Tool:
        def call(arguments: list[Any]) -> Any:
            try:
                result = tool(arguments)
            except ToolError as error:
                self.calls.append((_key(name, arguments), {"error": str(error)}))
                raise
            self.calls.append((_key(name, arguments), {"result": result}))
            return result

        return call

    def _search(self, arguments: list[Any]) -> list[tuple[str, int, int]]:
        """The passages that fit a query best, each with its place."""
        match arguments:
            case [str(query), int(k)] if query.strip():
                hits = self._services.shelf.search(query, max(1, min(k, _MOST_HITS)), self._index)
                places = [self._texts.place_of(hit.chunk) for hit in hits]
                return [(hit.chunk.text, *place) for hit, place in zip(hits, places, strict=True)]
        raise ToolError("search needs a query, which is a text, and a number")

    def _query(self, arguments: list[Any]) -> list[str]:
        """What the model replies to each of some prompts."""
        match arguments:
            case [[*prompts]] if prompts and all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
                return self._asked(prompts)
        raise ToolError("llm_query needs a prompt, which is a text")

    def _asked(self, prompts: Sequence[str]) -> list[str]:
        services = self._services
        if len(prompts) > self._queries_left:
            raise ToolError(f"too many prompts: {self._queries_left} more are allowed")
        sent = [as_data(prompt) for prompt in prompts]
        counted = [tokens + TEMPLATE_TOKENS for tokens in services.count_tokens(sent)]
        room = services.model.window_tokens - self._query_tokens
        if max(counted) > room:
            longest = max(prompts, key=len)
            fits = room * len(longest) // max(counted)
            raise ToolError(f"a prompt of {len(longest):,} characters is too long: at most about {fits:,} fit")
        self._queries_left -= len(prompts)
        replies: list[str] = []
        while len(replies) < len(prompts):
            left = sent[len(replies) :]
            fitting = services.budget.fitting(len(left), Cost(1, max(counted), self._query_tokens))
            requests = [Request.user(prompt, max_tokens=self._query_tokens) for prompt in left[:fitting]]
            try:
                replies += [completion.text.strip() for completion in services.complete(requests)]
            except BudgetError as error:
                if not replies:
                    raise ToolError("the budget allows no more calls of a model") from error
                replies += [_NOT_ASKED] * len(left)
                break
            services.emit(Event("query", len(replies), len(prompts), "prompts"))
        for prompt, reply in zip(prompts, replies, strict=True):
            self.shown += self._texts.shown_in(prompt) if reply != _NOT_ASKED else []
        return replies


class ReplayedTools:
    """The tools of a program that is run again: what it was answered the first time, and nothing else."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._answers: dict[str, list[dict[str, Any]]] = {}
        for call, answer in calls:
            self._answers.setdefault(call, []).append(answer)

    def tools(self) -> Mapping[str, Tool]:
        """The tools by name."""
        return {name: self._kept(name) for name in (SEARCH, QUERY)}

    def _kept(self, name: str) -> Tool:
        def call(arguments: list[Any]) -> Any:
            answers = self._answers.get(_key(name, arguments))
            if not answers:
                raise ToolError("run again, the program asks for something else")
            answer = answers.pop(0)
            if "error" in answer:
                raise ToolError(answer["error"])
            return answer["result"]

        return call


def _key(name: str, arguments: list[Any]) -> str:
    return text_hash(json.dumps([name, arguments]))
