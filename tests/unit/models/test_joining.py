"""Texts that were read apart and joined: exact with everything computed anew, nearer to that the more is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from readthrough.models.base import Request
from readthrough.models.local.backend import LocalModel
from tests import tiny_models

TEXTS = [f"Day {day}. " + tiny_models.TEXT for day in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.save(tmp_path_factory.mktemp("tiny")))


def joining(ratio: float) -> dict[str, Any]:
    return {"join": {"blend": {"recompute_ratio": ratio}}}


def opened(folder: str | Path, ratio: float | None = None, **options: Any) -> LocalModel:
    return LocalModel(str(folder), device="cpu", plan=None if ratio is None else joining(ratio), **options)


def about(texts: list[str], question: str = "Who kept the book?", **options: Any) -> Request:
    shown = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    return Request.user(f"Read these.\n\n{shown}\n\n{question}", reused=tuple(texts), **options)


def test_first(folder: str) -> None:
    exact = opened(folder)
    a = exact.likelihood([about(TEXTS)], ["grey ship of the sea"])[0]
    print(a)
    for ratio in (0, 0.15, 0.5, 0.9, 1):
        model = opened(folder, ratio)
        b = model.likelihood([about(TEXTS)], ["grey ship of the sea"])[0]
        c = model.likelihood([about(TEXTS[::-1])], ["grey ship of the sea"])[0]
        print(ratio, b, c.usage)
