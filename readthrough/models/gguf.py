"""Read a GGUF file once: its metadata, its tensors, and a transformers folder made of them.

The file format (version 3): magic, version, counts, then key/value metadata, then one record a tensor
(name, shape, type, offset), then the aligned data. Only what a Qwen2 language model needs is written out.
Reading the metadata here takes a second; the general readers walk the vocabulary several times in Python.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readthrough.errors import WeightsError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_ROWS_AT_ONCE_BYTES = 64 << 20
_CONTROL_TOKEN, _USER_TOKEN = 3, 4

_BLOCK_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: `shape` in torch's order (rows first), `offset` in bytes from the file's start."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GGUF:
    """A parsed file: metadata by key, tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


class _Cursor:
    """Reads little-endian values one after another out of a buffer."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def unpack(self, code: str) -> Any:
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def string(self) -> str:
        length = self.unpack("Q")
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.unpack(_SCALARS[kind])
        item, count = self.unpack("I"), self.unpack("Q")
        if item in (_STRING, _ARRAY):
            return [self.value(item) for _ in range(count)]
        values = list(struct.unpack_from(f"<{count}{_SCALARS[item]}", self.data, self.at))
        self.at += struct.calcsize(f"<{count}{_SCALARS[item]}")
        return values


def read(path: Path) -> GGUF:
    """Parse the file's metadata and tensor table; the tensor data stays on disk.

    Raises:
        WeightsError: not a GGUF file of version 2 or 3, or one that is cut short.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        if data[:4] != b"GGUF":
            raise WeightsError("not a GGUF file", path=str(path))
        cursor.at = 4
        try:
            version, tensor_count, pair_count = cursor.unpack("I"), cursor.unpack("Q"), cursor.unpack("Q")
            if version not in (2, 3):
                raise WeightsError(f"GGUF version {version} is not supported", path=str(path))
            metadata = {cursor.string(): cursor.value(cursor.unpack("I")) for _ in range(pair_count)}
            table = [_record(cursor) for _ in range(tensor_count)]
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise WeightsError(f"the GGUF file is damaged: {error}", path=str(path)) from error
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-cursor.at // alignment) * alignment
    tensors = {t.name: Tensor(t.name, t.shape, t.kind, start + t.offset) for t in table}
    return GGUF(path, metadata, tensors)


def _record(cursor: _Cursor) -> Tensor:
    name = cursor.string()
    shape = tuple(cursor.unpack("Q") for _ in range(cursor.unpack("I")))[::-1]
    return Tensor(name, shape, cursor.unpack("I"), cursor.unpack("Q"))


def convert_qwen2(gguf: GGUF, out: Path, on_bytes: Callable[[int, int], None]) -> None:
    """Write `gguf` as a transformers folder: bf16 safetensors, config, tokenizer with its chat template.

    The embedding is tied to the output matrix, as in the published models: both are quantisations of one
    matrix, and the file holds the output one with more bits. `on_bytes(done, total)` counts bytes written.

    Raises:
        WeightsError: another architecture, or a tensor this does not know.
    """
    architecture = gguf.metadata.get("general.architecture")
    if architecture != "qwen2":
        raise WeightsError(f"architecture {architecture!r} cannot be converted", path=str(gguf.path))
    _write_json(out / "config.json", _config(gguf.metadata))
    ids = {key: gguf.metadata[f"tokenizer.ggml.{key}_token_id"] for key in ("eos", "padding", "bos")}
    generation = {"bos_token_id": ids["bos"], "eos_token_id": [ids["eos"], ids["padding"]]}
    _write_json(out / "generation_config.json", {**generation, "pad_token_id": ids["padding"]})
    _write_tokenizer(gguf.metadata, out)
    _write_safetensors(gguf, out / "model.safetensors", on_bytes)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    def field(name: str) -> Any:
        return metadata[f"qwen2.{name}"]

    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": field("embedding_length"),
        "intermediate_size": field("feed_forward_length"),
        "max_position_embeddings": field("context_length"),
        "num_attention_heads": field("attention.head_count"),
        "num_hidden_layers": field("block_count"),
        "num_key_value_heads": field("attention.head_count_kv"),
        "rms_norm_eps": float(f"{field('attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": {"rope_type": "default", "rope_theta": field("rope.freq_base")},
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
    }


def _write_tokenizer(metadata: dict[str, Any], out: Path) -> None:
    from tokenizers import AddedToken
    from transformers import Qwen2Tokenizer

    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges: Any = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == 1}
    added = {
        index: AddedToken(tokens[index], special=kind == _CONTROL_TOKEN, normalized=False)
        for index, kind in enumerate(kinds)
        if kind in (_CONTROL_TOKEN, _USER_TOKEN)
    }
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        eos_token=tokens[metadata["tokenizer.ggml.eos_token_id"]],
        pad_token=tokens[metadata["tokenizer.ggml.padding_token_id"]],
        added_tokens_decoder=added,
        model_max_length=metadata["qwen2.context_length"],
    )
    tokenizer.chat_template = metadata["tokenizer.chat_template"]
    tokenizer.save_pretrained(out)


def _plan(gguf: GGUF) -> list[tuple[str, Tensor]]:
    """The tensors to write, under transformers' names."""
    tensors = dict(gguf.tensors)
    if "output.weight" in tensors:
        tensors["token_embd.weight"] = tensors.pop("output.weight")
    plan = []
    for name, tensor in tensors.items():
        if name in _TOP_NAMES:
            plan.append((_TOP_NAMES[name], tensor))
            continue
        parts = name.split(".")
        if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _BLOCK_NAMES:
            raise WeightsError(f"unknown tensor {name!r}", path=str(gguf.path))
        plan.append((f"model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.{parts[3]}", tensor))
    return plan


def _write_safetensors(gguf: GGUF, path: Path, on_bytes: Callable[[int, int], None]) -> None:
    """Dequantise tensor by tensor, a slice of rows at a time: memory stays far below the model's size."""
    plan, header, end = _plan(gguf), {}, 0
    for name, tensor in plan:
        start, end = end, end + 2 * _elements(tensor.shape)
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    done = 0
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in plan:
            for piece in _rows(gguf.path, tensor):
                done += file.write(piece)
                on_bytes(done, end)


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _rows(path: Path, tensor: Tensor) -> Iterator[bytes]:
    """The tensor as bf16 bytes, in slices of rows."""
    import numpy
    import torch
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType(tensor.kind)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    row_bytes = tensor.shape[-1] // block * block_bytes
    rows = _elements(tensor.shape) // tensor.shape[-1]
    raw = numpy.memmap(path, numpy.uint8, "r", tensor.offset, (rows, row_bytes))
    step = max(1, _ROWS_AT_ONCE_BYTES // (4 * tensor.shape[-1]))
    for start in range(0, rows, step):
        values = dequantize(numpy.ascontiguousarray(raw[start : start + step]), kind).astype(numpy.float32, copy=False)
        yield torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.uint8).numpy().tobytes()
