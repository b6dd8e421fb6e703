"""Model families: the engine's dense logits are those of transformers; what it does not compute is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from readthrough.errors import ModelError
from readthrough.models.local.attention import ATTENTION, Batch, register
from readthrough.models.local.loading import check_supported, load
from tests import tiny_models

TOKENS = 40
EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
DENSE: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Mistral", {"sliding_window": 16}),
    ("Qwen3", {"head_dim": 16}),
    ("Gemma", {"head_dim": 16}),
    ("Gemma2", {"head_dim": 16, "sliding_window": 16, "attn_logit_softcapping": None}),
    ("Gemma3", {"head_dim": 16, "sliding_window": 16, "config_name": "Gemma3TextConfig"}),
    ("Phi3", {}),
    ("Olmo2", {}),
    ("GPTNeoX", {}),
    ("Granite", {"attention_multiplier": 0.3}),
    ("Mixtral", {"num_local_experts": 4, "sliding_window": 16}),
    ("Qwen3Moe", {"num_experts": 4, "head_dim": 16, **EXPERTS}),
]
CASES = [
    # rounding may choose other experts, in transformers too: mixtures are compared in fp32 alone
    pytest.param(family, changes, dtype, id=f"{family}-{dtype}")
    for family, changes in DENSE
    for dtype in (torch.float32, torch.bfloat16)
    if dtype is torch.float32 or family not in {"Mixtral", "Qwen3Moe"}
]
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.mark.parametrize(("family", "changes", "dtype"), CASES)
def test_dense_logits_are_those_of_transformers(family: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    if family in {"Gemma2", "Gemma3"}:
        changes = {**changes, "layer_types": MIXED}
    register()
    model = tiny_models.model(family, **changes, initializer_range=0.1)
    check_supported(model.config, Path("tiny"))
    ids = torch.randint(3, 400, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    batch = Batch.pack([(None, TOKENS)])
    with torch.no_grad():
        model.set_attn_implementation("eager")
        exact = model(ids, use_cache=False).logits
        theirs = model.to(dtype)(ids, use_cache=False).logits.float()
        model.set_attn_implementation(ATTENTION)
        ours = model(ids, use_cache=False, batch=batch).logits.float()
    assert batch.layers_seen == {0, 1, 2}
    # in bf16 we may be about as far from fp32 as transformers is: the order of sums differs
    allowed = 2 * float((theirs - exact).norm()) + 1e-5 * float(exact.norm())
    assert float((ours - exact).norm()) < allowed


@pytest.mark.parametrize("family", ["Mamba", "Rwkv", "FalconH1", "Qwen3Next", "RecurrentGemma"])
def test_recurrent_families_are_refused_before_weights(tmp_path: Path, family: str) -> None:
    text = f'{{"architectures": ["{family}ForCausalLM"]}}'  # a folder without weights: they are not asked for
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=f"{family}ForCausalLM keeps a recurrent state"):
        load(tmp_path, device="cpu")


def test_attention_sinks_are_refused_before_weights(tmp_path: Path) -> None:
    text = '{"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss"}'
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="attention sinks"):
        load(tmp_path, device="cpu")
