"""Readings on disk: what is found again, what a kill, damage, a full disk or another process leaves."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from readthrough.models.local import readings as readings_module
from readthrough.models.local.cache import Sequence
from readthrough.models.local.readings import DISK_RATIO, SPARED_SECONDS, TOKENS_MIN, Readings
from readthrough.models.local.stored import prune, stored, stored_bytes

LAYERS, HEADS, WIDTH = 3, 2, 8
CPU = torch.device("cpu")
MANY = 1 << 30
ROOT = Path(__file__).parents[3]


def tokens_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 150_000, count)


def held(tokens: np.ndarray, dtype: torch.dtype = torch.bfloat16) -> Sequence:
    """A sequence whose KV are random numbers."""
    generator = torch.Generator().manual_seed(int(tokens.sum()) % 2**31)
    sequence = Sequence()
    for layer in range(LAYERS):
        keys, values = (torch.randn(HEADS, len(tokens), WIDTH, generator=generator).to(dtype) for _ in range(2))
        sequence.append(layer, keys, values)
    sequence.commit(len(tokens))
    return sequence


def opened(root: Path, limit_bytes: int = MANY, made_by: str = "tiny") -> Readings:
    return Readings(root, made_by, limit_bytes, CPU)


def files(root: Path) -> list[Path]:
    return sorted(root.glob("*/*"))


def long_ago(path: Path, seconds: float = 2 * SPARED_SECONDS) -> None:
    """As if a reading had been used then."""
    os.utime(path, (time.time() - seconds,) * 2)


@contextmanager
def disk_full_after(nbytes: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes: the system refuses the write in the middle, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def same(found: Sequence, whole: Sequence, length: int) -> bool:
    pairs = [
        (one[:, :length], other[:, :length])
        for layer in range(LAYERS)
        for one, other in zip(found.gather(layer), whole.gather(layer), strict=True)
    ]
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("count", [TOKENS_MIN, 1000, 1024])
def test_a_reading_is_found_by_its_beginning(tmp_path: Path, count: int, dtype: torch.dtype) -> None:
    tokens = tokens_of(count)
    whole = held(tokens, dtype)
    readings = opened(tmp_path)
    assert readings.add(tokens, whole)
    other = opened(tmp_path)  # another process
    question = np.concatenate([tokens, tokens_of(40, seed=1)])
    found, length = other.match(question, len(question) - 1)
    assert found is not None and length == count and same(found, whole, count)
    # A text that parts from it in the middle of a page shares all tokens up to there.
    parted = np.concatenate([tokens[: count - 37], tokens_of(100, seed=2)])
    found, length = other.match(parted, len(parted))
    assert length in (count - 37, 0) and (length > 0) == (count - 37 >= TOKENS_MIN)
    assert other.match(tokens_of(2000, seed=3), 2000) == (None, 0)
    assert other.match(question, TOKENS_MIN - 1) == (None, 0)
    assert other.match(question, count, known=count - TOKENS_MIN)[1] == count
    assert other.match(question, count, known=count - TOKENS_MIN + 1) == (None, 0), "most of it is at hand"
    assert opened(tmp_path, made_by="other weights").match(question, count) == (None, 0)


def test_a_found_reading_is_continued_like_any_sequence(tmp_path: Path) -> None:
    tokens = tokens_of(1000)
    whole = held(tokens)
    opened(tmp_path).add(tokens, whole)
    found, _ = opened(tmp_path).match(tokens, 1000)
    assert found is not None
    child = found.fork(900)
    more = held(tokens_of(70, seed=5))
    for layer in range(LAYERS):
        child.append(layer, *more.gather(layer))
    child.commit(70)
    assert child.length == 970 and same(child, whole, 900) and same(found, whole, 1000)


def test_the_longest_is_found_and_covers_the_shorter_ones(tmp_path: Path) -> None:
    tokens = tokens_of(3000)
    readings = opened(tmp_path)
    assert readings.add(tokens[:1000], held(tokens[:1000]))
    asked = np.concatenate([tokens[:1000], tokens_of(50, seed=1)])
    assert not readings.add(asked, held(asked)), "a question more about the same text is not worth a file"
    assert readings.add(tokens, held(tokens))
    assert len(files(tmp_path)) == 1
    assert readings.match(tokens, 3000)[1] == 3000 and readings.match(tokens[:1000], 1000)[1] == 1000
    branch = np.concatenate([tokens[:1500], tokens_of(1500, seed=2)])
    assert readings.add(branch, held(branch)) and len(files(tmp_path)) == 2
    assert readings.match(branch, 3000)[1] == 3000 and readings.match(tokens, 3000)[1] == 3000
    assert not readings.add(tokens_of(TOKENS_MIN - 1), held(tokens_of(TOKENS_MIN - 1)))


def test_two_processes_that_write_texts_which_part_in_the_last_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    mine = tokens_of(1000)
    theirs = np.concatenate([mine[:-20], tokens_of(20, seed=1)])
    write = readings_module._write

    def meanwhile(*args: Any) -> None:
        monkeypatch.setattr(readings_module, "_write", write)
        assert one.add(mine, held(mine)) and one.match(mine, 1000)[1] == 1000
        write(*args)

    monkeypatch.setattr(readings_module, "_write", meanwhile)
    assert other.add(theirs, held(theirs))
    for readings in (one, other, opened(tmp_path)):
        for tokens, parted in ((mine, theirs), (theirs, mine)):
            found, length = readings.match(tokens, 1000)
            assert found is not None and length in (980, 1000)
            assert same(found, held(tokens if length == 1000 else parted), length), "the KV of other tokens"


def test_a_block_is_mapped_once(tmp_path: Path) -> None:
    tokens = tokens_of(1000)
    opened(tmp_path).add(tokens, held(tokens))
    readings = opened(tmp_path)
    one, other = (readings.match(tokens, 1000)[0] for _ in range(2))
    assert one is not None and other is not None
    assert one.parts[0][0] is other.parts[0][0], "jobs of one pass that share it are computed as such"


def test_the_quota_of_all_models_is_kept_by_deleting_what_was_used_longest_ago(tmp_path: Path) -> None:
    texts = [tokens_of(1024, seed) for seed in range(4)]
    opened(tmp_path).add(texts[0], held(texts[0]))
    each = stored_bytes(tmp_path)
    assert each == files(tmp_path)[0].stat().st_size
    readings, other = opened(tmp_path, int(2.5 * each)), opened(tmp_path, int(2.5 * each), "other weights")
    assert other.add(texts[1], held(texts[1]))
    for number, (_, _, path) in enumerate(stored(tmp_path)):
        long_ago(path, (10 - number) * SPARED_SECONDS)
    assert readings.match(texts[0], 1024)[1] == 1024  # used now
    assert readings.add(texts[2], held(texts[2]))
    assert [readings.match(tokens, 1024)[1] for tokens in texts[:3]] == [1024, 0, 1024]
    assert other.match(texts[1], 1024) == (None, 0), "it was the one used longest ago"
    assert stored_bytes(tmp_path) <= 2.5 * each
    assert not opened(tmp_path, each // 2).add(texts[3], held(texts[3]))


def test_a_text_larger_than_the_quota_keeps_its_beginning(tmp_path: Path) -> None:
    """Read from beginning to end again and again, it would never be found if the parts pushed each other out."""
    parts = [tokens_of(1024, seed) for seed in range(4)]
    opened(tmp_path).add(parts[0], held(parts[0]))
    each = stored_bytes(tmp_path)
    for asked in range(2):
        readings = opened(tmp_path, int(2.5 * each))
        found = [readings.match(part, 1024)[1] > 0 for part in parts]
        added = [readings.add(part, held(part)) for part in parts]
        assert found == ([True, False, False, False] if asked == 0 else [True, True, False, False])
        assert added == ([False, True, False, False] if asked == 0 else [False] * 4)


def test_readings_leave_most_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 9 * 10**8, 10**8))
    assert opened(tmp_path, MANY).limit_bytes == DISK_RATIO * 10**8
    assert opened(tmp_path, 1000).limit_bytes == 1000


def test_prune_spares_what_was_used_lately(tmp_path: Path) -> None:
    readings = opened(tmp_path)
    for seed in range(3):
        assert readings.add(tokens_of(1000, seed), held(tokens_of(1000, seed)))
    each = stored_bytes(tmp_path) // 3
    long_ago(files(tmp_path)[0])
    assert prune(tmp_path, 0, SPARED_SECONDS) == 2 * each
    assert prune(tmp_path, 2 * each) == 2 * each
    assert prune(tmp_path, each) == each and prune(tmp_path, 0) == 0 and not files(tmp_path)
    assert prune(tmp_path / "nothing", 0) == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "other"])
def test_what_is_damaged_is_deleted_and_made_again(tmp_path: Path, damage: str) -> None:
    tokens = tokens_of(1000)
    opened(tmp_path).add(tokens, held(tokens))
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes({"cut": bytes(data[:-50]), "flipped": bytes(data), "emptied": b"", "other": b"x" * 5000}[damage])
    readings = opened(tmp_path)
    assert readings.match(tokens, 1000) == (None, 0)
    assert not files(tmp_path)
    assert readings.add(tokens, held(tokens)) and readings.match(tokens, 1000)[1] == 1000


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    tokens = tokens_of(1000)
    readings = opened(tmp_path)
    with disk_full_after(50_000), pytest.raises(OSError, match="too large|space"):
        readings.add(tokens, held(tokens))
    assert files(tmp_path) == []
    assert readings.match(tokens, 1000) == (None, 0)
    assert readings.add(tokens, held(tokens)) and readings.match(tokens, 1000)[1] == 1000


KILLED = """
import os, signal, sys, types, zlib
from pathlib import Path
from readthrough.models.local import readings as module
from tests.unit.models.test_readings import held, opened, tokens_of

readings = opened(Path(sys.argv[1]))
assert readings.add(tokens_of(1000), held(tokens_of(1000)))
pieces = []
def crc32(data, crc=0):
    pieces.append(data)
    return os.kill(os.getpid(), signal.SIGKILL) if len(pieces) > 3 else zlib.crc32(data, crc)
module.zlib = types.SimpleNamespace(crc32=crc32)
readings.add(tokens_of(1000, seed=1), held(tokens_of(1000, seed=1)))
"""


def test_a_process_killed_while_it_writes(tmp_path: Path) -> None:
    mine = opened(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob("*/*.tmp")
    assert left.stat().st_size > 0
    assert mine.match(tokens_of(1000), 1000)[1] == 1000, "what another process stored whole"
    assert mine.match(tokens_of(1000, seed=1), 1000) == (None, 0)
    assert left in files(opened(tmp_path).root), "another process may be at work on a young one"
    long_ago(left)
    opened(tmp_path, made_by="other weights")
    assert not left.exists()
    assert mine.add(tokens_of(1000, seed=1), held(tokens_of(1000, seed=1)))


def test_processes_see_what_others_add_and_delete(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    tokens = tokens_of(1000)
    assert one.add(tokens, held(tokens))
    assert other.match(tokens, 1000)[1] == 1000
    found, _ = one.match(tokens, 1000)
    prune(tmp_path, 0)
    assert one.match(tokens, 1000) == (None, 0) == other.match(tokens, 1000)
    assert found is not None and same(found, held(tokens), 1000), "what is mapped stays readable"
    assert one.add(tokens, held(tokens)) and other.match(tokens, 1000)[1] == 1000


def test_evicted_between_the_look_and_the_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokens_of(1000)
    opened(tmp_path).add(tokens, held(tokens))
    readings = opened(tmp_path)
    readings._look()
    monkeypatch.setattr(readings, "_look", lambda: None)
    prune(tmp_path, 0)
    assert readings.match(tokens, 1000) == (None, 0)
