"""Traces: a prompt is cut where its texts stand, causes are found by attention and by search, and through notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.agents.base import Question, Workflow
from readthrough.agents.reading.pointers import sentence_at
from readthrough.agents.runs.services import Services
from readthrough.agents.tracing.base import Trace
from readthrough.agents.tracing.prompts import prompted
from readthrough.agents.tracing.tracing import Tracing
from readthrough.agents.tracing.weighing import ByAttention, BySearch, check
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.agents.workflows.full_context import FullContext
from readthrough.errors import ModelError, UsageError
from readthrough.memory.runs import RunLog, Step
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Attention, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Document
from tests.agent_samples import FACT, QUESTION, decides, says_what_it_reads, shelve, write_book

TEXT = "The keeper of the lamp was Ann.\nShe came in\nMay. Nobody else was there. Rain fell. Rain fell."
NOTE = '{"facts": ["Ann kept the lamp until June."], "pages": [3]}'


def made(content: str, written: str = "Ann.", asked: str = "Who kept the lamp?"):
    """A prompt with the sentences of TEXT and NOTE in it as tiles."""
    document = Document("d", "d.txt", "text", TEXT)
    spans = [(0, 31), (32, 48), (49, 71), (72, 82), (83, 93)]
    places = [(sentence_at(document, *span), TEXT[slice(*span)]) for span in spans]
    return prompted([[["user", content]], "", written], places, [NOTE, asked], asked)


def test_a_prompt_is_cut_where_its_texts_stand() -> None:
    content = (
        "Read this.\n\n[1] The keeper of the lamp was Ann. She came in May.\n\n[2] Rain fell. Rain fell.\n\n"
        "Ann kept the lamp until June.\n\nWho kept the lamp?\nAnswer."
    )
    found = made(content)
    assert "".join(found.shown()) == content == found.request().messages[-1].content
    held = [(tile.text.strip(), tile.place and (tile.place.start, tile.place.end), tile.note) for tile in found.tiles]
    assert [each for each in held if each[1] or each[2]] == [
        ("The keeper of the lamp was Ann.", (0, 31), None),
        ("She came in May.", (32, 48), None),
        ("Rain fell.", (72, 82), None),
        ("Rain fell.", (83, 93), None),
        ("Ann kept the lamp until June.", None, "Ann kept the lamp until June."),
    ]
    less = found.request(without={found.removable[0], found.removable[2]}).messages[-1].content
    assert "keeper" not in less and "She came in May." in less and less.count("Rain fell.") == 1
    assert found.request(prefill="Ann.").prefill == "Ann."


class Attentive(ScriptedModel):
    """Attends to the tokens of the texts that it writes, a little to the first one, and to nothing for `N/A`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.capabilities |= {"attention"}
        self.asked: list[tuple[Request, str]] = []

    def attention_mass(self, request: Request, texts, asked: str) -> Attention:
        self.asked.append((request, asked))
        assert "".join(texts) == request.messages[-1].content and request.prefill.rstrip() == asked
        wanted = set(asked.lower().strip(".").split())
        rows = tuple(
            tuple(0.5 * (at == 0 == n) + (token.lower().strip(".") in wanted) for n, token in enumerate(row))
            for at, row in enumerate(text.split() or [""] for text in texts)
        )
        return Attention(tuple(map(sum, rows)), tuple(map(len, rows)), by_token=rows)


def services(model: ScriptedModel, shelf: Shelf | None = None, runs: RunLog | None = None) -> Services:
    return Services(model=model, shelf=shelf, runs=runs or RunLog())


CONTENT = "The keeper of the lamp was Ann. She came in May. Rain fell.\n\nWho kept the lamp?"


def test_attention_to_the_most_attended_tokens_without_what_gets_it_anyway() -> None:
    found = made(CONTENT, "Ann the keeper.")
    model = Attentive()
    scores = ByAttention(top_tokens=2).weigh(services(model), found)
    assert [round(score, 3) for score in scores.values()] == [1.0, 0.0, 0.0]
    assert [asked for _, asked in model.asked] == ["Ann the keeper.", "N/A"]
    assert ByAttention(top_tokens=1, calibrate=False).weigh(services(model), found)[0] == 1.5


def test_attention_over_draws_is_that_of_the_texts_that_were_drawn() -> None:
    found, model = made(CONTENT, "Ann the keeper."), Attentive()
    scores = ByAttention(draws=8, drawn_ratio=0.4, calibrate=False).weigh(services(model), found)
    shown = {request.messages[-1].content for request, _ in model.asked}
    assert len(model.asked) == 8 and len(shown) == 3  # one of three sentences each time
    assert max(scores, key=scores.__getitem__) == found.removable[0]


def test_the_search_and_the_check_take_texts_away() -> None:
    content = " ".join([TEXT.replace("\n", " "), "Who kept the lamp?"])
    found = made(content, "Ann May")
    scores = BySearch(kept=2).weigh(services(ScriptedModel()), found)
    first, second = sorted(scores, key=lambda tile: -scores[tile])[:2]
    assert {first, second} == set(found.removable[:2]) and scores[second] > 0
    checked = check(services(ScriptedModel()), found, [first, second])
    assert checked.drop > 5 and checked.random_drop == 0
    alone = made("She came in May.\n\nWho kept the lamp?", "May")
    assert BySearch().weigh(services(ScriptedModel()), alone)[alone.removable[0]] > 0
    assert check(services(ScriptedModel()), alone, alone.removable).random_drop is None


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=12))


def traced(flow: Workflow, shelf: Shelf, model: ScriptedModel, how: Tracing | None = None) -> tuple[Trace, RunLog]:
    asked = services(model, shelf)
    answer = flow.run(Question(QUESTION), asked)
    logged = asked.runs.steps(answer.run)
    trace = (how or Tracing()).trace(services(model, shelf, asked.runs), asked.runs.find(answer.run))
    assert asked.runs.steps(answer.run) == logged  # a trace leaves the log as it is
    return trace, asked.runs


def scripted(kind: type[ScriptedModel] = ScriptedModel, **options) -> ScriptedModel:
    return kind(**{"replies": says_what_it_reads, "choices": decides, **options})


@pytest.mark.parametrize("kind", [ScriptedModel, Attentive])
def test_an_answer_is_traced_to_the_text(kind: type[ScriptedModel], shelf: Shelf) -> None:
    trace, _ = traced(FullContext(), shelf, scripted(kind))
    assert trace.evidence[0].quote == FACT and trace.evidence[0].verified
    assert trace.method == ("search" if kind is ScriptedModel else "attention")
    assert trace.written[0].check.drop > trace.written[0].check.random_drop
    assert trace.usage.calls > 0 and len(trace.written[0].causes) <= 5
    assert trace.to_dict()["written"][0]["causes"][0]["evidence"]["quote"] == FACT


def test_an_answer_from_notes_is_traced_through_them(shelf: Shelf) -> None:
    flow = ChainOfAgents(window_tokens=400, message_tokens=40, passage_tokens=0)
    trace, runs = traced(flow, shelf, scripted(Attentive))
    cause = trace.written[0].causes[0]
    assert cause.note == "Ann Weller hid it." and cause.evidence is None
    readers = [step for step in runs.steps(trace.run) if step.node == "work"]
    first = next(step for step in readers if any("Ann Weller" in runs.get(text) for text in step.texts))
    assert cause.step == first.number and len(readers) > 2
    assert cause.behind.causes[0].evidence.quote == FACT == trace.evidence[0].quote
    assert cause.behind.check.drop > 0


def test_what_has_little_of_the_strongest_score_is_no_cause(shelf: Shelf) -> None:
    every, _ = traced(FullContext(), shelf, scripted(Attentive), Tracing(k=4, least_ratio=0.0, check=False))
    few, _ = traced(FullContext(), shelf, scripted(Attentive), Tracing(k=4, least_ratio=0.99))
    assert len(every.evidence) == 4 and every.written[0].check is None
    assert len(few.evidence) < 4


def test_what_cannot_be_traced_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    def refused(model: ScriptedModel, how: Tracing | None = None) -> str:
        with pytest.raises((UsageError, ModelError)) as error:
            traced(FullContext(), shelf, model, how)
        return f"{error.value} {error.value.hint}"

    assert "gave no answer" in refused(scripted(choices=lambda *_: [0.01, 0.99], likelihoods=lambda *_: -9.0))
    assert "its attention" in refused(scripted(), Tracing(method="attention"))
    blind = scripted()
    blind.capabilities = frozenset({"stream"})
    assert "log-probabilities" in refused(blind) and "--model small" in refused(blind)

    asked = services(scripted(), shelf)
    run = asked.runs.find(FullContext().run(Question(QUESTION), asked).run)
    with pytest.raises(UsageError, match="no answer yet"):
        Tracing().trace(asked, replace(run, answer=None))
    other = shelve(tmp_path / "other", write_book(tmp_path / "others", paragraphs=3))
    with pytest.raises(UsageError, match="not those that run"):
        Tracing().trace(services(scripted(), other, asked.runs), run)
    step = asked.runs.steps(run.id)[0]
    asked.runs.log(run.id, replace(step, said=()))
    with pytest.raises(UsageError, match="does not say what its answer was written from"):
        Tracing().trace(asked, run)


def test_prompts_are_no_notes(shelf: Shelf) -> None:
    trace, runs = traced(FullContext(), shelf, scripted(Attentive))
    assert not runs.runs(text="under the third stair")  # words of the text, which no note has
    assert [run.id for run in runs.runs(text="Ann Weller hid it")] == [trace.run]
    runs.delete([trace.run])
    assert runs._file.read("SELECT count(*) FROM said")[0][0] == 0


def test_a_step_of_an_older_log_said_nothing() -> None:
    runs = RunLog()
    run = runs.start("Who?", "retrieve", "small")
    runs.log(run, Step(1, "read"))
    with runs._file.write() as db:
        db.execute("UPDATE steps SET step = json_remove(step, '$.said')")
    assert runs.steps(run) == [Step(1, "read")]
