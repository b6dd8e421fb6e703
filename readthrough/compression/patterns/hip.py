"""The blocks that a search in a tree finds, from the whole past down to single blocks.

Source: Lee et al., "A Training-free Sub-quadratic Cost Transformer Model Serving Framework With Hierarchically Pruned
Attention" (HiP), arXiv 2406.09827, algorithm 1, and the authors' code (DeepAuto-AI/hip-attention, fea42c7, version
1.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, blocks_of, ratios
from readthrough.kernels.block_sparse import BlockSelection, count_blocks


@dataclass(frozen=True)
class HiP(AttentionPattern):
    """The blocks that a search in a tree finds (HiP attention, arXiv 2406.09827).

    The past of a block of queries is cut into as many nodes as it may see blocks. Again and again each node is halved,
    and the better half of all halves is kept, until they are single blocks. The score of a node is the largest product
    of a query with a key of the node's first block.

    Differs from the paper: blocks of 128 tokens in place of 64 queries and 2 keys, of which every `stride_tokens`-th
    query and key is looked at (the authors' code: every second query and all keys); the query heads of a group share a
    search, which `shared=False` undoes; replies are written with dense attention.

    Attributes:
        budget_tokens: how many tokens are found by the search (512 in the paper).
        budget_ratio: in its place, the share of all blocks; None takes `budget_tokens`.
        sink_tokens: how many first tokens are seen beside them.
        window_tokens: how many tokens before a query's own block are seen beside them.
        stride_tokens: see above; it divides 128.
        shared: whether the query heads of a group see the same blocks.
    """

    name = "hip"

    budget_tokens: int = 512
    budget_ratio: float | None = None
    sink_tokens: int = 128
    window_tokens: int = 128
    stride_tokens: int = 4
    shared: bool = True

    def __post_init__(self) -> None:
        at_least(self, budget_tokens=1, sink_tokens=0, window_tokens=0, stride_tokens=1)
        ratios(self, "budget_ratio")
        if BLOCK_TOKENS % self.stride_tokens:
            raise ValueError(f"stride_tokens must divide {BLOCK_TOKENS}, got {self.stride_tokens}")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """By a search for each block of queries."""
        query_blocks, key_blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        first, past = key_blocks - query_blocks, k.shape[1] - q.shape[1]
        groups = k.shape[0] if self.shared else q.shape[0]
        whole = k.shape[1] // BLOCK_TOKENS
        keys = torch.unflatten(k[:, : whole * BLOCK_TOKENS], 1, (whole, BLOCK_TOKENS))
        keys = keys[:, :, :: self.stride_tokens].repeat_interleave(groups // k.shape[0], 0)
        mask = torch.zeros(groups, query_blocks, key_blocks, dtype=torch.bool, device=q.device)
        count, sink, window = blocks_of(self.budget_tokens), blocks_of(self.sink_tokens), blocks_of(self.window_tokens)
        if self.budget_ratio is not None:
            count = max(1, round(self.budget_ratio * key_blocks) - sink - window)
        for row in range(query_blocks):
            own = first + row
            begin, end = min(sink, own), max(min(sink, own), own - window)
            mask[:, row, :begin] = mask[:, row, end:own] = True
            if end - begin <= count:
                mask[:, row, begin:end] = True
                continue
            rows = q[:, max(0, own * BLOCK_TOKENS - past) : (own + 1) * BLOCK_TOKENS - past]
            rows = rows[:, (self.stride_tokens - 1) % rows.shape[1] :: self.stride_tokens]
            found = tree_search(rows.reshape(groups, -1, q.shape[2]), keys[:, begin:end], count)
            mask[:, row].scatter_(1, found + begin, True)
        return Choice(BlockSelection.from_mask(mask))


def tree_search(q: torch.Tensor, keys: torch.Tensor, count: int) -> torch.Tensor:
    """The numbers of the `count` blocks that a search finds, `[G, count]`, in any order.

    Args:
        q: the queries that search, `[G, n, D]`.
        keys: some keys of each block, `[G, blocks, m, D]`, of more than `count` blocks.
        count: how many nodes are kept.
    """
    groups, blocks = keys.shape[:2]
    edges = torch.arange(count + 1, device=q.device) * blocks // count
    starts = edges[:-1].expand(groups, -1)
    sizes = (edges[1:] - edges[:-1]).expand(groups, -1)
    at = torch.arange(groups, device=q.device)[:, None]
    while int(sizes.max()) > 1:
        halves = sizes // 2
        starts = torch.cat([starts, starts + halves], 1)
        sizes = torch.cat([halves, sizes - halves], 1)
        products = q[:, None] @ keys[at, starts].mT
        scores = products.amax((2, 3)).masked_fill(sizes == 0, -torch.inf)
        best = scores.topk(count, -1).indices
        starts, sizes = starts.gather(1, best), sizes.gather(1, best)
    return starts
