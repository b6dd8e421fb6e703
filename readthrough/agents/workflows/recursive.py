"""Recursive language model: the model never sees the text, it writes small programs that look into it.

Source: Zhang, Kraska and Khattab, "Recursive Language Models", arXiv 2512.24601 (alexzhang13/rlm): a Python session
that holds the text and functions which ask a model; programs are written until one gives the answer, at most 30;
what they print is cut at 20,000 characters. An independent run of the authors' library did not reproduce their numbers
(redvice.org/2026/rlms-dont-work), and they trained an 8B model on filtered runs to make it usable.

Differs from the paper: programs run in a process without files, network, other processes or more than their memory
and time (`readthrough.sandbox`), where theirs run in the caller's; where such a process can't be had the workflow
refuses. A session is made anew for each program, and the programs before it are run again with the answers they got:
a resumed run does nothing else. Prompts are short, and the worked example is run on the question itself as the first
program. Sub-calls ask a model and do not write programs of their own (their `max_depth` 1, as in all of their runs).
Evidence and coverage are what of the text stood word for word in a prompt. Small models write poor programs: after
`failures` in a row there are no more, and an answer that what the programs printed does not state is not taken; it
is then written from passages of the source and what was printed (`reading.grounding`). The paper's form is
`iterations` 30, `first_search` False, `trust_above`, `passage_tokens` and `abstain_below` 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from readthrough.agents.base import Question, add_nodes, ledger
from readthrough.agents.reading.answering import Reply
from readthrough.agents.reading.concluding import Span, answer_cost, from_spans, quotes_for, to_spans
from readthrough.agents.reading.grounding import Grounded, Notes, spans_of
from readthrough.agents.reading.looking import look
from readthrough.agents.reading.passages import as_data
from readthrough.agents.reading.pointers import point, sentences
from readthrough.agents.reading.prompts import TEMPLATE_TOKENS, Prompt
from readthrough.agents.runs.budget import with_spare
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.memory_agent import asked
from readthrough.agents.workflows.programs.program import FENCE, Program, program_in, run_again
from readthrough.agents.workflows.programs.texts import Place, Texts
from readthrough.agents.workflows.programs.tools import LiveTools
from readthrough.errors import PromptTooLongError
from readthrough.models.base import Request
from readthrough.sandbox.programs import SESSION_MODULE, Outcome, ProgramLimits, ProgramSession
from readthrough.types import Answer, Cost, Event

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

WRITE = Prompt(
    """A long text is in the Python variable `context`, a str of {characters} characters ({documents}). You cannot see \
it. Write short Python programs that find the answer to a question in it. You see what they print.

What programs can use:
search(query, k=5)  # the k passages of the text that fit a query best, each a str
find(pattern, most=20)  # the places of the text that match a regular expression, each a str
len(re.findall(pattern, context))  # how often something stands in the text
llm_query(prompt)  # asks a language model; it sees nothing but the prompt, so put passages into it
llm_query_batched(prompts)  # the same for a list of prompts
answer(text)  # gives the answer

Question: {question}
{history}
{order} Write nothing but Python."""
)

BEGIN = Prompt("Write the first program.")
CHECK = Prompt(
    "Write a program that checks this in another way: it prints what find has for a name or word of the question, or "
    "counts with re.findall where it asks how many."
)
GO_ON = Prompt(
    'Write `answer("...")` with the answer to the question, where a program has printed it; else another program, that '
    "looks elsewhere or in another way."
)
UNPRINTED = "no program has printed that answer: find it in the text"

FIRST = """question = {question!r}
passages = search(question)
print(llm_query("\\n\\n".join(passages) + "\\n\\n" + question + "\\nAnswer in as few words as possible."))"""

PROGRAM = Prompt(
    """
Program {number}:
```python
{source}
```
It printed:
{output}
"""
)

PRINTED = Prompt(
    """Programs were run over a long text. This is what they printed:

{printed}"""
)

NOTES = Prompt(
    """Question: {question}

Programs were run over a long text for this question. This is what they printed:

{notes}"""
)

GIVEN = "The answer that was found: {answer}"

# Of what was printed last: this is read for the answer, beside passages.
_NOTES_CHARACTERS = 3_000
_NAMED_DOCUMENTS = 5
# What was seen of the small models: how many programs they write, and what these and their prompts take.
_LIKELY_PROGRAMS = 3
_LIKELY_PROGRAM_TOKENS = 60
_LIKELY_QUERY_TOKENS = 800
_CHARACTERS_A_TOKEN = 3


class State(TypedDict, total=False):
    """What travels between nodes: the hash of the list of the programs' hashes and of the places that were shown;
    how many programs there are, and how many in a row failed; the reply's hash."""

    question: str
    choices: list[str] | None
    programs: str
    shown: str
    at: int
    failed: int
    answered: bool
    found: list[int]
    reply: str


@dataclass(frozen=True)
class Recursive(Grounded):
    """Writes small programs that look into the text, and runs them in a sandbox (RLM, arXiv 2512.24601).

    Attributes:
        iterations: the most programs.
        failures: after so many in a row that fail, print nothing, or were written before, there are no more.
        first_search: whether the first program is given: it asks about what a search for the question finds.
        trust_above: the probability that what was printed states the program's answer, below which the answer is
            written from passages and what was printed; 0 takes it as it is.
        program_tokens: the most tokens of a program.
        query_tokens: the most tokens of a reply to a prompt of a program.
        queries: the most prompts of a program.
        output_characters: how much is shown of what a program prints.
        program_seconds: how long a program may compute.
        memory_bytes: the memory that it may use beside the text.
        pointers: the most sentences of what was shown that passages are found by.
    """

    name: ClassVar[str] = "recursive"

    iterations: int = 6
    failures: int = 2
    first_search: bool = True
    trust_above: float = 0.5
    program_tokens: int = 384
    query_tokens: int = 192
    queries: int = 32
    output_characters: int = 2000
    program_seconds: float = 10.0
    memory_bytes: int = 256 << 20
    pointers: int = 12

    def __post_init__(self) -> None:
        for name in ("iterations", "failures", "queries", "output_characters", "program_seconds", "memory_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def build(self) -> CompiledStateGraph[Any, Services, Any, Any]:
        """Nodes: start (whether programs can be run safely; the first one), program (write one, run it), answer."""
        from langgraph.graph import END, START, StateGraph

        graph = StateGraph(State, context_schema=Services)
        add_nodes(graph, {"start": self._start, "program": self._program, "answer": self._answer})
        graph.add_edge(START, "start")
        for node in ("start", "program"):
            graph.add_conditional_edges(node, self._next, ["program", "answer"])
        graph.add_edge("answer", END)
        return graph.compile()

    def conclude(self, state: Mapping[str, Any], question: Question, services: Services) -> Answer:
        """The reply with its quotes. Chunks are read that stood whole in what a model was shown."""
        reply = Reply.kept(services, state["reply"])
        texts, shown, found = Texts.of(services.shelf), self._shown(state, services), state.get("found", [])
        coverage = ledger(services, read=texts.chunks(shown), retrieved=found)
        spans = [*_sentences(services, texts, shown), *spans_of(services, found)]
        return reply.to_answer(question, quotes_for(services, question, reply, spans), coverage)

    def sources(self) -> tuple[str, ...]:
        """As every workflow that takes notes, the modules of the tools and the texts, and the session's own."""
        parts = (LiveTools, Texts, Program, ProgramSession)
        return (*super().sources(), *(part.__module__ for part in parts), SESSION_MODULE)

    def last_step(self, question: Question, services: Services) -> Cost:
        """The answer from what was printed."""
        return with_spare(self._answering(question, services))

    def estimate(self, question: Question, services: Services) -> Cost:
        """Some programs, each with what was printed so far, and a prompt of its own; the answer."""
        programs = min(self.iterations, _LIKELY_PROGRAMS)
        frame = services.model.count_tokens([self._prompt("", 1, question, services)])[0] + TEMPLATE_TOKENS
        printed = self.output_characters // _CHARACTERS_A_TOKEN // 2
        each = frame + programs * (printed + _LIKELY_PROGRAM_TOKENS) + _LIKELY_QUERY_TOKENS
        written = programs * (_LIKELY_PROGRAM_TOKENS + self.query_tokens // 4)
        return self._answering(question, services) + Cost(2 * programs, programs * each, written)

    def _answering(self, question: Question, services: Services) -> Cost:
        notes = _NOTES_CHARACTERS // _CHARACTERS_A_TOKEN
        checked = answer_cost(services, question, notes) if self.trust_above else Cost()
        return self.grounding.cost(services, question, notes) + replace(checked, completion_tokens=0)

    def _start(self, state: State, runtime: Runtime[Services]) -> State:
        """See to it that programs can be run, before anything is asked; run the first."""
        services, question = runtime.context, Question.of(state)
        ProgramSession("", [], self._limits).close()
        self.grounding.prepare(services, question)
        if self.first_search:
            return self._run(FIRST.format(question=asked(question)), state, services)
        return {"at": 0, "failed": 0, "answered": False}

    def _program(self, state: State, runtime: Runtime[Services]) -> State:
        """Have the next program written, and run it."""
        services, question = runtime.context, Question.of(state)
        prompt, history = self._written_prompt(self._programs(state, services), question, services)
        request = Request.user(prompt, max_tokens=self.program_tokens)
        begun = "logits" in services.model.capabilities  # an endpoint may begin a reply of its own behind these
        if begun:
            request = replace(request, prefill=f"{FENCE}python\n", stop=(f"\n{FENCE}",))
        source = program_in(services.complete([request])[0].text, begun)
        return self._run(source, {**state, "shown": self._also_shown(state, services, history)}, services)

    def _run(self, source: str, state: State, services: Services) -> State:
        """Run a program in a session in which those before it have been run.

        What it prints is not read yet: that is when a prompt has it.
        """
        done = self._programs(state, services)
        texts = Texts.of(services.shelf)
        live = LiveTools(services, texts, self.index, self.queries, self.query_tokens)
        with ProgramSession(texts.text, texts.documents, self._limits) as session:
            lost = run_again(session, done)
            outcome = Outcome(error=lost, alive=False) if lost else session.run(source, live.tools())
        program = Program(source, outcome, live.calls)
        given = self.trust_above and outcome.answer is not None
        if given and not program.knows(asked(Question.of(state)), done):
            outcome = replace(outcome, answer=None, error=outcome.error or UNPRINTED)
            program = replace(program, outcome=outcome)
        shown = texts.union([*self._shown(state, services), *live.shown])
        services.chunks(texts.chunks(shown))  # for the run log: this is what was read
        idle = not outcome.output.strip() and not outcome.answer
        again = any(source == each.source for each in done)
        hashes = services.get_json(state["programs"]) if "programs" in state else []
        kept = services.put_json([*hashes, services.put_json(asdict(program))])
        services.emit(Event("program", len(done) + 1, self.iterations, "programs", outcome.error or ""))
        return {
            "programs": kept,
            "shown": services.put_json(shown),
            "at": len(done) + 1,
            "failed": state.get("failed", 0) + 1 if outcome.error or idle or again else 0,
            "answered": bool(outcome.answer and outcome.answer.strip()),
        }

    def _next(self, state: State) -> str:
        over = state["answered"] or state["at"] >= self.iterations or state["failed"] >= self.failures
        return "answer" if over else "program"

    def _answer(self, state: State, runtime: Runtime[Services]) -> dict[str, Any]:
        return self.reply(state, runtime.context)

    def reply(self, state: Mapping[str, Any], services: Services) -> dict[str, Any]:
        """The answer that a program gave, where what was printed states it; else one from passages and what was."""
        question, given = Question.of(state), self._given(state, services)
        printed = self._printed(state, services)
        shown = self._also_shown(state, services, printed)
        if given and question.choices is None:
            if not self.trust_above:
                return {"reply": Reply(given).keep(services), "found": []}
            stated = look(services, PRINTED.format(printed=as_data(printed)), question).stated
            if stated >= self.trust_above:
                return {"reply": Reply(given, round(stated, 4)).keep(services), "found": [], "shown": shown}
        return {**super().reply(state, services), "shown": shown}

    def notes(self, state: Mapping[str, Any], services: Services) -> Notes:
        """What programs printed without failing, the last of it, and the answer that one gave."""
        question, given = Question.of(state), self._given(state, services)
        printed = self._printed(state, services)
        parts = [printed, GIVEN.format(answer=given) if given else ""]
        text = "\n\n".join(filter(None, parts))
        material = NOTES.format(question=question.text, notes=as_data(text))
        texts = Texts.of(services.shelf)
        shown = texts.union([*self._shown(state, services), *texts.shown_in(printed)])
        among = from_spans(services, _sentences(services, texts, shown)) if text else []
        best = point(question.text, text, among, most=self.pointers)
        return Notes(material, text, to_spans(services, (sentence for sentence, _ in best)))

    @property
    def _limits(self) -> ProgramLimits:
        return ProgramLimits(self.program_seconds, self.memory_bytes, self.output_characters)

    def _prompt(self, history: str, programs: int, question: Question, services: Services) -> str:
        documents = services.shelf.documents
        named = ", ".join(entry.path for entry in documents[:_NAMED_DOCUMENTS])
        return WRITE.format(
            characters=f"{sum(entry.characters for entry in documents):,}",
            documents=as_data(f"{len(documents)} documents: {named}, ..." if len(documents) > 1 else named),
            question=asked(question),
            history=history,
            order=(BEGIN if not programs else CHECK if programs == 1 else GO_ON).format(),
        )

    def _written_prompt(self, programs: Sequence[Program], question: Question, services: Services) -> tuple[str, str]:
        """The prompt with as many of the last programs as the model's window holds; and these."""
        parts = [
            as_data(PROGRAM.format(number=number, source=program.source, output=program.printed))
            for number, program in enumerate(programs, 1)
        ]
        room = services.model.window_tokens - self.program_tokens - TEMPLATE_TOKENS
        for first in range(len(parts) + 1):
            history = "".join(parts[first:])
            prompt = self._prompt(history, len(parts), question, services)
            if services.count_tokens([prompt])[0] <= room:
                return prompt, history
        raise PromptTooLongError(
            f"the window of {services.model.name} leaves {max(room, 0)} tokens for the order to write a program",
            hint="set fewer program_tokens, or use a model with a larger window",
        )

    def _programs(self, state: Mapping[str, Any], services: Services) -> list[Program]:
        hashes = services.get_json(state["programs"]) if "programs" in state else []
        return [Program.of(services.get_json(digest)) for digest in hashes]

    def _shown(self, state: Mapping[str, Any], services: Services) -> list[Place]:
        return [(start, end) for start, end in services.get_json(state["shown"])] if "shown" in state else []

    def _also_shown(self, state: Mapping[str, Any], services: Services, text: str) -> str:
        """What was shown, and what `text` holds of the texts, as the state has it."""
        texts = Texts.of(services.shelf)
        shown = texts.union([*self._shown(state, services), *texts.shown_in(text)])
        services.chunks(texts.chunks(shown))
        return services.put_json(shown)

    def _printed(self, state: Mapping[str, Any], services: Services) -> str:
        """What programs printed without failing, the last of it."""
        found = (program.found for program in self._programs(state, services))
        return "\n\n".join(filter(None, found))[-_NOTES_CHARACTERS:].strip()

    def _given(self, state: Mapping[str, Any], services: Services) -> str:
        """The answer that the last program gave, empty where it gave none."""
        programs = self._programs(state, services)
        return (programs[-1].outcome.answer or "").strip() if programs else ""


def _sentences(services: Services, texts: Texts, places: Sequence[Place]) -> list[Span]:
    """The sentences that stand whole in some places."""
    shelf, found = services.shelf, list[Span]()
    for number, start, end in texts.spans(places):
        identity = shelf.documents[number].id
        ids = shelf.chunk_ids(identity)
        first, last = (ids.index(shelf.chunk_at(identity, at)) for at in (start, max(start, end - 1)))
        spans = to_spans(services, sentences(shelf.get(ids[first : last + 1])))
        found += [span for span in spans if start <= span[1] and span[2] <= end]
    return found
