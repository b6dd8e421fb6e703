"""From a ranking to what is read: nothing twice, never over the budget, what adds most first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough.documents.chunkers.tokens import TokenChunker
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval.widening import distinct, ends_first, fill, widened
from tests.library_samples import HashingEmbedder, count_words

STORM = "The storm broke the lamp and the keeper lit a candle in the upper room."


def unit(*rows: tuple[float, float]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_repeats_are_dropped_whatever_their_case_marks_and_length() -> None:
    texts = [STORM, STORM.upper() + "!!", "Boats stayed out.", f"{STORM} Then it was still.", STORM[:40], "", ""]
    assert distinct(texts) == [0, 2, 5]
    assert distinct([STORM, "The storm broke the lamp and the captain went to sea before noon."]) == [0, 1]
    assert distinct(["Yes.", "No.", "yes"]) == [0, 1]
    assert distinct([]) == []


def test_what_says_the_same_comes_later() -> None:
    vectors = unit((1, 0), (1, 0.05), (0, 1))
    tokens = dict.fromkeys((7, 8, 9), 10)
    assert fill([7, 8, 9], tokens, vectors, 20) == [7, 8], "relevance wins where sameness weighs little"
    assert fill([7, 8, 9], tokens, vectors, 20, sameness=0.5) == [7, 9]
    assert fill([7, 8, 9], tokens, vectors, 20, sameness=0) == [7, 8]


def test_what_does_not_fit_is_passed_over() -> None:
    vectors = unit((1, 0), (0, 1), (1, 1))
    assert fill([1, 2, 3], {1: 5, 2: 50, 3: 5}, vectors, 10, sameness=0) == [1, 3]
    assert fill([1, 2, 3], {1: 5, 2: 50, 3: 5}, vectors, 4) == []
    assert fill([], {}, np.empty((0, 2), dtype=np.float32), 10) == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        fill([1], {1: 1}, unit((1, 0)), 5, sameness=1.5)


@given(
    sizes=st.lists(st.integers(1, 40), max_size=20),
    budget=st.integers(0, 120),
    sameness=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_never_over_the_budget_never_twice_and_nothing_that_still_fits_is_left(
    sizes: list[int], budget: int, sameness: float, seed: int
) -> None:
    ranked = list(range(len(sizes)))
    tokens = dict(zip(ranked, sizes, strict=True))
    vectors = np.random.default_rng(seed).normal(size=(len(sizes), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = fill(ranked, tokens, vectors, budget, sameness)
    used = sum(tokens[chunk] for chunk in chosen)
    assert used <= budget and len(set(chosen)) == len(chosen)
    assert all(tokens[chunk] > budget - used for chunk in set(ranked) - set(chosen))


def test_ends_first() -> None:
    assert ends_first([1, 2, 3, 4, 5, 6]) == [1, 3, 5, 6, 4, 2]
    assert ends_first([1, 2, 3]) == [1, 3, 2]
    assert ends_first([]) == []


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A document of two parts, the first with two chapters of 20 words in paragraphs of 10, which are chunks."""

    def paragraphs(word: str) -> str:
        return "\n\n".join(f"{word} number {part} has ten words in all x end." for part in range(2))

    chapters = [("# One", ""), ("## Red", "red"), ("## Blue", "blue"), ("# Two", "green")]
    path = tmp_path / "book.md"
    path.write_text(
        "\n\n".join(f"{heading}\n\n{paragraphs(word) if word else 'Lead.'}" for heading, word in chapters),
        encoding="utf-8",
    )
    chunker = TokenChunker(12, count_tokens=count_words, counter="words")
    return Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker).shelve([path])


def test_neighbours_and_sections_follow_their_chunk(shelf: Shelf) -> None:
    ids = shelf.chunk_ids()
    texts = [chunk.text for chunk in shelf.get(ids)]
    red = next(place for place, text in enumerate(texts) if "red number 0" in text)
    green = next(place for place, text in enumerate(texts) if "green number 1" in text)
    assert widened(shelf, [ids[green], ids[red]]) == [ids[green], ids[red]]
    assert widened(shelf, [ids[red]], neighbours=1) == [ids[red], ids[red - 1], ids[red + 1]]
    assert widened(shelf, [ids[green]], neighbours=2)[0] == ids[green], "at the end there are none behind it"
    chapter = [id_ for id_, text in zip(ids, texts, strict=True) if "red number" in text]
    assert set(chapter) <= set(widened(shelf, [ids[red]], parent_words=26))
    assert not any("blue" in chunk.text for chunk in shelf.get(widened(shelf, [ids[red]], parent_words=26)))
    part = shelf.get(widened(shelf, [ids[red]], parent_words=60))
    assert any("blue number 1" in chunk.text for chunk in part) and not any("green" in c.text for c in part)
    assert widened(shelf, [ids[red]], parent_words=5) == [ids[red]]
    everything = widened(shelf, [ids[green], ids[red]], 9, 999)
    assert len(everything) == len(set(everything)) == len(ids)


def test_a_text_without_sections_has_no_parents(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text(f"{STORM}\n\n{STORM}", encoding="utf-8")
    shelf = Library.open(tmp_path / "home", embedder=HashingEmbedder()).shelve([path])
    first = shelf.chunk_ids()[:1]
    assert widened(shelf, first, parent_words=99) == first
