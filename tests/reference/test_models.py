"""The engine's attention inside transformers' models against transformers' own eager attention, in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readthrough.models.local.attention import ATTENTION, Batch, register
from readthrough.models.local.cache import Sequence, SequenceCache
from tests import tiny_models

FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Llama": {},
    "Mistral": {"sliding_window": 16},
    "Gemma": {"head_dim": 16},
    "Gemma3": {"head_dim": 16, "sliding_window": 16, "config_name": "Gemma3TextConfig"},
    "Phi3": {},
    "GPTNeoX": {},
    "Granite": {"logits_scaling": 3.0},
    "Mixtral": {"num_local_experts": 4},
}

LARGEST_DIFFERENCE = 2e-4
"""In logits of a standard deviation of 0.5 to 1.6: four times the largest that was seen."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest) -> tuple[Any, list[torch.Tensor], list[torch.Tensor]]:
    """A model that uses the engine's attention, prompts, and the logits that eager attention gives them."""
    register()
    model = tiny_models.model(request.param, **FAMILIES[request.param])
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(5, 400, (length,), generator=generator) for length in (1, 40, 300)]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = [model(prompt[None]).logits[0] for prompt in prompts]
    model.set_attn_implementation(ATTENTION)
    return model, prompts, expected


def run(model: Any, pieces: list[tuple[Sequence | None, torch.Tensor, int]]) -> list[torch.Tensor]:
    """Logits of tokens that begin at a position, packed into one pass."""
    batch = Batch.pack([(sequence, len(tokens)) for sequence, tokens, _ in pieces])
    with torch.no_grad():
        logits = model(
            input_ids=torch.cat([tokens for _, tokens, _ in pieces])[None],
            position_ids=torch.cat([torch.arange(at, at + len(tokens)) for _, tokens, at in pieces])[None],
            attention_mask=torch.empty(1, 1, 0, 0),
            use_cache=False,
            batch=batch,
        ).logits[0]
    for sequence, tokens, _ in pieces:
        if sequence is not None:
            sequence.commit(len(tokens))
    return [logits[segment.rows] for segment in batch.segments]


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).abs().max() < LARGEST_DIFFERENCE


def test_packed(pair: tuple[Any, list[torch.Tensor], list[torch.Tensor]]) -> None:
    model, prompts, expected = pair
    for found, logits in zip(run(model, [(None, prompt, 0) for prompt in prompts]), expected, strict=True):
        assert_near(found, logits)


def test_in_pieces_beside_others(pair: tuple[Any, list[torch.Tensor], list[torch.Tensor]]) -> None:
    model, prompts, expected = pair
    sequence, found = Sequence(), []
    for start, end in ((0, 150), (150, 151), (151, 160), (160, 300)):
        found.append(run(model, [(None, prompts[1], 0), (sequence, prompts[2][start:end], start)])[1])
    assert sequence.length == 300
    assert_near(torch.cat(found), expected[2])


def test_forks_share_a_prefix(pair: tuple[Any, list[torch.Tensor], list[torch.Tensor]]) -> None:
    model, prompts, expected = pair
    text = prompts[2]
    base = Sequence()
    run(model, [(base, text[:200], 0)])
    forks = [base.fork(100), base.fork(200), base.fork(100)]
    # the second fork stands between the other two: its rows are not next to each other
    found = run(model, [(fork, text[fork.length :], fork.length) for fork in forks])
    for logits, start in zip(found, (100, 200, 100), strict=True):
        assert_near(logits, expected[2][start:])
    assert_near(run(model, [(base, text[200:], 200)])[0], expected[2][200:])


def test_generate_with_the_engines_cache(pair: tuple[Any, list[torch.Tensor], list[torch.Tensor]]) -> None:
    model, prompts, _ = pair
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    ids = prompts[1][None]
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    sequence = Sequence()
    cache = SequenceCache(sequence, model.config.num_hidden_layers)
    ours = model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **settings)
    assert torch.equal(plain, ours)
    assert sequence.length == 51
    cache.crop(-11)
    again = model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache_of(sequence, model), **settings
    )
    assert torch.equal(plain, again)


def cache_of(sequence: Sequence, model: Any) -> SequenceCache:
    """A cache that lacks the prompt's last token, which generate needs to compute."""
    return SequenceCache(sequence.fork(39), model.config.num_hidden_layers)
