"""Summaries of whole texts: levels, pointers, lengths, what is cut, resuming, budgets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import NOT_STATED
from readthrough.agents.reading.queries import wanted_words, wants_summary
from readthrough.agents.reading.summarizing import (
    SUMMARIZE,
    Note,
    count_words,
    grouped,
    shortened,
    summary_question,
    written,
)
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume, run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.iterative_summary import IterativeSummary
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import ConfigError, ModelError, PromptTooLongError, UsageError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Completion, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Event, Limits, Usage
from tests.agent_samples import QUESTION, decides, final, says_what_it_reads, shelve, write_book
from tests.library_samples import story

FACTS = 24
FACT = re.compile(r"Pilot \w+ steered ship number \d+\.")
NAMES = [f"{first}{last}" for first in ("An", "Bor", "Cyr", "Dag", "El", "Fin") for last in ("ak", "ine", "osh", "ulf")]
SMALL = {"window_tokens": 420, "summary_tokens": 40, "words": 40}


def fact(number: int) -> str:
    return f"Pilot {NAMES[number]} steered ship number {number}."


def every_other_fact(request: Request) -> str:
    """Of the facts in the prompt, the first and then every other one: each level keeps half."""
    facts = FACT.findall(request.messages[-1].content)
    return " ".join(facts[::2]) or "Nothing happened."


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A book of some 3,000 tokens in which every few paragraphs a fact stands."""
    folder = tmp_path_factory.mktemp("books")
    parts = story(11, 4 * FACTS).split("\n\n")
    text = "\n\n".join(f"{part}\n\n{fact(at // 4)}" if at % 4 == 0 else part for at, part in enumerate(parts))
    (folder / "book.txt").write_text(text, encoding="utf-8")
    return shelve(folder / "home", folder / "book.txt")


def model(**faults: ModelError) -> ScriptedModel:
    return ScriptedModel(
        replies=every_other_fact, choices=decides, faults={int(key[1:]): error for key, error in faults.items()}
    )


def summarize(
    shelf: Shelf, model: ScriptedModel, question: str = SUMMARIZE, limits: Limits | None = None, **options: object
) -> tuple[Answer, Services, list[Event]]:
    events: list[Event] = []
    services = Services(model, shelf, RunLog(), on_event=events.append, budget=Budget(limits))
    flow = IterativeSummary(**{**SMALL, **options})  # type: ignore[arg-type]
    return run(flow, Question(question), services), services, events


def prompts(model: ScriptedModel) -> list[str]:
    return [call.request.messages[-1].content for call in model.calls if call.kind == "complete"]


def check_evidence(answer: Answer, shelf: Shelf) -> None:
    """Each sentence of the answer has a quote that is in the source and says the same."""
    text = shelf.document(shelf.documents[0].id).text
    said = [answer.answer[start:end] for start, end in sentence_spans(answer.answer)]
    supported = {number: item.quote for item in answer.evidence for number in item.supports}
    assert sorted(supported) == list(range(len(said)))
    assert all(text[item.start : item.end] == item.quote and item.verified for item in answer.evidence)
    assert all(supported[number] == sentence for number, sentence in enumerate(said))


@pytest.mark.parametrize("form", ["hierarchical", "rolling"])
def test_the_whole_text_is_read_and_every_sentence_has_its_source(shelf: Shelf, form: str) -> None:
    scripted = model()
    answer, services, _ = summarize(shelf, scripted, form=form)
    assert answer.coverage.read == answer.coverage.tokens > 2_000
    assert FACT.findall(answer.answer)
    check_evidence(answer, shelf)
    text = shelf.document(shelf.documents[0].id).text
    spans = [span for step in services.runs.steps(answer.run) for span in step.spans]
    assert "".join(text[start:end] for _, start, end in spans) == text
    windows = [prompt.split("\n\nWrite")[0].split("\n\nA summary of")[0] for prompt in prompts(scripted)]
    assert all(any(fact(number) in window for window in windows) for number in range(FACTS))


def test_summaries_are_merged_level_by_level_until_one_is_left(shelf: Shelf) -> None:
    scripted = model()
    answer, services, _ = summarize(shelf, scripted, batch=3, window_tokens=160)
    steps = services.runs.steps(answer.run)
    nodes = [step.node for step in steps]
    assert nodes[0] == "plan" and nodes[-2:] == ["level", "answer"]
    assert nodes.count("level") >= 3, "windows, at least one level between, the last"
    assert all(step.usage.calls <= 3 for step in steps)
    text = shelf.document(shelf.documents[0].id).text
    spans = [span for step in steps for span in step.spans]
    assert "".join(text[start:end] for _, start, end in spans) == text
    check_evidence(answer, shelf)


def test_how_many_go_side_by_side_changes_nothing(shelf: Shelf) -> None:
    one, many = (summarize(shelf, model(), batch=batch)[0] for batch in (1, 8))
    assert (one.answer, one.evidence, one.usage.calls) == (many.answer, many.evidence, many.usage.calls)


def test_the_last_summary_has_the_length_that_was_asked_for(shelf: Shelf) -> None:
    scripted = model()
    summarize(shelf, scripted, words=77)
    *parts, last = prompts(scripted)
    assert "in at most 77 words" in last
    assert all("in at most 20 words" in prompt for prompt in parts)
    scripted = model()
    summarize(shelf, scripted, "Give me a summary of the book in 33 words.", words=77)
    assert sum("one summary" in prompt and "in at most 33 words" in prompt for prompt in prompts(scripted)) == 1


def test_parts_share_the_length_evenly_unless_a_question_is_asked(shelf: Shelf) -> None:
    for question in (SUMMARIZE, "Who steered ship number 7?"):
        scripted = model()
        summarize(shelf, scripted, question, words=128, summary_tokens=200)
        parts = [prompt for prompt in prompts(scripted) if "Summarize the text above" in prompt]
        share = max(30, 256 // len(parts)) if question == SUMMARIZE else 100
        assert len(parts) > 3 and all(f"in at most {share} words" in prompt for prompt in parts)


def test_a_summary_that_is_much_too_long_is_written_once_more(shelf: Shelf) -> None:
    long, short = " ".join(fact(number) for number in range(5)), fact(7)
    for second, expected in ((short, short), (long, long)):
        replies = {"Say the same": second, "in at most 20 words: ": long, "": fact(1)}
        scripted = ScriptedModel(replies=replies)
        answer, _, _ = summarize(shelf, scripted, words=20, summary_tokens=100)
        assert answer.answer == expected
        assert sum("Say the same" in prompt for prompt in prompts(scripted)) == 1


def test_a_summary_of_the_right_length_is_left_alone(shelf: Shelf) -> None:
    scripted = ScriptedModel(replies={"": fact(1)})
    summarize(shelf, scripted, words=20)
    assert not any("Say the same" in prompt for prompt in prompts(scripted))


def test_cut_summaries_end_with_a_sentence_and_are_reported(shelf: Shelf) -> None:
    endless = " ".join(fact(number) for number in range(FACTS))
    answer, services, events = summarize(shelf, ScriptedModel(replies={"": endless}), words=20)
    notes = [
        note
        for step in services.runs.steps(answer.run)
        for digest in step.texts
        if '"before"' in services.get(digest)
        for note in json.loads(services.get(digest))["notes"]
    ]
    assert len(notes) > 5 and all(note["cut"] and note["text"].endswith(".") for note in notes)
    warnings = [event for event in events if event.stage == "warning"]
    assert len(warnings) == 1 and warnings[0].done == len(notes) == answer.usage.calls


def test_a_merge_that_was_cut_has_the_beginnings_of_all_parts(shelf: Shelf) -> None:
    """A model that copies its material from the beginning never comes to the end."""
    copies = ScriptedModel(replies=lambda request: " ".join(FACT.findall(request.messages[-1].content)))
    answer, _, _ = summarize(shelf, copies, words=30, summary_tokens=30)
    kept = [int(number) for number in re.findall(r"ship number (\d+)", answer.answer)]
    assert kept == sorted(kept) and len(kept) > 3
    assert min(kept) < FACTS / 4 and max(kept) > FACTS * 3 / 4
    assert count_words(answer.answer) <= 30 and answer.stopped is None
    check_evidence(answer, shelf)


def test_a_cut_summary_of_a_short_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(" ".join(fact(number) for number in range(12)))
    copies = ScriptedModel(replies=lambda request: " ".join(FACT.findall(request.messages[-1].content)))
    answer, _, _ = summarize(shelve(tmp_path / "home", tmp_path / "short.txt"), copies, words=20)
    assert answer.stopped == "words=20" and answer.answer.endswith(fact(4))


def test_a_short_text_takes_one_call_and_is_not_padded(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(f"{fact(1)} {fact(2)}")
    scripted = model()
    answer, _, _ = summarize(shelve(tmp_path / "home", tmp_path / "short.txt"), scripted, words=500)
    assert answer.answer == fact(1) and answer.usage.calls == 1
    assert "in at most 20 words" in prompts(scripted)[0]


def test_a_model_that_says_nothing_gives_no_summary(shelf: Shelf) -> None:
    answer, _, _ = summarize(shelf, ScriptedModel(replies={"": " "}))
    assert answer.abstained and answer.answer == NOT_STATED and not answer.evidence


def test_a_part_without_a_summary_is_left_out(shelf: Shelf) -> None:
    scripted = ScriptedModel(replies=lambda request: "" if fact(0) in request.messages[-1].content else fact(5))
    answer, _, _ = summarize(shelf, scripted)
    assert answer.answer == fact(5)
    assert not any("\n\n\n\n" in prompt for prompt in prompts(scripted))


def test_a_question_is_answered_from_a_summary_made_for_it(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    scripted = ScriptedModel(replies=says_what_it_reads, choices=decides)
    answer, _, _ = summarize(shelf, scripted, QUESTION)
    assert all(QUESTION in prompt for prompt in prompts(scripted))
    assert "as few words as possible" in prompts(scripted)[-1]
    assert answer.answer == "Ann Weller hid it." and answer.confidence is not None


@pytest.mark.parametrize("form", ["hierarchical", "rolling"])
@pytest.mark.parametrize("call", [0, 1, 4, 8])
def test_a_run_that_failed_goes_on_where_it_was(shelf: Shelf, tmp_path: Path, form: str, call: int) -> None:
    flow, question = IterativeSummary(**SMALL, batch=3, form=form), Question(SUMMARIZE)  # type: ignore[arg-type]
    whole = run(flow, question, Services(model(), shelf, RunLog()))
    assert whole.usage.calls > 8
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        services = Services(model(**{f"f{call}": ModelError("gone")}), shelf, runs)
        with pytest.raises(ModelError):
            run(flow, question, services, saver)
        again = model()
        answer = resume(flow, question, Services(again, shelf, runs, services.run), saver)
    assert final(answer) == final(whole)
    assert len(again.calls) <= whole.usage.calls - call + 2, "no more than one batch is done again"


@pytest.mark.parametrize("form", ["hierarchical", "rolling"])
@pytest.mark.parametrize("calls", [2, 4, 6])
def test_a_budget_ends_with_a_summary_of_what_was_read(shelf: Shelf, form: str, calls: int) -> None:
    answer, _, _ = summarize(shelf, model(), limits=Limits(calls=calls), form=form)
    assert answer.stopped == f"max_calls={calls}" and answer.usage.calls <= calls
    assert FACT.search(answer.answer) and not answer.abstained
    check_evidence(answer, shelf)
    assert 0 < answer.coverage.read < answer.coverage.tokens


def test_a_budget_that_ends_a_level_keeps_the_summaries_below(shelf: Shelf) -> None:
    scripted = model()
    whole, _, _ = summarize(shelf, scripted, window_tokens=160, batch=2)
    merges = sum("Summaries of consecutive parts" in prompt for prompt in prompts(scripted))
    limits = Limits(calls=whole.usage.calls - merges + 2)  # one merge, then one of all there is
    answer, services, _ = summarize(shelf, model(), limits=limits, window_tokens=160, batch=1)
    assert answer.stopped and answer.coverage.read == answer.coverage.tokens
    assert [step.node for step in services.runs.steps(answer.run)].count("level") == 1
    kept = [int(number) for number in re.findall(r"ship number (\d+)", answer.answer)]
    assert min(kept) < FACTS / 3 and max(kept) >= FACTS / 2
    check_evidence(answer, shelf)


def test_a_budget_of_tokens_takes_smaller_batches(shelf: Shelf) -> None:
    answer, services, _ = summarize(shelf, model(), limits=Limits(tokens=2_500), batch=8)
    assert answer.stopped == "max_tokens=2500"
    assert 0 < answer.coverage.read < answer.coverage.tokens
    assert services.usage.prompt_tokens + services.usage.completion_tokens <= 2_500


def test_what_is_held_back_is_a_last_summary_that_fills_its_limit(shelf: Shelf) -> None:
    scripted = model()
    _, services, _ = summarize(shelf, scripted, limits=Limits(calls=4))
    last = scripted.calls[-1].request
    assert IterativeSummary(**SMALL).last_step(Question(SUMMARIZE), services).completion_tokens == last.max_tokens


@pytest.mark.parametrize("options", [{}, {"window_tokens": 160}, {"form": "rolling"}])
def test_an_estimate_counts_the_calls_of_every_level(shelf: Shelf, options: dict[str, int]) -> None:
    answer, services, _ = summarize(shelf, model(), **options)
    expected = IterativeSummary(**{**SMALL, **options}).estimate(Question(SUMMARIZE), services)  # type: ignore[arg-type]
    assert expected.calls == pytest.approx(answer.usage.calls, rel=0.2)
    templates = 64 * expected.calls  # of the chat, which a script does not have
    assert expected.prompt_tokens - templates == pytest.approx(answer.usage.prompt_tokens, rel=0.3)


def test_the_state_stays_small(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    services.run = services.runs.start(SUMMARIZE, "iterative-summary", "scripted")
    graph = IterativeSummary(**{**SMALL, "window_tokens": 160}, batch=1).build()  # type: ignore[arg-type]
    states = list(graph.stream(Question(SUMMARIZE).to_state(), context=services, stream_mode="values"))
    assert len(states) > 20
    assert max(len(json.dumps(state)) for state in states) < 1_000


def test_a_window_without_room_for_text_is_an_error(shelf: Shelf) -> None:
    tight = ScriptedModel(replies=every_other_fact, window_tokens=300)
    with pytest.raises(PromptTooLongError, match="left for text"):
        summarize(shelf, tight, words=200, summary_tokens=200)


@pytest.mark.parametrize(
    "options", [{"words": 0}, {"rounds": 51}, {"rounds": 0}, {"batch": 0}, {"window_tokens": -1}, {"summary_tokens": 0}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        IterativeSummary(**options)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=80), st.integers(1, 300))
def test_a_level_is_always_smaller_than_the_one_before(tokens: list[int], room: int) -> None:
    notes = [Note(f"note {number}", []) for number in range(len(tokens))]
    made = grouped(notes, tokens, room)
    assert len(made) < len(notes)
    assert [note for group in made for note in group] == notes


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(20, 200))
def test_shortened_notes_fit_and_end_with_sentences(lengths: list[int], room: int) -> None:
    notes = [Note(" ".join(fact(number) for number in range(length)), []) for length in lengths]
    tokens = [count_words(note.text) for note in notes]
    kept = shortened(notes, tokens, room)
    assert kept
    assert sum(count_words(note.text) for note in kept) <= room
    assert all(note.text.endswith(".") for note in kept)
    assert (kept == notes) == (sum(tokens) <= room)
    assert kept[0].text.startswith(fact(0))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ann came. Bob we", "Ann came."),
        ("Ann came. Bob went.", "Ann came. Bob went."),
        ("Ann came and Bob", "Ann came and Bob"),
        ("Ann came. " + "The man, the woman, the beast, " * 40 + "and", "Ann came."),
    ],
)
def test_what_a_limit_cut_ends_with_its_last_whole_sentence(text: str, kept: str) -> None:
    assert written(Completion(f" {text}", "length", Usage())) == (kept, True)
    assert written(Completion(f" {text}\n", "stop", Usage())) == (text, False)


def test_a_summary_that_goes_round_in_circles_says_each_thing_once() -> None:
    text = "Ann came. " + "Bob went.\nTom stayed. " * 20 + "Bob we"
    assert written(Completion(text, "length", Usage())) == ("Ann came. Bob went. Tom stayed.", True)


@pytest.mark.parametrize(
    ("question", "summary", "length"),
    [
        ("Summarize the text.", True, None),
        ("Please summarise chapter 3 in about 150 words.", True, 150),
        ("Can you give me a short overview of the plot?", True, None),
        ("Write a 100-word summary.", True, 100),
        ("Write a summary of 100 words.", True, 100),
        ("What does the summary of the report say?", False, None),
        ("Who wrote the summary in the appendix?", False, None),
        ("Why did Ann leave?", False, None),
    ],
)
def test_orders_to_summarise_are_told_from_questions(question: str, summary: bool, length: int | None) -> None:
    assert (wants_summary(Question(question)), wanted_words(question)) == (summary, length)


def test_a_focus_becomes_an_order_to_summarise() -> None:
    assert summary_question(None) == SUMMARIZE and wants_summary(Question(SUMMARIZE))
    assert not wants_summary(Question(SUMMARIZE, ("it", "them")))
    focused = summary_question(" the flood ")
    assert focused.endswith(": the flood") and wants_summary(Question(focused))
    with pytest.raises(UsageError):
        summary_question("  ")
