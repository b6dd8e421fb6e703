"""How long a text rotary positions are good for, by their base: what to say of a plan that goes beyond.

Sources: Men et al., "Base of RoPE Bounds Context Length", arXiv 2405.14591; Liu et al., "Scaling Laws of RoPE-based
Extrapolation", arXiv 2310.05209.
"""

from __future__ import annotations

import math

import torch

POSITIONS_AT_ONCE = 1 << 14


def discerned_tokens(frequencies: torch.Tensor, most_tokens: int) -> int:
    """Up to which distance attention prefers a similar token to a random one (arXiv 2405.14591, theorem 1).

    The sum of cos(m f) over the inverse frequencies f `[R]` must not be negative at any distance m below the length of
    a text.

    Returns:
        The first distance where it is; `most_tokens` if there is none before.
    """
    wide = frequencies.double().cpu()
    for start in range(0, most_tokens, POSITIONS_AT_ONCE):
        distances = torch.arange(start, min(most_tokens, start + POSITIONS_AT_ONCE), dtype=torch.float64)
        negative = (distances[:, None] * wide).cos().sum(1) < 0
        if bool(negative.any()):
            return start + int(negative.int().argmax())
    return most_tokens


def known_tokens(trained: torch.Tensor, frequencies: torch.Tensor, trained_tokens: int) -> float:
    """Up to which length no angle is new to the model (the critical dimension of arXiv 2310.05209, section 3.1).

    Pairs of channels that turn at least once within the trained length know all angles. The others know those up to
    the trained length.

    Args:
        trained: the inverse frequencies `[R]` that the model was trained with.
        frequencies: those that it is used with.
        trained_tokens: the length that it was trained with.
    """
    before, now = trained.double().cpu(), frequencies.double().cpu()
    critical = before * trained_tokens < 2 * math.pi
    return float((trained_tokens * before[critical] / now[critical]).min()) if bool(critical.any()) else math.inf


def notices(trained: torch.Tensor, frequencies: torch.Tensor, trained_tokens: int, reach_tokens: int) -> list[str]:
    """What to say of positions with these inverse frequencies, where a query reaches keys so many tokens back.

    Nothing where they reach no further than the trained length.
    """
    if reach_tokens <= trained_tokens:
        return []
    said = []
    discerned = discerned_tokens(frequencies, reach_tokens)
    if discerned < reach_tokens:
        said.append(
            f"these positions reach {reach_tokens} tokens, but beyond {discerned} their base lets attention no longer "
            f"tell similar tokens from others (arXiv 2405.14591)"
        )
    known = known_tokens(trained, frequencies, trained_tokens)
    if known < reach_tokens * (1 - 1e-6):
        said.append(
            f"these positions reach {reach_tokens} tokens, but beyond {int(known)} some angles are new to the model "
            f"(arXiv 2310.05209)"
        )
    return said
