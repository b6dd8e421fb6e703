"""The BERT encoder as a sentence embedder, in plain torch.

transformers' BertModel gives the same numbers but takes seconds to import, which a first question would wait for.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805; mean pooling as in Reimers and Gurevych 2019,
https://arxiv.org/abs/1908.10084. Differs from the papers: nothing (inference only: no dropout, segment 0).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F


class BertEncoder:
    """Token ids to mean-pooled unit vectors. Holds the weights in one dtype."""

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        heads: int,
        epsilon: float,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        self._weights = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in weights.items()
        }
        self._heads = heads
        self._epsilon = epsilon
        self._layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    @torch.inference_mode()
    def encode(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors `[B, D]`, float32, of token ids `[B, T]`; `mask` `[B, T]` (bool) is False at padding.

        `positions` `[B, T]` are those of the tokens, 0, 1, ... where left out; they may lie between two.
        """
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + self._positions(ids.shape[1], positions)
        hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._norm("embeddings.LayerNorm", hidden)
        visible = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in range(self._layers):
            hidden = self._block(f"encoder.layer.{layer}.", hidden, visible)
        pooled = (hidden.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(pooled, dim=1)

    def _positions(self, tokens: int, positions: torch.Tensor | None) -> torch.Tensor:
        table = self._weights["embeddings.position_embeddings.weight"]
        if positions is None:
            return table[:tokens]
        below = positions.long()
        between = (positions - below)[..., None].to(table.dtype)
        return torch.lerp(table[below], table[(below + 1).clamp(max=len(table) - 1)], between)

    def _block(self, prefix: str, hidden: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        """One transformer layer, `[B, T, D]` to `[B, T, D]`."""
        batch, tokens, width = hidden.shape
        query, key, value = (
            self._linear(f"{prefix}attention.self.{name}", hidden).view(batch, tokens, self._heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        attended = self._linear(f"{prefix}attention.output.dense", mixed) + hidden
        hidden = self._norm(f"{prefix}attention.output.LayerNorm", attended)
        inner = F.gelu(self._linear(f"{prefix}intermediate.dense", hidden))
        return self._norm(f"{prefix}output.LayerNorm", self._linear(f"{prefix}output.dense", inner) + hidden)

    def _linear(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(inputs, scale.shape, scale, shift, self._epsilon)
