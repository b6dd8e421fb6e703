"""How much each tile of a prompt counts for what was written after it: by attention, or by taking tiles away.

Attention: Wang et al., "AttnTrace: Attention-based Context Traceback for Long-Context LLMs", arXiv 2508.03793: what was
written is put after its prompt again; a text's score is the mean attention of the written tokens, over all layers and
heads, to the `top_tokens` of its tokens that get most, averaged over draws of a share of the texts.
Differs from the paper: the attention of a reply without content is taken off, as re-rankers by attention do (Chen et
al., arXiv 2410.02642), and there is one reading of the whole prompt; `draws` 30 and `calibrate` False are its form.

Search: Wang et al., "TracLLM", USENIX Security 2025: texts are halved again and again, groups are scored by the
log-probability of what was written (with the group alone, and without it, which counts twice; the larger holds), and
the best `kept` go on.
Differs from the paper: there is no third score by random orders of the groups (its denoised Shapley values).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from readthrough.agents.runs.services import Services
from readthrough.agents.tracing.base import Check
from readthrough.agents.tracing.prompts import Prompted

NO_CONTENT = "N/A"

_RANDOM_DRAWS = 3


@dataclass(frozen=True)
class ByAttention:
    """By the attention that the written tokens pay. Needs the capability `attention`.

    Attributes:
        top_tokens: by how many of its tokens a tile is scored.
        calibrate: take off what a reply without content attends to.
        draws: how often a share of the tiles is read in place of all; 0 reads all of them, once.
        drawn_ratio: that share.
        seed: of the draws.
    """

    top_tokens: int = 5
    calibrate: bool = True
    draws: int = 0
    drawn_ratio: float = 0.4
    seed: int = 0

    def weigh(self, services: Services, written: Prompted) -> dict[int, float]:
        """The score of each tile that can be taken out."""
        chance, tiles = random.Random(self.seed), written.removable
        count = max(1, round(self.drawn_ratio * len(tiles)))
        found: defaultdict[int, list[float]] = defaultdict(list)
        for kept in [set(chance.sample(tiles, count)) for _ in range(self.draws)] or [set(tiles)]:
            for tile, score in self._attended(services, written, set(tiles) - kept).items():
                found[tile].append(score)
        return {tile: fmean(found[tile]) if tile in found else 0.0 for tile in tiles}

    def _attended(self, services: Services, written: Prompted, without: Collection[int]) -> dict[int, float]:
        shown = written.shown(without)
        asked = [written.text, NO_CONTENT] if self.calibrate else [written.text]
        given, *plain = (
            services.attention_mass(written.request(without, f"{text}\n"), shown, text).by_token for text in asked
        )
        places = iter(range(len(shown)))
        at = {number: next(places) for number in range(len(written.tiles)) if number not in without}
        below = plain[0] if plain else [[0.0] * len(tokens) for tokens in given]
        return {
            tile: self._score(given[at[tile]], below[at[tile]]) for tile in written.removable if tile not in without
        }

    def _score(self, given: Sequence[float], plain: Sequence[float]) -> float:
        most = sorted((share - base for share, base in zip(given, plain, strict=True)), reverse=True)
        return fmean(most[: self.top_tokens]) if most else 0.0


@dataclass(frozen=True)
class BySearch:
    """By what taking tiles away does to the log-probability of what was written. Needs the capability `logits`; slow.

    Attributes:
        kept: how many groups go on after each halving.
    """

    kept: int = 5

    def weigh(self, services: Services, written: Prompted) -> dict[int, float]:
        """The score of each tile that can be taken out; of those that were left behind, 0."""
        tiles = written.removable
        full, nothing = logprobs(services, written, [(), tiles])
        groups, scores = [tiles], {}
        while any(len(group) > 1 for group in groups):
            groups = [half for group in groups for half in _halves(group)]
            alone = [set(tiles) - set(group) for group in groups]
            said = logprobs(services, written, [*groups, *alone])
            left, own = said[: len(groups)], said[len(groups) :]
            scores = {
                tuple(group): max(2 * (full - less), more - nothing)
                for group, less, more in zip(groups, left, own, strict=True)
            }
            groups = sorted(groups, key=lambda group: -scores[tuple(group)])[: self.kept]
        found = {group[0]: scores.get(tuple(group), full - nothing) for group in groups}
        return {tile: found.get(tile, 0.0) for tile in tiles}


def _halves(group: list[int]) -> list[list[int]]:
    middle = len(group) // 2
    return [half for half in (group[:middle], group[middle:]) if half]


def logprobs(services: Services, written: Prompted, without: Sequence[Collection[int]]) -> list[float]:
    """log p of what was written after its prompt, without each of some sets of tiles."""
    requests = [written.request(frozenset(tiles)) for tiles in without]
    return [found.logprob for found in services.likelihood(requests, [written.text] * len(requests))]


def check(services: Services, written: Prompted, causes: Collection[int], seed: int = 0) -> Check:
    """What the log-probability is without the causes, and without as many other tiles."""
    others = [tile for tile in written.removable if tile not in causes]
    count, chance = min(len(causes), len(others)), random.Random(seed)
    drawn = [chance.sample(others, count) for _ in range(_RANDOM_DRAWS)] if count else []
    full, without, *at_random = logprobs(services, written, [(), causes, *drawn])
    return Check(full, without, fmean(at_random) if at_random else None)
