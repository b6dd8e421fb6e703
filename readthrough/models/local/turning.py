"""Whether a model's queries and keys turn with their positions as `kernels.rotary` turns them."""

from __future__ import annotations

import numpy as np
import torch

from readthrough.kernels.rotary import rerotate
from readthrough.models.local.attention import Batch
from readthrough.models.local.behind import NO_ROWS, Forward
from readthrough.models.local.cache import Sequence
from readthrough.models.local.loading import Loaded, cannot_move

FAR_TOKENS = 64


def check_turning(loaded: Loaded, forward: Forward) -> None:
    """Have a token read alone at two places: its queries there must be the same, turned.

    Which channels make a pair, and whether all turn, cannot be seen from a model's configuration.

    Raises:
        ModelError: they are not, in some layer.
    """
    frequencies = loaded.inverse_frequencies
    near, far = torch.tensor([[0], [FAR_TOKENS]], device=loaded.device)
    there = Sequence()
    there.shift_tokens = -FAR_TOKENS
    batch = Batch.pack([(None, 1), (there, 1)])

    def watch(layer: int, q: torch.Tensor, lse: torch.Tensor) -> None:
        off = rerotate(q[:, :1], near, far, frequencies) - q[:, 1:]
        if not off.abs().max() <= 0.05 * q.abs().max():  # in 16 bits it is 0.01
            raise cannot_move(loaded.model)

    batch.watch = watch
    token = np.array([loaded.vocabulary // 2])
    with torch.inference_mode():
        forward(batch, [token, token], NO_ROWS)
