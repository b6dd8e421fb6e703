"""Replies that read chosen pages: everything chosen is everything read; drafts, forks and company change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.selecting import Chosen, Past, TokenSelector
from readthrough.compression.selectors.page_bound import PageBound
from readthrough.errors import ConfigError
from readthrough.kernels.attention import reference
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from readthrough.models.local.cache import Sequence
from readthrough.models.local.paging import attend_chosen
from tests import tiny_models

HEADS, GROUP, WIDTH, LAYERS = 2, 3, 32, 3


def grown(tokens: int, sequence: Sequence, generator: torch.Generator) -> None:
    for layer in range(LAYERS):
        sequence.append(layer, *(torch.randn(HEADS, tokens, WIDTH, generator=generator) for _ in range(2)))
    sequence.commit(tokens)


def whole(sequence: Sequence, layer: int, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    k, v = sequence.gather(layer, q.shape[1])
    return reference.attend(q, k, v, causal=True, scale=0.2)


@pytest.mark.parametrize("forks", [(), (700,), (300, 450, 777)])
@pytest.mark.parametrize("page_tokens", [16, 64])
@pytest.mark.parametrize("layer", [0, 2])
def test_with_all_pages_chosen_it_is_dense(forks: tuple[int, ...], page_tokens: int, layer: int) -> None:
    generator = torch.Generator().manual_seed(1)
    sequence = Sequence()
    grown(1000, sequence, generator)
    for length in forks[::-1]:
        sequence = sequence.fork(length)
        grown(130, sequence, generator)
    selector = PageBound(budget_tokens=100_000, page_tokens=page_tokens, dense_layers=1)
    for step in range(3):
        q = torch.randn(HEADS * GROUP, 1 + step, WIDTH, generator=generator)
        for each in range(LAYERS):
            sequence.append(each, *(torch.randn(HEADS, 1 + step, WIDTH, generator=generator) for _ in range(2)))
        found, expected = attend_chosen(selector, sequence, layer, q, 0.2), whole(sequence, layer, q)
        torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
        sequence.commit(1 + step)


def test_the_pages_that_matter_are_found() -> None:
    generator = torch.Generator().manual_seed(2)
    sequence = Sequence()
    grown(2000, sequence, generator)
    q = torch.randn(HEADS * GROUP, 1, WIDTH, generator=generator)
    for at in (333, 1200):  # every query attends to these keys alone
        for head in range(HEADS):
            sequence.tail.keys[1][head, at] = 40 * q[head * GROUP : (head + 1) * GROUP, 0].mean(0)
    for layer in range(LAYERS):
        sequence.append(layer, *(torch.randn(HEADS, 1, WIDTH, generator=generator) for _ in range(2)))
    found, expected = (
        attend_chosen(PageBound(budget_tokens=128, dense_layers=0), sequence, 1, q, 0.2),
        whole(sequence, 1, q),
    )
    torch.testing.assert_close(found[0], expected[0], atol=2e-2, rtol=0)


def test_tokens_that_are_written_anew_are_bounded_anew() -> None:
    generator = torch.Generator().manual_seed(3)
    sequence, selector = Sequence(), PageBound(budget_tokens=100_000, dense_layers=0)
    grown(500, sequence, generator)
    before = sequence.tail.bounds(0, 20, 16)[0].clone()
    sequence.crop(100)
    grown(400, sequence, generator)
    assert not torch.equal(sequence.tail.bounds(0, 20, 16)[0], before)
    held = sequence.tail.nbytes
    sequence.tail.bounds(0, 20, 16)
    assert sequence.tail.nbytes == held and selector.applies(5000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


ASKED = [Request.user(f"{tiny_models.TEXT * 8} {question}", max_tokens=24) for question in ("Who?", "What?", "When?")]


def opened(folder: str, budget_tokens: int, **options: Any) -> LocalModel:
    plan = {"decode": {"page-bound": {"budget_tokens": budget_tokens, "dense_layers": 1, "dense_below_tokens": 100}}}
    return LocalModel(folder, device="cpu", plan=plan, **options)


def texts(model: LocalModel) -> list[str]:
    return [reply.text for reply in model.complete(ASKED)]


def test_replies(folder: str) -> None:
    dense = LocalModel(folder, device="cpu")
    assert texts(opened(folder, 100_000)) == texts(dense)
    alone = [opened(folder, 64).complete([request])[0].text for request in ASKED]
    assert alone != texts(dense)
    model = opened(folder, 64)
    assert texts(model) == alone and texts(model) == alone, "side by side, and once more"
    assert texts(opened(folder, 64, draft_tokens=0)) == alone
    scores = [found.logprob for found in opened(folder, 64).likelihood(ASKED, ["grey"] * 3)]
    assert scores == pytest.approx([found.logprob for found in dense.likelihood(ASKED, ["grey"] * 3)], abs=1e-5)


class EveryThird(TokenSelector):
    """Reads every third token before the latest, all of them while it remembers an even number."""

    name = "every-third"

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        start, told = past.seen - 5, (memory or 0) + 1
        tokens = torch.arange(0, start, 3)
        return Chosen(start, torch.stack([tokens, torch.where(tokens % 2 == 0, tokens, -1)]), told)


@pytest.mark.parametrize("forks", [(), (300, 450, 777)])
def test_single_tokens(forks: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    sequence = Sequence()
    grown(1000, sequence, generator)
    for length in forks[::-1]:
        sequence = sequence.fork(length)
        grown(130, sequence, generator)
    selector = EveryThird(budget_tokens=1, sink_tokens=0, latest_tokens=1, dense_layers=1)
    q = torch.randn(HEADS * GROUP, 2, WIDTH, generator=generator)
    for layer in range(LAYERS):
        sequence.append(layer, *(torch.randn(HEADS, 2, WIDTH, generator=generator) for _ in range(2)))
    dense = attend_chosen(selector, sequence, 0, q, 0.2)[0]
    torch.testing.assert_close(dense, whole(sequence, 0, q)[0], atol=1e-5, rtol=0)
    found = attend_chosen(selector, sequence, 1, q, 0.2)
    k, v = sequence.gather(1, 2)
    for row in range(2):
        seen = sequence.length + row + 1
        for head in range(HEADS):
            tokens = [n for n in range(0, seen - 5, 3) if not head or n % 2 == 0] + list(range(seen - 5, seen))
            queries = q[head * GROUP : (head + 1) * GROUP, row : row + 1]
            one = slice(head, head + 1)
            expected = reference.attend(queries, k[one, tokens], v[one, tokens], causal=False, scale=0.2)
            torch.testing.assert_close(found[0][head * GROUP : (head + 1) * GROUP, row : row + 1], expected[0])
    assert sequence.memories[1] == [1, 2] and sequence.memory == {}
    sequence.commit(1)
    assert sequence.memory == {0: None, 1: 1} and sequence.memories == {}, "of the second nothing is remembered"
    assert sequence.fork().memory == {}


CHOOSING: dict[str, dict[str, Any]] = {
    "tokenselect": {"budget_tokens": 40, "sink_tokens": 4, "latest_tokens": 8, "similarity": 0.3},
    "recycled-attention": {"budget_tokens": 40, "every_tokens": 4},
    "delta": {"budget_tokens": 48, "latest_tokens": 16, "selection_layers": [1], "dense_layers": 1},
    "retrieval-attention": {"budget_tokens": 40, "sink_tokens": 4, "latest_tokens": 8},
    "infllm": {"budget_tokens": 260, "sink_tokens": 4, "latest_tokens": 16},
    "random": {"budget_tokens": 64, "dense_layers": 0},
}


@pytest.mark.parametrize("name", [name for name in catalogue.names("selectors") if name != "page-bound"])
def test_replies_of_selectors_that_remember(folder: str, name: str) -> None:
    def with_options(**options: Any) -> LocalModel:
        decode = {name: {**CHOOSING[name], "dense_below_tokens": 100}}
        return LocalModel(folder, device="cpu", plan={"decode": decode}, **options)

    model = with_options()
    found = texts(model)
    assert texts(model) == found, "once more"
    assert [with_options(draft_tokens=0).complete([request])[0].text for request in ASKED] == found
    assert found != texts(LocalModel(folder, device="cpu"))


def test_a_selector_that_does_not_fit_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match="has 3 layers only"):
        LocalModel(folder, device="cpu", plan={"decode": "delta"})
    with pytest.raises(ConfigError, match="cannot be combined with keep"):
        LocalModel(folder, device="cpu", plan={"decode": "infllm", "keep": "snapkv"})
