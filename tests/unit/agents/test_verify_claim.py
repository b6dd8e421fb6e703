"""Verify-claim: outlines once a document, verdicts with the sentences for and against, and what ends it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.reading.keeping import chunks_within
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.claims.judging import Sign, Verdict, signs, verdict
from readthrough.agents.workflows.claims.outlining import chapters
from readthrough.agents.workflows.claims.stating import claim_of, reply_of, sides
from readthrough.agents.workflows.verify_claim import VerifyClaim
from readthrough.documents.sentences import sentence_spans
from readthrough.errors import ModelError, PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import FACT, final, run, shelve, write_book
from tests.library_samples import story

FLOW = VerifyClaim(index="bm25", chapter_tokens=300, batch=2)
CLAIM = "Ann Weller hid the brass key of the lighthouse."
LIE = "Bob Marsh hid the brass key of the lighthouse."


def outlines(request: Request) -> str:
    """The first words of the text, numbered, an invented event, and the fact where it is in the text."""
    prompt = request.messages[-1].content
    if "Make an outline" not in prompt:
        return "Ann Weller hid it."
    fact = f"\n3. {FACT}" if FACT in prompt else ""
    return f"1. {' '.join(prompt.split()[:9])}.\n2. Zebras flew.{fact}"


def judges(request: Request, options: list[str]) -> list[float]:
    """Support where the text names who the claim does, Contradict where it is about the key, else nothing."""
    text, _, claim = request.messages[-1].content.partition("Claim: ")
    if options[0] != "Support":
        return [1 / len(options)] * len(options)
    hid = "Ann Weller" in text
    if not hid:
        return [0.5, 0.5] if len(options) == 2 else [0.0, 0.0, 1.0]
    support = 0.95 if "Ann Weller" in claim else 0.05
    return [support, 1 - support, 0.0][: len(options)]


def likelihoods(request: Request, text: str) -> float:
    """What names the key's place raises a claim about it."""
    return -1.0 if "Ann Weller" in request.messages[-1].content and "key" in text else -8.0 * len(text.split())


def model(**options: object) -> ScriptedModel:
    return ScriptedModel(**{"replies": outlines, "choices": judges, "likelihoods": likelihoods, **options})


def written(scripted: ScriptedModel) -> int:
    return sum(call.kind == "complete" and call.result is not None for call in scripted.calls)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books"))


def test_a_claim_that_is_told_is_true_or_false_by_its_sentence(shelf: Shelf) -> None:
    for claim, said, line in ((CLAIM, "True.", "For it: 1 place."), (LIE, "False.", "Against it: 1 place.")):
        answer, _, _ = run(FLOW, shelf, Question(claim), model())
        assert answer.answer.startswith(f"{said}\n{line}") and not answer.abstained
        assert answer.confidence is not None and answer.confidence > 0.7
        assert FACT in [item.quote for item in answer.evidence if 0 in item.supports]


def test_a_claim_about_something_else_is_not_told(shelf: Shelf) -> None:
    answer, _, _ = run(FLOW, shelf, Question("The mayor of Lisbon bought a zebra."), model())
    assert answer.abstained and answer.answer == "The text does not say." and answer.evidence == ()
    assert answer.coverage.gisted + answer.coverage.retrieved > 0


def test_true_and_false_as_choices_are_a_verdict(shelf: Shelf) -> None:
    for claim, said in ((CLAIM, "TRUE"), (LIE, "FALSE")):
        asked = Question(f"True or false, by the book: {claim}", ("TRUE", "FALSE"))
        answer, scripted, _ = run(FLOW, shelf, asked, model())
        assert answer.answer == said and not answer.abstained
        assert any(item.quote == FACT for item in answer.evidence)
        assert not any("Answer with the letter" in call.request.messages[-1].content for call in scripted.calls)


def test_a_model_without_logits_chooses_of_three(shelf: Shelf) -> None:
    scripted = model()
    scripted.capabilities = frozenset({"schema"})
    answer, _, _ = run(FLOW, shelf, Question(LIE), scripted)
    assert answer.answer.startswith("False.")
    assert {call.kind for call in scripted.calls} == {"complete", "choose"}
    assert run(FLOW, shelf, Question("Zebras sing."), scripted)[0].abstained


def test_outlines_are_written_once_and_point_to_their_sentences(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    before = FLOW.estimate(Question(CLAIM), services)
    first, asked, _ = run(FLOW, shelf, Question(CLAIM), model())
    after = FLOW.estimate(Question(CLAIM), services)
    plan = chapters(services, FLOW.chapter_tokens)
    assert written(asked) == len(plan) > 3 and before.calls - after.calls == len(plan)
    events = [event for made in FLOW._known(services).values() for event in made]
    text = shelf.document(shelf.documents[0].id).text
    assert FACT in [text[event.start : event.end] for event in events]
    assert not any("Zebras" in event.text for event in events), "it is in no sentence"
    again, asked, _ = run(FLOW, shelf, Question(CLAIM), model())
    assert written(asked) == 0 and final(again) == final(first)


def test_an_outline_in_one_line_is_taken_apart(shelf: Shelf) -> None:
    def in_one_line(request: Request) -> str:
        return outlines(request).replace("\n", " ")

    run(FLOW, shelf, Question(CLAIM), model(replies=in_one_line))
    events = [event.text for made in FLOW._known(Services(model(), shelf, RunLog())).values() for event in made]
    assert FACT in events


def test_chapters_are_sections_and_hold_every_chunk(tmp_path: Path) -> None:
    book = tmp_path / "book.md"
    book.write_text("\n\n".join(f"# Chapter {n}\n\n{story(n, size)}" for n, size in enumerate((1, 1, 8, 3))))
    shelf = shelve(tmp_path / "home", book)
    services = Services(model(), shelf, RunLog())
    plan = chapters(services, 300)
    assert [chunk for chapter in plan for chunk in chunks_within(shelf, chapter)] == shelf.chunk_ids()
    document = shelf.document(shelf.documents[0].id)
    headings = [{document.section_at(at) for at in (start, end - 1)} for _, start, end in plan]
    assert headings[0] == {"Chapter 0", "Chapter 1"}, "small ones are joined"
    assert headings.count({"Chapter 2"}) > 1, "a large one is divided"
    with pytest.raises(PromptTooLongError, match="smaller than a passage"):
        chapters(services, 10)


def test_a_paragraph_before_the_verdict_is_part_of_the_answer(shelf: Shelf) -> None:
    flow = replace(FLOW, explain_tokens=60)
    answer, asked, _ = run(flow, shelf, Question(CLAIM), model())
    assert answer.answer.endswith("\nAnn Weller hid it.") and answer.answer.startswith("True.")
    assert any("Explain in one paragraph" in call.request.messages[-1].content for call in asked.calls)


@pytest.mark.parametrize("calls", [2, 20, 30, 60])
@pytest.mark.parametrize("asked", [CLAIM, "Who hid the brass key of the lighthouse?"])
def test_a_budget_ends_it_with_an_answer(shelf: Shelf, calls: int, asked: str) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    answer = run_with(FLOW, Question(asked), services)
    assert answer.usage.calls <= calls
    if answer.stopped:
        assert answer.stopped == f"max_calls={calls}"
    if calls > 2:
        assert answer.answer.startswith(("True.", "Ann Weller")) and answer.evidence


def test_outlining_that_was_cut_short_goes_on(shelf: Shelf, tmp_path: Path) -> None:
    whole, _, _ = run(FLOW, shelve(tmp_path / "other", Path(shelf.documents[0].path)), Question(CLAIM), model())
    runs = RunLog(tmp_path / "runs.sqlite")
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        first = model(faults={3: ModelError("gone")})
        services = Services(first, shelf, runs)
        with pytest.raises(ModelError):
            run_with(FLOW, Question(CLAIM), services, saver)
        second = model()
        answer = resume(FLOW, Question(CLAIM), Services(second, shelf, runs, services.run), saver)
    assert final(answer) == final(whole)
    assert written(first) + written(second) <= len(chapters(services, FLOW.chapter_tokens)) + FLOW.batch


def test_state_stays_small(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    services.run = services.runs.start(CLAIM, FLOW.name, "scripted")
    stream = FLOW.build().stream(Question(CLAIM).to_state(), context=services, stream_mode="values")
    assert max(len(json.dumps(state)) for state in stream) < 1024


@pytest.mark.parametrize(
    ("asked", "claim"),
    [
        (CLAIM, CLAIM),
        ("Is it true that Bob left?", "Bob left"),
        ("True or false, by the book: Bob left.", "Bob left."),
        ("Verify: Bob left.", "Bob left."),
        ("Did Bob leave?", None),
        ("Who left", None),
        ("True or false:", None),
    ],
)
def test_what_is_a_claim(asked: str, claim: str | None) -> None:
    assert claim_of(Question(asked)) == claim
    assert claim_of(Question(asked, ("Bob", "Ann"))) is None


def test_a_verdict_is_said_with_both_sides() -> None:
    reply = reply_of(Verdict(0.1, 0.8, 0.1), Question(CLAIM), 1, 2, "Because.")
    assert reply.text == "False.\nAgainst it: 2 places. For it: 1 place.\nBecause." and reply.confidence == 0.8
    assert [reply.text[start:end] for start, end in sentence_spans(reply.text)][:3] == [
        "False.",
        "Against it: 2 places.",
        "For it: 1 place.",
    ]
    each = [Sign(2.0, 0.9), Sign(-1.0, 0.9), Sign(-3.0, 0.1)]
    assert sides(each, "true") == ([0], [1]) and sides(each[1:2], "true") == ([0], [])
    assert sides(each[2:], "untold") == ([], [])


def test_signs_are_scaled_and_joined(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    told, silent = signs(services, CLAIM, [FACT, "It rained."])
    assert told.true > 2 and told.told > 0.9 > 0.1 > silent.told
    joined = verdict(services, [told, silent])
    assert joined.true + joined.false + joined.untold == pytest.approx(1) and joined.true > 0.7
