"""Vector files: whole or absent, and never loaded when they are not what was written."""

from __future__ import annotations

import builtins
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from readthrough.errors import MissingExtraError
from readthrough.retrieval import segments

IDS = np.array([3, 8, 21], dtype=np.int64)
VECTORS = np.eye(3, 4, dtype=np.float32)


def test_round_trip(tmp_path: Path) -> None:
    name = segments.write_segment(tmp_path, IDS, VECTORS)
    index = segments.read_segment(tmp_path, name)
    assert segments.ids_of(index).tolist() == IDS.tolist()
    assert np.array_equal(index.index.reconstruct_n(0, 3), VECTORS)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        segments.write_segment(tmp_path, IDS, VECTORS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(segments.DamagedSegmentError, match="missing"):
        segments.read_segment(tmp_path, "0" * 64)


def test_without_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="readthrough\\[cpu\\]"):
        segments.write_segment(tmp_path, IDS, VECTORS)
