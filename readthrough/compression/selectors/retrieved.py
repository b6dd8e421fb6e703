"""RetrievalAttention: keys are searched for in an index.

Source: Liu et al., "RetrievalAttention: Accelerating Long-Context LLM Inference via Vector Retrieval",
arXiv 2409.10516.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from readthrough.compression.base import at_least
from readthrough.compression.selecting import Chosen, Past, TokenSelector, with_sink
from readthrough.errors import needed

FEWEST_A_LIST = 40
"""FAISS warns of lists that are made from fewer keys."""


class _Indexed(NamedTuple):
    """The keys from `first` to `start` of each key head, in an index; made for the first token of a reply."""

    first: int
    start: int
    indexes: tuple[Any, ...]


@dataclass(frozen=True)
class RetrievalAttention(TokenSelector):
    """The keys that an index finds for each query head (RetrievalAttention, arXiv 2409.10516).

    The keys of a prompt are indexed once, when its reply begins; the first tokens, the latest ones of the prompt and
    all of the reply are read in any case.

    Differs from the paper: the index is FAISS's inverted lists over keys (its baseline), not a graph made from the
    prompt's queries, which needs more lists to be looked at for the same recall; it stands beside keys that stay
    where they are, so that it saves reading, and no memory: it takes that of the keys in fp32 once more. A group of
    query heads shares the keys that its heads found, the best of them up to the budget. Building it takes longer than
    a short reply saves on a processor, where reading all keys is fast.

    Attributes:
        budget_tokens: as below (the paper: 100 keys found for a head, 640 read in any case).
        probes: how many of the index's lists are looked at; there are as many as the square root of the keys.
    """

    name = "retrieval-attention"

    budget_tokens: int = 1280
    sink_tokens: int = 128
    latest_tokens: int = 512
    probes: int = 16

    def __post_init__(self) -> None:
        self.check()
        at_least(self, probes=1)

    def choose(self, q: torch.Tensor, past: Past, memory: Any) -> Chosen:
        """By the index; it is made where there is none."""
        sink, count, latest = self.shares(past.seen)
        if memory is None:
            if sink + count >= past.seen - latest:
                return Chosen(0)
            memory = _Indexed(sink, past.seen - latest, _indexes(past, sink, past.seen - latest))
        rows = q.reshape(len(memory.indexes), -1, q.shape[-1]).float().cpu().numpy()
        size = memory.start - memory.first
        count = min(count, size)
        found = []
        for index, queries in zip(memory.indexes, rows, strict=True):
            index.nprobe = min(self.probes, index.nlist)
            scores, keys = (torch.from_numpy(x) for x in index.search(queries, count))
            best = torch.full((size + 1,), -torch.inf)  # what was not found has the number -1: the last
            best.scatter_reduce_(0, keys.flatten() % (size + 1), scores.flatten(), "amax")
            values, numbers = best[:size].topk(count)
            found.append((numbers + memory.first).masked_fill(values == -torch.inf, -1))
        tokens = torch.stack(found).to(q.device)
        return Chosen(memory.start, with_sink(memory.first, tokens), memory)


def _indexes(past: Past, first: int, start: int) -> tuple[Any, ...]:
    """Inverted lists of the keys of each head.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    with needed("faiss", "'readthrough[cpu]' (with an NVIDIA GPU: 'readthrough[gpu]')"):
        import faiss
    keys = past.keys()[:, first:start].float().cpu().contiguous().numpy()
    lists = max(1, min(math.isqrt(keys.shape[1]), keys.shape[1] // FEWEST_A_LIST))
    made = []
    for each in keys:
        index = faiss.index_factory(each.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(each)
        index.add(each)
        made.append(index)
    return tuple(made)
