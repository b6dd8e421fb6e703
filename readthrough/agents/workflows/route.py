"""Route: decide step by step how to get at the text and what to do with it: retrieve, move on, or scan the whole.

Source: Qian et al., "Are Long-LLMs A Necessity For Long-Context Tasks?" (LC-Boost), arXiv 2405.15318 (no authors' code
found): a model works through short contexts; at each step it decides how to access the text (retrieve, the next
context, all of them) and how to use what it got (append, merge, aggregate, answer).

Differs from the paper: actions are scored choices, never parsed. With `decide="scored"` (the default) they follow from
what is known anyway: the question's words, and its likelihood under orders to write one of each kind, say whether the
whole text is needed; the look at what was read says whether that answers. So a question for one fact takes what
`retrieve` takes. Moving on reads what the index ranks next. What was read is kept as passages, not as a rewritten
summary: they are appended while there is room, then merged, which keeps those most probable to hold the answer. A scan
maps windows and aggregates their notes (`map-reduce`), of a long text the windows in which the index finds most.
`decide="chosen"` is the paper's form: the model is asked for each action, and moves on in reading order.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from readthrough.agents.base import Question, add_nodes
from readthrough.agents.reading.answering import log_average, passages_material
from readthrough.agents.reading.code import about_code
from readthrough.agents.reading.kinds import KINDS, wants_all
from readthrough.agents.reading.passages import within_budget
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.reading.queries import names_several, wants_quote
from readthrough.agents.reading.retelling import whole
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.map_reduce import MapReduce
from readthrough.agents.workflows.map_reduce import State as ScanState
from readthrough.agents.workflows.retrieve import Retrieve, ranking
from readthrough.agents.workflows.retrieve import State as RetrieveState
from readthrough.models.base import Request
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

ACCESS = Prompt(
    """Question: {question}

The answer has to be found in a long text, which can only be read in parts. What should be done first?
{options}
Answer with the letter of the best action."""
)

ACT = Prompt(
    """{material}

Question: {question}
What should be done next to answer the question?
{options}
Answer with the letter of the best action."""
)

# What the actions are called in a prompt.
ACTIONS = {
    "answer": "Answer: what was read is enough.",
    "find": "Retrieve: search for the passages that answer the question. Best where it asks for one fact.",
    "move": "Move on: read the next part of the text.",
    "scan": "Scan: read every part of the text. Best where the answer is spread over all of it.",
}

_LETTERS = "ABCD"
# A passage whose probability of holding the answer is this share of the best one's is kept when others are read.
_KEPT_SHARE = 0.5


class State(RetrieveState, ScanState, total=False):
    """What travels between nodes: the states of `retrieve` and `map-reduce`; the action, moves, the hash of what was
    read before."""

    action: str
    moves: int
    before: str


@dataclass(frozen=True)
class Route(Retrieve):
    """Decides how to read: retrieves for a fact, moves on where that is not enough, scans for lists and counts.

    The options are those of `retrieve`, and these.

    Attributes:
        decide: actions follow from scores (`scored`), or the model is asked for each (`chosen`).
        scan_above: the probability that the answer has to be gathered from the whole text, from which on it is scanned.
        scan_tokens: the most tokens of text that a scan reads; 0 for all.
        window_tokens: the most tokens of text that a scan reads at once.
        moves: how often more passages are read where those before do not state the answer.
        scan_abstain_below: the probability that what a scan noted states the answer, below which it is refused;
            `abstain_below` is for passages.
    """

    name: ClassVar[str] = "route"

    decide: Literal["scored", "chosen"] = "scored"
    scan_above: float = 0.5
    scan_tokens: int = 20_000
    window_tokens: int = 2000
    moves: int = 1
    scan_abstain_below: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moves < 0:
            raise ValueError(f"moves must not be negative, got {self.moves}")
        _ = self._scan  # its options are checked there

    def sources(self) -> tuple[str, ...]:
        """Those of `retrieve` and of `map-reduce`."""
        return tuple(dict.fromkeys((*super().sources(), Retrieve.__module__, *self._scan.sources())))

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: decide (after each step); those of `retrieve`; move; those of `map-reduce`."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        nodes = {"decide": self._decide, "find": self._find, "read": self._read, "weigh": self._weigh}
        last = {"answer": self._answer, "quote": self._quote, "abstain": self._abstain, "retell": self._retell}
        add_nodes(graph, {**nodes, "move": self._move, **last})
        actions: dict[Hashable, str] = {name: name for name in ("find", "weigh", "move", "answer", "abstain")}
        actions["scan"] = self._scan.add_to(graph)
        graph.add_edge(START, "decide")
        graph.add_conditional_edges("decide", _action, actions)
        graph.add_conditional_edges("find", self._after_find, ["read", "weigh", "retell", "abstain"])
        graph.add_conditional_edges("weigh", self._after_weigh, ["read", "quote"])
        for name in ("read", "move"):
            graph.add_edge(name, "decide")
        for name in last:
            graph.add_edge(name, END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes, of what was retrieved or scanned."""
        retrieved = [*state.get("passages", []), *_before(state, services)]
        if state.get("action") == "scan":
            found = [*state.get("found", []), *retrieved]
            return self._scan.conclude({**state, "found": found}, question, services)
        return super().conclude({**state, "passages": retrieved}, question, services)

    def finish_early(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """An answer from the notes of the scan, or from the passages so far."""
        if "plan" in state:
            return self._scan.finish_early(state, services)
        return super().finish_early(state, services)

    def last_step(self, question: Question, services: Services) -> Cost:
        """That of `retrieve`, or of a scan where there may be one."""
        costs = [super().last_step(question, services)]
        if self._may_scan(question, services):
            costs.append(self._scan.last_step(question, services))
        return max(costs, key=lambda cost: cost.tokens)

    def estimate(self, question: Question, services: Services) -> Cost:
        """That of a scan where there may be one (no model is asked whether there will be), else that of `retrieve`."""
        if not self._may_scan(question, services):
            return super().estimate(question, services)
        asked = services.count_tokens([question.text, *KINDS.values()])
        deciding = Cost(len(KINDS), len(KINDS) * (asked[0] + TEMPLATE_TOKENS) + sum(asked[1:]))
        return deciding + self._scan.estimate(question, services)

    @property
    def _scan(self) -> MapReduce:
        """How the whole text is read."""
        return MapReduce(
            most_tokens=self.scan_tokens,
            window_tokens=self.window_tokens,
            index=self.index,
            passage_tokens=self.passage_tokens,
            abstain_below=self.scan_abstain_below,
        )

    def _may_scan(self, question: Question, services: Services) -> bool:
        """Whether the question may be one to scan for; those that `retrieve` has a way of its own for are not."""
        if self.decide == "chosen":
            return True
        if question.choices is not None or not names_several(question.text) or wants_quote(question.text):
            return False
        return not about_code(services.shelf) and not whole(services, question, self.whole_tokens)

    def _decide(self, state: State, runtime: Runtime[Services]) -> State:
        """The next action; at first there is nothing to answer from."""
        services, question = runtime.context, Question.of(state)
        if self.decide == "chosen":
            action = self._chosen(state, services, question)
        elif "where" in state:
            action = self._after_read(state, runtime)
            action = "move" if action == "abstain" and self._unread(state, services) else action
        else:
            share = wants_all(services, question) if self._may_scan(question, services) else 0.0
            services.decide("does the answer need the whole text?", share=share)
            action = "scan" if share >= self.scan_above else "find"
        return {"action": action, "candidates": state.get("candidates", []), "weighed": state.get("weighed", {})}

    def _chosen(self, state: State, services: Services, question: Question) -> str:
        """The action that the model chooses; where it would answer from what does not say, none is left."""
        begun = "where" in state
        names = ["answer"] if begun else ["find"]
        names += ["move"] if self._unread(state, services) else []
        material = passages_material(services, services.shelf.get(state["passages"])) if begun else ""
        best = _choose(services, material, question, [*names, "scan"])
        refused = best == "answer" and question.choices is None and state["stated"] < self.abstain_below
        return "abstain" if refused else best

    def _unread(self, state: State, services: Services) -> list[int]:
        """What may be read next: what the index ranks next, or where the model chooses, the text in its order."""
        if state.get("moves", 0) >= self.moves:
            return []
        read = {*state.get("passages", []), *_before(state, services)}
        ranked: Sequence[int] = services.shelf.chunk_ids()
        if self.decide == "scored":
            ranked = list(dict.fromkeys([*ranking(state), *state["candidates"]]))
        return [chunk for chunk in ranked if chunk not in read]

    def _move(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        """Read on; of what was read before the passages stay that are most probable to hold the answer."""
        services, question = runtime.context, Question.of(state)
        passages, tokens = state.get("passages", []), services.shelf.count_tokens(services.model)
        shares = dict(zip(passages, state.get("where", []), strict=True))
        likely = sorted((chunk for chunk in passages if shares[chunk] >= _KEPT_SHARE), key=lambda chunk: -shares[chunk])
        kept = within_budget(likely, tokens, self._budget(services, question, passages) // 2)
        before = [*_before(state, services), *(chunk for chunk in passages if chunk not in kept)]
        now = self._passages(services, [*kept, *self._unread(state, services)], question)
        moves = state.get("moves", 0) + 1
        services.emit(Event("move", moves, self.moves, "moves"))
        return {**self._looked(services, question, now), "moves": moves, "before": services.put_json(before)}


def _choose(services: Services, material: str, question: Question, names: Sequence[str]) -> str:
    """The action that is chosen by letter, averaged over rotations: small models favour a letter."""
    prompt = ACT if material else ACCESS
    count = len(names) if "logits" in services.model.capabilities else 1
    orders = [[(place + shift) % len(names) for place in range(len(names))] for shift in range(count)]
    letters = _LETTERS[: len(names)]
    requests = []
    for order in orders:
        options = "\n".join(f"{letter}. {ACTIONS[names[at]]}" for letter, at in zip(letters, order, strict=True))
        requests.append(Request.user(prompt.format(material=material, question=question.with_choices, options=options)))
    scores = log_average(services.choose(requests, [list(letters)] * count), orders)
    return names[max(range(len(names)), key=scores.__getitem__)]


def _before(state: Mapping[str, Any], services: Services) -> list[int]:
    """The passages that were read and are not at hand any more."""
    return list(services.get_json(state["before"])) if "before" in state else []


def _action(state: State) -> str:
    return state["action"]
