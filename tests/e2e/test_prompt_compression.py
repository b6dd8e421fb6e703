"""Prompt compression with the small real model: a sentence that answers the question stays, filler goes."""

from __future__ import annotations

import pytest

from readthrough.compression.prompt.longllmlingua import LongLLMLingua
from readthrough.models.local.backend import LocalModel
from tests.compression_samples import check

NEEDLE = (
    "The keeper of the Anholt light was called Maren Holm; she came to the island in 1871 and stayed for forty years."
)
QUESTION = "What was the name of the keeper of the Anholt light?"
DOCUMENTS = [
    "Bread rises because yeast turns sugar into carbon dioxide. Knead it for ten minutes, then let it rest under a "
    "cloth until it has doubled.",
    "The committee met on Tuesday. It discussed the budget at length, and the treasurer asked the members for more "
    "time to check the figures.",
    f"The island lies far out in the strait, and few ships call there in winter. {NEEDLE} The tower was painted white, "
    "and its lamp burned colza oil.",
    "A gearbox should be filled with fresh oil every two years. Drain the old oil while it is warm, and replace the "
    "washer of the plug.",
    "Tomatoes want sun and a steady supply of water. Pinch out the side shoots, and tie the stems to a cane as they "
    "grow.",
]


@pytest.mark.parametrize("texts", [DOCUMENTS, [" ".join(DOCUMENTS)]], ids=["documents", "one text"])
def test_the_answer_survives_at_a_quarter(small_model: LocalModel, texts: list[str]) -> None:
    found = LongLLMLingua(sentence_ratio=1.0).compress(small_model, texts, QUESTION, ratio=0.25)
    check(small_model, texts, found, found.source_tokens // 4)
    assert NEEDLE in found.text
    assert all(word not in found.text for word in ("Bread", "gearbox", "Tomatoes"))


def test_words_of_the_question_survive_at_a_quarter(small_model: LocalModel) -> None:
    found = LongLLMLingua(sentence_ratio=None).compress(small_model, DOCUMENTS, QUESTION, ratio=0.25)
    check(small_model, DOCUMENTS, found, found.source_tokens // 4)
    assert {"keeper", "Anholt", "light"} <= set(found.text.split())
    assert found.spans[0].text == 2, "the document that answers comes first"
    assert all(word not in found.text for word in ("Bread", "treasurer", "Tomatoes"))
