"""What every join computes anew: tokens that there are, ascending, each once; all where it is told so."""

from __future__ import annotations

import pytest
import torch

from readthrough import catalogue
from readthrough.compression.base import Deviation, Joining
from readthrough.spec import build, options_of


@pytest.mark.parametrize("name", catalogue.names("joins"))
@pytest.mark.parametrize("tokens", [1, 7, 1000])
def test_choices(name: str, tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    deviation = Deviation(*torch.rand(2, tokens, generator=generator))
    usual: Joining = build("joins", name)
    chosen = usual.choose(tokens, None if usual.compared_layer is None else deviation)
    assert chosen.ndim == 1 and not chosen.is_floating_point()
    numbers = chosen.tolist()
    assert numbers == sorted(set(numbers)) and set(numbers) <= set(range(tokens))
    assert len(numbers) < tokens, "a join saves something"
    if "recompute_ratio" in options_of(catalogue.find("joins", name)):
        for ratio in (0.0, 1.0):
            join: Joining = build("joins", {name: {"recompute_ratio": ratio}})
            found = join.choose(tokens, None if join.compared_layer is None else deviation)
            assert len(found) == round(ratio * tokens)
