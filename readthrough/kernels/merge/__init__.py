"""Joining attention over parts of a context into attention over the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def merge_lse(parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge attention outputs over disjoint sets of keys by their log-sum-exps.

    Args:
        parts: pairs of an output `[..., D]` and its log-sum-exp `[...]` (fp32 or wider), at least one.

    Returns:
        The output over the union of the keys, in the parts' dtype, and its log-sum-exp.

    Raises:
        ValueError: there are no parts.
    """
    if not parts:
        raise ValueError("nothing to merge")
    if len(parts) == 1:
        return parts[0]
    scores = torch.stack([lse for _, lse in parts])
    total = scores.logsumexp(0)
    weights = (scores - total).exp().unsqueeze(-1)
    merged = weights[0] * parts[0][0]
    for weight, (out, _) in zip(weights[1:], parts[1:], strict=True):
        merged = torch.addcmul(merged, weight, out.to(merged.dtype))
    return merged.to(parts[0][0].dtype), total
