"""Attention estimated: queries and keys sorted by a hash meet in blocks, a sample of the keys stands for the rest.

Source: Han et al., "HyperAttention: Long-context Attention in Near-Linear Time", arXiv 2310.05869, algorithms 1 to 4,
and the authors' code (insuhan/hyper-attn, 68b91e9).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from readthrough.compression.base import BLOCK_TOKENS, AttentionPattern, Choice, at_least, ratios
from readthrough.kernels.attention import attend
from readthrough.kernels.block_sparse import BlockSelection, count_blocks
from readthrough.kernels.merge import Part, merge_lse

CHUNK_SCORES = 1 << 22
"""About how many scores with the sample are held at once."""


@dataclass(frozen=True)
class HyperAttention(AttentionPattern):
    """Attention estimated by sorted blocks and a sample (HyperAttention, arXiv 2310.05869).

    Queries and keys are sorted by a hash of their directions; each block of sorted queries attends to the block of keys
    at its place, and to a sample of all keys, weighted to stand for those that are in no such block. Causal attention
    is halved: the first half, the second half, and the second half's queries over the first half's keys, which are all
    before them; halves that are short enough are computed exactly.

    Differs from the paper: an odd text is not padded, its halves differ by one, and keys that fill up the last block
    do not count (zeros do in the authors' code); the keys before a chunk of a prompt are one such estimate for the
    chunk; the sample leaves out keys of a query's block on every device; no key is tested for being large; the hash's
    numbers are in the paper's order, where neighbours differ in one sign (in the authors' code they may in more).

    Attributes:
        block_tokens: the length of a block of sorted keys (256 in the authors' code).
        sample_tokens: how many keys are sampled, with repetition (256 there).
        budget_ratio: in place of both, their share of the keys that an estimate is over, half each; None takes both.
        exact_tokens: what has no more scores than so many queries with so many keys is computed exactly (4,096 there).
        hash_bits: how many random directions a hash takes the signs of (7 there).
        seed: of directions and samples, which depend on the layer too.
    """

    name = "hyper-attention"
    estimates = True

    block_tokens: int = 256
    sample_tokens: int = 256
    budget_ratio: float | None = None
    exact_tokens: int = 4096
    hash_bits: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, block_tokens=1, sample_tokens=1, exact_tokens=1, hash_bits=1, seed=0)
        ratios(self, "budget_ratio")
        if self.hash_bits > 24:
            raise ValueError(f"hash_bits must be at most 24, got {self.hash_bits}")

    def choose(self, q: torch.Tensor, k: torch.Tensor, *, scale: float) -> Choice:
        """Everything: that is what it estimates."""
        blocks = count_blocks(q.shape[1], k.shape[1], BLOCK_TOKENS)
        return Choice(BlockSelection.all_past(k.shape[0], *blocks, q.device))

    def compute(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        layer: int,
        scale: float,
        notes: dict[str, torch.Tensor],
    ) -> Part:
        """The estimate."""
        generator = torch.Generator().manual_seed((self.seed * 1009 + layer) % (1 << 63))
        directions = torch.randn(q.shape[2], self.hash_bits, generator=generator).to(q.device)
        past, group = k.shape[1] - q.shape[1], q.shape[0] // k.shape[0]
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        estimate = _Estimate(self, directions, generator, scale)
        own = estimate.causal(q, k[:, past:], v[:, past:])
        return merge_lse([own, estimate.whole(q, k[:, :past], v[:, :past])]) if past else own


@dataclass(frozen=True)
class _Estimate:
    """The estimates of one layer; keys and values of as many heads as the queries."""

    options: HyperAttention
    directions: torch.Tensor
    generator: torch.Generator
    scale: float

    def causal(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Part:
        """Of as many queries as keys, each over the keys up to its own."""
        if q.shape[1] <= self.options.exact_tokens:
            return attend(q, k, v, causal=True, scale=self.scale)
        half = (q.shape[1] + 1) // 2
        first = self.causal(q[:, :half], k[:, :half], v[:, :half])
        own = self.causal(q[:, half:], k[:, half:], v[:, half:])
        second = merge_lse([own, self.whole(q[:, half:], k[:, :half], v[:, :half])])
        return torch.cat([first[0], second[0]], 1), torch.cat([first[1], second[1]], 1)

    def whole(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Part:
        """Of queries over all keys."""
        options, keys = self.options, k.shape[1]
        if q.shape[1] * keys <= options.exact_tokens**2:
            return attend(q, k, v, causal=False, scale=self.scale)
        width, sample = options.block_tokens, options.sample_tokens
        if options.budget_ratio is not None:
            width = sample = max(1, round(options.budget_ratio * keys / 2))
        order, key_order = self._hash(q).argsort(dim=-1, stable=True), self._hash(k).argsort(dim=-1, stable=True)
        q, k, v = _taken(q, order), _taken(k, key_order), _taken(v, key_order)
        rows = -(-q.shape[1] // -(-keys // width))
        parts = [_blockwise((q, k, v), rows, width, self.scale)]
        if keys > width:
            chosen = torch.randint(keys, (q.shape[0], sample), generator=self.generator).to(q.device)
            parts.append(_sampled((q, k, v), chosen, (rows, width), self.scale))
        out, lse = merge_lse(parts)
        back = order.argsort(-1)
        return _taken(out, back), lse.gather(1, back)

    def _hash(self, x: torch.Tensor) -> torch.Tensor:
        """Numbers of the signs, `[H, T]`, in an order in which neighbours differ in one sign (a Gray code's)."""
        signs = (x.to(self.directions.dtype) @ self.directions > 0).flip(-1)
        weights = 2 ** torch.arange(signs.shape[-1] - 1, -1, -1, device=x.device)
        return ((signs.cumsum(-1) % 2) * weights).sum(-1)


def _taken(x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


def _blockwise(qkv: tuple[torch.Tensor, ...], rows: int, width: int, scale: float) -> Part:
    """Attention of each block of `rows` queries over the block of `width` keys at its place."""
    q, k, v = qkv
    whole, heads, queries = k.shape[1] // width, q.shape[0], q.shape[1]
    out = torch.zeros_like(q)
    lse = torch.full(q.shape[:2], -torch.inf, dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)
    lse = lse.to(q.device)
    both = min(whole, queries // rows)
    blocks = [
        torch.unflatten(x[:, : both * n], 1, (both, n)).flatten(0, 1) for x, n in ((q, rows), (k, width), (v, width))
    ]
    if both:
        found = attend(blocks[0], blocks[1], blocks[2], causal=False, scale=scale)
        out[:, : both * rows] = found[0].reshape(heads, both * rows, -1)
        lse[:, : both * rows] = found[1].reshape(heads, both * rows)
    for block in range(both, -(-queries // rows)):
        at, keys = slice(block * rows, (block + 1) * rows), slice(block * width, (block + 1) * width)
        out[:, at], lse[:, at] = attend(q[:, at], k[:, keys], v[:, keys], causal=False, scale=scale)
    return out, lse


def _sampled(qkv: tuple[torch.Tensor, ...], chosen: torch.Tensor, sides: tuple[int, int], scale: float) -> Part:
    """Attention over a sample `[H, n]` of the keys, weighted to stand for all, but for those in a query's block."""
    q, k, v = qkv
    wide = torch.promote_types(q.dtype, torch.float32)
    keys, values = _taken(k, chosen).to(wide).mT, _taken(v, chosen).to(wide)
    weight = math.log(k.shape[1] / chosen.shape[1])
    parts = []
    step = max(1, CHUNK_SCORES // chosen.numel())
    for start in range(0, q.shape[1], step):
        scores = q[:, start : start + step].to(wide) @ keys * scale
        block = torch.arange(start, start + scores.shape[1], device=q.device)[:, None] // sides[0]
        scores.masked_fill_(block == (chosen // sides[1])[:, None], -torch.inf)
        lse = scores.logsumexp(-1)
        shares = (scores - lse.clamp(min=torch.finfo(wide).min)[..., None]).exp_()
        parts.append(((shares @ values).to(q.dtype), lse + weight))
    return torch.cat([out for out, _ in parts], 1), torch.cat([lse for _, lse in parts], 1)
