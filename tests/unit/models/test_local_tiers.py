"""The local engine with kept KV in two memories and on disk: the same results whatever has room where.

On a processor nothing moves by itself (`keep_on_host` is for CUDA); here it is made to, between buffers of one memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from readthrough.errors import ConfigError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.engine import STORED_TOKENS_MIN
from readthrough.models.local.prefixes import KeptSequences
from readthrough.models.local.stored import stored
from readthrough.models.local.tiers import Tiers
from tests import tiny_models

TEXTS = ["".join(f"{name} {day}. {tiny_models.TEXT}\n" for day in range(8)) for name in ("Day", "Night")]
LONG = TEXTS[0] * 3
PLANS: list[Any] = [
    None,
    {"select": {"block-topk": {"blocks": 1, "dense_below_tokens": 200}}},
    {"keep": {"snapkv": {"budget_tokens": 64, "window_tokens": 8}}},
    {"keep": {"kvzip": {"budget_ratio": 0.5}}},
    {"keep": {"sink-window": {"window_tokens": 64}}},
    {"store": {"int8": {"group": 16}}},
    {"store": "host"},
    {"positions": {"dual-chunk": {"chunk_tokens": 700}}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"), max_position_embeddings=16384)


def opened(folder: Path, kept_bytes: int, host_bytes: int | None, **options: Any) -> LocalModel:
    model = LocalModel(str(folder), device="cpu", kept_bytes=kept_bytes, forward_tokens=512, **options)
    if host_bytes is not None:
        model._engine.keep_on_host(host_bytes)
    return model


def about(text: str, question: str, **options: Any) -> Request:
    return Request.user(f"{text}\n\n{question}", **options)


def tiers_of(model: LocalModel) -> Tiers:
    kept = model._engine.kept
    assert isinstance(kept, Tiers)
    return kept


def results(model: LocalModel) -> tuple[list[Any], int]:
    """Everything that is said about two texts in turn; how many tokens did not have to be computed."""
    said: list[Any] = []
    cached = 0
    for question in ("Who kept the book?", "Where did the wind come from?"):
        replies = [model.complete([about(text, question, max_tokens=6)])[0] for text in TEXTS]
        both = model.likelihood([about(text, question) for text in TEXTS], ["Ann", "north"])
        said += [reply.text for reply in replies] + [each.logprob for each in both]
        cached += sum(usage.cached_tokens for usage in [each.usage for each in replies] + [each.usage for each in both])
    return said, cached


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_results_do_not_depend_on_what_has_room_where(folder: Path, plan: Any) -> None:
    expected, cached = results(opened(folder, 1 << 30, None, plan=plan))
    assert results(opened(folder, 1, 1 << 30, plan=plan)) == (expected, cached), "the host's is the device's"
    for limits in ((1, 1000), (1_500_000, 1_500_000)):  # all but nothing is kept; about one text in either
        found, found_cached = results(opened(folder, *limits, plan=plan))
        # What is computed anew is computed in other passes, and rounds otherwise.
        assert found == [each if isinstance(each, str) else pytest.approx(each, abs=1e-4) for each in expected]
        assert found_cached <= cached


def test_a_processor_has_one_memory(folder: Path, tmp_path: Path) -> None:
    model = LocalModel(str(folder), device="cpu", kept_host_bytes=1 << 30, readings=tmp_path)
    assert type(model._engine.kept) is KeptSequences
    for wrong in (-1, -(1 << 40)):
        with pytest.raises(ConfigError, match="kept_host_bytes must be at least 0"):
            LocalModel(str(folder), device="cpu", kept_host_bytes=wrong)


def test_joined_texts_move_and_only_what_was_read_is_stored(folder: Path, tmp_path: Path) -> None:
    def asked(question: str, order: int) -> Request:
        texts = (*TEXTS, TEXTS[0].lower())[::order]
        return Request.user(f"{''.join(texts)}{question}", max_tokens=6, reused=tuple(texts))

    plan = {"join": {"blend": {"recompute_ratio": 0.15}}}
    requests = [asked("Who?", 1), asked("What?", -1), asked("Where?", 1)]
    expected = [opened(folder, 1 << 30, None, plan=plan).complete([request])[0].text for request in requests]
    model = opened(folder, 1, 1 << 30, plan=plan)
    model._engine.keep_on_disk(tmp_path, 1 << 30)
    assert [model.complete([request])[0].text for request in requests] == expected
    longest = max(len(tokens) for _, tokens, _ in tiers_of(model).host.entries())
    assert longest > STORED_TOKENS_MIN > max(model.count_tokens(TEXTS))
    model.close()
    assert stored(tmp_path) == [], "what is joined is not what would be read"


def test_memory_that_does_not_suffice_moves_kept_kv_to_the_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(folder, 1 << 30, 1 << 30)
    asked = [about(text, "Who?", max_tokens=4) for text in TEXTS]
    expected = [model.complete([request])[0].text for request in asked]
    forward = model._loaded.model.forward
    failed: list[int] = []

    def fail_once(*args: Any, **kw: Any) -> Any:
        if not failed:
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kw)

    monkeypatch.setattr(model._loaded.model, "forward", fail_once)
    model.complete([about("Something else. " + TEXTS[0], "Who?", max_tokens=1)])
    assert model._engine._pass_tokens == model.forward_tokens, "the pass did not become smaller"
    assert len(tiers_of(model).host) == len(TEXTS)
    again = [model.complete([request])[0] for request in asked]
    assert [reply.text for reply in again] == expected
    assert all(reply.usage.prompt_tokens - reply.usage.cached_tokens == 1 for reply in again)


@pytest.mark.parametrize("times", [1, 2, 9])
def test_no_memory_to_bring_it_back(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    model = opened(folder, 1 << 30, 1 << 30)
    request = about(TEXTS[0], "Who?", max_tokens=4)
    expected = model.complete([request])[0].text
    model._engine.kept.make_room()
    model.complete([about(TEXTS[1], "Who?", max_tokens=4)])
    kept = tiers_of(model)
    failed: list[int] = []
    bring = kept.bring

    def fail(*args: Any) -> Any:
        failed.append(1)
        if len(failed) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return bring(*args)

    monkeypatch.setattr(kept, "bring", fail)
    reply = model.complete([request])[0]
    assert reply.text == expected
    # Once there is room when the rest has moved to the host; after that it is read anew.
    assert (reply.usage.cached_tokens > 0) == (times == 1) and len(kept.host) == 2


def test_what_leaves_the_host_is_found_on_disk(folder: Path, tmp_path: Path) -> None:
    requests = [about(LONG, question, max_tokens=6) for question in ("Who kept the book?", "Where?")]
    expected = [opened(folder, 1 << 30, None).complete([request])[0].text for request in requests]
    model = opened(folder, 1, 1_000_000)
    model._engine.keep_on_disk(tmp_path, 1 << 30)
    assert model.complete(requests[:1])[0].text == expected[0]
    (reading,) = stored(tmp_path)
    assert len(tiers_of(model).host) == 0, "it is larger than the host may hold"
    again = model.complete(requests[1:])[0]
    assert again.text == expected[1] and again.usage.cached_tokens > STORED_TOKENS_MIN
    assert stored(tmp_path)[0].path == reading.path, "a question more is not worth a file"


@pytest.mark.parametrize("kept_bytes", [1 << 30, 1])
def test_what_was_read_is_stored_when_the_model_is_closed(folder: Path, tmp_path: Path, kept_bytes: int) -> None:
    model = opened(folder, kept_bytes, 1 << 30)
    model._engine.keep_on_disk(tmp_path, 1 << 30)
    request = about(LONG, "Who kept the book?", max_tokens=6)
    expected = model.complete([request])[0]
    model.complete([about(TEXTS[1][:300], "Where?", max_tokens=1)])
    assert stored(tmp_path) == [], "no call waits for the disk"
    model.close()
    assert len(stored(tmp_path)) == 1 and len(model._engine.kept) == len(tiers_of(model).host) == 0
    model.close()
    other = opened(folder, kept_bytes, 1 << 30)  # another process
    other._engine.keep_on_disk(tmp_path, 1 << 30)
    found = other.complete([request])[0]
    assert found.text == expected.text
    assert found.usage.prompt_tokens - found.usage.cached_tokens == 1 < expected.usage.prompt_tokens


def test_a_damaged_file_is_made_again(folder: Path, tmp_path: Path) -> None:
    request = about(LONG, "Who kept the book?", max_tokens=6)
    said = []
    for _ in range(2):
        model = opened(folder, 1, 1 << 30)
        model._engine.keep_on_disk(tmp_path, 1 << 30)
        said.append(model.complete([request])[0])
        model.close()
        (reading,) = stored(tmp_path)
        data = bytearray(reading.path.read_bytes())
        data[len(data) // 2] ^= 1
        reading.path.write_bytes(data)
    assert said[0].text == said[1].text and said[1].usage.cached_tokens == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(folder: Path, tmp_path: Path) -> None:
    def model(**options: Any) -> LocalModel:
        return LocalModel(str(folder), device="cuda", **options)

    expected, cached = results(model())
    moving = model(kept_bytes=1)
    assert results(moving) == (expected, cached)
    hosted = [block for _, _, sequence in tiers_of(moving).host.entries() for block in sequence.blocks()]
    assert hosted and {tensor.device.type for block in hosted for tensor in getattr(block, "keys", ())} == {"cpu"}
    requests = [about(LONG, question, max_tokens=6) for question in ("Who?", "What?")]
    cold = [model(kept_bytes=0).complete([request])[0].text for request in requests]
    first = model(readings=tmp_path)
    first.complete(requests[:1])
    first.close()
    again = [model(readings=tmp_path).complete([request])[0] for request in requests]
    assert [reply.text for reply in again] == cold
    assert all(reply.usage.cached_tokens > STORED_TOKENS_MIN for reply in again)
