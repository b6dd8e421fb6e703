"""Products of queries and keys estimated at four bits, in bounded memory."""

from __future__ import annotations

import torch

LEVELS = 7
"""The largest number of four bits, the least being as far from 0."""


def estimated_peaks(
    q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, block_tokens: int, scale: float
) -> torch.Tensor:
    """See `kernels.scores.estimated_peaks`."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    past, group = k.shape[1] - q.shape[1], q.shape[0] // k.shape[0]
    blocks, first = -(-k.shape[1] // block_tokens), past // block_tokens
    found = torch.full((q.shape[0], blocks - first, blocks), -torch.inf, dtype=wide, device=q.device)
    for head in range(q.shape[0]):
        keys, queries = k[head // group].to(wide), q[head].to(wide)
        base = keys.mean(0)
        middle = queries.mean(0)
        offsets = (keys - base) @ middle
        shift = queries @ base  # the log-sum-exps are of scores with the keys as they are
        low_keys, low_queries = _low(keys - base), _low(queries - middle)
        for row in range(first, blocks):
            at = slice(max(row * block_tokens - past, 0), (row + 1) * block_tokens - past)
            end = min((row + 1) * block_tokens, k.shape[1])
            scores = low_queries[at] @ low_keys[:end].T + offsets[:end]
            relative = ((scores + shift[at, None]) * scale - lse[head, at, None].to(wide)).amax(0)
            padded = torch.nn.functional.pad(relative, (0, -end % block_tokens), value=-torch.inf)
            found[head, row - first, : row + 1] = padded.view(-1, block_tokens).amax(1)
    return found


def _low(x: torch.Tensor) -> torch.Tensor:
    """`x`, `[T, D]`, rounded to 15 levels, a scale a token."""
    step = (x.abs().amax(-1, keepdim=True) / LEVELS).clamp(min=torch.finfo(x.dtype).tiny)
    return (x / step).round() * step
