"""Trees searched as a heap and walked from the top; what is found is always chunks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from readthrough.errors import ModelError, UsageError
from readthrough.filters import Filter
from readthrough.memory.shelf import Shelf
from readthrough.models.base import ModelBackend, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.base import Index
from readthrough.retrieval.indexes.tree import TreeIndex
from readthrough.retrieval.indexes.vectors import VectorIndex
from readthrough.retrieval.indexes.walk import SLATE, Walk, WalkIndex, Walking
from readthrough.retrieval.trees.base import Node, Summary, Tree
from readthrough.types import Event
from tests.library_samples import WORDS, HashingEmbedder, open_library, write_stories

QUESTION = "Where is the walrus?"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return open_library(tmp_path / "home").shelve(write_stories(tmp_path / "books", range(3), paragraphs=27))


def summary(text: str) -> Summary:
    return Summary(text, text, HashingEmbedder().embed([text])[0])


def grown(leaves: int, special: int) -> Tree:
    """Three children a summary; those over one chunk tell of a walrus, the higher the less."""
    nodes: list[Node] = []
    height = 0
    level = list(range(leaves))
    under = {number: {number} for number in level}
    while len(level) > 1:
        groups = [level[start : start + 3] for start in range(0, len(level), 3)]
        level, height = [], height + 1
        for group in groups:
            number = leaves + len(nodes)
            under[number] = set().union(*(under[child] for child in group))
            told = "the walrus is here" + " and so much besides" * (height - 1)
            text = told if special in under[number] else f"{WORDS[number % len(WORDS)]} number {number}"
            nodes.append(Node(summary(text), tuple(group)))
            level.append(number)
    return Tree(leaves, tuple(nodes))


@pytest.fixture
def trees(shelf: Shelf) -> dict[str, Tree]:
    """The third document has no tree; the walrus is in the second, above its chunk number 10."""
    first, second, _ = shelf.document_ids()
    return {first: grown(len(shelf.chunk_ids(first)), -1), second: grown(len(shelf.chunk_ids(second)), 10)}


def weighs(walrus: float, chunk: str) -> ScriptedModel:
    """A model to which texts about the walrus, and one chunk, raise the question."""

    def likely(request: Request, question: str) -> float:
        text = request.messages[-1].content
        return 10 * (walrus if "walrus is here" in text else 2.0 if chunk in text else math.sin(len(text)) - 1)

    return ScriptedModel(likelihoods=likely)


def test_without_trees_it_is_the_vector_index(shelf: Shelf) -> None:
    query = "keeper of the lamp"
    for among in (None, [shelf.document_ids()[1]], Filter(start=200, end=2000)):
        assert [c for c, _ in TreeIndex(shelf, {}).search(query, 30, among)] == [
            c for c, _ in VectorIndex(shelf).search(query, 30, among)
        ]


def test_a_summary_brings_the_chunks_under_it(shelf: Shelf, trees: dict[str, Tree]) -> None:
    index = TreeIndex(shelf, trees)
    assert isinstance(index, Index)
    document = shelf.document_ids()[1]
    parent = next(node for node in trees[document].nodes if 10 in node.children)
    near = {shelf.chunk_ids(document)[child] for child in parent.children}
    found = [chunk for chunk, _ in index.search("the walrus is here", 3)]
    assert set(found) == near and near != {c for c, _ in TreeIndex(shelf, {}).search("the walrus is here", 3)}
    own = dict(TreeIndex(shelf, {}).search("the walrus is here", 1000))
    for chunk, score in index.search("the walrus is here", 1000):
        assert score >= own[chunk] - 1e-6, "nobody loses by what stands above"
    best, number, cosine = index.summaries("the walrus is here", 2)[0]
    assert best == document and trees[best].node(number).summary.text == "the walrus is here"
    assert cosine == pytest.approx(1, abs=1e-3)


def test_among_holds_for_what_is_under_a_summary(shelf: Shelf, trees: dict[str, Tree]) -> None:
    document = shelf.document_ids()[1]
    ids = shelf.chunk_ids(document)
    tenth = shelf.get([ids[10]])[0]
    one = Filter(documents=(shelf.documents[1].path,), start=tenth.start, end=tenth.end)
    index = TreeIndex(shelf, trees)
    assert [chunk for chunk, _ in index.search("the walrus is here", 9, one)] == [
        chunk for chunk, _ in VectorIndex(shelf).search("the walrus is here", 9, one)
    ]
    assert {each for each, _, _ in index.summaries("walrus", 99, one)} == {document}
    assert len(index.summaries("walrus", 99, one)) == sum(10 in below for below in trees[document].below)
    assert index.search("walrus", 5, []) == index.summaries("walrus", 5, []) == [] == index.search(" ", 5)
    walked = WalkIndex(shelf, trees, ScriptedModel()).search(QUESTION, 99, one)
    assert {chunk for chunk, _ in walked} == {chunk for chunk, _ in index.search("x", 99, one)}


def test_a_walk_opens_what_raises_the_question(shelf: Shelf, trees: dict[str, Tree]) -> None:
    document = shelf.document_ids()[1]
    chunk = shelf.get([shelf.chunk_ids(document)[10]])[0]
    some = shelf.document_ids()[:2]
    events: list[Event] = []
    model = weighs(1.0, chunk.text[20:80])
    depth = sum(10 in below for below in trees[document].below)
    index = WalkIndex(shelf, trees, model, Walking(beam=1, steps=depth), on_event=events.append)
    assert isinstance(index, Index)
    hits = index.search(QUESTION, 5, some)
    assert hits[0][0] == chunk.id and len(hits) == 3, "summaries were opened one below the other"
    asked = [call.request.messages[-1].content for call in model.calls]
    opened = [node for node, below in zip(trees[document].nodes, trees[document].below, strict=True) if 10 in below]
    weighed = 2 + sum(len(node.children) for node in opened)
    assert len(asked) == weighed + depth + 1, "two tops, the children, and the question alone at each step"
    assert len(events) == depth + 1
    assert len(set(asked)) == weighed + 1, "nothing is weighed twice"
    everything = WalkIndex(shelf, trees, model, Walking(beam=5)).search(QUESTION, 9999)
    assert {chunk for chunk, _ in everything} == set(shelf.chunk_ids())
    assert [score for _, score in everything] == sorted((score for _, score in everything), reverse=True)


def test_the_path_counts(shelf: Shelf, trees: dict[str, Tree]) -> None:
    """A chunk under good summaries is before one that is as good under others."""
    first, second, _ = shelf.document_ids()
    texts = [shelf.get([shelf.chunk_ids(document)[10]])[0].text[20:80] for document in (first, second)]

    def likely(request: Request, question: str) -> float:
        text = request.messages[-1].content
        return 21.0 if texts[0] in text else 20.0 if texts[1] in text else 10.0 if "walrus is here" in text else 0.0

    def order(own: float) -> list[int]:
        index = WalkIndex(shelf, trees, ScriptedModel(likelihoods=likely), Walking(beam=9, own_share=own))
        return [chunk for chunk, _ in index.search(QUESTION, 2)]

    ids = [shelf.chunk_ids(document)[10] for document in (first, second)]
    assert order(0.5) == ids[::-1] and order(1.0) == ids


class Chooser(ScriptedModel):
    """Chooses as if every text had a worth of its own, whatever stands beside it."""

    def __init__(self, worth: dict[str, float]) -> None:
        super().__init__(choices=self._shares)
        self.worth = worth
        self.slates: list[int] = []

    def _shares(self, request: Request, options: Sequence[str]) -> list[float]:
        texts = re.split(r"(?:^|\n\n)\[[A-Z]\] ", request.messages[-1].content.split("\n\nQuestion:")[0])[1:]
        assert len(texts) == len(options)
        self.slates.append(len(texts))
        powers = [math.exp(max((v for key, v in self.worth.items() if key in text), default=0.0)) for text in texts]
        return [power / sum(powers) for power in powers]


def test_choices_of_different_slates_are_put_on_one_scale(shelf: Shelf, trees: dict[str, Tree]) -> None:
    first, second, _ = shelf.document_ids()
    chunk = shelf.get([shelf.chunk_ids(second)[10]])[0]
    rival = shelf.get([shelf.chunk_ids(first)[3]])[0]
    model = Chooser({"walrus is here": 2.0, chunk.text[20:80]: 3.0, rival.text[20:80]: 1.0})
    index = WalkIndex(shelf, trees, model, Walking(by="choice", beam=3, own_share=1.0))
    hits = index.search(QUESTION, 9999, [first, second])
    assert [hit for hit, _ in hits[:2]] == [chunk.id, rival.id]
    scores = dict(hits)
    other = shelf.chunk_ids(first)[20]
    assert scores[chunk.id] - scores[rival.id] == pytest.approx(2, abs=0.1), "as far apart as they are"
    assert scores[rival.id] - scores[other] == pytest.approx(1, abs=0.1)
    assert max(model.slates) <= SLATE and len(hits) == sum(tree.leaves for tree in list(trees.values()))
    wide = Chooser({})
    WalkIndex(shelf, {}, wide, Walking(by="choice")).search(QUESTION, 5)
    assert max(wide.slates) <= SLATE and sum(wide.slates) // 2 >= len(shelf.chunk_ids())


@pytest.mark.parametrize("walking", [Walking(steps=4), Walking(by="choice", steps=4), Walking(beam=3, steps=2)])
def test_it_costs_no_more_than_it_said(shelf: Shelf, trees: dict[str, Tree], walking: Walking) -> None:
    model = ScriptedModel()
    index = WalkIndex(shelf, trees, model, walking)
    said = index.cost(QUESTION)
    index.search(QUESTION, 5)
    used = [call.result.usage for call in model.calls if call.result]
    assert len(used) <= said.calls and sum(usage.prompt_tokens for usage in used) <= said.prompt_tokens
    assert index.cost(QUESTION, []).tokens == 0 and index.search(QUESTION, 5, []) == [] == index.search(" ", 5)


def test_what_cannot_be_is_refused_before_anything_is_asked(shelf: Shelf, trees: dict[str, Tree]) -> None:
    model = ScriptedModel()
    with pytest.raises(UsageError, match="most_tokens = 100") as refused:
        WalkIndex(shelf, trees, model, Walking(most_tokens=100)).search(QUESTION, 5)
    assert refused.value.hint and model.calls == []
    for wrong in ({"by": "x"}, {"beam": 0}, {"steps": 0}, {"own_share": 0}, {"anchors": 0}, {"most_tokens": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Walking(**wrong)  # type: ignore[arg-type]

    class Endpoint(ScriptedModel):
        likelihood = ModelBackend.likelihood

    with pytest.raises(ModelError, match="gives no logits"):
        WalkIndex(shelf, trees, Endpoint()).search(QUESTION, 5)


def test_a_child_of_two_is_seen_once(shelf: Shelf) -> None:
    document = shelf.document_ids()[0]
    leaves = len(shelf.chunk_ids(document))
    halves = [tuple(range(leaves // 2 + 2)), tuple(range(leaves // 2 - 2, leaves))]
    tree = Tree(leaves, (*(Node(summary(f"half {half[0]}"), half) for half in halves),))
    assert tree.tops == (leaves, leaves + 1)
    model = ScriptedModel()
    hits = WalkIndex(shelf, {document: tree}, model).search(QUESTION, 999, [document])
    assert len(hits) == leaves and len(model.calls) == leaves + 2 + 2
    assert np.array_equal(tree.below[1], np.arange(leaves // 2 - 2, leaves))


def test_texts_are_weighed_as_they_are_shown(shelf: Shelf, trees: dict[str, Tree]) -> None:
    model = ScriptedModel()
    WalkIndex(shelf, trees, model, Walking(steps=2), shown=lambda text: f"<{text}>").search(QUESTION, 5)
    asked = [call.request.messages[-1].content for call in model.calls]
    assert sum(prompt.startswith("<") for prompt in asked) == len(asked) - 3


@pytest.mark.parametrize("by", ["likelihood", "choice"])
def test_a_walk_can_be_put_aside_between_two_steps(shelf: Shelf, trees: dict[str, Tree], by: str) -> None:
    walking = Walking(by=by, steps=4)  # type: ignore[arg-type]
    index = WalkIndex(shelf, trees, ScriptedModel(), walking)
    whole = index.search(QUESTION, 50)
    value, steps = Walk().to_json(), 0
    while value["beam"]:
        walk = Walk.from_json(value)
        index.step(walk, QUESTION)
        value, steps = json.loads(json.dumps(walk.to_json())), steps + 1
    walk = Walk.from_json(value)
    assert steps == 5 and index.hits(walk, 50) == whole
    places = [place for place, _ in index.ranked(walk)]
    assert len(places) == len(set(places)) > len(whole), "summaries too"
