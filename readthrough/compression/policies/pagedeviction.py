"""PagedEviction: tokens, or whole pages, by the norms of values and keys.

Source: Chitty-Venkata et al., "PagedEviction: Structured Block-wise KV Cache Pruning for Efficient Large Language Model
Inference", arXiv 2509.04377, section 4.

It was not compared with code of the authors: it follows descriptions of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from readthrough.compression.base import LayerKV, at_least, top_tokens
from readthrough.compression.policies.budgets import AtEither
from readthrough.kernels.scores import key_norms


@dataclass(frozen=True)
class PagedEviction(AtEither):
    """The tokens, or pages, of the largest |value| / |key| (PagedEviction, arXiv 2509.04377).

    Single tokens are what the paper drops at the end of a prompt, by each token's ratio; whole pages, by the mean ratio
    of their tokens, what it drops while a reply is written.

    Differs from the paper: none are dropped while a reply is written; pages are chosen when a prompt or piece has been
    read. All heads of a layer keep the same tokens, as a page table has them, by the mean over the heads.

    Attributes:
        unit: choose single `tokens`, or whole `pages`.
        page_tokens: the width of a page.
    """

    name = "pagedeviction"
    unit: Literal["tokens", "pages"] = "tokens"
    page_tokens: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, page_tokens=1)

    def choose(self, layers: Sequence[LayerKV], tokens: int, multiple: int) -> list[list[torch.Tensor]]:
        """By the ratio of the norms."""
        count = self.budget(layers, tokens, multiple)
        found = []
        for layer in layers:
            scores = (key_norms(layer.values) / key_norms(layer.keys).clamp(min=1e-12)).mean(0)[:tokens]
            if self.unit == "pages":
                scores = self._by_page(scores)
            found.append(top_tokens(scores[None], count) * layer.keys.shape[0])
        return found

    def _by_page(self, scores: torch.Tensor) -> torch.Tensor:
        """Each token's place in the order of pages; the best page has the highest.

        Where the budget ends in the midst of a page its first tokens stay.
        """
        pages = torch.arange(len(scores), device=scores.device) // self.page_tokens
        size = torch.bincount(pages)
        means = torch.zeros(len(size), dtype=scores.dtype, device=scores.device).index_add_(0, pages, scores) / size
        ranks = means.sort(stable=True, descending=True).indices.argsort()
        return -ranks[pages].to(scores.dtype)
