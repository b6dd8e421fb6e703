"""Heads and layers that keep all of a text, and those that keep its ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from readthrough.compression.base import LayerKV
from readthrough.compression.calibration import head_scores
from readthrough.compression.policies.duo_attention import DuoAttention
from readthrough.compression.policies.lighttransfer import LightTransfer
from readthrough.compression.selecting import ModelShape
from readthrough.errors import ConfigError
from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from tests import tiny_models


def layer(queries: torch.Tensor | None, heads: int = 2) -> LayerKV:
    keys = torch.randn(heads, 40, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return LayerKV(keys, keys, 0, 0.5, queries)


def test_lazy_layers_keep_the_ends() -> None:
    generator = torch.Generator().manual_seed(2)
    layers = [layer(torch.randn(4, 3, 8, generator=generator, dtype=torch.float64)) for _ in range(4)]
    policy = LightTransfer(lazy_ratio=0.5, sink_tokens=2, latest_tokens=6, window_tokens=3)
    laziness = []
    for each in layers:
        assert each.queries is not None
        total = 0.0
        for head in range(4):
            for row in range(3):
                shares = (each.queries[head, row] @ each.keys[head // 2, : 38 + row].T * 0.5).softmax(-1)
                total += float(shares[:2].sum() + shares[34:].sum()) / 12
        laziness.append(total)
    whole = sorted(range(4), key=lambda i: laziness[i])[:2]
    for index, heads in enumerate(policy.choose(layers, 37, 1)):
        expected = list(range(37)) if index in whole else [0, 1, 34, 35, 36]
        assert [head.tolist() for head in heads] == [expected] * 2


def test_retrieval_heads_keep_everything(tmp_path: Path) -> None:
    scores = [[0.0, 0.1, 0.9, 0.2], [0.3, 0.0, 0.05, 0.0]]
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"scores": scores}))
    policy = DuoAttention(sink_tokens=2, latest_tokens=3, calibration=str(path)).fitted(ModelShape("any", 2, 4, 2))
    chosen = policy.choose([layer(None), layer(None)], 40, 1)
    ends = [0, 1, 37, 38, 39]
    assert [[head.tolist() for head in heads] for heads in chosen] == [
        [ends, list(range(40))],
        [list(range(40)), ends],
    ]


def test_a_model_without_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no calibration.*readthrough\.models\.local\.heads"):
        DuoAttention().fitted(ModelShape("unknown", 3, 4, 2))
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"scores": [[1.0, 0.0]]}))
    with pytest.raises(ValueError, match="3 layers of 4 heads"):
        DuoAttention(calibration=str(path)).fitted(ModelShape("other", 3, 4, 2))
    path.write_text("[]")
    with pytest.raises(ValueError, match="cannot be calibrated by"):
        head_scores.__wrapped__(str(path))


@pytest.mark.parametrize(
    "shape",
    [ModelShape("qwen2.5-coder-0.5b-instruct", 24, 14, 2), ModelShape("qwen2.5-coder-1.5b-instruct-bf16", 28, 12, 2)],
    ids=lambda shape: shape.name,
)
def test_embedded_models_are_calibrated(shape: ModelShape) -> None:
    scores = head_scores(DuoAttention().fitted(shape).calibration)
    assert scores.max() > 0.9 and (scores > 0.1).float().mean() < 0.25, "some heads retrieve, most do not"


def test_the_engine_holds_less(tmp_path: Path) -> None:
    folder = str(tiny_models.save(tmp_path / "tiny"))
    request = Request.user(f"{tiny_models.TEXT * 8} Who?", max_tokens=8)
    with pytest.raises(ConfigError, match="no calibration"):
        LocalModel(folder, device="cpu", plan={"keep": "duo-attention"})
    path = tmp_path / "heads.json"
    path.write_text(json.dumps({"scores": [[0.0, 0.1, 0.9, 0.2]] * 3}))
    dense = LocalModel(folder, device="cpu")
    held, reply = dense.prefill(request).kv_bytes, dense.complete([request])[0].text
    for name, options in (("duo-attention", {"calibration": str(path)}), ("lighttransfer", {"window_tokens": 8})):
        less = LocalModel(folder, device="cpu", plan={"keep": {name: {**options, "budget_ratio": 0.4}}})
        assert less.prefill(request).kv_bytes < 0.55 * held
        less.complete([request])
        same = LocalModel(folder, device="cpu", plan={"keep": {name: {**options, "budget_ratio": 1.0}}})
        assert same.complete([request])[0].text == reply
