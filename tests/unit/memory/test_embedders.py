"""A library and its embedder: vectors of two are never mixed, chunks fit what it reads, a setting names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import readthrough as rt
from readthrough.config import load_settings
from readthrough.errors import UnknownNameError, WeightsError
from readthrough.memory.chunking import ByKind
from readthrough.memory.library import Library
from readthrough.opening import open_library
from readthrough.types import Document
from tests.embedder_samples import write_sentence_transformer
from tests.library_samples import HashingEmbedder, count_words, story, write_stories


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_transformer(tmp_path_factory.mktemp("models") / "tiny")


def test_vectors_of_two_embedders_are_never_mixed(tmp_path: Path, folder: Path) -> None:
    paths = write_stories(tmp_path / "books", range(3))
    for spec, dimensions in (("all-minilm-l6-v2", 384), (str(folder), 32), ("all-minilm-l6-v2", 384)):
        settings = load_settings({"home": tmp_path / "home", "embedder": spec, "device": "cpu"}).settings
        library = open_library(settings)
        shelf = library.shelve(paths)
        ids = shelf.chunk_ids()
        vectors = shelf.vectors(ids)
        assert vectors.shape == (len(ids), dimensions)
        expected = shelf.embedder.embed([chunk.text for chunk in shelf.get(ids)])
        assert (vectors * expected).sum(axis=1).min() > 0.99
        assert shelf.search("keeper lamp", 3)
        assert library.check() == ()
        library.close()
    held = library.connection().execute("SELECT DISTINCT embedder, dimensions FROM segments").fetchall()
    assert sorted(dimensions for _, dimensions in held) == [32, 384]


def test_a_changed_model_of_the_same_name_is_another_embedder(tmp_path: Path, folder: Path) -> None:
    paths = write_stories(tmp_path / "books", [1])
    first = Library.open(tmp_path / "home", embedder=str(folder)).shelve(paths)
    other = write_sentence_transformer(tmp_path / "tiny", seed=5)
    second = Library.open(tmp_path / "home", embedder=str(other)).shelve(paths)
    assert first.embedder.name != second.embedder.name
    one, two = first.vectors(first.chunk_ids()), second.vectors(second.chunk_ids())
    assert one.shape == two.shape
    assert np.abs(one - two).max() > 0.1


def test_chunks_fit_the_embedder() -> None:
    document = Document("id", "story.txt", story(1, 20), "text")
    embedder = HashingEmbedder()
    for most in (20, 120, 1000):
        embedder.max_tokens = most
        chunks = ByKind(embedder).split(document)
        longest = max(count_words([chunk.text for chunk in chunks]))
        assert 0.5 * min(most, 128) < longest <= min(most, 128)
        assert "".join(chunk.text for chunk in chunks) == document.text


def test_the_default_embedder_splits_as_before() -> None:
    from readthrough.documents.chunkers.code import CodeChunker
    from readthrough.documents.chunkers.tokens import TokenChunker
    from readthrough.retrieval.embedders.open import open_embedder

    expected = f"{TokenChunker(whole_tokens=254).fingerprint} {CodeChunker().fingerprint}"
    assert ByKind(open_embedder("all-minilm-l6-v2")).fingerprint == expected
    longer = {"all-minilm-l6-v2": {"window_tokens": 512, "positions": "grouped"}}
    assert ByKind(open_embedder(longer)).fingerprint != expected


def test_the_embedder_of_a_book(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_stories(tmp_path / "books", [1])[0]
    monkeypatch.setenv("READTHROUGH_EMBEDDER", str(folder))
    with rt.read(path, home=tmp_path / "home") as book:
        assert book.search("keeper of the lamp", 3)
    with rt.read(path, home=tmp_path / "home", embedder={"sentence-transformers": {"model": str(folder)}}) as book:
        assert book.search("keeper of the lamp", 3)
    loaded = load_settings().settings
    assert json.loads(json.dumps(loaded.to_keep()))["embedder"] == str(folder)


def test_what_is_no_embedder_says_so(tmp_path: Path) -> None:
    path = write_stories(tmp_path / "books", [1])[0]
    with pytest.raises(UnknownNameError, match="all-minilm-l6-v2"):
        rt.read(path, home=tmp_path / "home", embedder="all-minilm-l6")
    with pytest.raises(WeightsError, match=r"modules\.json"):
        rt.read(path, home=tmp_path / "home", embedder=str(tmp_path / "books"))
