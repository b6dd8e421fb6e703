"""Any model of sentence-transformers: a folder, or a hub id such as intfloat/multilingual-e5-small.

Its own settings hold: prompts, pooling, the longest text. Safetensors only, and no code of a model is run. For texts in
several languages name a multilingual one: intfloat/multilingual-e5-small, BAAI/bge-m3,
sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2.

Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from readthrough.errors import WeightsError
from readthrough.retrieval.embedders import folder as folders
from readthrough.retrieval.embedders.devices import Dtype, pick_device, pick_dtype

UNLIMITED_TOKENS = 100_000
"""What is given to a model that names no longest text."""

_BATCH_TOKENS = {"cpu": 2_048}
_BATCH_TOKENS_ELSEWHERE = 65_536
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


@dataclass(eq=False)
class SentenceTransformerEmbedder:
    """Any model of sentence-transformers, by folder or hub id.

    Attributes:
        model: the folder or hub id (`owner/name[@revision]`).
        query_prompt: what stands before queries; the model's own where left out.
        document_prompt: what stands before texts; the model's own where left out.
        window_tokens: the most that it reads at once, special tokens and prompt included; the model's own where left
            out.
        dtype: of the weights; `auto` is bfloat16 where that is quick.
        device: `auto` is CUDA or MPS where there is one.
    """

    model: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    window_tokens: int | None = None
    dtype: Dtype = "auto"
    device: str = "auto"

    _kind: ClassVar[str] = "sentence-transformers"
    _class: ClassVar[str] = "SentenceTransformer"

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ValueError("model must be a folder or a hub id")
        if self.window_tokens is not None and self.window_tokens < 8:
            raise ValueError(f"window_tokens must be at least 8, got {self.window_tokens}")
        self._lock = threading.Lock()

    @cached_property
    def name(self) -> str:
        """The model, and what tells its vectors from those of others.

        Raises:
            WeightsError: there is no such model, or it is none that may be loaded.
        """
        changed = repr((folders.fingerprint(self._folder), self.document_prompt, self.window_tokens))
        label = self._folder.resolve().name if Path(self.model).expanduser().is_dir() else self.model
        return f"{self._kind}:{label}:{hashlib.sha256(changed.encode()).hexdigest()[:12]}"

    @property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return int(self._loaded.get_embedding_dimension())

    @cached_property
    def max_tokens(self) -> int:
        """See `Embedder`: what is left of the model's window beside special tokens and the longer prompt."""
        special = len(self._loaded.tokenizer("")["input_ids"])
        prompts = [prompt for prompt in self._prompts.values() if prompt]
        beside = max(self.count_tokens(prompts), default=-1) + 1  # a prompt may split the first word in another way
        room = self._window - special - beside
        if room < 1:
            raise WeightsError(
                f"the prompt leaves no room in {self._window} tokens", path=self.model, hint="shorten it"
            )
        return room

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, special tokens left out."""
        if not texts:
            return []
        tokenizer = self._loaded.tokenizer
        ids = tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False, verbose=False)[
            "input_ids"
        ]
        return [len(tokens) for tokens in ids]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors `[len(texts), dimensions]`, float32, of texts to be found.

        Raises:
            ValueError: a text is longer than `max_tokens`; it is never cut.
            MissingExtraError: sentence-transformers is not installed.
            WeightsError: the model does not load.
        """
        return self.encode(texts, "document")

    @property
    def queries(self) -> Queries:
        """What embeds queries."""
        return Queries(self)

    def encode(self, texts: Sequence[str], task: str) -> np.ndarray:
        """As `embed`, for a `task`: query or document."""
        counts = self.count_tokens(texts)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for batch in self._batches(counts):
            vectors[batch] = np.asarray(self._run([texts[index] for index in batch], task), dtype=np.float32)
        vectors[~vectors.any(axis=1)] = 1  # a text without any known word
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _batches(self, counts: Sequence[int]) -> Iterator[list[int]]:
        """The places of texts with so many tokens, those of like length together: little padding."""
        if max(counts, default=0) > self.max_tokens:
            raise ValueError(
                f"a text of {max(counts)} tokens is longer than the {self.max_tokens} that {self.model} reads"
            )
        room = _BATCH_TOKENS.get(self._loaded.device.type, _BATCH_TOKENS_ELSEWHERE)
        left = sorted(range(len(counts)), key=counts.__getitem__)
        while left:
            most = max(1, room // (counts[left[-1]] + 1))
            batch, left = left[-most:], left[:-most]
            yield batch

    def _run(self, texts: Sequence[str], task: str) -> Any:
        run = self._loaded.encode_query if task == "query" else self._loaded.encode_document
        options = {"batch_size": len(texts), "show_progress_bar": False, "convert_to_numpy": True}
        return run(list(texts), prompt=self._prompts[task], **options)

    @cached_property
    def _prompts(self) -> dict[str, str | None]:
        """The prompt of each task, None where there is none."""
        own: dict[str, str | None] = self._loaded.prompts
        usual = own.get(self._loaded.default_prompt_name or "")
        document = next((own[name] for name in _DOCUMENT_PROMPTS if own.get(name)), usual)
        given = {"query": self.query_prompt, "document": self.document_prompt}
        kept = {"query": own.get("query") or usual, "document": document}
        return {task: kept[task] if prompt is None else prompt for task, prompt in given.items()}

    @cached_property
    def _window(self) -> int:
        own = self._loaded.max_seq_length
        limit = UNLIMITED_TOKENS if own is None or own > UNLIMITED_TOKENS else int(own)
        return limit if self.window_tokens is None else min(limit, self.window_tokens)

    @cached_property
    def _folder(self) -> Path:
        folder = folders.find_folder(self.model)
        self._check(folder)
        return folder

    def _check(self, folder: Path) -> None:
        folders.check_modules(folder)

    @property
    def _loaded(self) -> Any:
        with self._lock:  # two threads would hold the weights twice
            return self._model

    @cached_property
    def _model(self) -> Any:
        from safetensors import SafetensorError

        device = pick_device(self.device)
        library = folders.library()
        try:
            with folders.quietly():
                model = getattr(library, self._class)(
                    str(self._folder),
                    device=str(device),
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs={"use_safetensors": True, "dtype": pick_dtype(self.dtype, device)},
                )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
            raise WeightsError(f"the embedder does not load: {error}", path=str(self._folder)) from error
        return model.eval()


@dataclass(frozen=True, eq=False)
class Queries:
    """An embedder for queries to what another embeds."""

    of: SentenceTransformerEmbedder

    @property
    def name(self) -> str:
        """See `Embedder`."""
        return self.of.name

    @property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return self.of.dimensions

    @property
    def max_tokens(self) -> int:
        """See `Embedder`."""
        return self.of.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `Embedder`."""
        return self.of.count_tokens(texts)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `Embedder`."""
        return self.of.encode(texts, "query")
