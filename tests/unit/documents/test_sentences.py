"""Sentences: exact offsets, nothing lost, and the traps of real prose."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from readthrough.documents.sentences import LONG_CHARS, line_spans, sentence_spans
from tests.document_samples import long_text


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


CASES = {
    "titles": ["Mr. Smith met Dr. Jones.", "They spoke."],
    "saints": ["He lived in St. Paul with Mrs. Dalloway.", "She did not."],
    "countries": ["The U.S. Army came to the U.S.", "The end was near."],
    "clock": ["It was 5 p.m.", "He left.", "At 6 a.m. sharp she woke."],
    "initials": ["J. R. R. Tolkien wrote it.", "So did I.", "Then we slept."],
    "latin": ["Some, e.g. Kant, i.e. the philosopher, cf. Hume, etc. did.", "Others not."],
    "numbers": ["It cost 3.14 dollars, see No. 5 and Fig. 2.", "He said no.", "Then he left."],
    "chapters": ["As Chap. IV and pp. 12 show.", "It rained."],
    "ellipsis": ["He waited... and waited.", "Then...", "Nothing."],
    "quotes": ['"Stop!" he said.', '"Why?"', "“Because.”", "She left."],
    "brackets": ["It rained.", "(It always did.)", "He slept."],
    "notes": ["It is known.[12]", "So is this.[3][4]", "End."],
    "shouting": ["What?!", "No!!!", "Yes."],
    "companies": ["Acme Inc. Paris sold Foo Ltd. shares.", "The end."],
}


@pytest.mark.parametrize("case", CASES)
def test_prose(case: str) -> None:
    assert cut(" ".join(CASES[case])) == CASES[case]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A hard-wrapped line of a book that\ngoes on in the next. And the\nlast one.", 2),
        ("First paragraph without a stop\n\nSecond one", 2),
        ("1:1 In the beginning God created.\n1:2 And the earth was\nwithout form;\n1:3 and God said, Light.", 3),
        ("Gen 1:1 In the beginning\nGen 1:2 And the earth", 2),
        ("We met at the old station of the town at\n10:30 and went home on a very long way.", 1),
        ("To buy:\n- eggs\n- milk. And bread.\n* tea", 5),
        ("1. First item\n2. Second item. With more.\n(a) third", 4),
        ("# Title\nText below it. More.", 3),
        ("Hour | Oil\nSix | Two pints\nTen | None", 3),
        ("keeper,town,pints\nAnn of the tower,Brest,2\nTom,Brest,3", 3),
        ('keeper,note,pints\nAnn,"lit it, and slept",2\nTom,"lit it, late",3', 3),
        ("Straße;Größe\nLange Gasse;3,5\nMarkt;2", 3),
        ("都市\t人口\n東京\t14\n大阪\t9", 3),
        ("\tA paragraph of which each line is set in\n\tby a tab and which goes on to the next one.", 1),
        ("To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer", 1),
        (
            "A long line that ends at the right margin of this page\nShort\nAnd another line that runs on, as it must",
            2,
        ),
        ("これは文です。次の文！「はい。」終わり", 4),
        ("人人生而自由。他们赋有理性？是的", 3),
        ("सब मनुष्य स्वतंत्र हैं। वे समान हैं।", 2),
        ("هل هذا صحيح؟ نعم.", 2),
        ("Page one ends\fPage two begins", 2),
        ("", 0),
        (" \n\t ", 0),
    ],
)
def test_layout(text: str, expected: int) -> None:
    assert len(cut(text)) == expected, cut(text)


def test_long_sentences_are_divided_at_semicolons_then_commas_then_spaces() -> None:
    clause = "the lamp burned in the tower through the whole of the night"
    by_semicolon = cut("; ".join([f"{clause}, and {clause}"] * 20))
    assert all(item.endswith(";") for item in by_semicolon[:-1])
    by_comma = cut(", ".join([clause] * 40))
    assert all(item.endswith(",") for item in by_comma[:-1])
    for text in ("; ".join([clause] * 40), ", ".join([clause] * 40), " ".join([clause] * 40), "x" * 5000):
        assert max(map(len, cut(text))) <= LONG_CHARS


pieces = st.sampled_from(
    [
        ". ",
        "! ",
        "? ",
        "\n",
        "\n\n",
        "Mr. ",
        "U.S. ",
        "...",
        "“",
        "”",
        "。",
        "- ",
        "1. ",
        "1:2 ",
        "; ",
        ", ",
        "\f",
        "\u2029",
        "\x85",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    text=st.lists(pieces | st.text(max_size=12) | st.just("word " * 150), max_size=40).map("".join),
    shift=st.integers(0, 9),
)
def test_spans_hold_every_character_that_is_not_blank(text: str, shift: int) -> None:
    for spans in (sentence_spans(text, shift), line_spans(text, shift)):
        position = 0
        for start, end in spans:
            assert position <= start - shift < end - shift <= len(text)
            assert not text[position : start - shift].strip()
            sentence = text[start - shift : end - shift]
            assert sentence == sentence.strip()
            assert len(sentence) <= LONG_CHARS
            position = end - shift
        assert not text[position:].strip()


def test_lines_of_code() -> None:
    source = "def f():\n    return 1\n\n\nx = 'a. B c'\n"
    assert [source[start:end] for start, end in line_spans(source)] == ["def f():", "return 1", "x = 'a. B c'"]


def test_a_long_book_is_quick_and_its_sentences_are_sentences() -> None:
    text = long_text()
    spans = sentence_spans(text)
    lengths = sorted(end - start for start, end in spans)
    assert 40 < lengths[len(lengths) // 2] < 160
    assert sum(length < 5 for length in lengths) < len(lengths) / 20


@pytest.mark.parametrize("unit", [".", ". ", '"', ".]", "\n", "\n ", "a.b.", "((", " |", "1:1 ", ",", "\u3002", "a\n"])
def test_no_text_takes_quadratic_time(unit: str) -> None:
    def seconds(count: int) -> float:
        text = unit * count
        started = time.process_time()
        sentence_spans(text)
        return time.process_time() - started

    seconds(1000)
    assert seconds(100_000) < 20 * max(seconds(20_000), 0.02)
