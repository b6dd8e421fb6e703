"""Retrieve: find passages by keywords and vectors, let the model weigh them, answer from those that count.

The default workflow. Passages are weighed by query likelihood, log p(question | passage) less log p(question):
Sachan et al., "Improving Passage Retrieval with Zero-Shot Question Generation", arXiv 2204.07496.

Differs from the paper: the question's own likelihood is taken off, so that one threshold serves all questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from langgraph.runtime import Runtime  # langgraph reads the annotations of branches

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply, answer_from, passages_material, reply_tokens
from readthrough.agents.reading.code import CODE_ANSWER, about_code, with_places
from readthrough.agents.reading.concluding import answer_cost
from readthrough.agents.reading.finding import find_chunks, weigh
from readthrough.agents.reading.kinds import SUB_QUESTION_TOKENS, find_for_parts
from readthrough.agents.reading.looking import look, where
from readthrough.agents.reading.passages import as_data, in_reading_order, unwrap, unwrapped, within_budget
from readthrough.agents.reading.pointers import Cited, cited, point, sentences
from readthrough.agents.reading.queries import wants_quote, without_instruction
from readthrough.agents.reading.quoting import best_sentences
from readthrough.agents.reading.retelling import retell, retelling_cost, whole
from readthrough.agents.reading.summarizing import Note
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.config import Spec
from readthrough.errors import PromptTooLongError
from readthrough.retrieval.base import Reranker
from readthrough.retrieval.reranking import Budget, rerank
from readthrough.retrieval.widening import distinct, ends_first, fill, widened
from readthrough.spec import build
from readthrough.types import Answer, Chunk, Cost, Event, Evidence

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph


# What instructions and the chat template take, how long a short answer gets, how many sentences a chunk has.
_FRAME_TOKENS = 64
_SENTENCES = 4
# By so many of the chunks that were found it is decided whether the question is about source code.
_LOOKED_AT = 10


class State(TypedDict, total=False):
    """What travels between nodes: chunk ids, their weights, decisions, the reply."""

    question: str
    choices: list[str] | None
    candidates: list[int]
    weighed: dict[int, float]
    passages: list[int]
    stated: float
    where: list[float]
    spans: list[Cited]
    reply: str


@dataclass(frozen=True)
class Retrieve(Workflow):
    """Finds passages, has the model weigh them, answers from them, and abstains when they do not say.

    Attributes:
        index: the index to search, by its name in the catalogue.
        k: how many chunks the index is asked for.
        whole_tokens: a question for a plot or a summary has the section that it names, or all texts, retold part by
            part, where these have no more tokens; 0 for never.
        passage_tokens: the most tokens of passages that the model reads at once.
        choice_tokens: the same for a multiple-choice question, where each option has passages of its own.
        code_tokens: the same where most of what is found is source code.
        parts: into how many simpler questions the model may take the question apart, to search for each; 0 for none.
        rerank: a reranker that orders the first `weigh` chunks anew before anything is read; None for none.
        neighbours: how many chunks before and after the best ones are read with them.
        parent_words: the most words of a section that is read whole with a chunk of it; 0 for none.
        definition_tokens: how many of the passages' tokens are for definitions that found source code uses or imports.
        sameness: how much it counts against a passage that it says what another says; 0 takes the best in any case.
        order: passages stand in reading order, or the best at both `ends` and the least in the middle.
        weigh: how many candidates are weighed by query likelihood, to quote from or for a second look.
        second_look: whether passages that do not say are followed by a look at the ones that weigh most.
        abstain_below: the probability that the passages state the answer, below which the answer is refused.
        quotes: the most sentences quoted as evidence.
        quote_passages: from how many passages these are taken.
    """

    name: ClassVar[str] = "retrieve"

    index: str = "hybrid"
    k: int = 40
    whole_tokens: int = 10_000
    passage_tokens: int = 700
    choice_tokens: int = 1400
    code_tokens: int = 2000
    parts: int = 0
    rerank: Spec | None = field(default=None, hash=False)
    neighbours: int = 0
    parent_words: int = 0
    definition_tokens: int = 0
    sameness: float = 0.0
    order: Literal["reading", "ends"] = "reading"
    weigh: int = 24
    second_look: bool = True
    abstain_below: float = 0.5
    quotes: int = 3
    quote_passages: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.sameness <= 1:
            raise ValueError(f"sameness must be from 0 to 1, got {self.sameness}")
        for name in ("parts", "definition_tokens", "whole_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.rerank is not None:
            self._reranker()

    def sources(self) -> tuple[str, ...]:
        """This module, and those of sub-questions, answers about source code, and plots."""
        return (
            *super().sources(),
            find_for_parts.__module__,
            about_code.__module__,
            retell.__module__,
            Note.__module__,
        )

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: find, read (look and decide), weigh (deeper, once), answer or quote or abstain; or retell."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"find": self._find, "read": self._read, "weigh": self._weigh}
        last = {"answer": self._answer, "quote": self._quote, "abstain": self._abstain, "retell": self._retell}
        add_nodes(graph, {**nodes, **last})
        graph.add_edge(START, "find")
        graph.add_conditional_edges("find", self._after_find, ["read", "weigh", "retell", "abstain"])
        graph.add_conditional_edges("read", self._after_read, ["weigh", "answer", "abstain"])
        graph.add_conditional_edges("weigh", self._after_weigh, ["read", "quote"])
        for name in last:
            graph.add_edge(name, END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes; what was weighed and not read is skipped, what was read is retrieved."""
        reply = Reply.kept(services, state["reply"])
        spans = [tuple(span) for span in state.get("spans", [])]
        documents = {document: services.shelf.document(document) for document, *_ in spans}
        evidence = tuple(
            Evidence.cut(documents[document], start, end, supports) for document, start, end, supports in spans
        )
        coverage = ledger(services, retrieved=state.get("passages", []), skipped=list(state.get("weighed", {})))
        return reply.to_answer(question, evidence, coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """An answer from the passages that were looked at last, or that were found first."""
        ranked = state.get("passages") or state.get("candidates")
        if not ranked:
            return super().finish_early(state, services)
        question = Question.of(state)
        passages = self._passages(services, ranked, question)
        reply = answer_from(services, passages_material(services, passages), question, state.get("stated"))
        pointers = point(question.text, reply.said(question), sentences(passages), self.quotes)
        return {
            "passages": [chunk.id for chunk in passages],
            "reply": reply.keep(services),
            "spans": [cited(sentence, supports) for sentence, supports in pointers],
        }

    def last_step(self, question: Question, services: Services) -> Cost:
        """One answer from the passages, as many as there may be: what is found may be the source code among texts."""
        passages = self._budget(services, question)
        if question.choices is not None:
            return answer_cost(services, question, passages)
        if any(entry.is_program for entry in services.shelf.documents):
            passages = max(passages, self._room(services, self.code_tokens))
        asked = services.count_tokens([question.text])[0] + _FRAME_TOKENS
        return with_spare(Cost(1, passages + asked, reply_tokens(question)))

    def estimate(self, question: Question, services: Services) -> Cost:
        """What finding takes, a look, and an answer; for a question that wants a quote, every candidate once."""
        if told := whole(services, question, self.whole_tokens):
            return retelling_cost(services, question, told)
        return self._finding(question, services) + self._answering(question, services)

    def _answering(self, question: Question, services: Services) -> Cost:
        asked = sum(services.model.count_tokens([question.text, *(question.choices or ())])) + _FRAME_TOKENS
        tokens = services.shelf.count_tokens(services.model)
        if self._quotes(question.to_state(), services):
            weighed = min(self.weigh, len(tokens))
            chunk = sum(tokens.values()) // max(1, len(tokens))
            sentences_read = self.quote_passages * _SENTENCES
            read = weighed * (chunk + asked) + sentences_read * (chunk // _SENTENCES + asked)
            return Cost(calls=weighed + 1 + 2 * sentences_read, prompt_tokens=read + sentences_read * asked)
        passages = min(self._budget(services, question), sum(tokens.values()))
        logits = "logits" in services.model.capabilities
        # The passages are read once: the calls over them share their beginning.
        if question.choices is not None:
            look = Cost(1, passages + asked, cached_tokens=passages if logits else 0)
            return look + answer_cost(services, question, passages)
        calls = 5 if logits else 3
        kept = (calls - 1) * passages if logits else 0
        return Cost(calls, calls * (passages + asked), reply_tokens(question), cached_tokens=kept)

    def _find(self, state: State, runtime: Runtime[Services]) -> State:
        services = runtime.context
        question = Question.of(state)
        if told := whole(services, question, self.whole_tokens):
            return {"candidates": [], "weighed": {}, "passages": told}
        if self.parts and question.choices is None:
            found = find_for_parts(services, question, self.index, self.k, self.parts)
        else:
            found = find_chunks(services.shelf, question, self.index, self.k)
        if self.rerank is not None:
            texts = self._texts(services, found)
            asked = without_instruction(question.text)
            found = [found[place] for place in rerank(self._reranker(), services, asked, texts, self._reranked)]
        services.emit(Event("find", len(found), len(found), "passages"))
        # no word of the question stands there: the model looks at the beginning, and says whether that says it
        return {"candidates": found or list(services.shelf.chunk_ids()[: self.k]), "weighed": {}}

    def _after_find(self, state: State, runtime: Runtime[Services]) -> str:
        if state.get("passages"):
            return "retell"
        if not state["candidates"] and not state.get("choices"):
            return "abstain"  # no word of the question stands in the texts, and no vectors were asked
        return "weigh" if self._quotes(state, runtime.context) else "read"

    def _quotes(self, state: Mapping[str, Any], services: Services) -> bool:
        return not state.get("choices") and wants_quote(state["question"]) and "logits" in services.model.capabilities

    def _read(self, state: State, runtime: Runtime[Services]) -> State:
        """Look at the best passages and decide whether they state the answer."""
        services = runtime.context
        question = Question.of(state)
        return self._looked(services, question, self._passages(services, ranking(state), question))

    def _looked(self, services: Services, question: Question, passages: Sequence[Chunk]) -> State:
        """Whether passages state the answer, and which of them."""
        material = passages_material(services, passages)
        ids = [chunk.id for chunk in passages]
        if question.choices is not None:  # one is taken in any case
            return {"passages": ids, "where": where(services, material, question, len(passages))}
        seen = look(services, material, question, len(passages))
        return {"passages": ids, "stated": seen.stated, "where": seen.where}

    def _after_read(self, state: State, runtime: Runtime[Services]) -> str:
        if state.get("choices") or state["stated"] >= self.abstain_below:
            return "answer"
        deeper = self.second_look and not state["weighed"] and "logits" in runtime.context.model.capabilities
        return "weigh" if deeper and len(state["candidates"]) > len(state["passages"]) else "abstain"

    def _weigh(self, state: State, runtime: Runtime[Services]) -> State:
        """Weigh the best candidates one by one by query likelihood."""
        services = runtime.context
        question = without_instruction(state["question"])
        return {"weighed": weigh(services, question, state["candidates"][: self.weigh])}

    def _after_weigh(self, state: State, runtime: Runtime[Services]) -> str:
        return "quote" if self._quotes(state, runtime.context) else "read"

    def _answer(self, state: State, runtime: Runtime[Services]) -> State:
        """Answer from the passages, then point at the sentences that the answer stands on."""
        services, question = runtime.context, Question.of(state)
        passages = services.chunks(state["passages"])
        material = passages_material(services, passages)
        code = question.choices is None and about_code(services.shelf, state["passages"])
        prompt = CODE_ANSWER if code else None
        reply = answer_from(services, material, question, stated=state.get("stated"), prompt=prompt)
        among = [sentences([passage]) for passage in passages]
        trust = [share for share, inside in zip(state["where"], among, strict=True) for _ in inside]
        every = [each for inside in among for each in inside]
        pointers = point(question.text, reply.said(question), every, self.quotes, trust)
        spans = [cited(sentence, supports) for sentence, supports in pointers]
        if code:
            reply, listed = with_places(services, reply, question, self._ranked(state, passages))
            spans += listed
        return {"reply": reply.keep(services), "spans": spans}

    def _quote(self, state: State, runtime: Runtime[Services]) -> State:
        """Answer with the text's own words: the sentence that is asked for."""
        services = runtime.context
        ranked = _heaviest(state["weighed"])[: self.quote_passages]
        passages = in_reading_order(services.shelf.get(ranked), services.shelf.document_ids())
        vectors = self.index != "bm25"
        best, confidence = best_sentences(services, state["question"], passages, 1, vectors)
        spans = [cited(sentence, [number]) for number, sentence in enumerate(best)]
        text = "\n".join(unwrap(services.shelf.document(document).text[start:end]) for document, start, end, _ in spans)
        reply = Reply(text, confidence) if best else Reply.refused()
        return {"reply": reply.keep(services), "spans": spans, "passages": ranked}

    def _retell(self, state: State, runtime: Runtime[Services]) -> State:
        """Retell a whole section, part by part."""
        services = runtime.context
        reply, pointers = retell(services, Question.of(state), state["passages"])
        return {"reply": reply.keep(services), "spans": [cited(sentence, supports) for sentence, supports in pointers]}

    def _abstain(self, state: State, runtime: Runtime[Services]) -> State:
        return {"reply": Reply.refused(state.get("stated")).keep(runtime.context), "spans": []}

    def _passages(self, services: Services, ranked: Sequence[int], question: Question) -> list[Chunk]:
        """The best chunks, their neighbours, what they rest on: as many as the budget holds, in reading order."""
        shelf, budget = services.shelf, self._budget(services, question, ranked[:_LOOKED_AT])
        tokens = shelf.count_tokens(services.model)
        ids = widened(shelf, ranked, self.neighbours, self.parent_words)
        room = min(self.definition_tokens, budget // 2)
        if self.sameness:
            ids = [ids[place] for place in distinct([chunk.text for chunk in shelf.get(ids)])]
            kept = fill(ids, tokens, shelf.vectors(ids), budget - room, self.sameness)
        else:
            kept = within_budget(ids, tokens, budget - room)
        if not kept:
            raise PromptTooLongError(
                f"no passage fits {budget} tokens",
                hint="raise passage_tokens, or index smaller chunks",
            )
        if room:
            kept = [*kept, *(hit.chunk.id for hit in shelf.rests_on(kept, room, services.count_tokens))]
        if self.order == "ends":
            return shelf.get(ends_first(kept))
        return in_reading_order(shelf.get(kept), shelf.document_ids())

    def _reranker(self) -> Reranker:
        made: Reranker = build("rerankers", self.rerank)
        return made

    @property
    def _reranked(self) -> Budget:
        return Budget(candidates=self.weigh)

    def _texts(self, services: Services, chunks: Sequence[int]) -> list[str]:
        """The texts of chunks as they may stand in a prompt."""
        return [as_data(text) for text in unwrapped(services.shelf.get(chunks), services.shelf)]

    def _finding(self, question: Question, services: Services) -> Cost:
        """What taking the question apart and reranking take, were the first chunks those that are found."""
        cost = Cost()
        if self.parts and question.choices is None:
            asked = services.count_tokens([question.text])[0] + _FRAME_TOKENS
            cost += Cost(1, asked, self.parts * SUB_QUESTION_TOKENS // 2)
        if self.rerank is not None:
            texts = self._texts(services, services.shelf.chunk_ids()[: self.weigh])
            cost += self._reranker().cost(services, question.text, texts)
        return cost

    def _budget(self, services: Services, question: Question, chunks: Sequence[int] | None = None) -> int:
        """Tokens of passages: the option for what was found (default: for the whole shelf), less where the model's
        window leaves less beside question and answer."""
        tokens = self.choice_tokens
        if question.choices is None:
            tokens = self.code_tokens if about_code(services.shelf, chunks) else self.passage_tokens
        return self._room(services, tokens)

    def _room(self, services: Services, tokens: int) -> int:
        return min(tokens, services.model.window_tokens // 2)

    def _ranked(self, state: Mapping[str, Any], passages: Sequence[Chunk]) -> list[Chunk]:
        """Passages in the order in which they were found."""
        places = {chunk: place for place, chunk in enumerate(ranking(state))}
        return sorted(passages, key=lambda chunk: places.get(chunk.id, len(places)))


def ranking(state: Mapping[str, Any]) -> list[int]:
    """The candidates by weight, where they were weighed, or as they were found."""
    return _heaviest(state["weighed"]) or list(state["candidates"])


def _heaviest(weighed: Mapping[int, float]) -> list[int]:
    return sorted(weighed, key=lambda chunk: -weighed[chunk])
