"""LaCache: a ladder across the layers.

Source: Shi et al., "LaCache: Ladder-Shaped KV Caching for Efficient Long-Context Modeling of Large Language Models",
arXiv 2507.14204, section 3, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from readthrough.compression.base import LayerKV, at_least
from readthrough.compression.policies.budgets import AtPromptEnd
from readthrough.compression.selecting import ModelShape


@dataclass(frozen=True)
class LaCache(AtPromptEnd):
    """Neighbouring layers keep neighbouring tokens, in a ladder (LaCache, arXiv 2507.14204): no attention is needed.

    A rung is a run of tokens of which each layer keeps a few, one layer's a token behind the layer before; the first
    tokens and the latest ones are kept in all layers. Where one ladder does not drop enough a second is laid over what
    the first left (the paper's iterative compaction), with wider rungs.

    Differs from the paper: positions stay those of the text (the authors number what is in the cache), so no text
    longer than the model's window can be read; a prompt is compressed once, at its end, and not while a reply is
    written. What a ladder's whole rungs leave of the budget goes to the latest tokens that it dropped, and the budget
    is not exceeded (the authors' cache is larger by half a rung).

    Attributes:
        sink_tokens: how many first tokens stay in every layer; fewer where the budget has no room for a ladder.
        span_layers: over how many layers the rungs of one step reach; fewer than the model has.
        overlap_layers: by how many of them steps overlap.
    """

    name = "lacache"
    budget_ratio: float | None = 0.5
    sink_tokens: int = 128
    span_layers: int = 16
    overlap_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, sink_tokens=0, span_layers=1, overlap_layers=0)
        if self.overlap_layers >= self.span_layers:
            raise ValueError(f"overlap_layers must be below span_layers = {self.span_layers}")

    def fitted(self, shape: ModelShape) -> LaCache:
        """This, for a model of more layers than a ladder spans.

        Raises:
            ValueError: it has too few.
        """
        width, own = self._widths(shape.layers)
        if width <= own:
            raise ValueError(
                f"has {shape.layers} layers, over which a ladder of span_layers = {self.span_layers} and "
                f"overlap_layers = {self.overlap_layers} drops nothing: set one of them lower"
            )
        return self

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By place alone, the same for all heads of a layer."""
        count = self.budget(layers, tokens) // multiple * multiple
        found = []
        for index, layer in enumerate(layers):
            kept = torch.tensor(self._ladder(index, len(layers), tokens, count), dtype=torch.long)
            found.append([kept.to(layer.keys.device)] * layer.keys.shape[0])
        return found

    def _widths(self, layers: int) -> tuple[int, int]:
        """How many tokens a rung has, and how many of them a layer keeps."""
        step = self.span_layers - self.overlap_layers
        before = 1 - (self.span_layers - layers) // step
        return before, min(-(-self.span_layers // step), before)

    def _ladder(self, index: int, layers: int, tokens: int, count: int) -> list[int]:
        """The `count` of the first `tokens` tokens that the layer `index` keeps."""
        width, own = self._widths(layers)
        sink = min(self.sink_tokens, count - layers - 1)
        kept = list(range(tokens))
        if sink < 0 or width <= own:
            kept = kept[tokens - count :]
        elif tokens > count:
            rungs = min(-(-(tokens - count) // (width - own)), (count - sink - layers) // own)
            kept = _laid(kept, sink, rungs, (width, own, 1), index)
            if len(kept) > count:
                kept = self._again(kept, sink, (width, own), index, count)
        missing = count - len(kept)
        if missing > 0:
            held = set(kept)
            latest = (token for token in range(tokens - 1, -1, -1) if token not in held)
            kept = sorted([*kept, *(next(latest) for _ in range(missing))])
        return kept

    def _again(self, kept: list[int], sink: int, widths: tuple[int, int], index: int, count: int) -> list[int]:
        """A second ladder over what a first one left, of rungs as much wider as it takes."""
        width, own = widths
        room = max(1, (count - sink) // own) * (width - own)
        times = -(-(len(kept) - count) // room)
        while True:
            wide = width + (times - 1) * (width - 1)
            rungs = min(-(-(len(kept) - count) // (wide - own)), (len(kept) - sink) // wide)
            found = _laid(kept, sink, rungs, (wide, own, times), index)
            if len(found) <= count:
                return found
            times += 1


def _laid(kept: list[int], sink: int, rungs: int, rung: tuple[int, int, int], index: int) -> list[int]:
    """What the layer `index` keeps of some tokens: the sink, its part of each rung, and what lies behind them.

    A rung is its width, how many a layer keeps of it, and how far apart these are.
    """
    width, own, apart = rung
    first = index % (width - own + 1)
    # where rungs are wide the last of a layer's own tokens would lie in the next rung
    at = [
        sink + width * rung + min(first + apart * each, width - own + each)
        for rung in range(rungs)
        for each in range(own)
    ]
    return [*kept[:sink], *(kept[place] for place in at), *kept[sink + width * rungs :]]
