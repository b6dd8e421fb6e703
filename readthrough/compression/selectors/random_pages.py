"""Pages by lot: a control for the selectors that choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import at_least
from readthrough.compression.selectors.page_bound import PageBound


@dataclass(frozen=True)
class RandomPages(PageBound):
    """Pages by lot, a control: what a selector must beat at its budget.

    The first page and the latest ones are always read, as by `page-bound`. What is drawn depends on the seed, the
    layer (by the keys of its first page) and the number of pages, and on nothing else.

    Attributes:
        seed: of the lot; the other options are those of `page-bound`.
    """

    name = "random"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, seed=0)

    def choose(self, q: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, scale: float) -> torch.Tensor:
        """By lot."""
        heads, pages = low.shape[:2]
        of_layer = int(low[:, 0].float().contiguous().view(torch.int32).sum(dtype=torch.int64))
        generator = torch.Generator().manual_seed(((self.seed * 1009 + pages) * 1_000_003 + of_layer) % (1 << 63))
        drawn = torch.rand(heads, pages, generator=generator)
        drawn[:, 0] = torch.inf
        return drawn.topk(self.chosen_pages(pages), -1).indices.sort(-1).values.to(q.device)
