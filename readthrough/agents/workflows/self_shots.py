"""Self-shots: examples made from the text itself stand before the question, each pointing to its passage.

Source: Cattan et al., "Can Few-shot Work in Long-Context? Recycling the Context to Generate Demonstrations" (later
"DoubleDipper: Improving Long-Context LLMs via Context Recycling"), arXiv 2406.13632 (no authors' code found): questions
and answers are generated from some paragraphs of the context, which stands in the prompt once; each example names its
paragraph, and so does the model before it answers.

Differs from the paper: a text that is longer than `passage_tokens` is read in the passages that an index finds, and
the examples are about these. They are checked: the answer's words stand in the passage, and a scored choice says that
it answers the question. What was made of a passage is kept in the library. The passages are spread evenly where the
paper draws them at random. The model's own passage is a scored choice, not parsed. Whether the text says the answer is
decided without the examples. The paper's form is `passage_tokens` as large as the text, `check_above` and
`abstain_below` 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, Workflow, add_nodes, ledger
from readthrough.agents.reading.answering import Reply, answer_from, passages_material
from readthrough.agents.reading.concluding import Span, answer_cost, cut_all
from readthrough.agents.reading.finding import find_chunks
from readthrough.agents.reading.keeping import keep, kept
from readthrough.agents.reading.looking import look, stated_pairs, where
from readthrough.agents.reading.passages import as_data, in_reading_order, shown, within_budget
from readthrough.agents.reading.pointers import Cited, cited, point, sentence_at, sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Completion, Request
from readthrough.retrieval.facts import Fact, recipe_of
from readthrough.types import Answer, Chunk, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

PAIR = Prompt(
    """{text}

Write one short question that the text above answers, and its answer: a name, a number or a few words, copied from \
the text. Reply in JSON."""
)

EXAMPLES = Prompt(
    """{passages}

Here are questions about these passages, each with the passage that answers it, and the answer.

{examples}"""
)

EXAMPLE = """Question: {1}
Passage: [{0}]
Answer: {2}"""

PAIR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"question": {"type": "string", "maxLength": 200}, "answer": {"type": "string", "maxLength": 80}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}

_PAIR_TOKENS = 120
_WRITTEN_TOKENS = 40
_FRAME_TOKENS = 96
_LEAST_WORDS = 8
# So many passages are asked about for each example: not every pair passes.
_TRIED = 2
_CHECK_CALLS = 3


class State(TypedDict, total=False):
    """What travels between nodes: chunk ids, those that examples were made of, examples as their questions' places,
    signs, the reply's hash."""

    question: str
    choices: list[str] | None
    passages: list[int]
    whole: bool
    asked: list[int]
    examples: str
    reply: str
    spans: list[Cited]


@dataclass(frozen=True)
class SelfShots(Workflow):
    """Answers after examples that were made from the text's own passages, each with its place (arXiv 2406.13632).

    Attributes:
        index: the index that finds passages of a text that is longer than `passage_tokens`.
        k: how many chunks it is asked for.
        passage_tokens: the most tokens of text that are read; a shorter text is read whole.
        choice_tokens: the same for a multiple-choice question.
        shots: how many examples there are at most; 0 answers without.
        check_above: the probability that its passage states an example's answer, below which it is left out.
        abstain_below: the probability that the text states the answer, below which it is refused.
        quotes: the most sentences quoted as evidence.
    """

    name: ClassVar[str] = "self-shots"

    index: str = "hybrid"
    k: int = 24
    passage_tokens: int = 700
    choice_tokens: int = 1400
    shots: int = 3
    check_above: float = 0.5
    abstain_below: float = 0.5
    quotes: int = 3

    def __post_init__(self) -> None:
        if min(self.k, self.passage_tokens, self.choice_tokens) < 1 or self.shots < 0:
            raise ValueError("k, passage_tokens and choice_tokens must be at least 1, shots at least 0")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: find (the passages), shoot (make what examples are missing), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"find": self._find, "shoot": self._shoot, "answer": self._answer})
        graph.add_edge(START, "find")
        graph.add_edge("find", "shoot")
        graph.add_edge("shoot", "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    def sources(self) -> tuple[str, ...]:
        """This module, and that of what is kept."""
        return (*super().sources(), keep.__module__)

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes; passages that were found are retrieved, a text that was read whole is read."""
        reply = Reply.kept(services, state["reply"])
        pointers = [
            (sentence_at(services.shelf.document(name), start, end), supports)
            for name, start, end, supports in state.get("spans", [])
        ]
        passages = state.get("passages" if reply.reached else "asked", [])
        coverage = ledger(services, **{"read" if state.get("whole") else "retrieved": passages})
        return reply.to_answer(question, cut_all(services, pointers), coverage)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer after the examples that there are."""
        return self._reply(state, services, None) if state.get("passages") else super().finish_early(state, services)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer's calls."""
        return with_spare(self._answering(question, services))

    def estimate(self, question: Question, services: Services) -> Cost:
        """Examples of passages that have none yet, were all of them new; a look; the answer."""
        tokens = services.shelf.count_tokens(services.model)
        mean = sum(tokens.values()) // max(1, len(tokens))
        tried = min(_TRIED * self.shots, max(1, self._budget(question, services) // max(1, mean)), len(tokens))
        calls = tried * (1 + _CHECK_CALLS)
        making = Cost(calls, calls * (mean + _FRAME_TOKENS), tried * _WRITTEN_TOKENS)
        return making + self._answering(question, services)

    def _answering(self, question: Question, services: Services) -> Cost:
        tokens = sum(services.shelf.count_tokens(services.model).values())
        passages = min(self._budget(question, services), tokens) + self.shots * _WRITTEN_TOKENS
        return Cost(1, passages + _FRAME_TOKENS) + answer_cost(services, question, passages)

    def _budget(self, question: Question, services: Services) -> int:
        tokens = self.passage_tokens if question.choices is None else self.choice_tokens
        return min(tokens, services.model.window_tokens // 2)

    def _find(self, state: State, runtime: Runtime[Services]) -> State:
        """The whole text where it is short, else the passages that the index finds."""
        services, question = runtime.context, Question.of(state)
        shelf, budget = services.shelf, self._budget(question, services)
        tokens, ids = shelf.count_tokens(services.model), shelf.chunk_ids()
        if sum(tokens.values()) <= budget:
            return {"passages": ids, "whole": True}
        found = within_budget(find_chunks(shelf, question, self.index, self.k) or ids[: self.k], tokens, budget)
        if not found:
            raise PromptTooLongError(f"no passage fits {budget} tokens", hint="raise passage_tokens")
        services.emit(Event("find", len(found), len(found), "passages"))
        ordered = in_reading_order(shelf.get(found), shelf.document_ids())
        return {"passages": [chunk.id for chunk in ordered], "whole": False}

    def _shoot(self, state: State, runtime: Runtime[Services]) -> State:
        """Make a pair of each of some passages that has none yet, and choose the examples."""
        services = runtime.context
        passages = services.chunks(state["passages"])
        tried = _spread([chunk for chunk in passages if len(words(chunk.text)) >= _LEAST_WORDS], _TRIED * self.shots)
        recipe, places = self._recipe(services), _places(services, tried)
        known = kept(services, recipe)
        new = [chunk for chunk, place in zip(tried, places, strict=True) if place not in known]
        made = dict(zip(_places(services, new), self._make(services, new), strict=True))
        keep(services, recipe, made.items())
        known |= {place: tuple(facts) for place, facts in made.items()}
        numbers = {chunk.id: number for number, chunk in enumerate(passages, 1)}
        examples = [
            (numbers[chunk.id], fact.text, fact.elements[0])
            for chunk, place in zip(tried, places, strict=True)
            for fact in known[place]
        ]
        examples = sorted(examples[: self.shots])
        services.emit(Event("shoot", len(examples), self.shots, "examples", f"{len(new)} passages asked about"))
        return {"examples": services.put_json(examples), "asked": [chunk.id for chunk in new]}

    def _make(self, services: Services, passages: Sequence[Chunk]) -> list[list[Fact]]:
        """A question and its answer of each passage, as a fact; none where it does not pass the check."""
        texts = [as_data(text) for text in shown(passages, services.shelf)]
        asked = [Request.user(PAIR.format(text=text), max_tokens=_PAIR_TOKENS, schema=PAIR_SCHEMA) for text in texts]
        pairs = [_read(reply) for reply in services.complete(asked)]
        right = [
            at for at, pair in enumerate(pairs) if pair[0] and set(words(pair[1])) <= set(words(passages[at].text))
        ]
        stated = stated_pairs(services, [(texts[at], Question(pairs[at][0])) for at in right])
        facts: list[list[Fact]] = [[] for _ in passages]
        for at, probability in zip(right, stated, strict=True):
            services.decide("is it an example?", stated=probability, above=self.check_above)
            if probability >= self.check_above:
                question, answer = pairs[at]
                [(sentence, _)] = point(question, answer, sentences([passages[at]]), most=1)
                facts[at] = [Fact(question, (answer,), sentence.start, sentence.end)]
        return facts

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """Look whether the passages state the answer; point to the one that does, and answer."""
        services, question = runtime.context, Question.of(state)
        if question.choices is not None:
            return self._reply(state, services, None)
        material = passages_material(services, services.shelf.get(state["passages"]))
        stated = look(services, material, question).stated
        if stated < self.abstain_below:
            return {"reply": Reply.refused(stated).keep(services)}
        return self._reply(state, services, stated)

    def _reply(self, state: Mapping[str, Any], services: Services, stated: float | None) -> dict[str, Any]:
        """The answer after the examples, in their form: the passage is chosen, then the answer written."""
        question, passages = Question.of(state), services.shelf.get(state["passages"])
        material = passages_material(services, passages)
        examples = services.get_json(state["examples"]) if state.get("examples") else []
        if examples:
            listed = [EXAMPLE.format(number, as_data(asked), as_data(said)) for number, asked, said in examples]
            material = EXAMPLES.format(passages=material, examples="\n\n".join(listed))
        shares = where(services, material, question, len(passages))
        asked = question
        if question.choices is None:
            asked = Question(f"{question.text}\nPassage: [{shares.index(max(shares)) + 1}]")
        reply = answer_from(services, material, asked, stated)
        among = [sentences([passage]) for passage in passages]
        trust = [share for share, inside in zip(shares, among, strict=True) for _ in inside]
        every = [each for inside in among for each in inside]
        pointers = point(question.text, reply.said(question), every, self.quotes, trust)
        return {
            "reply": reply.keep(services),
            "spans": [cited(sentence, supports) for sentence, supports in pointers],
        }

    def _recipe(self, services: Services) -> str:
        return recipe_of(services.model, PAIR.format(text=""), PAIR_SCHEMA, self.check_above)


def _read(reply: Completion) -> tuple[str, str]:
    """The question and the answer of a reply; empty where it was cut, or says nothing."""
    if reply.finish == "length":
        return "", ""
    pair = json.loads(reply.text)
    question, answer = (" ".join(pair[name].split()) for name in ("question", "answer"))
    return (question, answer) if question and words(answer) else ("", "")


def _spread(passages: Sequence[Chunk], most: int) -> list[Chunk]:
    """`most` of the passages from all over them: every second of these first, the others are for where those fail."""
    count = min(most, len(passages))
    spread = [passages[at * len(passages) // count] for at in range(count)]
    return spread[::2] + spread[1::2]


def _places(services: Services, chunks: Sequence[Chunk]) -> list[Span]:
    numbers = {document: number for number, document in enumerate(services.shelf.document_ids())}
    return [(numbers[chunk.document], chunk.start, chunk.end) for chunk in chunks]
