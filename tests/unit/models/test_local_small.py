"""The local engine on the small real model: what only real weights, bf16 and a real tokenizer can show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.prefixes import KeptSequences

PASSAGES = [
    "The keeper of the Anholt light was called Maren. She came to the island in 1871 and stayed for forty years.",
    "Bread rises because yeast turns sugar into carbon dioxide. Knead it for ten minutes and let it rest.",
    "The committee met on Tuesday. It discussed the budget, and the treasurer asked for more time.",
]
QUESTION = "What was the name of the lighthouse keeper?"

CODE = '''def rows(path, *, encoding="utf-8"):
    """Every row of the file at `path` as a list of cells."""
    with open(path, encoding=encoding) as lines:
        for line in lines:
            yield [cell.strip() for cell in line.split(",")]
'''


@pytest.fixture(autouse=True)
def nothing_kept(small_model: LocalModel) -> None:
    small_model.close()


def test_drafts_change_no_reply_and_save_passes(small_model: LocalModel) -> None:
    requests = [
        Request.user(f"{CODE}\nRepeat this function.", max_tokens=28, prefill="```python\n"),
        Request.user("What is a lighthouse?", max_tokens=12),
    ]
    writer, plain_limits, step = small_model._writer, small_model._writer.limits, small_model._writer._step
    found, passes = [], []
    for drafts in (0, 7):
        writer.limits = replace(plain_limits, draft_tokens=drafts)
        small_model.close()
        with pytest.MonkeyPatch.context() as patch:
            counted: list[int] = []
            patch.setattr(writer, "_step", lambda running, counted=counted: (counted.append(1), step(running)))
            found.append([small_model.complete([request])[0] for request in requests])
            passes.append(len(counted))
    writer.limits = plain_limits
    assert [reply.text for reply in found[0]] == [reply.text for reply in found[1]]
    assert passes[1] < 0.7 * passes[0]
    assert "def rows(path, *" in found[0][0].text


def test_a_decision_and_its_probability(small_model: LocalModel) -> None:
    prompt = "What is the capital of France?\nA. Rome\nB. Paris\nC. Oslo\nAnswer with one letter only."
    choice = small_model.choose([Request.user(prompt, prefill="Answer:")], [[" A", " B", " C"]])[0]
    assert choice.best == 1


def test_relevance_is_what_a_text_adds_to_the_likelihood_of_the_question(small_model: LocalModel) -> None:
    requests = [Request.user(f"{passage}\n\nAsk a question about this text.") for passage in PASSAGES]
    scores = [each.mean for each in small_model.likelihood(requests, [QUESTION] * 3)]
    assert max(range(3), key=scores.__getitem__) == 0


def test_asking_again_reads_only_the_question(small_model: LocalModel) -> None:
    text = " ".join(PASSAGES) * 4
    first = small_model.complete([Request.user(f"{text}\n\n{QUESTION}", max_tokens=12)])[0]
    again = small_model.complete([Request.user(f"{text}\n\nHow long did she stay?", max_tokens=12)])[0]
    assert "Maren" in first.text
    assert "forty" in again.text.lower() or "40" in again.text
    assert again.usage.prompt_tokens - again.usage.cached_tokens < 25


def test_a_reading_on_disk_is_what_was_in_memory(small_model: LocalModel, tmp_path: Path) -> None:
    engine = small_model._engine
    text = "".join(f"{number}. {passage} " for number in range(26) for passage in PASSAGES)
    request = Request.user(f"{text}\n\n{QUESTION}", max_tokens=8)
    try:
        engine.keep_on_disk(tmp_path, 1 << 30)
        cold = small_model.complete([request])[0]
        from_memory = small_model.likelihood([request], ["Maren"])[0]
        small_model.close()
        from_disk = small_model.likelihood([request], ["Maren"])[0]
        again = small_model.complete([request])[0]
    finally:
        engine.readings = None
    assert cold.usage.cached_tokens == 0 and "Anholt" in cold.text
    assert from_disk.logprob == from_memory.logprob
    assert from_disk.usage.cached_tokens == from_memory.usage.cached_tokens == cold.usage.prompt_tokens - 1
    assert again.text == cold.text


def test_what_came_back_from_the_host_is_what_was_on_the_device(
    small_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = small_model._engine
    requests = [Request.user(f"{' '.join(PASSAGES) * 3}\n\n{question}") for question in (QUESTION, "Who met?")]

    def asked() -> list[tuple[float, int]]:
        found = [small_model.likelihood([request], ["Maren"])[0] for request in requests]
        return [(each.logprob, each.usage.cached_tokens) for each in found]

    on_device = asked()
    small_model.close()
    monkeypatch.setattr(engine, "kept", KeptSequences(1))
    engine.keep_on_host(1 << 30)
    assert asked() == on_device and on_device[1][1] > 200
    assert len(engine.kept) == 0 and engine.kept.entries() == []


def test_a_schema_with_real_tokens(small_model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 40}, "year": {"type": "integer"}},
        "required": ["name", "year"],
        "additionalProperties": False,
    }
    request = Request.user(f"{PASSAGES[0]}\n\nWho came, and when? Answer in JSON.", max_tokens=60, schema=schema)
    value = json.loads(small_model.complete([request])[0].text)
    jsonschema.validate(value, schema)
    assert value == {"name": "Maren", "year": 1871}


def test_streamed_emoji_are_whole(small_model: LocalModel) -> None:
    pieces: list[str] = []
    request = Request.user("Repeat exactly: 🦔🧭 naïve 日本語 🏴‍☠️", max_tokens=24)
    reply = small_model.stream(request, pieces.append)
    assert "".join(pieces) == reply.text
    assert "🧭" in reply.text
    assert not any("\ufffd" in piece for piece in pieces)
