"""Scorers of blocks, pages and tokens: one set serves the selection of blocks and the eviction of keys.

Scores of blocks are `[Hs, nq, nk]` in fp32 (fp64 for fp64 inputs), Hs being H, or Hkv where a group of query heads
shares them. Blocks are aligned at key 0: the queries are the last Tq of the Tk tokens, query block i has the number
`nk - nq + i`, and the first and the last block may be partial. `select` turns scores into masks.
"""

from __future__ import annotations

from typing import Literal

import torch

from readthrough.kernels.scores import antidiagonal, lowbit, mass
from readthrough.kernels.scores.select import mass_blocks, slash_blocks, top_blocks

__all__ = [
    "antidiagonal_scores",
    "attention_peaks",
    "attention_sums",
    "bound_scores",
    "estimated_peaks",
    "key_norms",
    "mass_blocks",
    "page_bounds",
    "pooled_scores",
    "slash_blocks",
    "slash_mass",
    "top_blocks",
    "window_mass",
    "window_moments",
]

PAGE_TOKENS = 64


def pooled_scores(
    q: torch.Tensor, k: torch.Tensor, *, block_tokens: int, scale: float, shared: bool = False
) -> torch.Tensor:
    """The scaled products of mean queries and mean keys of blocks, as MInference (arXiv 2407.02490) estimates them.

    Args:
        q: queries `[H, Tq, D]` of the last Tq tokens.
        k: keys `[Hkv, Tk, D]`.
        block_tokens: the width of a block; partial blocks are averaged over the tokens that are there.
        scale: what the scores are multiplied with.
        shared: average the scores over the query heads of a group.

    Returns:
        Scores `[H or Hkv, nq, nk]`, -inf where a key block lies behind the query block.

    Raises:
        ValueError: the shapes do not fit together.
    """
    past = _past(q, k)
    _check_positive(block_tokens, "block_tokens")
    kv_heads = k.shape[0]
    queries = torch.unflatten(_block_means(q, block_tokens, past % block_tokens), 0, (kv_heads, -1))
    if shared:
        queries = queries.mean(1, keepdim=True)
    keys = _block_means(k, block_tokens, 0).transpose(1, 2)
    scores = (queries.flatten(1, 2) @ keys * scale).reshape(-1, queries.shape[2], keys.shape[2])
    seen = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril(scores.shape[2] - scores.shape[1])
    return scores.masked_fill_(~seen, -torch.inf)


def antidiagonal_scores(
    q: torch.Tensor, k: torch.Tensor, *, block_tokens: int, stride: int, scale: float, shared: bool = False
) -> torch.Tensor:
    """The attention mass of blocks by strided antidiagonals: XAttention (arXiv 2503.16428), algorithm 1.

    The score matrix is cut into tiles of `stride` x `stride`; the sum of a tile's antidiagonal, over `stride`, stands
    for the tile. A softmax over the tiles up to each row's own gives their mass, which is summed over blocks.

    Differs from the paper: a row of blocks is divided by its number of tile rows and so sums to 1 (which changes no
    choice by cumulative mass); tokens missing from a partial tile count as zeros, as in the authors' code. As there,
    the tile of a row's own tokens counts whole, and an even stride pairs only tokens an odd distance apart.

    Args:
        q: queries `[H, Tq, D]` of the last Tq tokens.
        k: keys `[Hkv, Tk, D]`.
        block_tokens: the width of a block, a multiple of `stride`.
        stride: the width of a tile (the paper's 8 or 16): the work is 1 / (2 `stride`) of dense attention's.
        scale: what the scores are multiplied with.
        shared: average the mass over the query heads of a group.

    Returns:
        Mass `[H or Hkv, nq, nk]`: rows sum to 1, blocks behind the query block have 0.

    Raises:
        ValueError: the shapes do not fit together, or `stride` does not divide `block_tokens`.
    """
    _past(q, k)
    _check_positive(stride, "stride")
    _check_positive(block_tokens, "block_tokens")
    if block_tokens % stride:
        raise ValueError(f"blocks of {block_tokens} tokens are not made of tiles of {stride}")
    scores = antidiagonal.scores(q, k, block_tokens=block_tokens, stride=stride, scale=scale)
    return torch.unflatten(scores, 0, (k.shape[0], -1)).mean(1) if shared else scores


def page_bounds(k: torch.Tensor, page_tokens: int = PAGE_TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest and largest value of each channel in each page of keys: Quest's page statistics.

    Args:
        k: keys `[Hkv, Tk, D]`.
        page_tokens: the width of a page; the last one may be partial.

    Returns:
        `(low, high)`, each `[Hkv, pages, D]` in k's dtype.

    Raises:
        ValueError: there is no key, or `page_tokens` is not positive.
    """
    _check_positive(page_tokens, "page_tokens")
    if not k.shape[1]:
        raise ValueError("there is no key")
    whole = k.shape[1] // page_tokens * page_tokens
    parts = [torch.unflatten(k[:, :whole], 1, (-1, page_tokens))] if whole else []
    if whole < k.shape[1]:
        parts.append(k[:, None, whole:])
    return torch.cat([part.amin(2) for part in parts], 1), torch.cat([part.amax(2) for part in parts], 1)


def bound_scores(
    q: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    *,
    scale: float,
    shared: bool = True,
    over_queries: bool = True,
) -> torch.Tensor:
    """Upper bounds of the scores of any key in each page: Quest (arXiv 2406.10774), `sum_d max(q_d low_d, q_d high_d)`.

    Differs from the paper: a group of query heads shares the largest of its bounds (the paper's models have no groups).

    Args:
        q: queries `[H, Tq, D]`, usually of one newest token.
        low: least channel values of pages `[Hkv, pages, D]`, by `page_bounds`.
        high: greatest channel values, likewise.
        scale: what the scores are multiplied with, positive.
        shared: take the largest over the query heads of a group.
        over_queries: take the largest over the queries.

    Returns:
        Bounds `[Hkv if shared else H, 1 if over_queries else Tq, pages]`.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if low.shape != high.shape or q.shape[-1] != low.shape[-1] or q.shape[0] % low.shape[0]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, low {tuple(low.shape)}, high {tuple(high.shape)}")
    wide = _wide(q)
    queries = q.to(wide).reshape(low.shape[0], -1, q.shape[-1])
    # the larger product takes the high end where the query is positive and the low end where it is negative
    signed = torch.cat([queries.clamp(min=0), queries.clamp(max=0)], -1)
    bounds = signed @ torch.cat([high, low], -1).to(wide).transpose(1, 2) * scale
    bounds = torch.unflatten(bounds, 1, (-1, q.shape[1]))
    if over_queries:
        bounds = bounds.amax(2, keepdim=True)
    return bounds.amax(1) if shared else bounds.flatten(0, 1)


def window_mass(
    q_last: torch.Tensor,
    k: torch.Tensor,
    *,
    scale: float,
    pool_tokens: int = 7,
    pooling: Literal["average", "max"] = "average",
    reduction: Literal["mean", "sum", "max"] = "mean",
) -> torch.Tensor:
    """The attention that the last queries pay to each key: SnapKV (arXiv 2404.14469), sections 3 and 4.

    The keys before the window and those of the window are pooled apart, so that the window's own attention does not
    lift its neighbours (the authors pool the former only).

    Differs from the paper: one score a key head, reduced over its query heads before pooling, since a group shares its
    keys (the authors repeat the keys and keep others for every query head).

    Args:
        q_last: queries `[H, W, D]` of the last W tokens, each of which sees the keys up to its own.
        k: keys `[Hkv, Tk, D]`.
        scale: what the scores are multiplied with.
        pool_tokens: the width of the pooling, odd; 1 for none (the authors' code: 5 or 7).
        pooling: average, with zeros beyond the ends, or max.
        reduction: mean or sum over the query heads of a group, of sums over the window; or max over both.

    Returns:
        Mass `[Hkv, Tk]`.

    Raises:
        ValueError: the shapes do not fit together, or `pool_tokens` is even.
    """
    past = _past(q_last, k)
    if pool_tokens < 1 or pool_tokens % 2 == 0:
        raise ValueError(f"pool_tokens must be odd and positive, got {pool_tokens}")
    found = mass.window_mass(q_last, k, scale=scale, largest=reduction == "max")
    if reduction == "mean":
        found = found / (q_last.shape[0] // k.shape[0])
    if pool_tokens == 1:
        return found
    pool = torch.nn.functional.avg_pool1d if pooling == "average" else torch.nn.functional.max_pool1d
    parts = [part for part in (found[:, :past], found[:, past:]) if part.shape[1]]
    return torch.cat([pool(part, pool_tokens, 1, pool_tokens // 2) for part in parts], 1)


def attention_peaks(q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The largest share of its attention that any query pays to each key: KVzip (arXiv 2505.23416), equation 2.

    Args:
        q: queries `[H, Tq, D]`, all of which see all of the keys.
        k: some of the keys that they see, `[Hkv, Tk, D]`.
        lse: the log-sum-exp of the scaled scores of all keys that they see, `[H, Tq]`.
        scale: what the scores are multiplied with, positive.

    Returns:
        Shares `[Hkv, Tk]` from 0 to 1, over the queries of a group's heads.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if q.shape[-1] != k.shape[-1] or q.shape[0] % k.shape[0] or lse.shape != q.shape[:2] or not lse.numel():
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}, lse {tuple(lse.shape)}")
    return mass.attention_peaks(q, k, lse, scale=scale)


def estimated_peaks(
    q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, block_tokens: int, scale: float
) -> torch.Tensor:
    """The largest score of each pair of blocks, less its query's log-sum-exp, by SALE (arXiv 2505.24179).

    The mean query and the mean key are taken off first; what is left has four bits, with a scale a token. The mean
    query's products are exact, as in the authors' code.

    Args:
        q: queries `[H, Tq, D]` of the last Tq tokens.
        k: keys `[Hkv, Tk, D]`.
        lse: what each query's scores are taken relative to, `[H, Tq]`.
        block_tokens: the width of a block.
        scale: what the scores are multiplied with.

    Returns:
        Peaks `[H, nq, nk]`, -inf where a key block lies behind the query block; a block's own keys count whole.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _past(q, k)
    _check_positive(block_tokens, "block_tokens")
    if lse.shape != q.shape[:2]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, lse {tuple(lse.shape)}")
    return lowbit.estimated_peaks(q, k, lse, block_tokens=block_tokens, scale=scale)


def window_moments(
    q_last: torch.Tensor, k: torch.Tensor, *, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How the attention that the last queries pay to each key is spread over these queries: CAKE (arXiv 2503.12491).

    Args:
        q_last: queries `[H, W, D]` of the last W tokens, each of which sees the keys up to its own.
        k: keys `[Hkv, Tk, D]`.
        scale: what the scores are multiplied with.

    Returns:
        In fp64 sums over the window: of the shares, and of their squares, `[H, Tk]` each, and `[Tk]` of
        `- share log(share + 1e-10)`, which is summed over the heads too.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _past(q_last, k)
    return mass.window_moments(q_last, k, scale=scale)


def attention_sums(q_last: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The attention that the last queries pay to each key, as shares of all that they see: H2O (arXiv 2306.14048).

    Args:
        q_last: queries `[H, W, D]` of the last W tokens, each of which sees the keys up to its own.
        k: some of the keys that they see, theirs the last, `[Hkv, Tk, D]`.
        lse: the log-sum-exp of the scaled scores of all keys that they see, `[H, W]`.
        scale: what the scores are multiplied with.

    Returns:
        Mass `[Hkv, Tk]`: sums over the queries and over the heads of a group.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _past(q_last, k)
    if lse.shape != q_last.shape[:2]:
        raise ValueError(f"shapes do not fit: q {tuple(q_last.shape)}, lse {tuple(lse.shape)}")
    return mass.attention_sums(q_last, k, lse, scale=scale)


def slash_mass(q_last: torch.Tensor, k: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The attention that the last queries pay to each distance: the slashes of MInference (arXiv 2407.02490, 3.3).

    Args:
        q_last: queries `[H, W, D]` of the last W tokens, each of which sees the keys up to its own.
        k: keys `[Hkv, Tk, D]`.
        scale: what the scores are multiplied with.

    Returns:
        Mass `[Hkv, Tk]`: at i that of keys i tokens before the query, the mean over the group of sums over the window.

    Raises:
        ValueError: the shapes do not fit together.
    """
    _past(q_last, k)
    return mass.slash_mass(q_last, k, scale=scale) / (q_last.shape[0] // k.shape[0])


def key_norms(k: torch.Tensor) -> torch.Tensor:
    """The Euclidean norms of keys: those of small norm draw attention (arXiv 2406.11430).

    Args:
        k: keys `[Hkv, Tk, D]`.

    Returns:
        Norms `[Hkv, Tk]`.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(k, dim=-1, dtype=_wide(k))
    return norms


def _wide(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _past(q: torch.Tensor, k: torch.Tensor) -> int:
    """How many keys come before the first query's own."""
    if q.shape[-1] != k.shape[-1] or q.shape[0] % k.shape[0]:
        raise ValueError(f"shapes do not fit: q {tuple(q.shape)}, k {tuple(k.shape)}")
    if not 0 < q.shape[1] <= k.shape[1]:
        raise ValueError(f"every query needs a key, got {k.shape[1]} keys for {q.shape[1]} queries")
    return k.shape[1] - q.shape[1]


def _check_positive(number: int, name: str) -> None:
    if number < 1:
        raise ValueError(f"{name} must be positive, got {number}")


def _block_means(x: torch.Tensor, block_tokens: int, skipped: int) -> torch.Tensor:
    """The means `[H, blocks, D]` of the blocks of `x`, `[H, T, D]`, whose first block lacks `skipped` tokens."""
    head = min((block_tokens - skipped) % block_tokens, x.shape[1])
    tail = head + (x.shape[1] - head) // block_tokens * block_tokens
    whole = torch.unflatten(x[:, head:tail], 1, (-1, block_tokens))
    parts = (x[:, None, :head], whole, x[:, None, tail:])
    return torch.cat([_means(part) for part in parts if part.shape[1] and part.shape[2]], 1)


def _means(x: torch.Tensor) -> torch.Tensor:
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        # six times as fast as a mean in fp32, and rounded less than each of the summands was
        return x.sum(2).float() / x.shape[2]
    return x.mean(2, dtype=_wide(x))
