"""sculptor: which action is taken, what stands in the context, what KV is reused, budgets, resuming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import resume
from readthrough.agents.runs.running import run as run_with
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.sculpt.desk import Desk, Table
from readthrough.agents.workflows.sculpt.menu import offered, weighed
from readthrough.agents.workflows.sculptor import Sculptor
from readthrough.errors import ConfigError, ModelError, PromptTooLongError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, decides, run, says_what_it_reads, shelve, write_book
from tests.library_samples import story

FIRST = "The brass key of the lighthouse was hidden by the keeper of Stornwick."
LONG = Sculptor(fragment_tokens=100, context_tokens=300, enough_above=2.0)
"""It never has enough."""
SECOND = "In winter Stornwick was ruled, as all agreed, by Ann Weller alone."


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("books")
    return shelve(folder / "home", write_book(folder / "books", 40))


@pytest.fixture(scope="module")
def two_hops(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A book whose second fact shares a name with the first, and no word with the question."""
    folder = tmp_path_factory.mktemp("hops")
    parts = story(7, 60).split("\n\n")
    parts.insert(5, FIRST)
    parts.insert(45, SECOND)
    (folder / "book.txt").write_text("\n\n".join(parts), encoding="utf-8")
    return shelve(folder / "home", folder / "book.txt")


def model(**options) -> ScriptedModel:
    return ScriptedModel(**{"replies": says_what_it_reads, "choices": decides, **options})


def table(shelf: Shelf, desk: Desk, room_tokens: int = 300, **options) -> Table:
    runs = RunLog()
    services = Services(model(), shelf, runs, run=runs.start(QUESTION, "sculptor", "scripted", None, {}))
    fragments = [[chunk] for chunk in shelf.chunk_ids()]
    return Table(services, desk, fragments, Question(QUESTION), room_tokens, **options)


def kinds(actions) -> list[tuple[str, int]]:
    return [(action.kind, action.number) for action in actions]


def test_opens_what_raises_the_question_and_answers_once_it_is_stated(shelf: Shelf) -> None:
    answer, scripted, events = run(Sculptor(fragment_tokens=100, context_tokens=300), shelf, Question(QUESTION))
    assert "Ann Weller" in answer.answer and answer.evidence[0].quote == FACT
    assert 0 < answer.coverage.retrieved <= 300 and answer.coverage.skipped > 0 and answer.coverage.unread > 0
    assert next(event.note for event in events if event.stage == "act").startswith("open")
    last = scripted.calls[-1].request.messages[-1].content
    assert FACT in last


def test_a_short_text_is_open_from_the_start(tmp_path: Path) -> None:
    book = write_book(tmp_path / "books", 6)
    answer, _, events = run(Sculptor(), shelve(tmp_path / "home", book), Question(QUESTION))
    assert answer.coverage.read == answer.coverage.tokens
    assert not [event for event in events if event.stage == "weigh"]
    flow = Sculptor(fragment_tokens=70, enough_above=2.0)
    answer, _, events = run(flow, shelve(tmp_path / "home", book), Question(QUESTION))
    notes = [event.note for event in events if event.stage == "act"]
    assert any(note.startswith("put away") for note in notes) and "Ann Weller" in answer.answer


def test_actions_by_weights(shelf: Shelf) -> None:
    weights = {0: 3.0, 1: 1.0, 2: 0.0, 3: 2.0, 4: 0.5}
    found = sorted(weights)
    room = 10_000
    assert kinds(weighed(table(shelf, Desk(found=found, weights=weights), room), 0.25))[:2] == [
        ("expand", 0),
        ("expand", 3),
    ]
    lying = Desk(open=[0, 2], found=found, weights=weights)
    assert kinds(weighed(table(shelf, lying, room), 0.25)) == [("fold", 2), ("expand", 3), ("answer", -1)]
    # No room: what is worth least makes room, folded where it says less than the mean, else summarised.
    assert kinds(weighed(table(shelf, lying, 1), 0.25))[0] == ("fold", 2)
    full = Desk(open=[3], found=found, weights=weights)
    assert kinds(weighed(table(shelf, full, 1), 0.25)) == [("summarize", 3), ("answer", -1)]
    assert kinds(weighed(table(shelf, Desk(open=[0], found=[0], weights={0: 1.0}), room), 0.25)) == [("answer", -1)]
    assert kinds(weighed(table(shelf, Desk(found=[4], weights={4: 0.5}), room), 0.25))[0] == ("expand", 4)


def test_searching_comes_before_giving_up(shelf: Shelf) -> None:
    weights = {0: 3.0, 1: 1.0, 2: 0.0}
    desk = Desk(open=[0], found=[0, 1, 2], weights=weights, terms={"lighthouse": None, "gull": 0.0, "rope": 2.9})
    actions = weighed(table(shelf, desk, 10_000), 0.25)
    assert [action.term for action in actions] == ["rope", "lighthouse", ""]


def test_the_model_chooses_among_few_and_what_was_put_away_is_not_offered_again(shelf: Shelf) -> None:
    desk = Desk(open=[0, 1], found=[0, 1, 2, 3], seen=[0, 1, 2], terms={"lighthouse": None})
    found = offered(table(shelf, desk, 10_000))
    assert kinds(found) == [("answer", -1), ("expand", 3), ("fold", 0), ("summarize", 0), ("search", -1)]


def test_folding_and_opening_give_the_same_prompt_again(shelf: Shelf) -> None:
    desk = Desk()
    on_it = table(shelf, desk)
    for number in (7, 3):
        on_it.open(number)
    before = on_it.material()
    assert before == f"{on_it.text(7)}\n\n{on_it.text(3)}"
    assert replace(on_it, in_order=True).material() == f"{on_it.text(3)}\n\n{on_it.text(7)}"
    desk.hide(3)
    assert on_it.material() == on_it.text(7) and before.startswith(on_it.material())
    on_it.open(3)
    assert on_it.material() == before and desk.seen == [7, 3]


def test_a_summary_stands_in_place_of_its_fragment(shelf: Shelf) -> None:
    desk = Desk()
    on_it = table(shelf, desk, 10_000)
    number = next(n for n in range(len(on_it.fragments)) if FACT in on_it.text(n))
    on_it.open(number)
    on_it.summarize(number, 40)
    assert desk.open == [] and on_it.material() == "Ann Weller hid it."
    assert desk.summaries[number].spans
    again = Desk.kept(on_it.services, desk.keep(on_it.services))
    assert again.keep(on_it.services) == desk.keep(on_it.services) and again.seen == [number]
    on_it.open(number)
    assert FACT in on_it.material() and not desk.summaries


def test_a_name_in_what_is_open_leads_on(two_hops: Shelf) -> None:
    def raises(request: Request, text: str) -> float:
        prompt = request.messages[-1].content
        return -30.0 + 20 * (FIRST in prompt) + 15 * (SECOND in prompt)

    scripted = model(likelihoods=raises)
    flow = Sculptor(fragment_tokens=70, context_tokens=250, found=4, hits=3, index="bm25")
    answer, scripted, events = run(flow, two_hops, Question("Who hid the brass key of the lighthouse?"), scripted)
    notes = [event.note for event in events if event.stage == "act"]
    assert "search the whole text for “stornwick”" in notes
    assert "Ann Weller" in answer.answer and any(item.quote == SECOND for item in answer.evidence)


def test_requests_say_which_texts_they_hold(shelf: Shelf) -> None:
    _, scripted, _ = run(Sculptor(fragment_tokens=100, context_tokens=300), shelf, Question(QUESTION))
    marked = [call.request for call in scripted.calls if call.request.reused]
    assert marked
    for request in marked:
        content = request.messages[-1].content
        assert content.startswith("\n\n".join(request.reused)), "the context is the beginning of the prompt"
    answered = scripted.calls[-1].request
    assert answered.reused and any(FACT in text for text in answered.reused)


def test_without_logits_the_model_chooses(shelf: Shelf) -> None:
    def picks(request: Request, options: Sequence[str]) -> list[float]:
        prompt = request.messages[-1].content
        if list(options) == ["Yes", "No"] or "What should be done next" not in prompt:
            return decides(request, options)
        lines = prompt.splitlines()
        wanted = next((line[0] for line in lines if line[1:].startswith(". open the passage")), "A")
        return [1.0 if option == wanted else 0.0 for option in options]

    scripted = model(choices=picks)
    scripted.capabilities = frozenset()
    answer, scripted, _ = run(Sculptor(fragment_tokens=100, context_tokens=800), shelf, Question(QUESTION), scripted)
    assert "Ann Weller" in answer.answer and not [call for call in scripted.calls if call.kind == "likelihood"]


def test_the_number_of_actions_is_bounded(shelf: Shelf) -> None:
    never = model(choices=lambda request, options: [0.01] + [0.99 / (len(options) - 1)] * (len(options) - 1))
    flow = Sculptor(fragment_tokens=100, context_tokens=300, decide="choice", most_actions=5, abstain_below=0.0)
    answer, _, events = run(flow, shelf, Question("Who painted the ceiling?"), never)
    assert sum(event.stage == "act" for event in events) <= 6 and not answer.stopped


def test_a_budget_ends_it_with_an_answer_from_what_is_open(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=18)))
    answer = run_with(LONG, Question(QUESTION), services)
    assert answer.stopped == "max_calls=18" and "Ann Weller" in answer.answer and answer.evidence
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(calls=5)))
    assert run_with(LONG, Question(QUESTION), services).abstained
    services = Services(model(), shelf, RunLog(), budget=Budget(Limits(tokens=100)))
    answer = run_with(Sculptor(context_tokens=7000), Question(QUESTION), services)
    assert not answer.usage.calls and answer.coverage.unread == answer.coverage.tokens, "no model saw what was open"


def test_a_run_that_failed_goes_on(shelf: Shelf, tmp_path: Path) -> None:
    flow = LONG
    whole, _, _ = run(flow, shelf, Question(QUESTION))
    runs = RunLog(tmp_path / "runs.sqlite")
    services = Services(model(faults={whole.usage.calls - 2: ModelError("out of order")}), shelf, runs)
    with open_saver(tmp_path / "checkpoints.sqlite") as saver:
        with pytest.raises(ModelError):
            run_with(flow, Question(QUESTION), services, saver)
        again = Services(model(), shelf, runs, run=services.run)
        answer = resume(flow, Question(QUESTION), again, saver)
    assert (answer.answer, answer.evidence, answer.coverage) == (whole.answer, whole.evidence, whole.coverage)
    assert 0 < len(again.model.calls) < whole.usage.calls


def test_what_does_not_fit_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ConfigError, match="hits"):
        Sculptor(hits=0)
    with pytest.raises(PromptTooLongError):
        run(Sculptor(context_tokens=5), shelf, Question(QUESTION))


def test_the_estimate_is_near_what_is_taken(shelf: Shelf) -> None:
    services = Services(model(), shelf, RunLog())
    cost = LONG.estimate(Question(QUESTION), services)
    taken = LONG.run(Question(QUESTION), services).usage
    assert taken.calls / 3 <= cost.calls <= 6 * taken.calls
    assert taken.prompt_tokens / 3 <= cost.prompt_tokens <= 10 * taken.prompt_tokens
