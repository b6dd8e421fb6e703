"""The scorers by their definitions, with whole score matrices: what the others must equal."""

from __future__ import annotations

import torch


def pooled_scores(q: torch.Tensor, k: torch.Tensor, *, block_tokens: int, scale: float) -> torch.Tensor:
    """See `kernels.scores.pooled_scores`."""
    past, group = k.shape[1] - q.shape[1], q.shape[0] // k.shape[0]
    blocks, first = -(-k.shape[1] // block_tokens), past // block_tokens
    found = q.new_full((q.shape[0], blocks - first, blocks), -torch.inf)
    for row in range(first, blocks):
        start = max(row * block_tokens - past, 0)
        query = q[:, start : (row + 1) * block_tokens - past].mean(1)
        for column in range(row + 1):
            key = k[:, column * block_tokens : (column + 1) * block_tokens].mean(1).repeat_interleave(group, 0)
            found[:, row - first, column] = (query * key).sum(-1) * scale
    return found


def antidiagonal_scores(
    q: torch.Tensor, k: torch.Tensor, *, block_tokens: int, stride: int, scale: float
) -> torch.Tensor:
    """See `kernels.scores.antidiagonal_scores`."""
    past, tokens, group = k.shape[1] - q.shape[1], k.shape[1], q.shape[0] // k.shape[0]
    blocks, tile_rows = -(-tokens // block_tokens), block_tokens // stride
    square = q.new_zeros(q.shape[0], blocks * block_tokens, blocks * block_tokens)
    square[:, past:tokens, :tokens] = q @ k.repeat_interleave(group, 0).transpose(1, 2) * scale
    count = blocks * tile_rows
    tiles = square.view(-1, count, stride, count, stride)
    summed = tiles.flip(2).diagonal(dim1=2, dim2=4).sum(-1) / stride
    seen = torch.ones(count, count, dtype=torch.bool, device=q.device).tril()
    mass = summed.masked_fill(~seen, -torch.inf).softmax(-1)
    row = torch.arange(count, device=q.device)
    mass[:, (row < past // stride) | (row > (tokens - 1) // stride)] = 0
    sums = mass.view(-1, blocks, tile_rows, blocks, tile_rows).sum((2, 4))[:, past // block_tokens :]
    return sums / sums.sum(-1, keepdim=True)


def page_bounds(k: torch.Tensor, page_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.scores.page_bounds`."""
    pages = torch.split(k, page_tokens, 1)
    return torch.stack([page.amin(1) for page in pages], 1), torch.stack([page.amax(1) for page in pages], 1)


def bound_scores(q: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, scale: float) -> torch.Tensor:
    """See `kernels.scores.bound_scores`; `[H, Tq, pages]`."""
    group = q.shape[0] // low.shape[0]
    low, high = (bound.repeat_interleave(group, 0)[:, None] for bound in (low, high))
    return torch.maximum(q[:, :, None] * low, q[:, :, None] * high).sum(-1) * scale


def window_mass(q_last: torch.Tensor, k: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The attention `[Hkv, G, W, Tk]` that `kernels.scores.window_mass` reduces."""
    group, window = q_last.shape[0] // k.shape[0], q_last.shape[1]
    scores = q_last @ k.repeat_interleave(group, 0).transpose(1, 2) * scale
    seen = torch.ones(scores.shape[1:], dtype=torch.bool, device=k.device).tril(k.shape[1] - window)
    return torch.unflatten(scores.masked_fill(~seen, -torch.inf).softmax(-1), 0, (k.shape[0], group))


def attention_peaks(q: torch.Tensor, k: torch.Tensor, others: torch.Tensor, *, scale: float) -> torch.Tensor:
    """See `kernels.scores.attention_peaks`; `others` are the further keys `[Hkv, n, D]` that all queries see."""
    group = q.shape[0] // k.shape[0]
    seen = torch.cat([k, others], 1).repeat_interleave(group, 0)
    shares = (q @ seen.transpose(1, 2) * scale).softmax(-1)[:, :, : k.shape[1]]
    return torch.unflatten(shares.amax(1), 0, (k.shape[0], group)).amax(1)
