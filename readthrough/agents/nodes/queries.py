"""The model writes another search query for what is still missing.

Source: the probes of ComoRAG, arXiv 2508.10419, which ask for what was not explored yet.

Differs from the paper: one query a round, from the notes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from readthrough.agents.base import Question
from readthrough.agents.nodes.base import AskingNode
from readthrough.agents.nodes.material import material
from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.prompts import check
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.types import Cost

QUERY = """{material}

Question: {question}
The text above does not answer the question yet. These searches were made: {queries}
Write one other short search query that would find what is missing. Reply with the query alone."""

NOTHING_FOUND = "(nothing was found yet)"

_QUERY_TOKENS = 48


@dataclass(frozen=True)
class QueriesNode(AskingNode):
    """Writes the next search query, for what the notes do not say yet.

    Attributes:
        prompt: what it is told; `{material}`, `{question}` and `{queries}` (those so far) are filled in.
    """

    needs: ClassVar[tuple[tuple[str, ...], ...]] = (("notes", "passages"),)
    gives: ClassVar[frozenset[str]] = frozenset({"queries"})

    prompt: str = QUERY

    def __post_init__(self) -> None:
        check(self.prompt, QUERY)

    def work(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """Ask for a query; an empty or a known one leaves the question itself."""
        asked = services.get_json(state["queries"]) if "queries" in state else [state["question"]]
        shown = material(state, services)
        text = self.prompt.format(
            material=NOTHING_FOUND if shown is None else shown.text,
            question=state["question"],
            queries=as_data("; ".join(asked)),
        )
        reply = services.complete([Request.user(text, max_tokens=_QUERY_TOKENS, stop=("\n",))])[0].text
        query = reply.strip().strip("\"'“”` ")
        # A search that was made already would find nothing new that the question does not find as well.
        return {"queries": services.put_json([*asked, state["question"] if query in ("", *asked) else query])}

    def cost(self, question: Question, services: Services, shown_tokens: int) -> Cost:
        """One short call over the notes."""
        asked = sum(services.model.count_tokens([self.prompt, question.text]))
        return Cost(calls=1, prompt_tokens=shown_tokens + asked, completion_tokens=_QUERY_TOKENS)
