"""Dual chunk attention: the engine computes what the paper defines, here as whole score matrices in fp64."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

from readthrough.compression.plan import Plan
from readthrough.compression.positions.dual_chunk import DualChunk
from readthrough.errors import ConfigError, ModelError, PromptTooLongError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.cache import Sequence
from readthrough.models.local.dual_chunk import DualChunks
from readthrough.models.local.jobs import Job
from tests import tiny_models

CHUNK, LOCAL, WIDTH, SCALE = 64, 20, 16, 0.3
FREQUENCIES = 100.0 ** -(torch.arange(8, dtype=torch.float64) / 8)
CHUNKS = DualChunks(DualChunk(CHUNK, LOCAL), FREQUENCIES.float())


def relative_positions(tokens: int, chunk: int, local: int) -> torch.Tensor:
    """The paper's matrix M: equations 2, 5, 7 and those behind it, with c = s + w."""
    trained = chunk + local
    keys = [j % chunk for j in range(tokens)]
    intra = keys
    succeeding = [chunk + i % chunk if i % chunk < local else trained - 1 for i in range(tokens)]
    matrix = torch.zeros(tokens, tokens, dtype=torch.float64)
    for i in range(tokens):
        for j in range(i + 1):
            apart = i // chunk - j // chunk
            position = intra[i] if apart == 0 else succeeding[i] if apart == 1 else trained - 1
            matrix[i, j] = position - keys[j]
    return matrix


def explicit(qkv: Seq[torch.Tensor], frequencies: torch.Tensor, lengths: tuple[int, int], scale: float) -> torch.Tensor:
    """Causal attention `[H, T, D]` of queries and keys without positions, in fp64: equations 8 and 9."""
    q, k, v = (x.double() for x in qkv)
    k, v = (x.repeat_interleave(q.shape[0] // k.shape[0], 0) for x in (k, v))
    half = q.shape[2] // 2
    query, key = (torch.complex(x[..., :half], x[..., half:]) for x in (q, k))
    angles = relative_positions(q.shape[1], *lengths).unsqueeze(-1) * frequencies.double()
    turns = torch.polar(torch.ones_like(angles), angles)
    scores = torch.einsum("hir,hjr,ijr->hij", query, key.conj(), turns).real * scale
    unseen = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    return scores.masked_fill(unseen, -torch.inf).softmax(-1) @ v


def placed(x: torch.Tensor) -> torch.Tensor:
    """Queries or keys `[H, T, D]` rotated for their places within chunks, as a model does it."""
    angles = (torch.arange(x.shape[1]) % CHUNK).unsqueeze(-1) * FREQUENCIES
    a, b = x.double().chunk(2, -1)
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1).float()


class Text:
    """Random queries, keys and values of a text, and the passes that compute its attention in two layers."""

    def __init__(self, tokens: int, heads: int, group: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shapes = [(heads * group, tokens, WIDTH), (heads, tokens, WIDTH), (heads, tokens, WIDTH)]
        self.raw = [torch.randn(shape, generator=generator) for shape in shapes]
        self.qkv = [placed(self.raw[0]), placed(self.raw[1]), self.raw[2]]
        self.found = torch.full(shapes[0], torch.nan)

    @property
    def expected(self) -> torch.Tensor:
        return explicit(self.raw, FREQUENCIES, (CHUNK, LOCAL), SCALE)


def advance(pieces: Seq[tuple[Text, Sequence, int]]) -> None:
    """One pass over the next tokens of texts, whose first ones sequences hold."""
    spans, start = [], 0
    for text, sequence, tokens in pieces:
        spans.append((text, sequence, slice(start, start + tokens), slice(sequence.length, sequence.length + tokens)))
        start += tokens
    batch = CHUNKS.lay((sequence, rows) for _, sequence, rows, _ in spans)
    for layer in range(2):
        packed = [torch.cat([text.qkv[part][:, at] for text, _, _, at in spans], 1) for part in range(3)]
        out = torch.full_like(packed[0], torch.nan)
        batch.attend(layer, tuple(packed), out, SCALE)
    for text, sequence, rows, at in spans:
        text.found[:, at] = out[:, rows]
        sequence.commit(rows.stop - rows.start)


def check(text: Text) -> None:
    torch.testing.assert_close(text.found.double(), text.expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("heads", "group"), [(1, 1), (2, 3), (1, 7)])
@pytest.mark.parametrize("tokens", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + CHUNK // 2])
def test_a_text_in_one_pass(heads: int, group: int, tokens: int) -> None:
    text = Text(tokens, heads, group)
    advance([(text, Sequence(), tokens)])
    check(text)


@pytest.mark.parametrize("steps", [(1,), (7, 1, 16, 40), (17, 90), (CHUNK,), (200, 1, 3)], ids=str)
def test_a_text_in_many_passes(steps: tuple[int, ...]) -> None:
    text, sequence, turn = Text(3 * CHUNK + 21, 2, 2), Sequence(), 0
    while left := text.found.shape[1] - sequence.length:
        advance([(text, sequence, min(left, steps[turn % len(steps)]))])
        turn += 1
    check(text)


@pytest.mark.parametrize("forks", [(70,), (CHUNK, 2 * CHUNK), (65, 130, 195, 215), (10, 100, 101)], ids=str)
def test_forks_at_any_place(forks: tuple[int, ...]) -> None:
    text, sequence = Text(4 * CHUNK, 2, 2), Sequence()
    for length in forks:
        advance([(text, sequence, length + 9 - sequence.length)])
        sequence = sequence.fork(length)
    advance([(text, sequence, 25)])
    while left := text.found.shape[1] - sequence.length:
        advance([(text, sequence, min(left, 3))])
    check(text)


def test_sequences_that_share_a_prefix_in_one_pass() -> None:
    first, second, third = (Text(4 * CHUNK, 2, 2, seed) for seed in range(3))
    for whole in (second.raw, second.qkv):
        for mine, other in zip(whole, first.raw if whole is second.raw else first.qkv, strict=True):
            mine[:, :150] = other[:, :150]
    sequence, apart = Sequence(), Sequence()
    advance([(first, sequence, 170), (third, apart, 5)])
    second.found[:, :150] = first.found[:, :150]
    fork = sequence.fork(150)
    kept = sequence.fork()
    for step in (1, 2, 40, 1, 20):
        advance([(first, kept, step), (third, apart, 2 * step), (second, fork, step)])
    advance([(second, fork, second.found.shape[1] - fork.length), (first, kept, first.found.shape[1] - kept.length)])
    advance([(third, apart, third.found.shape[1] - apart.length)])
    for text in (first, second, third):
        check(text)


# --- whole models

PLAN = {"positions": {"dual-chunk": {"chunk_tokens": 96, "local_tokens": 32}}}
TEXT = tiny_models.TEXT * 8
ASKED = [Request.user(f"{TEXT} {question}", max_tokens=60) for question in ("Who?", "What was seen?", "When?")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def opened(folder: str | Path, plan: Any = PLAN, **options: Any) -> LocalModel:
    return LocalModel(str(folder), device="cpu", plan=plan, **{"forward_tokens": 256, **options})


def logits(model: LocalModel, tokens: np.ndarray) -> torch.Tensor:
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        model._engine.run([Job(tokens, 0, lambda offset, rows: found.append(rows.clone()))])
    return torch.cat(found)


def text_tokens(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(3, 400, count)


def reference_logits(family: str, tokens: np.ndarray, lengths: tuple[int, int]) -> torch.Tensor:
    """Those of transformers' model with explicit attention: at position 0 it leaves queries and keys unrotated."""
    model = tiny_models.model(family).double()
    frequencies = model.model.rotary_emb.inv_freq

    def attention(
        module: torch.nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **kw: Any
    ) -> tuple[torch.Tensor, None]:
        out = explicit([q[0], k[0], v[0]], frequencies, lengths, kw["scaling"])
        return out.transpose(0, 1)[None].contiguous(), None

    AttentionInterface.register("explicit-dual-chunk", attention)
    model.set_attn_implementation("explicit-dual-chunk")
    with torch.inference_mode():
        ids = torch.from_numpy(tokens)[None]
        found: torch.Tensor = model(ids, position_ids=torch.zeros_like(ids), use_cache=False).logits[0]
    return found


@pytest.mark.parametrize("family", ["Qwen2", "Llama"])
def test_the_logits_of_a_model(tmp_path: Path, family: str) -> None:
    tokens = text_tokens(96 * 3 + 50)
    expected = reference_logits(family, tokens, (96, 32))
    found = logits(opened(tiny_models.save(tmp_path, family), forward_tokens=130), tokens)
    assert (found.double() - expected).abs().max() < 1e-4 * expected.abs().max()
    dense = logits(opened(tmp_path, None), tokens)
    assert (dense.double() - expected)[:96].abs().max() < 1e-4 * expected.abs().max()
    assert (dense.double() - expected)[96:].abs().max() > 1e-2 * expected.abs().max(), "a test that could fail"


def test_within_one_chunk_nothing_changes_at_all(folder: str) -> None:
    model, dense = opened(folder), opened(folder, None)
    for count in (1, 40, 96):
        assert torch.equal(logits(model, text_tokens(count)), logits(dense, text_tokens(count)))
    asked = [Request.user(text, max_tokens=30) for text in ("The sea?", "The sea and the wind?")]
    for found, expected in zip(model.complete(asked), dense.complete(asked), strict=True):
        assert (found.text, found.logprob) == (expected.text, expected.logprob)
        assert found.usage.prompt_tokens + found.usage.completion_tokens <= 96


def texts(model: LocalModel) -> list[str]:
    return [reply.text for reply in model.complete(ASKED)]


def test_replies_do_not_depend_on_what_was_asked_before_or_beside(folder: str) -> None:
    alone = [opened(folder).complete([request])[0] for request in ASKED]
    expected = [reply.text for reply in alone]
    for usage in (reply.usage for reply in alone):
        assert usage.prompt_tokens % 96 + usage.completion_tokens > 96, "the reply crosses the border of a chunk"
    assert len(set(expected)) > 1
    model = opened(folder)
    assert texts(model) == expected, "side by side, the text computed once"
    again = [model.complete([request])[0] for request in ASKED]
    assert [reply.text for reply in again] == expected, "one after another, with kept KV"
    assert again[0].usage.cached_tokens > 400
    assert texts(opened(folder, kept_bytes=0)) == expected, "with nothing kept"
    assert texts(opened(folder, draft_tokens=0)) == expected, "without drafts"
    assert texts(opened(folder, forward_tokens=2048)) == expected, "in one pass"
    model = opened(folder)
    for letters in (2000, 1500, 700, 300):
        model.likelihood([Request.user(TEXT[:letters])], ["grey"])
    assert texts(model) == expected, "behind prefixes that end anywhere"
    scores = [found.logprob for found in opened(folder).likelihood(ASKED, ["grey"] * 3)]
    assert [found.logprob for found in model.likelihood(ASKED, ["grey"] * 3)] == pytest.approx(scores, abs=1e-4)


def test_the_plan_says_its_lengths(folder: str) -> None:
    model, usual = opened(folder), opened(folder, {"positions": "dual-chunk"})
    assert model.plan_name == "positions=dual-chunk(chunk_tokens=96, local_tokens=32, factor=8.0)"
    assert usual.plan_name == "positions=dual-chunk(chunk_tokens=1536, local_tokens=512, factor=8.0)"
    assert model.plan_name in model.identity and usual.identity != model.identity
    assert usual.window_tokens == 8 * 2048
    reply = opened(folder, {"positions": {"dual-chunk": {"factor": 2}}}).complete(
        [Request.user(tiny_models.TEXT * 25, max_tokens=4)]
    )
    assert reply[0].usage.prompt_tokens > 2048
    with pytest.raises(PromptTooLongError):
        opened(folder, {"positions": {"dual-chunk": {"factor": 1}}}).complete([Request.user(tiny_models.TEXT * 25)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chunk_tokens": 64, "local_tokens": 65}, "local_tokens"),
        ({"chunk_tokens": -1}, "chunk_tokens"),
        ({"factor": 0.5}, "factor"),
        ({"chunk_tokens": 2000}, "trained with texts of 2048 tokens"),
        ({"chunk_tokens": 1024, "local_tokens": 1024}, None),
        ({"chunk_tokens": 1025, "local_tokens": 1024}, "trained with texts of 2048 tokens"),
        ({"local_tokens": 1537}, "at most a chunk's 1536"),
    ],
    ids=str,
)
def test_lengths_that_do_not_fit(folder: str, options: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert opened(folder, {"positions": {"dual-chunk": options}}).window_tokens == 8 * 2048
        return
    with pytest.raises(ConfigError, match=said):
        opened(folder, {"positions": {"dual-chunk": options}})


@pytest.mark.parametrize(
    "other",
    [{"select": "vertical-slash"}, {"decode": "page-bound"}, {"keep": "snapkv"}, {"store": "int8"}, {"store": "disk"}],
    ids=str,
)
def test_it_goes_with_no_other_part_of_a_plan(tmp_path: Path, other: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"cannot be combined with {next(iter(other))}"):
        opened(tmp_path / "nowhere", {**PLAN, **other})
    assert Plan.of({**PLAN, "store": "full", "keep": "all"}) == Plan.of(PLAN)


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("Mistral", {"sliding_window": 64}, "sliding window"),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "of its own"),
        ("Phi", {}, "positions of its own"),
        ("Cohere", {}, "cannot be moved"),
        ("Helium", {}, "cannot be moved"),
    ],
)
def test_models_whose_positions_are_others(tmp_path: Path, family: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=said):
        opened(tiny_models.save(tmp_path, family, **changes))
