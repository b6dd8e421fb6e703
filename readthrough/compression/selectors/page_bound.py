"""The page bound: pages whose keys may score highest.

Source: Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv 2406.10774, and its
code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from readthrough.compression.base import at_least, ratios
from readthrough.compression.selecting import PageSelector
from readthrough.kernels.scores import bound_scores


@dataclass(frozen=True)
class PageBound(PageSelector):
    """The pages with the highest upper bounds of their scores (Quest, arXiv 2406.10774).

    Differs from the paper: a group of query heads shares its pages, by the largest of its bounds; the first page and
    the latest ones are always read (the paper's budget counts them, so does this).

    Attributes:
        budget_tokens: how many tokens a head reads in each layer.
        budget_ratio: the same as a share of what is held, in place of `budget_tokens`.
        page_tokens: the width of a page (16 in the paper): 16, 32 or 64.
        dense_layers: so many first layers read everything (2 in the paper).
    """

    name = "page-bound"

    budget_tokens: int = 1024
    budget_ratio: float | None = None
    page_tokens: int = 16
    dense_layers: int = 2

    def __post_init__(self) -> None:
        at_least(self, dense_layers=0, dense_below_tokens=0)
        ratios(self, "budget_ratio")
        if self.page_tokens not in (16, 32, 64):
            raise ValueError(f"page_tokens must be 16, 32 or 64, got {self.page_tokens}")
        at_least(self, budget_tokens=4 * self.page_tokens)

    def choose(self, q: torch.Tensor, low: torch.Tensor, high: torch.Tensor, *, scale: float) -> torch.Tensor:
        """By the bounds, and the first page."""
        scores = bound_scores(q, low, high, scale=scale)[:, 0]
        scores[:, 0] = torch.inf
        return scores.topk(self.chosen_pages(scores.shape[1]), -1).indices.sort(-1).values

    def chosen_pages(self, pages: int) -> int:
        """How many are chosen of so many."""
        budget = self.budget_tokens // self.page_tokens
        if self.budget_ratio is not None:
            budget = int(self.budget_ratio * (pages + self.latest_pages))
        return min(max(1, budget - self.latest_pages), pages)
