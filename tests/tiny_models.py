"""Random language models of a few kilobytes, with a tokenizer, as folders that the local engine loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = """The keeper of the lighthouse wrote in his book every evening. The wind came from the north, and the
sea was grey. On the third day a ship was seen; its name was Perseverance. He counted: 1, 2, 3, 4, 5, 6, 7.
def area(width, height): return width * height. {"name": "Ann", "age": 31} user assistant system"""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,  # wide enough that attention is far from uniform
}


def tokenizer() -> Any:
    """A byte-level BPE tokenizer: every text can be written, most characters in several tokens."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def model(family: str = "Qwen2", config_name: str | None = None, **changes: Any) -> Any:
    """A random fp32 model of a transformers family (`Qwen2`, `Llama`, ...), the same one every time."""
    import transformers

    kind = getattr(transformers, f"{family}ForCausalLM", None) or getattr(transformers, f"{family}LMHeadModel")
    ids = {"bos_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}
    config = getattr(transformers, config_name or f"{family}Config")(**{**SIZES, **ids, "vocab_size": 400, **changes})
    torch.manual_seed(0)
    return kind(config).eval()


def save(folder: Path, family: str = "Qwen2", **changes: Any) -> Path:
    """Write such a model and its tokenizer to `folder`."""
    model(family, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
