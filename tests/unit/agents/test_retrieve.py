from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.retrieve import Retrieve
from readthrough.errors import ConfigError, UnknownNameError
from readthrough.memory.library import Library
from readthrough.memory.runs import RunLog
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.widening import ends_first
from readthrough.spec import build
from readthrough.types import Limits
from tests.agent_samples import FACT, QUESTION, decides, run, says_what_it_reads, shelve, write_book
from tests.library_samples import HashingEmbedder, chunker


def test_reads_no_more_than_its_budget(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    answer, _, _ = run(Retrieve(passage_tokens=300), shelf, Question(QUESTION))
    assert 0 < answer.coverage.retrieved <= 300
    assert answer.coverage.unread > 0


def test_abstains_when_the_passages_do_not_say(tmp_path: Path) -> None:
    path = write_book(tmp_path / "books", fact="Nobody knows where the letters went.")
    question = Question("Which comet did the astronomer Tycho Brahe measure in 1577?")
    answer, _, events = run(Retrieve(), shelve(tmp_path / "home", path), question)
    assert answer.abstained and not answer.evidence
    assert "weigh" in {event.stage for event in events}  # it looked deeper before it gave up
    assert answer.coverage.skipped > 0


def test_a_question_for_the_words_themselves_is_answered_by_a_quote(tmp_path: Path) -> None:
    path = write_book(tmp_path / "books")
    question = Question("Quote the sentence that says who hid the brass key of the lighthouse.")
    answer, model, _ = run(Retrieve(), shelve(tmp_path / "home", path), question)
    assert answer.answer == FACT == answer.evidence[0].quote
    assert all(call.kind != "complete" for call in model.calls)  # nothing was written by the model


def test_a_model_without_logits_is_asked_in_words(tmp_path: Path) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    model.capabilities = frozenset({"stream"})
    answer, model, _ = run(
        Retrieve(), shelve(tmp_path / "home", write_book(tmp_path / "books")), Question(QUESTION), model
    )
    assert "Ann Weller" in answer.answer
    assert {call.kind for call in model.calls} == {"choose", "complete"}


@pytest.mark.parametrize(("scores", "calls"), [(True, 4), (False, 1)])
def test_a_choice_is_made_within_what_is_held_back_for_it(tmp_path: Path, scores: bool, calls: int) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    model.capabilities = frozenset({"logits"} if scores else {"stream"})
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    services = Services(model, shelf, RunLog(), budget=Budget(Limits(calls=calls)))
    question = Question(QUESTION, ("Bob Marsh", "Ann Weller", "nobody"))
    assert Retrieve().last_step(question, services).calls == calls
    answer = Retrieve().run(question, services)
    assert answer.stopped == f"max_calls={calls}" and answer.answer in question.choices
    assert answer.usage.calls == calls


@pytest.mark.parametrize("choices", [None, ("Bob Marsh", "Ann Weller", "nobody")])
@pytest.mark.parametrize("scores", [True, False])
def test_what_an_answer_takes_is_said_before(tmp_path: Path, scores: bool, choices: tuple[str, ...] | None) -> None:
    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    model.capabilities = frozenset({"logits"} if scores else {"stream"})
    services = Services(model, shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60)), RunLog())
    question = Question(QUESTION, choices)
    cost = Retrieve().estimate(question, services)
    usage = Retrieve().run(question, services).usage
    assert cost.calls == usage.calls
    assert usage.prompt_tokens / 1.5 < cost.prompt_tokens < 1.5 * usage.prompt_tokens


def test_where_there_is_source_code_as_much_is_held_back_as_it_may_have(tmp_path: Path) -> None:
    path = tmp_path / "wait.py"
    path.write_text("def wait(seconds):\n    return seconds\n", encoding="utf-8")
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker())
    book = write_book(tmp_path / "books", paragraphs=60)
    services = [Services(ScriptedModel(), library.shelve(paths), RunLog()) for paths in ([book], [book, path])]
    text, mixed = (Retrieve().last_step(Question(QUESTION), each).prompt_tokens for each in services)
    assert 700 < text < 1000 and 2000 < mixed < 2300


def test_a_named_section_is_where_it_looks(tmp_path: Path) -> None:
    path = tmp_path / "tales.md"
    body = "\n\n".join(f"The captain of ship {number} drank tea at noon." for number in range(40))
    path.write_text(
        f"# The Storm\n\nThe captain was Ann Weller.\n\n# The Calm\n\nThe captain was Bob Marsh.\n\n{body}\n"
    )
    shelf = shelve(tmp_path / "home", path)
    answer, _, _ = run(Retrieve(), shelf, Question('In the story "The Storm", who was the captain?'))
    assert [item.section for item in answer.evidence] == ["The Storm"]
    assert answer.coverage.retrieved < answer.coverage.tokens / 2


def test_a_reranker_decides_what_is_read(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    plain, _, _ = run(Retrieve(passage_tokens=120), shelf, Question(QUESTION))
    answer, model, _ = run(Retrieve(passage_tokens=120, rerank="likelihood"), shelf, Question(QUESTION))
    assert "Ann Weller" in answer.answer and "Ann Weller" in plain.answer
    asked = [call for call in model.calls if call.kind == "likelihood"]
    assert len(asked) > 24, "every candidate is weighed"
    assert answer.usage.calls == len(model.calls), "and counted"


def test_what_a_reranker_takes_is_said_before(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    services = Services(model=ScriptedModel(), shelf=shelf, runs=RunLog())
    more = Retrieve(rerank={"likelihood": {}}, weigh=10).estimate(Question(QUESTION), services)
    assert more.calls == Retrieve(weigh=10).estimate(Question(QUESTION), services).calls + 11


def test_what_says_the_same_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "same.txt"
    said = "The captain of the ship drank tea at noon and then went to sleep below the deck."
    other = "Tea was kept dry by the captain in a tin box that stood near the wheel of the ship, where it was warm."
    path.write_text("\n\n".join([*[said] * 12, other]), encoding="utf-8")
    shelf = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(20)).shelve([path])
    question = Question("When did the captain of the ship drink tea?")
    every, _, _ = run(Retrieve(), shelf, question)
    once, _, _ = run(Retrieve(sameness=0.3), shelf, question)
    assert once.coverage.retrieved < every.coverage.retrieved / 4
    assert once.coverage.retrieved >= 2 * 16


def test_the_best_passages_stand_at_the_ends(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    services = Services(model=ScriptedModel(), shelf=shelf, runs=RunLog())
    ranked = shelf.chunk_ids()[10:4:-1]
    made = Retrieve(order="ends")._passages(services, ranked, Question(QUESTION))
    assert [chunk.id for chunk in made] == ends_first([chunk for chunk in ranked if chunk in {c.id for c in made}])
    assert len(made) > 2


def test_options_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sameness"):
        build("workflows", {"retrieve": {"sameness": 2}})
    with pytest.raises(UnknownNameError, match="reranker"):
        build("workflows", {"retrieve": {"rerank": "likelyhood"}})


def test_parts_of_a_question_are_searched_for(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    vague = Question("Storm harbour window winter ledger?")

    def says(request: Request) -> str:
        return QUESTION if "simpler questions" in request.messages[-1].content else says_what_it_reads(request)

    wanted = {"index": "bm25", "passage_tokens": 120, "second_look": False, "abstain_below": 0.0}
    plain, _, _ = run(Retrieve(**wanted), shelf, vague, ScriptedModel(replies=says))
    parts, _, _ = run(Retrieve(parts=3, **wanted), shelf, vague, ScriptedModel(replies=says))
    assert "Ann Weller" in parts.answer and "Ann Weller" not in plain.answer
    services = Services(model=ScriptedModel(), shelf=shelf, runs=RunLog())
    costs = [made.estimate(vague, services) for made in (Retrieve(parts=3, **wanted), Retrieve(**wanted))]
    assert costs[0].calls == costs[1].calls + 1 and costs[0].completion_tokens > costs[1].completion_tokens


def test_what_found_code_rests_on_is_read_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    filler = "\n\n".join(f"def gull_{number}():\n    return {number}" for number in range(30))
    (folder / "lamp.py").write_text(
        f"from oil import refill\n\n\ndef light_the_lamp(jar):\n    return refill(jar)\n\n\n{filler}\n"
    )
    (folder / "oil.py").write_text(f"{filler}\n\n\ndef refill(jar):\n    return jar + 42\n")
    shelf = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(24)).shelve([folder])
    question = Question("What does light_the_lamp return?")
    read = {}
    for tokens in (0, 40):
        flow = Retrieve(index="bm25", k=1, passage_tokens=100, definition_tokens=tokens)
        _, model, _ = run(flow, shelf, question)
        read[tokens] = any("jar + 42" in message.content for call in model.calls for message in call.request.messages)
    assert read == {0: False, 40: True}
    with pytest.raises(ConfigError, match="definition_tokens"):
        build("workflows", {"retrieve": {"definition_tokens": -1}})


def test_of_a_text_that_holds_no_word_of_the_question_the_beginning_is_read(tmp_path: Path) -> None:
    shelf = shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))
    question = Question("Wer trank Wasser?")
    assert not shelf.search(question.text, 5, "bm25")
    answer, _, _ = run(Retrieve(index="bm25"), shelf, question)
    assert answer.abstained and answer.coverage.retrieved > 0
