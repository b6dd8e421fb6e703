"""All chunks scored by the model: what it finds, what it costs, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.errors import ModelError, UsageError
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend
from readthrough.models.local.backend import LocalModel
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.base import Index
from readthrough.retrieval.indexes.reading import ReadingIndex
from readthrough.types import Event
from tests import tiny_models
from tests.agent_samples import FACT, QUESTION, write_book
from tests.library_samples import open_library, write_stories


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    others = write_stories(tmp_path / "others", range(3))
    return open_library(tmp_path / "home").shelve([write_book(tmp_path / "books"), *others])


def test_the_chunk_that_raises_the_question_most_is_first(shelf: Shelf) -> None:
    events: list[Event] = []
    index = ReadingIndex(shelf, ScriptedModel(), on_event=events.append)
    assert isinstance(index, Index)
    hits = index.search(QUESTION, 5)
    assert FACT in shelf.get([hits[0][0]])[0].text
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    assert len(index.search(QUESTION, 10_000)) == len(shelf.chunk_ids())
    assert (events[-1].done, events[-1].total) == (len(shelf.chunk_ids()),) * 2
    only = shelf.documents[2].id
    assert {chunk for chunk, _ in index.search(QUESTION, 9999, [only])} == set(shelf.chunk_ids(only))
    assert index.search(" ", 5) == [] and index.search(QUESTION, 5, []) == []


def test_steps_do_not_change_what_is_found(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ReadingIndex(shelf, ScriptedModel()).search(QUESTION, 20)
    monkeypatch.setattr("readthrough.retrieval.indexes.reading.STEP_CHUNKS", 7)
    assert ReadingIndex(shelf, ScriptedModel()).search(QUESTION, 20) == whole


def test_it_costs_what_it_said_and_the_next_question_its_own_tokens(shelf: Shelf, tmp_path: Path) -> None:
    model = LocalModel(str(tiny_models.save(tmp_path / "tiny")), device="cpu")
    only = [shelf.documents[1].id]
    index = ReadingIndex(shelf, model)
    said, again = index.cost(QUESTION, only), index.cost(QUESTION, only, kept=True)
    assert said.calls == len(shelf.chunk_ids(only[0])) + 1
    assert again.prompt_tokens == said.prompt_tokens and again.read_tokens < said.read_tokens
    index.search("What is in the cellar?", 3, only)
    requests, used = model.likelihood, []
    model.likelihood = lambda *given: used.extend(found := requests(*given)) or found
    index.search(QUESTION, 3, only)
    assert sum(each.usage.prompt_tokens for each in used) <= said.prompt_tokens
    assert sum(each.usage.cached_tokens for each in used) >= again.cached_tokens, "no chunk is read a second time"


def test_nonsense_sizes_and_models_are_refused_before_anything_is_asked(shelf: Shelf) -> None:
    model = ScriptedModel()
    with pytest.raises(UsageError, match="most_tokens = 100") as refused:
        ReadingIndex(shelf, model, most_tokens=100).search(QUESTION, 5)
    assert refused.value.hint and model.calls == []
    with pytest.raises(ValueError, match="at least 1"):
        ReadingIndex(shelf, model, most_tokens=0)

    class Endpoint(ScriptedModel):
        likelihood = ModelBackend.likelihood

    with pytest.raises(ModelError, match="gives no logits"):
        ReadingIndex(shelf, Endpoint()).search(QUESTION, 5)


def test_chunks_are_read_as_they_are_shown(shelf: Shelf) -> None:
    model = ScriptedModel()
    ReadingIndex(shelf, model, shown=lambda chunk: f"<{chunk.id}>").search(QUESTION, 5)
    asked = [call.request.messages[-1].content for call in model.calls]
    assert all(f"<{chunk}>" in text for chunk, text in zip(shelf.chunk_ids(), asked[1:], strict=True))
