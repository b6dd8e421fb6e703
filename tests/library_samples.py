"""What tests of the library share: an embedder without weights, a quick chunker, and texts of a known shape."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from readthrough.documents.chunkers.tokens import TokenChunker
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.types import Event

VOCABULARY = (
    "keeper lamp storm harbour letter brass key window stair winter ledger signal gull rope tide captain "
    "cellar bell candle mirror garden orchard carriage village doctor sister market bridge river forest "
    "mountain road shepherd "
)
WORDS = VOCABULARY.split()


class HashingEmbedder:
    """Bags of hashed words: deterministic, and texts that share words are near each other."""

    def __init__(self, name: str = "hashing", dimensions: int = 64) -> None:
        self.name = name
        self.dimensions = dimensions
        self.max_tokens = 120
        self.embedded = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed_tokens(self, texts: Sequence[str], task: str = "document") -> list[np.ndarray]:
        """A vector a word, of it and of the next one."""
        words = [text.split() or ["\x00"] for text in texts]
        return [self.embed([" ".join(some[place : place + 2]) for place in range(len(some))]) for some in words]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        if any(count > self.max_tokens for count in self.count_tokens(texts)):
            raise ValueError("a text is too long")
        self.embedded += len(texts)
        vectors = np.full((len(texts), self.dimensions), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                place = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest())
                vectors[row, place % self.dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def chunker(size_tokens: int = 60) -> TokenChunker:
    return TokenChunker(size_tokens, count_tokens=count_words, counter="words")


def open_library(home: Path, embedder: HashingEmbedder | None = None, events: list[Event] | None = None) -> Library:
    """A library that needs no weights; what it has to say is added to `events`."""
    listener = None if events is None else events.append
    return Library.open(home, embedder=embedder or HashingEmbedder(), chunker=chunker(), on_event=listener)


def story(seed: int, paragraphs: int = 6) -> str:
    """A made-up text of `paragraphs` paragraphs of 40 to 60 words; another for every seed."""
    chance = random.Random(seed)
    made = []
    for number in range(paragraphs):
        words = [chance.choice(WORDS) for _ in range(chance.randint(40, 60))]
        made.append(f"In part {number} of story {seed} the {' '.join(words)}.")
    return "\n\n".join(made) + "\n"


def shelf_of(folder: Path, texts: Mapping[str, str]) -> Shelf:
    """Texts by name, each a file, on a shelf of a library in `folder`."""
    (folder / "texts").mkdir()
    for name, text in texts.items():
        (folder / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    return open_library(folder / "home").shelve([folder / "texts"])


def write_stories(folder: Path, seeds: Sequence[int], paragraphs: int = 6) -> list[Path]:
    """One file a seed in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"story{seed:03}.txt" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        path.write_text(story(seed, paragraphs), encoding="utf-8")
    return paths
