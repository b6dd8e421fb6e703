"""Texts that the local engine has read are found again on disk: the same replies, and nothing read twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import readthrough as rt
from readthrough.models.base import Request
from readthrough.models.local import engine
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.loading import fingerprint
from readthrough.models.local.stored import prune, stored, stored_bytes
from readthrough.types import Event
from tests import tiny_models

TEXT = "".join(f"Day {day}. {tiny_models.TEXT}\n" for day in range(24))
QUESTIONS = ["Who kept the book?", "What was seen on the third day?"]
BLOCKS = {"select": {"block-topk": {"blocks": 1, "dense_below_tokens": 200}}}
AT_THE_END = {"keep": {"snapkv": {"budget_tokens": 64, "window_tokens": 8}}}
CHUNKS = {"positions": {"dual-chunk": {"chunk_tokens": 700}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"), max_position_embeddings=16384)


def opened(folder: Path, root: Path | None = None, **settings: Any) -> LocalModel:
    """As a process of its own would: nothing in memory."""
    return LocalModel(str(folder), device="cpu", readings=root, **settings)


def about(question: str, text: str = TEXT, **options: Any) -> Request:
    return Request.user(f"{text}\n\n{question}", **options)


@pytest.mark.parametrize("plan", [None, BLOCKS, AT_THE_END, CHUNKS], ids=str)
def test_another_process_reads_the_question_alone_and_says_the_same(folder: Path, tmp_path: Path, plan: Any) -> None:
    settings = {"plan": plan, "forward_tokens": 512}
    asked = [about(question, max_tokens=16) for question in QUESTIONS]
    cold = [opened(folder, **settings).complete([request])[0] for request in asked]
    first = opened(folder, tmp_path, **settings).complete(asked[:1])[0]
    assert first.usage.cached_tokens == 0 and first.usage.prompt_tokens > engine.STORED_TOKENS_MIN
    again = [opened(folder, tmp_path, **settings).complete([request])[0] for request in asked]
    beside = opened(folder, tmp_path, **settings).complete(asked)
    assert [reply.text for reply in again] == [reply.text for reply in beside] == [reply.text for reply in cold]
    # A pattern's prompts are cut at whole pieces.
    most = 512 if plan == BLOCKS else 50
    assert all(reply.usage.prompt_tokens - reply.usage.cached_tokens < most for reply in again)


@pytest.mark.parametrize(
    "plan", [{"store": {"int8": {"group": 16}}}, {"keep": {"kvzip": {"budget_ratio": 0.5}}}], ids=str
)
def test_what_is_compressed_is_not_stored(folder: Path, tmp_path: Path, plan: Any) -> None:
    request = about(QUESTIONS[0], max_tokens=8)
    expected = opened(folder, plan=plan, forward_tokens=512).complete([request])[0].text
    for _ in range(2):
        reply = opened(folder, tmp_path, plan=plan, forward_tokens=512).complete([request])[0]
        assert reply.text == expected and reply.usage.cached_tokens == 0
    assert stored(tmp_path) == []


PAGES = {"decode": {"page-bound": {"budget_ratio": 0.2, "dense_below_tokens": 0, "dense_layers": 0}}}
PACKED_AT_THE_END = {**AT_THE_END, "store": {"int8": {"group": 16}}}


@pytest.mark.parametrize("plan", [AT_THE_END, PAGES, PACKED_AT_THE_END], ids=str)
def test_what_replies_are_written_with_can_change(folder: Path, tmp_path: Path, plan: Any) -> None:
    request = about(QUESTIONS[0], max_tokens=16)
    expected = opened(folder, plan=plan).complete([request])[0].text
    assert expected != opened(folder, tmp_path).complete([request])[0].text
    reply = opened(folder, tmp_path, plan=plan).complete([request])[0]
    assert reply.text == expected and reply.usage.cached_tokens > engine.STORED_TOKENS_MIN
    packed = opened(folder, tmp_path, plan={"store": {"int8": {"group": 16}}}).complete([request])[0]
    assert packed.usage.cached_tokens == 0
    assert len(stored(tmp_path)) == 1


def test_from_disk_is_from_memory_to_the_last_bit(folder: Path, tmp_path: Path) -> None:
    model = opened(folder, tmp_path)
    model.likelihood([about(QUESTIONS[0])], ["Ann"])
    from_memory = model.likelihood([about(QUESTIONS[1])], ["Ann"])[0]
    from_disk = opened(folder, tmp_path).likelihood([about(QUESTIONS[1])], ["Ann"])[0]
    assert from_disk.logprob == from_memory.logprob
    assert from_disk.usage.cached_tokens == from_memory.usage.cached_tokens > engine.STORED_TOKENS_MIN


def test_a_text_is_written_once_and_questions_and_replies_never(folder: Path, tmp_path: Path) -> None:
    model = opened(folder, tmp_path, kept_bytes=0)
    model.complete([about(QUESTIONS[0], max_tokens=40)])
    (reading,) = stored(tmp_path)
    assert reading.nbytes < 1.1 * model._engine.token_bytes * len(model._prompts.encode([TEXT])[0])
    model.complete([about(question, max_tokens=4) for question in QUESTIONS])
    model.choose([about(QUESTIONS[0], TEXT[:2000])], [["Yes", "No"]])
    assert [each.path for each in stored(tmp_path)] == [reading.path]
    opened(folder, tmp_path).complete([about("Who?", "Another one. " + TEXT, max_tokens=1)])
    assert len(stored(tmp_path)) == 2


def test_what_is_at_hand_is_not_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(folder, tmp_path)
    model.complete([about(QUESTIONS[0], max_tokens=1)])
    readings = model._engine.readings
    assert readings is not None
    monkeypatch.setattr(readings, "_load", lambda path: pytest.fail("it is in memory"))
    assert model.complete([about(QUESTIONS[1], max_tokens=1)])[0].usage.cached_tokens > engine.STORED_TOKENS_MIN


def test_other_weights_plans_and_forms_share_nothing(folder: Path, tmp_path: Path) -> None:
    readings = tmp_path / "readings"
    tuned = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, tuned)
    models = [
        opened(folder, readings),
        opened(tuned, readings),
        opened(folder, readings, dtype="bf16"),
        opened(folder, readings, plan=BLOCKS, forward_tokens=512),
        opened(folder, readings, plan=BLOCKS, forward_tokens=256),
        opened(folder, readings, weights="int8"),
    ]
    for number, model in enumerate(models, 1):
        assert model.complete([about("Who?", max_tokens=1)])[0].usage.cached_tokens == 0
        assert len(stored(readings)) == number
    assert len({each.path.parent for each in stored(readings)}) == len(models)


def test_weights_that_were_replaced_by_others_of_the_same_size_and_time(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before, told = fingerprint(tmp_path), weights.stat()
    assert fingerprint(tmp_path) == before
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert fingerprint(tmp_path) != before


def test_what_is_damaged_is_read_anew(folder: Path, tmp_path: Path) -> None:
    expected = opened(folder, tmp_path).complete([about("Who?", max_tokens=16)])[0].text
    path = stored(tmp_path)[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    told: list[Event] = []
    reply = opened(folder, tmp_path, on_event=told.append).complete([about("Who?", max_tokens=16)])[0]
    assert reply.text == expected and reply.usage.cached_tokens == 0
    assert opened(folder, tmp_path).complete([about("Who?", max_tokens=16)])[0].usage.cached_tokens > 0
    assert not [event for event in told if event.stage == "warning"]


def test_a_disk_that_fails_costs_no_answer_and_is_said_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    expected = opened(folder).complete([about("Who?", max_tokens=8)])[0].text
    told: list[Event] = []
    model = opened(folder, tmp_path, on_event=told.append)
    monkeypatch.setattr("readthrough.models.local.readings.os.replace", full)
    assert model.complete([about("Who?", max_tokens=8)])[0].text == expected
    model.close()
    model.complete([about("Who?", "More. " + TEXT, max_tokens=1)])
    warnings = [event.note for event in told if event.stage == "warning"]
    assert len(warnings) == 1 and "No space left" in warnings[0]
    assert stored(tmp_path) == [] and not list(tmp_path.glob("*/*"))


def test_a_folder_that_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[Event] = []
    model = opened(folder, tmp_path / "file", on_event=told.append)
    assert model.complete([about("Who?", max_tokens=1)])[0].text is not None
    (warning,) = [event.note for event in told if event.stage == "warning"]
    assert str(tmp_path / "file") in warning


def test_the_folder_is_taken_away_meanwhile(folder: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    model = opened(folder, tmp_path / "readings", on_event=told.append)
    shutil.rmtree(tmp_path / "readings")
    assert model.complete([about("Who?", max_tokens=1)])[0].usage.prompt_tokens
    assert len([event for event in told if event.stage == "warning"]) == 1


def test_none_are_kept_where_none_are_wanted(folder: Path, tmp_path: Path) -> None:
    opened(folder, tmp_path / "readings", readings_bytes=0).complete([about("Who?", max_tokens=1)])
    opened(folder).complete([about("Who?", max_tokens=1)])
    assert not (tmp_path / "readings").exists()
    opened(folder, tmp_path, readings_bytes=1000).complete([about("Who?", max_tokens=1)])
    assert stored(tmp_path) == []


def test_a_book_asked_twice_is_read_once(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    home = tmp_path / "home"
    settings: Any = {"model": str(folder), "home": home, "index": "bm25", "workflow": "full-context", "device": "cpu"}
    computed = []
    for question in ("Who kept the book?", "Who kept the book?", "Where did the wind come from?"):
        with rt.read(path, **settings) as book:
            usage = book.ask(question, answer_tokens=4).usage
            computed.append(usage.prompt_tokens - usage.cached_tokens)
    assert computed[0] > engine.STORED_TOKENS_MIN and max(computed[1:]) < 0.2 * computed[0]
    assert stored_bytes(home / "readings") > 0
    prune(home / "readings", 0)
    with rt.read(path, **settings, readings_bytes=0) as book:
        book.ask("Who kept the book?", answer_tokens=4)
    assert stored_bytes(home / "readings") == 0
