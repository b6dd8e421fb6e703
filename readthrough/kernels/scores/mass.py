"""The attention that the last queries pay to keys and to distances, in bounded memory; a fused kernel on CUDA."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from readthrough.kernels.attention.cuda import runs_triton

CHUNK_SCORES = 1 << 20
"""About how many scores are held at once."""
CHUNK_QUERIES = 128


def window_mass(q_last: torch.Tensor, k: torch.Tensor, *, scale: float, largest: bool) -> torch.Tensor:
    """The mass `[Hkv, Tk]`, summed over the window and the group or, if `largest`, the largest of both.

    Args:
        q_last: queries `[H, W, D]` of the last W tokens.
        k: keys `[Hkv, Tk, D]`.
        scale: what the scores are multiplied with.
        largest: take the maximum instead of the sum.
    """
    if runs_triton(q_last):
        from readthrough.kernels.scores import triton

        if triton.supports(q_last):
            return triton.window_mass(q_last, k, scale=scale, largest=largest)
    mass = _nothing(q_last, k)
    for _, start, shares in _shares(q_last, k, scale):
        part = mass[:, start : start + shares.shape[3]]
        if largest:
            torch.maximum(part, shares.amax((1, 2)), out=part)
        else:
            part += shares.sum((1, 2))
    return mass


def window_moments(
    q_last: torch.Tensor, k: torch.Tensor, *, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums over the window, in fp64: of shares and of their squares `[H, Tk]`, and of their entropy `[Tk]`.

    The entropy is summed over the heads too.
    """
    first, second = torch.zeros(2, q_last.shape[0], k.shape[1], dtype=torch.float64, device=k.device)
    entropy = torch.zeros(k.shape[1], dtype=torch.float64, device=k.device)
    for _, start, shares in _shares(q_last, k, scale):
        here = slice(start, start + shares.shape[3])
        wide = shares.double()
        first[:, here] += wide.sum(2).flatten(0, 1)
        second[:, here] += wide.square().sum(2).flatten(0, 1)
        entropy[here] -= (wide * (wide + 1e-10).log()).sum((0, 1, 2))
    return first, second, entropy


def attention_sums(q_last: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The mass `[Hkv, Tk]`, summed over the queries and the group, where log-sum-exps are known."""
    mass = _nothing(q_last, k)
    past = k.shape[1] - q_last.shape[1]
    for begin in range(0, q_last.shape[1], CHUNK_QUERIES):
        here = slice(begin, begin + CHUNK_QUERIES)
        queries = torch.unflatten(q_last[:, here].to(mass.dtype) * scale, 0, (k.shape[0], -1))
        rows, window = queries.flatten(1, 2), queries.shape[2]
        norms = torch.unflatten(lse[:, here].to(mass.dtype), 0, (k.shape[0], -1)).flatten(1, 2).unsqueeze(-1)
        seen = k[:, : past + begin + window]
        block = max(1, CHUNK_SCORES // (rows.shape[0] * rows.shape[1]))
        for start in range(0, seen.shape[1], block):
            shares = _scores(rows, seen, start, start + block, window).sub_(norms).exp_()
            mass[:, start : start + shares.shape[2]] += shares.sum(1)
    return mass


def slash_mass(q_last: torch.Tensor, k: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The mass `[Hkv, Tk]` of each distance from query back to key, summed over the window and the group."""
    mass = _nothing(q_last, k)
    for first, start, shares in _shares(q_last, k, scale):
        own = torch.arange(first, first + shares.shape[2], device=k.device)[:, None]
        distances = own - torch.arange(start, start + shares.shape[3], device=k.device)
        # what lies behind a query has no mass
        mass.index_add_(1, distances.clamp_(min=0).flatten(), shares.sum(1).flatten(1))
    return mass


def attention_peaks(q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, scale: float) -> torch.Tensor:
    """The largest share `[Hkv, Tk]` of any query's attention, the log-sum-exps of which are known.

    The largest share has the largest score less its query's log-sum-exp: that difference is one matrix product, the
    log-sum-exp being two more channels (its rounding to the dtype, and the rest), and no other exponential is needed.
    """
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    norms = -lse.to(wide) / scale
    near = norms.to(q.dtype)
    ends = torch.stack([near, (norms - near.to(wide)).to(q.dtype)], -1)
    rows = torch.unflatten(torch.cat([q, ends], -1), 0, (k.shape[0], -1)).flatten(1, 2)
    keys = torch.cat([k, k.new_ones(*k.shape[:2], 2)], -1).transpose(1, 2)
    peaks = torch.full(k.shape[:2], -torch.inf, dtype=wide, device=k.device)
    step = max(1, CHUNK_SCORES // k.shape[1])
    for head, found in enumerate(peaks):
        for start in range(0, rows.shape[1], step):
            scores = rows[head, start : start + step] @ keys[head]
            torch.maximum(found, scores.amax(0).to(wide), out=found)
    return (peaks * scale).exp_().clamp_(max=1)


def _nothing(q_last: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    wide = torch.float64 if q_last.dtype == torch.float64 else torch.float32
    return torch.zeros(k.shape[:2], dtype=wide, device=k.device)


def _shares(q_last: torch.Tensor, k: torch.Tensor, scale: float) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Attention in pieces: the position of the first query, that of the first key, and shares `[Hkv, G, w, keys]`."""
    past = k.shape[1] - q_last.shape[1]
    wide = torch.float64 if q_last.dtype == torch.float64 else torch.float32
    for begin in range(0, q_last.shape[1], CHUNK_QUERIES):
        queries = torch.unflatten(q_last[:, begin : begin + CHUNK_QUERIES].to(wide) * scale, 0, (k.shape[0], -1))
        rows, window = queries.flatten(1, 2), queries.shape[2]
        seen = k[:, : past + begin + window]
        block = max(1, CHUNK_SCORES // (rows.shape[0] * rows.shape[1]))
        lse = rows.new_full(rows.shape[:2], -torch.inf)
        for start in range(0, seen.shape[1], block):
            lse = torch.logaddexp(lse, _scores(rows, seen, start, start + block, window).logsumexp(-1))
        for start in range(0, seen.shape[1], block):
            shares = _scores(rows, seen, start, start + block, window).sub_(lse.unsqueeze(-1)).exp_()
            yield past + begin, start, torch.unflatten(shares, 1, (-1, window))


def _scores(rows: torch.Tensor, k: torch.Tensor, start: int, end: int, window: int) -> torch.Tensor:
    """The scores `[Hkv, G * w, keys]` of the keys from `start`, -inf behind a query's own."""
    keys = k[:, start:end]
    scores = rows @ keys.to(rows.dtype).transpose(1, 2)
    first_own = k.shape[1] - window
    if start + keys.shape[1] > first_own:
        unseen = torch.ones(window, keys.shape[1], dtype=torch.bool, device=k.device).triu(first_own - start + 1)
        torch.unflatten(scores, 1, (-1, window)).masked_fill_(unseen, -torch.inf)
    return scores
