"""Retrieval heads: what heads copy, against attention as transformers shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from readthrough.errors import ModelError
from readthrough.models.base import Request
from readthrough.models.local import heads
from readthrough.models.local.backend import LocalModel
from tests import tiny_models


def test_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.save(tmp_path / "tiny")
    model = LocalModel(str(folder), device="cpu", dtype="fp32")
    prompt = model._prompts.render(Request.user(tiny_models.TEXT * 2))
    answer = "The wind came from the north, and the"
    found = heads.copied(model, prompt, answer)
    coded = model._loaded.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    start, ids = prompt.rindex(answer), coded["input_ids"]
    needle = [i for i, (a, b) in enumerate(coded["offset_mapping"]) if b > start and a < start + len(answer)]
    plain = tiny_models.model()
    plain.set_attn_implementation("eager")
    with torch.no_grad():
        shown = plain(torch.tensor([ids + found.written]), output_attentions=True).attentions
    expected = torch.zeros(3, 4)
    for step, token in enumerate(found.written):
        for layer in range(3):
            for head in range(4):
                best = int(shown[layer][0, head, len(ids) - 1 + step].argmax())
                expected[layer, head] += (best in needle and ids[best] == token) / len(needle)
    assert len(found.written) > 5
    torch.testing.assert_close(found.shares, expected)

    with pytest.raises(ModelError, match="answered none"):
        heads.retrieval_scores(model, tiny_models.TEXT * 2, 60)
    monkeypatch.setattr(heads, "RECALL_LEAST", -1)
    (tmp_path / "text.txt").write_text(tiny_models.TEXT)
    heads.main([str(folder), str(tmp_path / "text.txt"), str(tmp_path / "heads.json"), "--tokens", "60"])
    written = json.loads((tmp_path / "heads.json").read_text())
    assert torch.tensor(written["scores"]).shape == (3, 4)
