"""LlamaIndex's vector index over given chunks, in its own environment: read by `benchmarks.llamaindex_recall`.

    python llamaindex_vectors.py CHUNKS.jsonl QUESTIONS.jsonl MODEL_FOLDER DEPTH

A row of CHUNKS has `id` and `text`, one of QUESTIONS `question`. Prints one JSON object: the seconds for loading the
embedder, for the index until it is on disk, and for the queries; what was found; the device.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding


def main() -> None:
    """Index, search, print."""
    chunks, questions, folder, depth = rows(sys.argv[1]), rows(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    started = time.perf_counter()
    embedder = HuggingFaceEmbedding(model_name=folder)
    embedder.get_query_embedding("warm")
    loaded = time.perf_counter()
    index = VectorStoreIndex([TextNode(text=row["text"], id_=str(row["id"])) for row in chunks], embed_model=embedder)
    with tempfile.TemporaryDirectory() as kept:
        index.storage_context.persist(kept)
    indexed = time.perf_counter()
    retriever = index.as_retriever(similarity_top_k=depth)
    found = [[int(each.node.node_id) for each in retriever.retrieve(row["question"])] for row in questions]
    searched = time.perf_counter()
    seconds = {"load": loaded - started, "index": indexed - loaded, "search": searched - indexed}
    print(json.dumps({"seconds": seconds, "found": found}))


def rows(path: str) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
