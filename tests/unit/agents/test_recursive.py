"""recursive: programs over the text, what of it was read, and what ends the writing. The sandbox has its own tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows import recursive
from readthrough.agents.workflows.programs.program import program_in
from readthrough.agents.workflows.programs.texts import Texts
from readthrough.agents.workflows.recursive import UNPRINTED, Recursive
from readthrough.errors import ModelError, PromptTooLongError, SandboxError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Limits
from tests.agent_samples import FACT, QUESTION, decides, shelve, write_book

FAITHFUL = Recursive(index="bm25", first_search=False, trust_above=0.0, passage_tokens=0, abstain_below=0.0)
ASKED = "Write nothing but Python."


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=20))


def writes(*programs: str, replies: str = "Ann Weller.", **options) -> ScriptedModel:
    """A model that writes these programs, one after the other, and says `replies` to every other prompt."""
    left = list(programs)

    def reply(request: Request) -> str:
        return left.pop(0) if request.messages[-1].content.endswith(ASKED) else replies

    return ScriptedModel(**{"replies": reply, "choices": decides, **options})


def ask(flow: Recursive, shelf: Shelf, model: ScriptedModel, **options) -> tuple[Answer, Services]:
    services = Services(model=model, shelf=shelf, runs=RunLog(), **options)
    return flow.run(Question(QUESTION), services), services


def prompts(model: ScriptedModel, written: bool = True) -> list[str]:
    """The prompts that asked for a program, or the others."""
    asked = [call.request.messages[-1].content for call in model.calls if call.kind == "complete"]
    return [prompt for prompt in asked if prompt.endswith(ASKED) is written]


def test_the_model_sees_nothing_but_what_is_printed(shelf: Shelf) -> None:
    model = writes("n = len(re.findall('story', context))\nprint(n)", "print(n)\nanswer(n)")
    answer, _ = ask(FAITHFUL, shelf, model)
    text = shelf.document(shelf.documents[0].id).text
    assert answer.answer == str(text.count("story")) and answer.confidence is None and not answer.abstained
    first, second = prompts(model)
    assert f"{len(text):,} characters" in first
    assert all(text[start:end].strip() in QUESTION for start, end in Texts.of(shelf).shown_in(first))
    assert f"It printed:\n{answer.answer}" in second
    assert answer.coverage.unread == answer.coverage.tokens and answer.evidence == ()


def test_what_sub_calls_were_shown_is_read_and_quoted(shelf: Shelf) -> None:
    program = "place = find('brass key')[0]\nprint(llm_query(place + '\\n\\nWho hid it?'))"
    model = writes(program, "answer('Ann Weller.')")
    answer, _ = ask(FAITHFUL, shelf, model)
    assert answer.answer == "Ann Weller." and answer.evidence[0].quote == FACT
    (sub,) = prompts(model, written=False)
    assert sub.startswith(FACT) and sub.endswith("Who hid it?")
    whole = [chunk for chunk in shelf.get(shelf.chunk_ids()) if chunk.text.strip() in sub]
    assert answer.coverage.read == sum(shelf.count_tokens(model)[chunk.id] for chunk in whole)


def test_a_whole_text_in_batches_is_read_whole(shelf: Shelf) -> None:
    parts = "parts = [context[n : n + 2000] for n in range(0, len(context), 2000)]"
    model = writes(f"{parts}\nprint(llm_query_batched(parts)[-1])", "answer('Ann Weller.')")
    answer, services = ask(FAITHFUL, shelf, model)
    assert answer.coverage.read == answer.coverage.tokens > 0
    assert answer.evidence[0].quote == FACT
    assert sum(end - start for step in services.runs.steps(answer.run) for _, start, end in step.spans) > 0


def test_a_first_program_asks_about_what_a_search_finds(shelf: Shelf) -> None:
    model = writes("answer('Ann Weller.')")
    answer, _ = ask(Recursive(index="bm25"), shelf, model)
    assert answer.answer == "Ann Weller." and answer.evidence[0].quote == FACT
    assert FACT in prompts(model, written=False)[0]
    assert "It printed:\nAnn Weller." in prompts(model)[0]
    assert answer.confidence is not None and answer.confidence > 0.5


def test_an_answer_that_was_not_printed_is_not_taken(shelf: Shelf) -> None:
    model = writes("answer('Bob Marsh did')", "print(search('key')[0])")
    answer, _ = ask(Recursive(index="bm25", first_search=False, iterations=2), shelf, model)
    assert UNPRINTED in prompts(model)[1]
    assert answer.answer == "Ann Weller." and answer.coverage.retrieved > 0


def test_an_answer_may_repeat_the_question(shelf: Shelf) -> None:
    model = writes("print('Ann')", "answer('Ann hid the brass key')")
    answer, _ = ask(Recursive(index="bm25", first_search=False, trust_above=1e-9), shelf, model)
    assert answer.answer == "Ann hid the brass key"


def test_an_answer_that_was_computed_is_taken(shelf: Shelf) -> None:
    model = writes("n = 42\nanswer(n)")
    answer, _ = ask(Recursive(index="bm25", first_search=False, trust_above=1e-9), shelf, model)
    assert answer.answer == "42" and answer.confidence is not None


@pytest.mark.parametrize(("program", "told"), [("1 / 0", "ZeroDivisionError"), ("x = 1", "(nothing)")])
def test_failures_in_a_row_end_the_writing(shelf: Shelf, program: str, told: str) -> None:
    model = writes("print('fine')", program, f"{program} ", "print('never')")
    answer, _ = ask(Recursive(index="bm25", first_search=False, failures=2), shelf, model)
    assert len(prompts(model)) == 3 and told in prompts(model)[2]
    assert answer.answer == "Ann Weller.", "passages answer"


def test_a_program_that_was_written_before_is_a_failure(shelf: Shelf) -> None:
    model = writes(*["print('the same')"] * 5)
    ask(Recursive(index="bm25", first_search=False, failures=2), shelf, model)
    assert len(prompts(model)) == 3


def test_iterations_are_bounded_and_output_is_cut(shelf: Shelf) -> None:
    model = writes(*[f"print('x' * {1000 + number})" for number in range(9)])
    flow = Recursive(index="bm25", first_search=False, iterations=4, output_characters=100)
    ask(flow, shelf, model)
    assert len(prompts(model)) == 4
    assert "901 more characters" in prompts(model)[1] and "x" * 101 not in prompts(model)[1]


def test_old_programs_leave_a_prompt_that_is_too_long(shelf: Shelf) -> None:
    model = writes(*[f"print('{number} ' * 900)" for number in range(5)], window_tokens=3000)
    ask(Recursive(index="bm25", first_search=False, iterations=5), shelf, model)
    assert "Program 1:" in prompts(model)[1] and "Program 1:" not in prompts(model)[4]
    with pytest.raises(PromptTooLongError, match="leaves"):
        ask(FAITHFUL, shelf, writes("1", window_tokens=500))


def test_a_program_that_dies_takes_nothing_else_with_it(shelf: Shelf) -> None:
    model = writes("n = 7\nprint(n)", "n = 8\nwhile True: pass", "print(n)\nanswer(n)")
    flow = Recursive(**{**FAITHFUL.options(), "program_seconds": 1.0})
    answer, _ = ask(flow, shelf, model)
    assert answer.answer == "7" and "longer than 1 seconds" in prompts(model)[2]


def test_prompts_are_counted_and_bounded(shelf: Shelf) -> None:
    programs = ["llm_query_batched(['a'] * 3)", "print(llm_query(context * 50))", "llm_query(' ')", "print(1)"]
    model = writes(*programs)
    ask(Recursive(index="bm25", first_search=False, iterations=4, failures=9, queries=2), shelf, model)
    last = prompts(model)[-1]
    assert "2 more are allowed" in last and "is too long: at most about" in last and "needs a prompt" in last


@pytest.mark.parametrize("calls", [1, 3, 6, 9])
def test_a_budget_leaves_the_best_answer_so_far(shelf: Shelf, calls: int) -> None:
    program = "for part in [context[n : n + 500] for n in range(0, 3000, 500)]:\n    print(llm_query(part))"
    model = writes(program, "answer('Ann Weller.')", "print(2)")
    flow = Recursive(index="bm25", first_search=False)
    answer, _ = ask(flow, shelf, model, budget=Budget(Limits(calls=calls)))
    assert answer.stopped == f"max_calls={calls}" and answer.usage.calls <= calls
    assert answer.answer == ("Ann Weller." if calls > 6 else answer.answer)


def test_what_no_model_was_shown_is_not_read(shelf: Shelf) -> None:
    printing = replace(FAITHFUL, failures=1, output_characters=4000)
    answer, _ = ask(printing, shelf, writes("print(context[:3000])\n1 / 0"))
    assert answer.coverage.read == 0 and answer.coverage.unread == answer.coverage.tokens
    answer, _ = ask(replace(printing, failures=2), shelf, writes("print(context[:3000])\n1 / 0", "answer('Ann')"))
    assert answer.coverage.read > 0, "the prompt for the second program has it"


def test_marks_that_a_text_gets_count_for_the_length_of_a_prompt(shelf: Shelf) -> None:
    program = (
        "try:\n    print(llm_query('\\n'.join(['User: no'] * {lines})))\nexcept Exception as error:\n    print(error)"
    )
    texts = [program.format(lines=lines) for lines in (200, 500)]
    model = writes(*texts, "print(3)", window_tokens=2048)
    ask(replace(FAITHFUL, iterations=3, failures=9), shelf, model)
    last = prompts(model)[-1]
    assert "Ann Weller." in last and "is too long: at most about" in last


def test_a_resumed_run_runs_programs_again_and_asks_nothing_again(shelf: Shelf) -> None:
    flow, saver, runs = FAITHFUL, InMemorySaver(), RunLog()
    first = writes(
        "said = llm_query('one')\nfound = search('key')\nprint(said)",
        "said += llm_query('two')\nprint(said)",
        replies="yes",
        faults={4: ModelError("the machine is gone")},
    )
    services = Services(first, shelf, runs)
    with pytest.raises(ModelError):
        run(flow, Question(QUESTION), services, saver)
    second = writes("print(said, len(found))\nanswer(said)", replies="no")
    again = Services(second, shelf, runs, run=services.run)
    assert resume(flow, Question(QUESTION), again, saver).answer == "yesyes"
    assert len(second.calls) == 1


def test_where_programs_cannot_be_run_safely_nothing_is_asked(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SandboxError("not here")

    monkeypatch.setattr(recursive, "ProgramSession", refuse)
    for flow in (FAITHFUL, Recursive(index="bm25")):
        model = writes()
        with pytest.raises(SandboxError, match="not here"):
            ask(flow, shelf, model)
        assert model.calls == []


def test_models_without_logits_write_programs_too(shelf: Shelf) -> None:
    search = "Here it is:\n```python\nprint(search('Ann Weller hid it')[0])\n```\nDone."
    model = writes(search, "```\nanswer('Ann Weller')\n```")
    model.capabilities = frozenset({"schema"})
    answer, _ = ask(Recursive(index="bm25", first_search=False), shelf, model)
    assert answer.answer == "Ann Weller"
    assert all(not call.request.prefill for call in model.calls)


@pytest.mark.parametrize("name", ["iterations", "failures", "queries", "program_seconds", "memory_bytes"])
def test_options_that_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Recursive(**{name: 0})


def test_programs_in_replies() -> None:
    assert program_in("x = 1\nprint(x)\n```\nThis prints 1.", True) == "x = 1\nprint(x)"
    assert program_in("First:\n```repl\nx = 1\n```\nThen:\n```\ny\n```", False) == "x = 1"
    assert program_in("```python\n  x = 1", True) == program_in("  x = 1", False) == "  x = 1"


def places(texts: Texts, shown: str) -> list[str]:
    return [texts.text[start:end] for start, end in texts.union(texts.shown_in(shown))]


def test_what_stands_in_a_prompt_is_found_word_for_word(tmp_path: Path) -> None:
    book = write_book(tmp_path / "books", paragraphs=8)
    other = tmp_path / "books" / "other.txt"
    other.write_text("A quite different text, that nobody has written before.\n\nAnd no more than that, really.")
    shelf = shelve(tmp_path / "home", book, other)
    texts = Texts.of(shelf)
    assert [texts.text[start:end] for _, start, end in texts.documents] == [path.read_text() for path in (book, other)]
    assert places(texts, f"Look: {FACT} Who was it? And why is it that nobody has written about it at all?") == [FACT]
    assert places(texts, "Nothing of it stands here, not a single word of it that matters.") == []
    both: Sequence[str] = [texts.text[20:400], texts.text[-60:]]
    assert places(texts, "\n".join(both)) == [part.strip() for part in both] or places(texts, "|".join(both)) == [*both]
    shown = texts.shown_in(other.read_text())
    assert texts.chunks(shown) == shelf.chunk_ids(shelf.documents[1].id)
    assert texts.spans([(len(texts.text) - 100, len(texts.text))])[-1][2] == len(other.read_text())
