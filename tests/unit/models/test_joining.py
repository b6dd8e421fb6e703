"""Texts that were read apart and joined: exact with everything computed anew, nearer to that the more is."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readthrough.errors import ConfigError, UnknownNameError, UsageError
from readthrough.models.base import Request
from readthrough.models.local.attention import Batch
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.cache import Sequence
from readthrough.models.local.jobs import Job
from readthrough.models.local.joining import Joiner
from readthrough.models.local.readings import TOKENS_MIN
from readthrough.models.local.stored import stored
from readthrough.models.open import open_model
from tests import tiny_models

TEXTS = tuple(f"Day {day}. {tiny_models.TEXT}"[: 330 - 20 * day] for day in range(4))
QUESTIONS = ["Who kept the book?", "What was seen on the third day?"]
SAID = "The ship was grey, and its name was Ann."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def opened(folder: str | Path, ratio: float | None = None, plan: Any = None, **options: Any) -> LocalModel:
    joined = {} if ratio is None else {"join": {"blend": {"recompute_ratio": ratio}}}
    return LocalModel(str(folder), device="cpu", plan={**(plan or {}), **joined} or None, **options)


def about(texts: Seq[str], question: str = QUESTIONS[0], **options: Any) -> Request:
    shown = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    return Request.user(f"Read these.\n\n{shown}\n\n{question}", reused=tuple(texts), **options)


def computed(model: LocalModel, request: Request, joined: bool = True) -> tuple[Job, torch.Tensor]:
    """A request's prompt and `SAID`, as pieces: what the engine holds then, and the logits of `SAID`."""
    tokens, (said,), spans = model._prompts.pieced(request, [SAID])
    rows: list[torch.Tensor] = []
    job = Job(np.concatenate([tokens, said]), len(tokens) - 1, lambda _, found: rows.append(found), spans)
    job.spans = spans if joined else ()
    with torch.inference_mode():
        model._engine.run([job])
    return job, torch.cat(rows)


def held(job: Job, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    return job.sequence.gather(layer)


@pytest.mark.parametrize("forward_tokens", [2048, 64])
@pytest.mark.parametrize(
    ("family", "plan"),
    [("Qwen2", None), ("Llama", None), ("Qwen3", None), ("Phi", None), ("Qwen2", {"positions": "yarn"})],
    ids=str,
)
def test_all_computed_anew_is_the_whole_prompt(tmp_path: Path, family: str, plan: Any, forward_tokens: int) -> None:
    folder = tiny_models.save(tmp_path, family)
    model = opened(folder, 1, plan, forward_tokens=forward_tokens)
    job, joined = computed(model, about(TEXTS))
    whole, exact = computed(opened(folder, 1, plan), about(TEXTS), joined=False)
    assert np.array_equal(job.tokens, whole.tokens) and len(job.tokens) > 300
    assert torch.allclose(joined, exact, atol=1e-4)
    request = about(TEXTS, max_tokens=24)
    assert model.complete([request])[0].text == opened(folder, plan=plan).complete([request])[0].text


@pytest.mark.parametrize("plan", [None, {"positions": "yarn"}], ids=str)
def test_nothing_computed_anew_is_each_text_turned_to_its_place(folder: str, plan: Any) -> None:
    model = opened(folder, 0, plan)
    job, logits = computed(model, about(TEXTS))
    whole, exact = computed(model, about(TEXTS), joined=False)
    assert job.sequence.length == whole.sequence.length
    for found, expected in zip(held(job, 0), held(whole, 0), strict=True):
        assert torch.allclose(found, expected, atol=1e-4), (found - expected).abs().max()
    (_, start), *others = job.spans
    for layer in range(3):
        for found, expected in zip(held(job, layer), held(whole, layer), strict=True):
            assert torch.allclose(found[:, :start], expected[:, :start], atol=1e-5), (
                "the first text stands where it was"
            )
    for at, end in others:  # what was read knows nothing of the other texts
        assert not torch.allclose(held(job, 2)[1][:, at:end], held(whole, 2)[1][:, at:end], atol=1e-2)
    assert not torch.allclose(logits, exact, atol=1e-2)


def test_up_to_the_compared_layer_all_is_exact(folder: str) -> None:
    model = opened(folder, 0.1)
    job, _ = computed(model, about(TEXTS))
    whole, _ = computed(model, about(TEXTS), joined=False)
    off = [
        [(found - expected).abs().amax().item() for found, expected in zip(held(job, at), held(whole, at), strict=True)]
        for at in range(3)
    ]
    end = job.joined_tokens
    for at in (0, 1):
        found, expected = held(job, at)[1][:, :end], held(whole, at)[1][:, :end]
        assert torch.allclose(found, expected, atol=1e-4), (found - expected).abs().max()
    assert min(off[2]) > 1e-2


def test_the_more_is_computed_anew_the_nearer(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path, num_hidden_layers=6)
    ratios = (0.0, 0.4, 0.8, 1.0)
    off = dict.fromkeys(ratios, 0.0)
    for ratio in ratios:
        model = opened(folder, ratio)
        for shift in range(4):
            request = about(TEXTS[shift:] + TEXTS[:shift])
            off[ratio] += float((computed(model, request)[1] - computed(model, request, joined=False)[1]).abs().mean())
    assert off[0.0] > 1.1 * off[0.4] and off[0.4] > 1.1 * off[0.8] and off[0.8] > 100 * off[1.0]


def test_the_tokens_that_deviate_most_are_computed_anew(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zero, some = opened(folder, 0), opened(folder, 0.2)
    job, _ = computed(zero, about(TEXTS))
    whole, _ = computed(zero, about(TEXTS), joined=False)
    off = (held(job, 1)[1] - held(whole, 1)[1]).square().sum((0, 2))
    texts = np.concatenate([np.arange(*span) for span in job.spans[1:]])
    most = texts[off[texts].topk(round(0.2 * len(texts))).indices]
    between = np.setdiff1d(np.arange(job.spans[0][1], job.joined_tokens), texts)
    anew: list[int] = []
    placed = Batch.placed

    def note(sequence: Sequence, places: torch.Tensor) -> Batch:
        anew.extend(places.tolist())
        return placed(sequence, places)

    monkeypatch.setattr(Batch, "placed", note)
    computed(some, about(TEXTS))
    assert anew == sorted([*most.tolist(), *between.tolist()])
    assert len(between) > 0


def test_what_is_not_computed_is_counted(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(folder, 0.15)
    first, second, again = (
        model.complete([about(texts, max_tokens=1)])[0].usage for texts in (TEXTS, TEXTS[::-1], TEXTS[::-1])
    )
    assert first.cached_tokens == 0 and again.cached_tokens == again.prompt_tokens - 1
    assert 0.6 * second.prompt_tokens < second.cached_tokens < 0.85 * second.prompt_tokens
    passed: list[int] = []
    forward = model._engine.forward

    def count(batch: Batch, tokens: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if batch.watch is None:  # the others end behind the second layer
            passed.append(sum(map(len, tokens)))
        return forward(batch, tokens, *args, **kwargs)

    monkeypatch.setattr(model._engine, "forward", count)
    monkeypatch.setattr(model._engine.joiner, "_forward", count)
    third = model.complete([about((TEXTS[2], TEXTS[0], "Nobody knew of this text.", TEXTS[3]), max_tokens=1)])[0].usage
    prefix = 12  # what the new text is read behind is known, and so is that of which it was computed anew
    assert third.prompt_tokens - third.cached_tokens <= sum(passed)
    assert sum(passed) - prefix <= third.prompt_tokens - third.cached_tokens
    assert third.cached_tokens > 0.6 * third.prompt_tokens


def test_replies_do_not_depend_on_what_was_asked_before_or_beside(folder: str) -> None:
    asked = [about(texts, question, max_tokens=16) for texts in (TEXTS, TEXTS[::-1]) for question in QUESTIONS]
    alone = [opened(folder, 0.15).complete([request])[0] for request in asked]
    texts = [reply.text for reply in alone]
    model = opened(folder, 0.15)
    beside = model.complete(asked)
    assert [reply.text for reply in beside] == texts
    known = [
        sorted(reply.usage.cached_tokens / reply.usage.prompt_tokens for reply in beside[at:][:2]) for at in (0, 2)
    ]
    assert min(known)[0] < 0.1, "who is first pays, but for the beginning of the question"
    assert all(other > 0.9 for _, other in known), "joined once for both questions"
    assert [model.complete([request])[0].text for request in asked] == texts
    assert [opened(folder, 0.15, kept_bytes=0).complete([request])[0].text for request in asked] == texts
    assert len(set(texts)) > 1


def test_scores_of_options_are_those_of_the_joined_prompt(folder: str) -> None:
    options = ["grey", "Ann", "the north wind"]
    model = opened(folder, 0.15)
    requests = [about(TEXTS, question) for question in QUESTIONS]
    both = model.choose(requests, [options] * 2)
    for request, choice in zip(requests, both, strict=True):
        alone = opened(folder, 0.15).choose([request], [options])[0]
        assert choice.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
        found = [each.logprob for each in model.likelihood([request] * 3, options)]
        assert choice.probabilities == pytest.approx(torch.tensor(found).softmax(0).tolist(), abs=1e-4)
    assert both[0].usage.cached_tokens > both[0].usage.prompt_tokens / 3, "its options share what was joined"


def test_exact_and_joined_prompts_do_not_mix(folder: str) -> None:
    joined = about(TEXTS, max_tokens=16)
    plain = Request(joined.messages, max_tokens=16)
    dense, model = opened(folder), opened(folder, 0)
    expected = dense.complete([plain])[0]
    assert dense.complete([joined])[0].text == expected.text, "without a join nobody takes notice"
    assert dense._tokens(joined, [SAID])[0].tolist() == dense._tokens(plain, [SAID])[0].tolist()
    apart = model.likelihood([joined], [SAID])[0].logprob
    for _ in range(2):
        assert model.complete([plain])[0].text == expected.text
        assert model.likelihood([plain], [SAID])[0].logprob == pytest.approx(
            dense.likelihood([plain], [SAID])[0].logprob, abs=1e-4
        )
        assert model.likelihood([joined], [SAID])[0].logprob == pytest.approx(apart, abs=1e-4)
    assert apart != pytest.approx(dense.likelihood([plain], [SAID])[0].logprob, abs=1e-2)


def test_the_order_matters_for_positions_alone(folder: str) -> None:
    model = opened(folder, 0)
    one, _ = computed(model, about((*TEXTS, TEXTS[1])))
    other, _ = computed(model, about(TEXTS[::-1]))
    places = [(one.spans[1], other.spans[2]), (one.spans[2], other.spans[1]), (one.spans[1], one.spans[4])]
    for (a, b), (c, d) in places:
        right = one if (c, d) == one.spans[4] else other
        assert one.tokens[a:b].tolist() == right.tokens[c:d].tolist(), "the same tokens wherever a text stands"
        for layer in range(3):
            assert torch.equal(held(one, layer)[1][:, a:b], held(right, layer)[1][:, c:d])
            assert not torch.equal(held(one, layer)[0][:, a:b], held(right, layer)[0][:, c:d])


def test_texts_that_touch_and_single_tokens(folder: str) -> None:
    request = Request.user("Read. " + "".join(TEXTS[:2]) + " Who?", reused=TEXTS[:2])
    tokens = sum(opened(folder).count_tokens([TEXTS[1]]))
    for ratio in (0, 1 / tokens, 1):  # none, one and all of the second
        job, logits = computed(opened(folder, ratio), request)
        assert torch.isfinite(logits).all() and job.sequence.length == len(job.tokens)
    exact = computed(opened(folder), request, joined=False)[1]
    assert torch.allclose(logits, exact, atol=1e-4)


def test_one_text_is_a_prefix_like_any_other(folder: str) -> None:
    model, plain = opened(folder, 0), about(TEXTS[:1], max_tokens=16)
    assert model.complete([plain])[0].text == opened(folder).complete([plain])[0].text
    usage = model.complete([about(TEXTS[:2], max_tokens=1)])[0].usage
    assert usage.cached_tokens > 90, "and is known when it is joined"


def test_texts_are_on_disk_for_other_processes(tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "model", max_position_embeddings=8192)
    long = [f"Book {number}. " + tiny_models.TEXT * 6 for number in range(3)]
    asked = about(long, max_tokens=8)
    expected = opened(folder, 0.15, readings=tmp_path / "readings").complete([asked])[0]
    assert expected.usage.cached_tokens == 0 and len(stored(tmp_path / "readings")) == 3
    found = opened(folder, 0.15, readings=tmp_path / "readings").complete([asked])[0]
    assert found.text == expected.text and found.usage.cached_tokens > 0.75 * found.usage.prompt_tokens
    dense = opened(folder, readings=tmp_path / "readings").complete([about(long[1:2], max_tokens=8)])[0]
    assert dense.usage.cached_tokens > TOKENS_MIN, "they are exact: prompts as a whole begin with them too"
    assert len(stored(tmp_path / "readings")) == 3


def test_texts_that_are_not_there_are_refused(folder: str) -> None:
    model = opened(folder, 0.15)
    content = "Read. The sea was grey. The wind came. Who?"
    for texts in (("the moon",), ("The wind came.", "The sea was grey."), ("sea was grey.", "grey. The"), ("",)):
        request = Request.user(content, reused=texts)
        with pytest.raises(UsageError, match="reused text is not in the messages"):
            model.complete([request])
        assert opened(folder).complete([request])[0].text, "who does not join takes no notice"
    model._loaded.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(UsageError, match="nothing follows"):
        model.complete([Request.user("The sea was grey.", reused=("The sea", "grey."))])


def test_plans_that_cannot_join_are_refused(folder: str, tmp_path: Path) -> None:
    for plan, said in [
        ({"join": "blent"}, "blent"),
        ({"join": {"blend": {"recompute_ratio": 1.5}}}, "at most 1"),
        ({"join": {"blend": {"recompute_ratio": -0.1}}}, "recompute_ratio"),
        ({"join": {"blend": {"layer": 0}}}, "layer"),
        ({"join": {"blend": {"layer": 3}}}, "3 layers"),
        ({"join": "blend", "store": "int8"}, "leave out"),
        ({"join": "blend", "keep": "snapkv"}, "leave out"),
        ({"join": "blend", "select": "block-topk"}, "leave out"),
        ({"join": "blend", "decode": "page-bound"}, "leave out"),
    ]:
        with pytest.raises((ConfigError, UnknownNameError)) as caught:
            opened(folder, plan=plan)
        assert said in f"{caught.value} {caught.value.hint}"
    with pytest.raises(ConfigError, match="sliding window"):
        opened(tiny_models.save(tmp_path, "Mistral", sliding_window=64), 0.15)


def test_the_plan_is_named(folder: str) -> None:
    model = open_model({"local": {"name": folder, "plan": {"join": {"blend": {"recompute_ratio": 0.3}}}}}, device="cpu")
    assert model.plan_name == "join=blend(recompute_ratio=0.3, layer=1)" and model.plan_name in model.identity
    assert opened(folder, plan={"join": "none"}).identity == opened(folder).identity
    assert isinstance(opened(folder, 0)._engine.joiner, Joiner) and opened(folder)._engine.joiner is None
