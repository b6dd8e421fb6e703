"""The local backend on a tiny random model: every promise of ModelBackend against transformers itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from readthrough.errors import ConfigError, ModelError, PromptTooLongError, UsageError, WeightsError
from readthrough.models.base import Completion, Request
from readthrough.models.local.backend import LocalModel
from readthrough.types import Event
from tests import tiny_models

TEXT = tiny_models.TEXT
QUESTIONS = ["Who kept the book?", "What was seen on the third day?", "Count to 7.", "The sea?", TEXT[:150]]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bob"]}, "old": {"type": "boolean"}, "age": {"enum": [1, 31]}},
    "required": ["name", "old", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel(str(folder), device="cpu")


def cold(folder: Path, **settings: Any) -> LocalModel:
    return LocalModel(str(folder), device="cpu", **settings)


def about(text: str, question: str, **options: Any) -> Request:
    return Request.user(f"{text}\n\n{question}", **options)


def prompt_ids(model: LocalModel, request: Request) -> torch.Tensor:
    return torch.from_numpy(model._prompts.encode([model._prompts.render(request)])[0])[None]


def reference_text(model: LocalModel, request: Request) -> tuple[str, int]:
    """What transformers' own generate writes, and in how many tokens."""
    ids = prompt_ids(model, request)
    inner = model._loaded.model
    settings = {"max_new_tokens": request.max_tokens, "do_sample": False, "eos_token_id": [*model._loaded.eos_ids]}
    out = inner.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    new = out[0, ids.shape[1] :]
    return model._loaded.tokenizer.decode(new, skip_special_tokens=True), len(new)


def reference_logprob(model: LocalModel, request: Request, continuation: str) -> float:
    prompt = model._prompts.render(request)
    whole = torch.tensor(model._loaded.tokenizer.encode(prompt + continuation, add_special_tokens=False))[None]
    start = prompt_ids(model, request).shape[1]
    assert torch.equal(whole[:, :start], prompt_ids(model, request)), "choose a text that does not merge"
    with torch.no_grad():
        logprobs = model._loaded.model(whole).logits[0].double().log_softmax(-1)
    return float(sum(logprobs[at - 1, whole[0, at]] for at in range(start, whole.shape[1])))


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


@pytest.mark.parametrize("drafts", [0, 7])
@pytest.mark.parametrize("forward_tokens", [16, 2048])
@pytest.mark.parametrize("running", [1, 3])
def test_greedy_replies_are_transformers_own(folder: Path, drafts: int, forward_tokens: int, running: int) -> None:
    model = cold(folder, draft_tokens=drafts, forward_tokens=forward_tokens, running_replies=running)
    requests = [Request.user(text, max_tokens=8 + 9 * i) for i, text in enumerate(QUESTIONS)]
    for request, found in zip(requests, model.complete(requests), strict=True):
        text, tokens = reference_text(model, request)
        assert (found.text, found.usage.completion_tokens) == (text, tokens)
        assert found.usage.prompt_tokens == prompt_ids(model, request).shape[1]
        assert found.finish == ("length" if tokens == request.max_tokens else "stop")


def test_the_logprob_of_a_reply_is_its_likelihood(model: LocalModel) -> None:
    request = Request.user("Count.", max_tokens=12)
    found = model.complete([request])[0]
    assert found.finish == "length"
    ids = prompt_ids(model, request)
    inner = model._loaded.model
    out = inner.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    with torch.no_grad():
        logprobs = inner(out).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[at - 1, out[0, at]]) for at in range(ids.shape[1], out.shape[1]))
    assert found.logprob == pytest.approx(expected, abs=1e-3)


def test_what_is_kept_changes_nothing_but_the_count(folder: Path) -> None:
    keeping, forgetting = cold(folder), cold(folder, kept_bytes=0)
    requests = [about(TEXT, question, max_tokens=20) for question in QUESTIONS]
    first = [keeping.complete([request])[0] for request in requests]
    again = [keeping.complete([request])[0] for request in requests]
    plain = [forgetting.complete([request])[0] for request in requests]
    assert texts(first) == texts(again) == texts(plain)
    assert [reply.usage.cached_tokens for reply in plain] == [0] * len(plain)
    assert first[0].usage.cached_tokens == 0
    assert all(reply.usage.cached_tokens > 50 for reply in first[1:])
    assert all(reply.usage.cached_tokens == reply.usage.prompt_tokens - 1 for reply in again)


def test_tokens_of_a_call_are_computed_once(folder: Path) -> None:
    """The sum of what was not cached is what the engine really computed."""
    events: list[Event] = []
    model = cold(folder, on_event=events.append)
    requests = [about(TEXT, question, max_tokens=1) for question in (*QUESTIONS, QUESTIONS[0])]
    requests += [about("Another text. " * 20, question, max_tokens=1) for question in QUESTIONS[:2]]
    replies = model.complete(requests)
    batches: list[float] = []
    for event in events:
        if event.stage == "prefill" and event.done == event.total:
            batches.append(event.done)
    counted = sum(reply.usage.prompt_tokens - reply.usage.cached_tokens for reply in replies)
    assert counted == sum(batches)
    assert counted < 0.5 * sum(reply.usage.prompt_tokens for reply in replies)


def test_choose_is_the_softmax_of_likelihoods(model: LocalModel) -> None:
    requests = [Request.user("Which?"), about(TEXT, "Who?")]
    options = [["A", "B", "C"], ["Ann", "the keeper", "Ann and Bob", "31"]]
    for request, given, choice in zip(requests, options, model.choose(requests, options), strict=True):
        expected = torch.tensor([reference_logprob(model, request, option) for option in given]).softmax(0)
        assert choice.probabilities == pytest.approx(expected.tolist(), abs=1e-4)
        assert sum(choice.probabilities) == pytest.approx(1.0)
        assert choice.best == int(expected.argmax())


def test_options_of_one_token_cost_one_pass(folder: Path) -> None:
    passes: list[Event] = []
    model = cold(folder, on_event=lambda event: passes.append(event) if event.stage == "prefill" else None)
    choice = model.choose([Request.user("Which letter?")], [["A", "B", "C", "D"]])[0]
    assert len(passes) == 1
    assert choice.usage.prompt_tokens == prompt_ids(model, Request.user("Which letter?")).shape[1]


@pytest.mark.parametrize("forward_tokens", [16, 2048])
@pytest.mark.parametrize("logits_rows", [3, 10_000])
def test_likelihood(folder: Path, forward_tokens: int, logits_rows: int) -> None:
    model = cold(folder, forward_tokens=forward_tokens)
    model._engine.logits_rows = logits_rows
    requests = [about(TEXT, "Who?"), about(TEXT, "Who?"), Request.user("Why?"), about(TEXT, "What?")]
    continuations = ["The keeper wrote in his book.", "Ann", TEXT, ""]
    found = model.likelihood(requests, continuations)
    for request, text, each in zip(requests, continuations, found, strict=True):
        assert each.logprob == pytest.approx(reference_logprob(model, request, text), rel=1e-4, abs=1e-3)
        assert each.tokens == len(model._prompts.encode([text])[0])


def test_scores_in_several_groups_are_the_same(folder: Path) -> None:
    requests = [about(TEXT, question) for question in QUESTIONS] + [Request.user("Why?")]
    whole, grouped = cold(folder), cold(folder, running_bytes=1, kept_bytes=0)
    given = [*QUESTIONS, "A"]
    for a, b in zip(whole.likelihood(requests, given), grouped.likelihood(requests, given), strict=True):
        assert a.logprob == pytest.approx(b.logprob, rel=1e-4)
        assert b.usage.cached_tokens == 0


def test_one_text_and_many_continuations_read_the_text_once(folder: Path) -> None:
    model = cold(folder)
    found = model.likelihood([about(TEXT * 3, "Who?")] * 20, [f"Ann {i}" for i in range(20)])
    computed = sum(each.usage.prompt_tokens - each.usage.cached_tokens for each in found)
    assert computed < found[0].usage.prompt_tokens + 20 * 10


def test_what_does_not_fit_is_refused_with_both_numbers(folder: Path) -> None:
    model = cold(folder, window_tokens=100)
    exact = Request.user("Why?", max_tokens=100 - prompt_ids(model, Request.user("Why?")).shape[1])
    assert model.complete([exact])[0].text
    long = Request.user(TEXT, max_tokens=5)
    length = prompt_ids(model, long).shape[1]
    for call in (
        lambda: model.complete([long]),
        lambda: model.choose([long], [["A", "B"]]),
        lambda: model.likelihood([long], ["A"]),
        lambda: model.stream(long, print),
    ):
        with pytest.raises(PromptTooLongError, match=rf"{length} tokens .*100"):
            call()


def test_stop_strings_are_cut_whole(model: LocalModel) -> None:
    request = Request.user("Go on.", max_tokens=60)
    whole = model.complete([request])[0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 5]
    found = model.complete([Request.user("Go on.", max_tokens=60, stop=(stop,))])[0]
    assert (found.text, found.finish) == (whole[: whole.index(stop)], "stop")
    assert found.usage.completion_tokens < 60


def test_streamed_pieces_are_the_completion(model: LocalModel) -> None:
    request = Request.user("Tell me.", max_tokens=50)
    pieces: list[str] = []
    streamed = model.stream(request, pieces.append)
    assert len(pieces) > 5
    assert "".join(pieces) == streamed.text == model.complete([request])[0].text


def test_prefill_is_part_of_the_prompt(model: LocalModel) -> None:
    request = Request.user("Tell me.", prefill="The keeper", max_tokens=10)
    assert model.complete([request])[0].text == reference_text(model, request)[0]


@pytest.mark.parametrize("drafts", [0, 7])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_is_satisfied(folder: Path, drafts: int, temperature: float) -> None:
    model = cold(folder, draft_tokens=drafts)
    requests = [Request.user(text, max_tokens=200, schema=SCHEMA, temperature=temperature) for text in QUESTIONS]
    for found in model.complete(requests):
        assert found.finish == "stop"
        jsonschema.validate(json.loads(found.text), SCHEMA)


def test_drafts_change_no_constrained_reply(folder: Path) -> None:
    request = Request.user("Who?", max_tokens=200, schema=SCHEMA)
    assert cold(folder, draft_tokens=0).complete([request])[0].text == cold(folder).complete([request])[0].text


def test_sampling_follows_the_distribution(model: LocalModel) -> None:
    """Two thousand samples of one token against the model's own probabilities."""
    request = Request.user("Pick", max_tokens=1, temperature=2.0)
    torch.manual_seed(0)
    with torch.no_grad():
        logits = model._loaded.model(prompt_ids(model, request)).logits[0, -1]
    expected = (logits / 2.0).softmax(-1)
    decode = model._loaded.tokenizer.decode
    shares = dict.fromkeys((decode([token], skip_special_tokens=True) for token in range(400)), 0.0)
    for token in range(400):
        shares[decode([token], skip_special_tokens=True)] += float(expected[token])
    for found in model.complete([request] * 2000):
        shares[found.text] -= 1 / 2000
    assert max(map(abs, shares.values())) < 0.05


def test_an_interrupted_call_leaves_the_engine_sound(folder: Path) -> None:
    model = cold(folder)
    request = about(TEXT, "Who?", max_tokens=30)

    def interrupt(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.stream(request, interrupt)
    assert model.complete([request])[0].text == cold(folder).complete([request])[0].text


def test_a_pass_interrupted_midway_leaves_the_engine_sound(folder: Path) -> None:
    model = cold(folder)
    request, other = about(TEXT, "Who?", max_tokens=30), about(TEXT, "Why?", max_tokens=30)
    model.complete([request])
    layer = model._loaded.model.model.layers[1]

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    handle = layer.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.complete([other])
    handle.remove()
    assert texts(model.complete([other, request])) == texts(cold(folder).complete([other, request]))


def test_threads_take_turns(folder: Path) -> None:
    model = cold(folder)
    requests = [about(TEXT, question, max_tokens=15) for question in QUESTIONS]
    expected = [cold(folder).complete([request])[0].text for request in requests]
    found: dict[int, str] = {}

    def ask(index: int) -> None:
        found[index] = model.complete([requests[index]])[0].text

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(len(requests))] == expected


def test_kept_memory_is_bounded(folder: Path) -> None:
    model = cold(folder, kept_bytes=1 << 20)
    for start in range(30):
        model.complete([about(TEXT[start:] + TEXT, "Who?", max_tokens=1)])
        assert model._engine.kept.nbytes <= 1 << 20
    assert len(model._engine.kept) >= 1
    model.close()
    assert model._engine.kept.nbytes == 0


def test_wrong_calls_are_refused(model: LocalModel) -> None:
    request = Request.user("Why?")
    for call in (
        lambda: model.complete([Request.user("Why?", max_tokens=0)]),
        lambda: model.complete([Request.user("Why?", temperature=-1.0)]),
        lambda: model.complete([Request.user("Why?", schema={"type": "nothing"})]),
        lambda: model.choose([request], []),
        lambda: model.choose([request], [[]]),
        lambda: model.choose([request], [["A", ""]]),
        lambda: model.likelihood([request], []),
    ):
        with pytest.raises(UsageError):
            call()
    assert model.complete([]) == []
    assert model.choose([], []) == []
    assert model.likelihood([], []) == []


def test_wrong_settings_are_refused(folder: Path) -> None:
    for settings in (
        {"forward_tokens": 0},
        {"kept_bytes": -1},
        {"window_tokens": 4096},
        {"dtype": "int3"},
        {"device": "tpu"},
    ):
        with pytest.raises(ConfigError):
            LocalModel(str(folder), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "changes", "what"),
    [
        ("Gemma2", {"head_dim": 16}, "soft-capped"),
        ("Qwen2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic rope"),
        ("Mamba", {}, "attention"),
    ],
)
def test_models_that_cannot_be_computed_are_refused(tmp_path: Path, family: str, changes: Any, what: str) -> None:
    tiny_models.save(tmp_path, family, **changes)
    with pytest.raises(ModelError, match=what):
        LocalModel(str(tmp_path), device="cpu")


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    tiny_models.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(WeightsError, match="load"):
        LocalModel(str(tmp_path), device="cpu")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"config\.json"):
        LocalModel(str(tmp_path), device="cpu")


@pytest.mark.parametrize(("family", "changes"), [("Mistral", {"sliding_window": 16}), ("GPTNeoX", {})])
def test_other_families_write_what_transformers_writes(tmp_path: Path, family: str, changes: Any) -> None:
    model = LocalModel(str(tiny_models.save(tmp_path, family, **changes)), device="cpu")
    requests = [about(TEXT, question, max_tokens=25) for question in QUESTIONS[:3]]
    assert texts(model.complete(requests)) == [reference_text(model, request)[0] for request in requests]
