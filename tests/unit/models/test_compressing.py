"""KV that a plan compresses: the same with everything kept, real bytes saved, whatever is computed beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readthrough.errors import ConfigError, ModelError, PromptTooLongError, UnknownNameError
from readthrough.kernels.rotary import Yarn, linear_frequencies, ntk_frequencies, yarn_frequencies
from readthrough.models.base import Request
from readthrough.models.local.attention import Batch
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.behind import NO_ROWS
from readthrough.models.local.cache import bytes_held
from readthrough.models.local.engine import SNAPSHOTS_MAX
from readthrough.models.local.jobs import Job
from tests import tiny_models

TEXT = tiny_models.TEXT * 8
ASKED = [Request.user(f"{TEXT} {question}", max_tokens=16) for question in ("Who?", "What was seen?", "When?")]

EVERYTHING: list[Any] = [
    {"keep": {"sink-window": {"window_tokens": 100_000, "renumber": False}}},
    {"keep": {"sink-window": {"window_tokens": 1, "sink_tokens": 100_000, "renumber": False}}},
    {"keep": {"snapkv": {"budget_tokens": 100_000}}},
    {"keep": {"kvzip": {"budget_ratio": 1.0}}},
    {"store": "disk"},
    {"store": "host"},
    {"keep": {"kvzip": {"budget_ratio": 1.0, "uniform": True, "window_tokens": 50}}},
    {"keep": {"h2o": {"budget_ratio": 1.0, "at": "piece"}}},
    {"keep": {"kvmerger": {"budget_ratio": 1.0}}},
    {
        "select": {"sink-window": {"window_tokens": 4096, "dense_below_tokens": 200}},
        "keep": {"kvzip": {"budget_ratio": 1}},
    },
]
LESS: list[Any] = [
    {"keep": {"sink-window": {"window_tokens": 32}}},
    {"keep": {"sink-window": {"window_tokens": 32, "renumber": False}}},
    {"keep": {"sink-window": {"window_tokens": 32, "at": "prompt"}}},
    {"keep": {"snapkv": {"budget_tokens": 64, "window_tokens": 8}}},
    {"keep": {"snapkv": {"budget_ratio": 0.2, "window_tokens": 8}}},
    {"keep": {"kvzip": {"budget_ratio": 0.2}}},
    {"keep": {"kvzip": {"budget_ratio": 0.2, "uniform": True}}},
    {"keep": {"kvzip": {"budget_ratio": 0.2, "shares": "all", "sink_tokens": 4}}},
    {"keep": {"pyramidkv": {"budget_ratio": 0.2}}},
    {"keep": {"h2o": {"budget_ratio": 0.2}}},
    {"keep": {"h2o": {"budget_ratio": 0.3, "at": "piece", "window_tokens": 16}}},
    {"keep": {"kvmerger": {"budget_ratio": 0.3, "least_similarity": 0}}},
    {"keep": {"shotkv": {"budget_ratio": 0.3, "shot_separator": ". "}}},
    {"store": {"int4": {"group": 16, "window_tokens": 32}}},
    {"store": {"int8": {"group": 16, "window_tokens": 32}}},
    {"store": {"fp8": {"group": 16, "window_tokens": 32}}},
    {"store": {"disk": {"window_tokens": 32}}},
    {"keep": {"kvzip": {"budget_ratio": 0.5}}, "store": {"int4": {"group": 16, "value_form": "int2"}}},
    {"select": {"block-topk": {"blocks": 1, "dense_below_tokens": 200}}, "keep": {"kvzip": {"budget_ratio": 0.5}}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def opened(folder: str, plan: Any = None, **options: Any) -> LocalModel:
    return LocalModel(folder, device="cpu", plan=plan, forward_tokens=256, **options)


def texts(model: LocalModel) -> list[str]:
    return [reply.text for reply in model.complete(ASKED)]


@pytest.mark.parametrize("plan", EVERYTHING, ids=str)
def test_with_everything_kept_nothing_changes(folder: str, plan: Any) -> None:
    dense, whole = opened(folder), opened(folder, plan)
    expected = [found.logprob for found in dense.likelihood(ASKED, ["grey"] * 3)]
    assert [found.logprob for found in whole.likelihood(ASKED, ["grey"] * 3)] == pytest.approx(expected, abs=2e-4)
    assert texts(whole) == texts(dense)


@pytest.mark.parametrize("plan", LESS, ids=str)
def test_replies_do_not_depend_on_what_was_asked_before_or_beside(folder: str, plan: Any) -> None:
    alone = [opened(folder, plan).complete([request])[0].text for request in ASKED]
    model = opened(folder, plan)
    assert texts(model) == alone, "side by side, the text computed once"
    again = [model.complete([request])[0] for request in ASKED]
    assert [reply.text for reply in again] == alone, "one after another, with kept KV"
    policy = model._engine.plan.keep
    whole = policy is not None and policy.accumulates and policy.moment == "prompt"
    assert again[0].usage.cached_tokens == 0 if whole else again[0].usage.cached_tokens > 200
    assert opened(folder, plan, kept_bytes=0).complete(ASKED[:1])[0].text == alone[0], "with nothing kept"


@pytest.mark.parametrize(
    "plan",
    [
        {"keep": {"h2o": {"budget_ratio": 0.2}}},
        {
            "decode": {
                "infllm": {"budget_tokens": 260, "sink_tokens": 4, "latest_tokens": 16, "dense_below_tokens": 100}
            }
        },
    ],
    ids=str,
)
def test_what_has_to_see_a_whole_prompt_sees_a_shared_text_once(folder: str, plan: Any) -> None:
    alone = [opened(folder, plan).complete([request])[0] for request in ASKED]
    together = opened(folder, plan).complete(ASKED)
    assert [(reply.text, reply.logprob) for reply in together] == [
        (reply.text, pytest.approx(reply.logprob, abs=1e-3)) for reply in alone
    ]
    assert all(reply.usage.cached_tokens == 0 for reply in alone)
    assert sum(reply.usage.cached_tokens > 200 for reply in together) == len(ASKED) - 1


@pytest.mark.parametrize("plan", LESS, ids=str)
def test_memory_falls(folder: str, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, int] = {}
    for name, each in (("dense", None), ("less", plan)):
        model = opened(folder, each)
        compress = model._engine.compress_prompt

        def look(job: Job, name: str = name, compress: Callable[[Job], None] = compress) -> None:
            compress(job)
            held[name] = bytes_held([job.sequence])

        monkeypatch.setattr(model._engine, "compress_prompt", look)
        model.complete(ASKED[:1])
    assert held["less"] < 0.75 * held["dense"], held


def test_attention_is_added_up_while_a_prompt_is_read(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every query to every token, whatever the passes; a pass that failed counts for nothing."""
    model = opened(folder, {"keep": {"h2o": {"budget_ratio": 0.5}}})
    engine = model._engine
    seen: list[Job] = []
    monkeypatch.setattr(engine, "compress_prompt", seen.append)
    forward, calls = engine.forward, []

    def short_of_memory(*a: Any, **kw: Any) -> torch.Tensor:
        logits = forward(*a, **kw)
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory: DefaultCPUAllocator: can't allocate memory")
        return logits

    monkeypatch.setattr(engine, "forward", short_of_memory)
    model.complete([replace(ASKED[0], max_tokens=1)])
    job = seen[0]
    heads = 2
    for layer in range(3):
        sums = job.attended[layer]
        assert sums.shape == (2, len(job.tokens))
        torch.testing.assert_close(sums.sum(1), torch.full((2,), float(heads * len(job.tokens))))


def test_places_behind_a_separator(folder: str) -> None:
    model = opened(folder)
    tokens = model._loaded.tokenizer("One. Two é. Three.\n\nFour. ")["input_ids"]
    starts = model._engine.compressor._starts(". ", np.array(tokens))
    texts = [model._loaded.tokenizer.decode(tokens[at:])[:5].strip() for at in starts]
    assert [text[:3] for text in texts] == ["Two", "Thr"]


def test_plans_that_are_wrong_are_refused(folder: str) -> None:
    for plan, said in [
        ({"keep": "snapkw"}, "snapkw"),
        ({"keep": {"snapkv": {"budget_tokens": 10}}}, "budget_tokens"),
        ({"keep": {"kvzip": {"budget_ratio": 0}}}, "budget_ratio"),
        ({"store": "int3"}, "int3"),
        ({"store": {"int4": {"value_form": "full"}}}, "packed"),
        ({"store": {"int4": {"group": "wide"}}}, "group"),
        ({"store": {"int4": {"group": 48}}}, "whole groups of 48"),
        ({"keep": "lacache"}, "3 layers"),
        ({"keep": {"evolkv": {"layer_ratios": [1, 2]}}}, "for 2: search"),
        ({"keep": "h2o", "select": "antidiagonal"}, "leave out select"),
        ({"positions": "stretched"}, "stretched"),
        ({"positions": {"yarn": {"factor": 0.5}}}, "factor"),
    ]:
        with pytest.raises((ConfigError, UnknownNameError), match=said):
            opened(folder, plan)


def test_a_text_of_any_length_in_fixed_memory(folder: str) -> None:
    plan = {"keep": {"sink-window": {"window_tokens": 64}}}
    model = opened(folder, plan, window_tokens=100_000)
    long, longer = (Request.user(tiny_models.TEXT * times, max_tokens=4) for times in (60, 120))
    held = []
    for request in (long, longer):
        reply = model.complete([request])[0]
        assert reply.usage.prompt_tokens > 2 * 2048, "more than the model was made for"
        held.append(bytes_held(sequence for _, sequence in list(model._engine.kept._entries.values())[-1:]))
    assert held[1] < 1.2 * held[0]
    alone = opened(folder, plan, window_tokens=100_000)
    alone.complete([longer])
    assert len(alone._engine.kept) <= 1 + SNAPSHOTS_MAX
    with pytest.raises(PromptTooLongError):
        opened(folder, {"keep": "kvzip"}).complete([longer])
    with pytest.raises(ConfigError, match="made for 2048"):
        opened(folder, {"keep": "kvzip"}, window_tokens=4096)
    with pytest.raises(ConfigError, match="lower window_tokens"):
        opened(folder, {"keep": {"sink-window": {"window_tokens": 2000}}})


@pytest.mark.parametrize("scheme", ["linear", "ntk", "yarn"])
def test_scaled_positions(folder: str, scheme: str) -> None:
    model = opened(folder, {"positions": {scheme: {"factor": 3}}})
    assert model.window_tokens == 3 * 2048
    width, base = 16, 10000.0
    expected = {
        "linear": linear_frequencies(width, base, 3),
        "ntk": ntk_frequencies(width, base, 3),
        "yarn": yarn_frequencies(width, base, Yarn(3, 2048)),
    }[scheme]
    assert torch.allclose(model._loaded.inverse_frequencies, expected.inverse.float(), rtol=1e-6)
    assert model.complete([Request.user(tiny_models.TEXT * 30, max_tokens=4)])[0].usage.prompt_tokens > 2048
    assert scheme in model.plan_name and scheme in model.identity


@pytest.mark.parametrize("plan", [{"store": "int4"}, {"keep": "kvzip"}])
def test_sliding_windows_are_not_compressed(tmp_path: Path, plan: Any) -> None:
    folder = tiny_models.save(tmp_path, "Mistral", sliding_window=64)
    with pytest.raises(ConfigError, match="sliding window"):
        opened(str(folder), plan)


def test_positions_of_another_kind_are_not_moved(tmp_path: Path) -> None:
    folder = str(tiny_models.save(tmp_path, "Helium"))  # neighbouring channels are a pair
    with pytest.raises(ModelError, match="cannot be moved"):
        opened(folder, {"keep": {"sink-window": {"window_tokens": 32}}})
    assert opened(folder, {"keep": {"sink-window": {"window_tokens": 32, "renumber": False}}})


def test_who_watches_a_pass_of_one_token_sees_one(folder: str) -> None:
    seen: list[tuple[int, int]] = []
    batch = Batch.pack([(None, 1)])
    batch.watch = lambda layer, q, lse: seen.append((q.shape[1], lse.shape[1]))
    with torch.inference_mode():
        opened(folder)._engine.forward(batch, [np.array([5])], NO_ROWS)
    assert set(seen) == {(1, 1)}, "the idle row beside it is nobody's"
