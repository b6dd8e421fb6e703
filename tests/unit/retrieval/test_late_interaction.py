"""Late interaction over a library: exact MaxSim, vectors that come and go with their chunks, and what is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from readthrough.errors import ConfigError, WeightsError
from readthrough.memory import token_vectors
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.retrieval.embedders.late_interaction import LateInteractionEmbedder
from readthrough.retrieval.embedding import embed_tokens
from readthrough.retrieval.indexes.late_interaction import maxsim
from readthrough.types import Event
from tests.embedder_samples import write_bert, write_colbert, write_sentence_transformer
from tests.library_samples import HashingEmbedder, chunker, write_stories

QUERY = "the keeper of the lamp and a storm from the sea"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colbert(tmp_path_factory.mktemp("models") / "colbert")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> LateInteractionEmbedder:
    return LateInteractionEmbedder(str(folder), dtype="float32", device="cpu")


@pytest.fixture
def library(embedder: LateInteractionEmbedder, tmp_path: Path) -> Library:
    return open_library(tmp_path, embedder)


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Shelf:
    return library.shelve(write_stories(tmp_path / "books", range(4)), vectors=False)


def open_library(folder: Path, embedder: LateInteractionEmbedder, events: list[Event] | None = None) -> Library:
    listener = None if events is None else events.append
    return Library.open(folder / "home", embedder=embedder, chunker=chunker(), on_event=listener)


def brute_force(query: np.ndarray, texts: list[np.ndarray]) -> list[float]:
    return [sum(max(float(one @ other) for other in text) for one in query) for text in texts]


def test_maxsim_equals_brute_force() -> None:
    chance = np.random.default_rng(0)
    texts = [chance.standard_normal((count, 6)).astype(np.float32) for count in (1, 5, 2, 9)]
    query = chance.standard_normal((3, 6)).astype(np.float32)
    found = maxsim(query, np.concatenate(texts), np.array([len(text) for text in texts]))
    assert np.allclose(found, brute_force(query, texts), atol=1e-5)


def test_the_index_equals_brute_force(shelf: Shelf, embedder: LateInteractionEmbedder) -> None:
    chunks = shelf.get(shelf.chunk_ids())
    assert len(chunks) > 20
    (query,) = embed_tokens(embedder, [QUERY], "query")
    texts = embed_tokens(embedder, [chunk.text for chunk in chunks])
    expected = dict(zip(shelf.chunk_ids(), brute_force(query, texts), strict=True))
    hits = shelf.search(QUERY, 10, "late-interaction")
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.chunk.id] for hit in hits], abs=0.02)
    assert hits[0].score == pytest.approx(max(expected.values()), abs=0.02)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_vectors_are_those_of_the_projected_encoder(folder: Path, embedder: LateInteractionEmbedder) -> None:
    """Against the encoder and the projection themselves."""
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    weights = load_file(folder / "model.safetensors")
    model = BertModel(BertConfig.from_pretrained(folder)).eval()
    model.load_state_dict(
        {name.removeprefix("bert."): value for name, value in weights.items() if "linear" not in name}
    )
    tokens = embedder._loaded.tokenizer("[unused1] the lamp is lit", return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state[0] @ weights["linear.weight"].T
    expected = torch.nn.functional.normalize(hidden, dim=-1).numpy()
    (found,) = embedder.embed_tokens(["the lamp is lit"])
    assert found.shape == expected.shape == (7, 16)
    assert np.abs(found - expected).max() < 1e-5


def test_marks_are_left_out_of_texts_and_queries_are_filled_up(embedder: LateInteractionEmbedder) -> None:
    plain, marked = embedder.embed_tokens(["the lamp", "the , lamp ."])
    assert len(plain) == len(marked) == 5
    (query,) = embedder.embed_tokens(["lamp"], "query")
    assert len(query) == 8, "ColBERT's masks up to query_maxlen"


def test_long_queries_and_texts_are_read_whole(embedder: LateInteractionEmbedder) -> None:
    long = "the keeper lit the lamp and the storm came in from the sea"
    first, second = embed_tokens(embedder, [long + " house", long + " taxes"], "query")
    assert len(first) > 8
    assert np.abs(first - second).max() > 1e-3, "the last word counts"
    (text,) = embed_tokens(embedder, ["lamp " * 100])
    assert len(text) >= 100
    with pytest.raises(ValueError, match="longer than"):
        embedder.embed_tokens(["lamp " * 100])


def test_vectors_are_made_once_and_go_with_their_document(
    library: Library, shelf: Shelf, embedder: LateInteractionEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.search(QUERY, 3, "late-interaction")
    count = "SELECT count(*), count(DISTINCT chunk) FROM token_vectors"
    assert library.connection().execute(count).fetchone() == (len(shelf.chunk_ids()),) * 2
    library.close()
    again = open_library(tmp_path, embedder)
    opened = again.shelve([entry.path for entry in shelf.documents], vectors=False)
    monkeypatch.setattr(token_vectors, "embed_tokens", lambda *arguments: pytest.fail("embedded again"))
    assert opened.search(QUERY, 3, "late-interaction")
    again.delete([entry.path for entry in shelf.documents[1:]])
    assert again.connection().execute(count).fetchone() == (len(shelf.chunk_ids(shelf.documents[0].id)),) * 2


def test_what_was_done_before_an_interruption_is_kept(
    library: Library, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_vectors, "STEP_CHUNKS", 5)
    calls: list[int] = []
    real = token_vectors.embed_tokens

    def interrupted(*arguments: object) -> list[np.ndarray]:
        calls.append(len(arguments[1]))  # type: ignore[arg-type]
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(token_vectors, "embed_tokens", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shelf.search(QUERY, 3, "late-interaction")
    assert library.connection().execute("SELECT count(*) FROM token_vectors").fetchone() == (10,)
    assert len(shelf.search(QUERY, 100, "late-interaction")) == len(shelf.chunk_ids())
    assert sum(calls) == len(shelf.chunk_ids()) + 5


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE token_vectors SET vectors = zeroblob(length(vectors)) WHERE chunk % 3 = 0",
        "UPDATE token_vectors SET vectors = substr(vectors, 1, 20) WHERE chunk % 3 = 0",
        "UPDATE token_vectors SET tokens = tokens + 1 WHERE chunk % 3 = 0",
        "UPDATE token_vectors SET vectors = 'text' WHERE chunk % 3 = 0",
        "DELETE FROM token_vectors WHERE chunk % 3 = 0",
    ],
)
def test_damage_is_found_and_made_again(embedder: LateInteractionEmbedder, tmp_path: Path, damage: str) -> None:
    events: list[Event] = []
    library = open_library(tmp_path, embedder, events)
    shelf = library.shelve(write_stories(tmp_path / "books", range(2)), vectors=False)
    before = shelf.search(QUERY, 5, "late-interaction")
    with sqlite3.connect(tmp_path / "home" / "library.sqlite") as connection:
        assert connection.execute(damage).rowcount > 2
    assert shelf.search(QUERY, 5, "late-interaction") == before
    assert any(event.stage == "warning" for event in events) or damage.startswith("DELETE")
    with sqlite3.connect(tmp_path / "home" / "library.sqlite") as connection:
        connection.execute(damage)
    assert bool(library.check()) != damage.startswith("DELETE")
    assert library.check() == ()
    assert shelf.search(QUERY, 5, "late-interaction") == before


def test_another_embedder_says_what_is_missing(tmp_path: Path) -> None:
    class Single:
        name, dimensions, max_tokens = "single", 64, 120
        count_tokens, embed = HashingEmbedder().count_tokens, HashingEmbedder().embed

    library = Library.open(tmp_path / "home", embedder=Single(), chunker=chunker())
    shelf = library.shelve(write_stories(tmp_path / "books", [1]), vectors=False)
    with pytest.raises(ConfigError, match="late-interaction:MODEL"):
        shelf.search(QUERY, 3, "late-interaction")


def test_a_model_without_a_projection_is_refused(tmp_path: Path) -> None:
    """Where it has none, the library would make a random one up."""
    write_bert(tmp_path / "bert")
    for bad in (tmp_path / "bert", write_sentence_transformer(tmp_path / "single")):
        with pytest.raises(WeightsError, match="modules.json|tokens"):
            _ = LateInteractionEmbedder(str(bad)).name


def test_the_other_indexes_take_the_mean(shelf: Shelf, embedder: LateInteractionEmbedder) -> None:
    (found,) = embedder.embed(["the lamp is lit"])
    (tokens,) = embedder.embed_tokens(["the lamp is lit"])
    mean = tokens.mean(axis=0)
    assert np.abs(found - mean / np.linalg.norm(mean)).max() < 1e-5
    assert shelf.search(QUERY, 3, "hybrid")
