"""What every selector chooses: pages that there are, ascending, no more than its budget."""

from __future__ import annotations

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.base import PageSelector
from readthrough.spec import build, options_of


@pytest.mark.parametrize("name", catalogue.names("selectors"))
@pytest.mark.parametrize(("pages", "heads"), [(1, (1, 1)), (3, (5, 1)), (500, (2, 7))])
def test_choices(name: str, pages: int, heads: tuple[int, int]) -> None:
    options = {"budget_tokens": 512} if "budget_tokens" in options_of(catalogue.find("selectors", name)) else {}
    selector: PageSelector = build("selectors", {name: options})
    generator = torch.Generator().manual_seed(pages)
    ends = torch.randn(2, heads[0], pages, 32, generator=generator)
    q = torch.randn(heads[0] * heads[1], 1, 32, generator=generator)
    chosen = selector.choose(q, ends.amin(0), ends.amax(0), scale=0.2)
    assert chosen.shape[0] == heads[0] and not chosen.is_floating_point()
    assert 0 < chosen.shape[1] <= pages
    for row in chosen.tolist():
        assert row == sorted(set(row)) and row[0] >= 0 and row[-1] < pages
    if options:
        assert (chosen.shape[1] + selector.latest_pages) * selector.page_tokens <= 512
    with pytest.raises(Exception, match="dense_layers"):
        build("selectors", {name: {"dense_layers": -1}})
