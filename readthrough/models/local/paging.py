"""Attention of a reply's tokens over chosen pages of what their sequence holds."""

from __future__ import annotations

import torch

from readthrough.compression.base import PageSelector
from readthrough.kernels.attention import TILE_TOKENS, attend, attend_newest
from readthrough.kernels.gathered import attend_pages
from readthrough.kernels.merge import merge_lse
from readthrough.models.local.cache import Block, Sequence

Pair = tuple[torch.Tensor, torch.Tensor]


def attend_chosen(selector: PageSelector, sequence: Sequence, layer: int, q: torch.Tensor, scale: float) -> Pair:
    """Causal attention of newest tokens over the pages that each of them chooses, and the latest tokens.

    Args:
        selector: chooses.
        sequence: holds the tokens' own keys and values already, not committed.
        layer: the number of the layer.
        q: queries `[H, Tq, D]` of the newest tokens.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` and the log-sum-exp `[H, Tq]`, over what is not compressed.
    """
    found = [_one(selector, sequence, layer, q[:, at : at + 1], scale, at + 1) for at in range(q.shape[1])]
    return torch.cat([out for out, _ in found], 1), torch.cat([lse for _, lse in found], 1)


def _one(selector: PageSelector, sequence: Sequence, layer: int, q: torch.Tensor, scale: float, new: int) -> Pair:
    """One token's, the `new`th of those that are not committed."""
    width, start = selector.page_tokens, sequence.compressed_tokens
    whole = max(0, (sequence.length - start) // width - selector.latest_pages)
    if layer < selector.dense_layers:
        whole = 0
    parts, paged = [], []
    blocks = [(block, tokens) for block, tokens in sequence.parts if isinstance(block, Block)]
    for block, tokens in [*blocks, (sequence.tail, sequence.tail.length)]:
        pages = min(whole, tokens // width)
        whole -= pages
        if pages:
            paged.append((block, pages))
        if block is sequence.tail:
            parts.append(_latest(block, layer, q, scale, (pages * width, tokens + new)))
        elif tokens > pages * width:
            keys, values = (x[:, pages * width :] for x in block.read(layer, tokens))
            parts.append(attend(q, keys, values, causal=False, scale=scale))
    if paged:
        bounds = [block.bounds(layer, pages, width) for block, pages in paged]
        low, high = (torch.cat(ends, 1) for ends in zip(*bounds, strict=True))
        chosen = selector.choose(q, low, high, scale=scale)
        first = 0
        for block, pages in paged:
            parts.append(_pages(block, layer, chosen, (first, pages, width), q, scale))
            first += pages
    return merge_lse(parts)


def _latest(tail: Block, layer: int, q: torch.Tensor, scale: float, span: tuple[int, int]) -> Pair:
    """Attention over the tail's tokens from the start of a span to its end, the token's own being the last."""
    start, end = span
    tiles = -(-(end - start) // TILE_TOKENS) * TILE_TOKENS
    keys, values = (x[:, start:] for x in tail.read(layer, start + tiles))
    return attend_newest(q, keys, values, tokens=end - start, scale=scale)


def _pages(
    block: Block, layer: int, chosen: torch.Tensor, span: tuple[int, int, int], q: torch.Tensor, scale: float
) -> Pair:
    """Attention over those of the chosen pages that lie in a block, whose pages are numbered from the span's first."""
    first, pages, width = span
    here = (chosen >= first) & (chosen < first + pages)
    counts = here.sum(1)
    # ascending: those that lie here come next to each other, and are moved to the front of each head's list
    table = (
        (chosen - first).masked_fill(~here, pages).sort(1).values[:, : max(1, int(counts.max()))].clamp(max=pages - 1)
    )
    keys, values = (torch.unflatten(x, 1, (-1, width)) for x in (block.keys[layer], block.values[layer]))
    return attend_pages(q, keys, values, table.clamp_(max=pages - 1), counts * width, scale=scale)
