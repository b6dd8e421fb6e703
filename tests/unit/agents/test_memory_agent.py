"""memory-agent: what its prompts hold, what the gate holds back, that memory and coverage keep their bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.gating import MATTERS
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.memory_agent import FIRST_MEMORY, MemoryAgent
from readthrough.errors import PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Limits
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

FAITHFUL = MemoryAgent(300, 40, "memory-first", gate_below=None, passage_tokens=0, abstain_below=0.0)
UNGATED = MemoryAgent(chunk_tokens=300, memory_tokens=40, gate_below=None)
GATED = MemoryAgent(chunk_tokens=300, memory_tokens=40, gate_below=0.0)


def raised_by(*wanted: str):
    """Likelihoods after which only texts that hold one of `wanted` raise a question."""

    def likelihood(request: Request, continuation: str) -> float:
        text = request.messages[-1].content
        return -1.0 if any(word in text for word in wanted) else -100.0 if "about this text" in text else -50.0

    return likelihood


def model(**options) -> ScriptedModel:
    return ScriptedModel(**{"replies": says_what_it_reads, "choices": decides, **options})


def ask(flow: MemoryAgent, shelf: Shelf, asked: ScriptedModel, **options) -> tuple[Answer, Services]:
    services = Services(model=asked, shelf=shelf, runs=RunLog(), **options)
    return flow.run(Question(QUESTION), services), services


def rewrites(asked: ScriptedModel, flow: MemoryAgent) -> list[str]:
    """The prompts that asked for a new memory."""
    return [
        call.request.messages[-1].content
        for call in asked.calls
        if call.kind == "complete" and call.request.max_tokens == flow.memory_tokens
    ]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=40))


def test_the_faithful_form_is_problem_memory_section(shelf: Shelf) -> None:
    asked = model()
    ask(FAITHFUL, shelf, asked)
    prompts = rewrites(asked, FAITHFUL)
    assert len(prompts) > 3
    memory, start = FIRST_MEMORY, "In part 0 of story 7"
    for prompt, call in zip(prompts, [call for call in asked.calls if call.kind == "complete"], strict=False):
        assert prompt.index(QUESTION) < prompt.index(memory) < prompt.rindex("In part")
        assert prompt.rstrip().endswith("updated memory only:")
        memory = call.result.text
    assert start in prompts[0] and start not in prompts[1]
    last = asked.calls[-1].request.messages[-1].content
    assert last.index(QUESTION) < last.index(memory) and "In part" not in last


def test_chunk_first_prompts_begin_with_the_section(shelf: Shelf) -> None:
    asked = model()
    ask(UNGATED, shelf, asked)
    text = shelf.document(shelf.documents[0].id).text
    for prompt in rewrites(asked, UNGATED):
        assert prompt[:25] in text and prompt.index("memory") < prompt.index(QUESTION)


def test_without_the_gate_every_token_is_read_in_order(shelf: Shelf) -> None:
    asked = model()
    answer, services = ask(UNGATED, shelf, asked)
    *steps, _ = services.runs.steps(answer.run)  # the last reads passages beside the memory
    text = shelf.document(shelf.documents[0].id).text
    sections = [step for step in steps if step.node == "read"]
    assert "".join(text[start:end] for step in sections for _, start, end in step.spans) == text
    assert answer.coverage.read == answer.coverage.tokens > 0
    assert all(step.usage.prompt_tokens < 300 + 150 for step in sections)


def test_the_gate_skips_what_does_not_matter_and_counts_it(shelf: Shelf) -> None:
    asked = model(likelihoods=raised_by("Ann Weller"))
    answer, services = ask(GATED, shelf, asked)
    assert "Ann Weller" in answer.answer and "Ann Weller" in answer.evidence[0].quote
    assert len(rewrites(asked, GATED)) == 1
    coverage = answer.coverage
    assert coverage.unread == 0 and 0 < coverage.read < 100 < coverage.skipped
    assert coverage.read + coverage.retrieved + coverage.skipped == coverage.tokens
    noted = [note for step in services.runs.steps(answer.run) if step.node == "gate" for note in step.decisions]
    assert [note["chunk"] for note in noted] == shelf.chunk_ids()
    assert all(note["below"] == 0.0 for note in noted)
    assert sum(note["raised"] >= 0 for note in noted) == 1


def test_passages_that_pass_are_packed_into_whole_sections(shelf: Shelf) -> None:
    asked, every = model(likelihoods=raised_by("lamp", "Ann Weller")), model()
    answer, _ = ask(GATED, shelf, asked)
    ask(UNGATED, shelf, every)
    tokens = [sum(asked.count_tokens([prompt])) for prompt in rewrites(asked, GATED)]
    assert len(tokens) < len(rewrites(every, UNGATED))
    assert 2 < len(tokens) <= answer.coverage.read / 300 * 1.5 + 1
    assert max(tokens) < 300 + 150


def test_where_no_passage_stands_out_all_are_read(shelf: Shelf) -> None:
    asked = model(likelihoods=raised_by("no such word"))
    answer, _ = ask(GATED, shelf, asked)
    assert answer.coverage.read == answer.coverage.tokens and len(rewrites(asked, GATED)) > 3


def test_for_a_summary_nothing_is_weighed(shelf: Shelf) -> None:
    asked = model(likelihoods=raised_by("Ann Weller"))
    services = Services(model=asked, shelf=shelf, runs=RunLog())
    answer = GATED.run(Question("Summarise the story."), services)
    assert answer.coverage.read == answer.coverage.tokens and answer.coverage.skipped == 0


def test_without_logits_a_section_is_asked_for_as_a_whole(shelf: Shelf) -> None:
    asked = model()
    asked.capabilities = frozenset({"schema"})
    answer, _ = ask(GATED, shelf, asked)
    gates = [
        call for call in asked.calls if call.kind == "choose" and MATTERS[-60:] in call.request.messages[-1].content
    ]
    assert len(gates) == len(rewrites(model_of(UNGATED, shelf), UNGATED))
    assert len(rewrites(asked, GATED)) == 1 and "Ann Weller" in answer.answer
    assert 0 < answer.coverage.read <= 300 < answer.coverage.skipped
    assert not [call for call in asked.calls if call.kind == "likelihood"]


def model_of(flow: MemoryAgent, shelf: Shelf) -> ScriptedModel:
    asked = model()
    ask(flow, shelf, asked)
    return asked


def test_a_memory_is_never_longer_than_its_limit_and_a_cut_one_is_noted(shelf: Shelf) -> None:
    asked = model(replies=lambda request: "word " * 500)
    answer, services = ask(UNGATED, shelf, asked)
    reads = [step for step in services.runs.steps(answer.run) if step.node == "read"]
    for step in reads:
        assert sum(asked.count_tokens([services.get(step.texts[0])])) <= 40
        assert step.decisions[0] == {"what": "the memory was cut at its limit", "limit_tokens": 40}
    assert len(reads) == len(rewrites(asked, UNGATED)) > 3


def test_an_empty_memory_does_not_replace_the_one_before(shelf: Shelf) -> None:
    replies = iter(["Kept.", *[" \n"] * 100])
    asked = model(replies=lambda request: next(replies))
    answer, services = ask(UNGATED, shelf, asked)
    assert all("Kept." in prompt for prompt in rewrites(asked, UNGATED)[1:])
    reads = [step for step in services.runs.steps(answer.run) if step.node == "read"]
    assert [bool(step.decisions) for step in reads] == [False, *[True] * (len(reads) - 1)]
    assert "came back empty" in reads[-1].decisions[0]["what"]


def test_a_long_text_is_read_to_its_end_and_never_clipped(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=1300))
    asked = model()
    answer, _ = ask(MemoryAgent(chunk_tokens=2000, gate_below=None), shelf, asked)
    assert answer.coverage.read == answer.coverage.tokens > 60_000
    read = "".join(call.request.messages[-1].content for call in asked.calls)
    assert all(f"In part {number} of story 7" in read for number in range(1300))


@pytest.mark.parametrize("calls", [1, 4, 12, 30])
@pytest.mark.parametrize("flow", [GATED, UNGATED])
def test_a_budget_ends_a_run_with_a_true_ledger(shelf: Shelf, flow: MemoryAgent, calls: int) -> None:
    asked = model(likelihoods=raised_by("lamp", "storm"))
    answer, _ = ask(flow, shelf, asked, budget=Budget(Limits(calls=calls)))
    assert answer.usage.calls <= calls
    if answer.stopped:
        assert answer.coverage.unread > 0
        assert (answer.coverage.read > 0) == bool(rewrites(asked, flow))
    else:
        assert answer.coverage.unread == 0


def test_what_waits_at_the_end_of_a_budget_is_unread(shelf: Shelf) -> None:
    flow = MemoryAgent(chunk_tokens=800, memory_tokens=40, gate_below=0.0)
    asked = model(likelihoods=raised_by("lamp"))
    answer, _ = ask(flow, shelf, asked, budget=Budget(Limits(calls=len(shelf.chunk_ids()) + 5)))
    assert rewrites(asked, flow) == [] and answer.coverage.read == 0
    assert answer.coverage.skipped > 0 and answer.coverage.unread > 0


def test_choices_stand_in_every_prompt(shelf: Shelf) -> None:
    asked = model(choices=lambda request, options: [1.0, *[0.0] * (len(options) - 1)])
    services = Services(model=asked, shelf=shelf, runs=RunLog())
    answer = UNGATED.run(Question(QUESTION, ("Bob Marsh", "Ann Weller")), services)
    assert answer.answer in ("Bob Marsh", "Ann Weller")
    assert all("Bob Marsh" in prompt for prompt in rewrites(asked, UNGATED))


def test_a_section_without_room_for_a_chunk_is_refused(shelf: Shelf) -> None:
    with pytest.raises(PromptTooLongError, match="room for 10 tokens"):
        ask(MemoryAgent(chunk_tokens=10), shelf, model())


def test_the_estimate_is_near_what_a_run_takes(shelf: Shelf) -> None:
    flow = MemoryAgent(chunk_tokens=1000, memory_tokens=40, gate_below=None)
    answer, services = ask(flow, shelf, model(replies=lambda request: "word " * 30))
    expected = flow.estimate(Question(QUESTION), services)
    assert expected.calls == pytest.approx(answer.usage.calls, abs=1)
    assert expected.prompt_tokens == pytest.approx(answer.usage.prompt_tokens, rel=0.25)
    assert GATED.estimate(Question(QUESTION), services).calls > len(shelf.chunk_ids())
