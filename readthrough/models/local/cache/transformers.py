"""A sequence as a cache of transformers."""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from readthrough.errors import ModelError
from readthrough.models.local.cache.sequence import Sequence


class _SequenceLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer of a `Sequence` as transformers sees it."""

    is_sliding = False
    is_croppable = True

    def __init__(self, sequence: Sequence, layer: int, last: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sequence, self.layer, self.last = sequence, layer, last
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: blocks are made when they are written."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append `[1, Hkv, n, D]` and return all keys and values that there are, `[1, Hkv, length, D]`."""
        if key_states.shape[0] != 1:
            raise ValueError(f"a sequence holds a batch of 1, got {key_states.shape[0]}")
        added = key_states.shape[2]
        self.sequence.append(self.layer, key_states[0], value_states[0])
        keys, values = self.sequence.gather(self.layer, added)
        for before, old_values, _ in self._compressed():
            keys, values = torch.cat([before, keys], 1), torch.cat([old_values, values], 1)
        if self.last:
            self.sequence.commit(added)
        return keys.unsqueeze(0), values.unsqueeze(0)

    def get_seq_length(self) -> int:
        """How many tokens are held."""
        return self.sequence.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The number of keys that a mask must cover, and the position of the first."""
        kept = sum(positions.shape[1] for _, _, positions in self._compressed())
        dropped = self.sequence.compressed_tokens - kept
        return self.sequence.length - dropped + query_length, dropped

    def get_max_length(self) -> int:
        """No limit, in transformers' words."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last `-tokens_to_remove` tokens (transformers asks every layer; once is enough)."""
        if self.last:
            self.sequence.crop(self.sequence.length - abs(tokens_to_remove))

    def _compressed(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Keys, values and positions of what is compressed, in one entry; none where nothing is."""
        block = self.sequence.compressed
        if block is None:
            return []
        if block.ragged or self.sequence.shift_tokens:
            raise ModelError(
                "transformers has no form for heads that keep different tokens, nor for positions that were moved",
                hint="generate with readthrough's own engine",
            )
        return block.read(self.layer, self.sequence.compressed_tokens)


class SequenceCache(Cache):
    """A `Sequence` as the `past_key_values` of `model.generate`, for a batch of one."""

    def __init__(self, sequence: Sequence, layers: int) -> None:
        super().__init__(layers=[_SequenceLayer(sequence, i, i == layers - 1) for i in range(layers)])
        self.sequence = sequence
