"""ColBERT-style encoders: a vector for every token, for the index `late-interaction`.

By sentence-transformers' MultiVectorEncoder, which reads its own form, PyLate's, and that of ColBERT's authors.

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832; Santhanam et al. 2022, https://arxiv.org/abs/2112.01488.

Differs from the papers: a query longer than their 32 tokens is read whole and not cut, a text longer than the model's
window in pieces; and vectors are kept as they are, in half precision, not as centroids and residues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from readthrough.errors import WeightsError
from readthrough.models.weights import check_folder
from readthrough.retrieval.embedders import folder as folders
from readthrough.retrieval.embedders.sentence import SentenceTransformerEmbedder


@dataclass(eq=False)
class LateInteractionEmbedder(SentenceTransformerEmbedder):
    """A ColBERT-style model, by folder or hub id: token vectors, and their mean for the other indexes.

    Options as those of `sentence-transformers`.
    """

    _kind: ClassVar[str] = "late-interaction"
    _class: ClassVar[str] = "MultiVectorEncoder"

    @property
    def token_dimensions(self) -> int:
        """The dimensions of a token's vector."""
        return self.dimensions

    def embed_tokens(self, texts: Sequence[str], task: str = "document") -> list[np.ndarray]:
        """The unit vectors `[tokens, token_dimensions]`, float32, of each text; `task` is document or query.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
        """
        found: list[np.ndarray] = [np.empty(0)] * len(texts)
        for batch in self._batches(self.count_tokens(texts)):
            for index, vectors in zip(batch, self._vectors([texts[place] for place in batch], task), strict=True):
                found[index] = vectors
        return found

    def _vectors(self, texts: Sequence[str], task: str) -> list[np.ndarray]:
        return [np.asarray(vectors, dtype=np.float32) for vectors in super()._run(texts, task)]

    def _run(self, texts: Sequence[str], task: str) -> Any:
        return np.stack([vectors.mean(axis=0) for vectors in self._vectors(texts, task)])

    @cached_property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return int(self._vectors(["a"], "document")[0].shape[1])

    @cached_property
    def _window(self) -> int:
        own, trained = super()._window, self._loaded[0].document_length
        return own if trained is None else min(own, int(trained))

    @cached_property
    def _model(self) -> Any:
        model = super()._model
        encoder = model[0]
        encoder.query_length = None
        if encoder.query_expansion is not None:
            encoder.query_expansion = {**encoder.query_expansion, "strategy": "min"}  # "fixed" cuts longer queries
        return model

    def _check(self, folder: Path) -> None:
        if _read(folder / "config.json").get("architectures") == ["HF_ColBERT"]:
            check_folder(folder)
            return
        names = folders.check_modules(folder)
        if (
            "MultiVectorMask" not in names
            and _read(folder / "config_sentence_transformers.json").get("model_type") != "ColBERT"
        ):
            raise WeightsError(
                "the model gives no vectors of tokens", path=str(folder), hint="name a ColBERT-style model"
            )


def _read(path: Path) -> dict[str, Any]:
    found = folders.read_settings(path)
    return found if isinstance(found, dict) else {}
