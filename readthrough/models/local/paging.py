"""Attention of a reply's tokens over chosen pages, or single tokens, of what their sequence holds."""

from __future__ import annotations

import torch

from readthrough.compression.selecting import Chosen, PageSelector, Past, TokenSelector
from readthrough.kernels.attention import TILE_TOKENS, attend, attend_newest
from readthrough.kernels.gathered import attend_pages
from readthrough.kernels.merge import merge_lse
from readthrough.models.local.cache import Block, Sequence

Pair = tuple[torch.Tensor, torch.Tensor]


def attend_chosen(
    selector: PageSelector | TokenSelector, sequence: Sequence, layer: int, q: torch.Tensor, scale: float
) -> Pair:
    """Causal attention of newest tokens over the pages or tokens that each of them chooses, and the latest tokens.

    Args:
        selector: chooses.
        sequence: holds the tokens' own keys and values already, not committed.
        layer: the number of the layer.
        q: queries `[H, Tq, D]` of the newest tokens.
        scale: what the scores are multiplied with.

    Returns:
        The output `[H, Tq, D]` and the log-sum-exp `[H, Tq]`, over what is not compressed.
    """
    rows = [(q[:, at : at + 1], at + 1) for at in range(q.shape[1])]
    if isinstance(selector, TokenSelector):
        sequence.memories[layer] = []
        found = [_one_of_tokens(selector, sequence, layer, row, scale, new) for row, new in rows]
    else:
        found = [_one(selector, sequence, layer, row, scale, new) for row, new in rows]
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


def _one_of_tokens(
    selector: TokenSelector, sequence: Sequence, layer: int, q: torch.Tensor, scale: float, new: int
) -> Pair:
    """One token's, the `new`th of those that are not committed; what it remembers is noted."""
    blocks = [(block, tokens) for block, tokens in sequence.parts if isinstance(block, Block)]
    blocks.append((sequence.tail, sequence.tail.length + new))
    notes = sequence.memories[layer]
    memory = notes[-1] if notes else sequence.memory.get(layer)
    found = Chosen(0, None, memory)
    if layer >= selector.dense_layers:
        before = {each: known[new - 1] for each, known in sequence.memories.items() if each < layer}
        runs = [block.read(layer, tokens)[0] for block, tokens in blocks]
        found = selector.choose(q, Past(layer, runs, scale, before), memory)
    notes.append(found.memory)
    parts, first = [], 0
    for block, tokens in blocks:
        here = min(tokens, max(0, found.start - first))
        if block is sequence.tail:
            parts.append(_latest(block, layer, q, scale, (here, tokens)))
        elif here < tokens:
            keys, values = (x[:, here:] for x in block.read(layer, tokens))
            parts.append(attend(q, keys, values, causal=False, scale=scale))
        if here and found.tokens is not None:
            parts.append(_pages(block, layer, found.tokens, (first, here, 1), q, scale))
        first += tokens
    return merge_lse(parts)


def _latest(tail: Block, layer: int, q: torch.Tensor, scale: float, span: tuple[int, int]) -> Pair:
    """Attention over the tail's tokens from the start of a span to its end, the token's own being the last."""
    start, end = span
    first = start // TILE_TOKENS * TILE_TOKENS
    tiles = -(-(end - first) // TILE_TOKENS) * TILE_TOKENS
    keys, values = (x[:, first:] for x in tail.read(layer, first + tiles))
    return attend_newest(q, keys, values, tokens=end - first, scale=scale, first=start - first)


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
