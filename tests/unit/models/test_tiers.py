"""Kept KV in two memories: what moves, what is copied, what leaves. On a processor both are the same kind of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from readthrough.compression.store import Store
from readthrough.models.local.cache import Block, CompressedBlock, KeptKV, Sequence, bytes_held
from readthrough.models.local.tiers import Tiers

LAYERS, HEADS, WIDTH = 2, 2, 16
DEVICE = torch.device("cpu")
MANY = 1 << 30
Left = list[tuple[np.ndarray, Sequence]]


def tokens_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, count)


def numbers(tokens: np.ndarray, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values that say which token stands where, and behind which others."""
    said = torch.from_numpy(np.cumsum(tokens)).float() + 0.1 * layer
    keys = said[None, :, None] + torch.arange(HEADS)[:, None, None] + 0.01 * torch.arange(WIDTH)
    return keys, -keys


def write(sequence: Sequence, tokens: np.ndarray) -> Sequence:
    """Go on with a sequence up to the end of `tokens`."""
    at = sequence.length
    for layer in range(LAYERS):
        sequence.append(layer, *(x[:, at:] for x in numbers(tokens, layer)))
    sequence.commit(len(tokens) - at)
    return sequence


def held(tokens: np.ndarray) -> Sequence:
    return write(Sequence(), tokens)


def holds(sequence: Sequence | None, tokens: np.ndarray) -> bool:
    """Whether a sequence begins with the KV of `tokens`."""
    return sequence is not None and all(
        torch.equal(found[:, : len(tokens)], made)
        for layer in range(LAYERS)
        for found, made in zip(sequence.gather(layer), numbers(tokens, layer), strict=True)
    )


def tiers(limit_bytes: int = 1, host_limit_bytes: int = MANY) -> tuple[Tiers, Left]:
    left: Left = []
    return Tiers(limit_bytes, host_limit_bytes, DEVICE, lambda _, tokens, kv: left.append((tokens, kv))), left


def one_bytes(tokens: int = 128) -> int:
    return bytes_held([held(tokens_of(tokens))])


def test_what_the_device_has_no_room_for_is_found_on_the_host() -> None:
    kept, left = tiers(2 * one_bytes())
    texts = [tokens_of(128, seed) for seed in range(4)]
    for text in texts:
        kept.add(text, held(text))
    assert (len(kept), len(kept.host), left) == (2, 2, [])
    for text in texts:
        found, length = kept.match(text, 128)
        assert length == 128 and holds(found, text)
    assert kept.nbytes <= kept.limit_bytes
    assert kept.match(tokens_of(128, seed=9), 128) == (None, 0)


def test_what_is_brought_back_goes_on_by_itself() -> None:
    kept, _ = tiers()
    text, asked = tokens_of(100), tokens_of(150, seed=1)
    asked[:90] = text[:90]
    kept.add(text, held(text))
    found, length = kept.match(asked, len(asked))
    assert found is not None and length == 90
    child = write(found.fork(length), asked)
    assert holds(child, asked) and holds(kept.match(text, 100)[0], text)
    kept.add(asked, child)
    assert holds(kept.match(asked, 150)[0], asked)


def test_what_the_device_has_is_not_looked_for_further() -> None:
    kept, _ = tiers(MANY)
    text = tokens_of(128)
    kept.add(text, held(text))
    kept.make_room()
    found, length = kept.match(text, 128)
    assert found is not None
    child = found.fork(length)
    del found
    kept.add(text, child)
    assert len(kept) == len(kept.host) == 1 and kept.match(text, 128)[0] is child


def test_what_is_shared_is_copied_once() -> None:
    kept, _ = tiers()
    text = tokens_of(640)
    whole = held(text)
    prompts = [np.concatenate([text, tokens_of(64, seed)]) for seed in range(1, 5)]
    children = [write(whole.fork(), prompt) for prompt in prompts]
    for prompt, child in zip(prompts, children, strict=True):
        kept.add(prompt, child)
    hosted = [sequence for _, _, sequence in kept.host.entries()]
    assert len({id(sequence.parts[0][0]) for sequence in hosted}) == 1
    assert kept.host.nbytes == one_bytes(640) + 4 * one_bytes(64)
    # The text itself is on the device as long as somebody reads it there: it is not copied back.
    found = kept.match(prompts[0], 704)[0]
    assert found is not None and found.parts[0][0] is whole.tail and found.parts[1][0] is children[0].tail
    del found, whole, children
    brought = [kept.match(prompt, 704)[0] for prompt in prompts]
    assert all(holds(found, prompt) for found, prompt in zip(brought, prompts, strict=True))
    assert bytes_held(found for found in brought if found) == kept.host.nbytes
    assert not {id(block) for found in brought if found for block in found.blocks()} & {
        id(block) for sequence in hosted for block in sequence.blocks()
    }


def test_only_what_is_asked_for_comes_back() -> None:
    kept, _ = tiers()
    text = tokens_of(6400)
    kept.add(text, held(text))
    asked = np.concatenate([text[:64], tokens_of(64, seed=1)])
    found, length = kept.match(asked, len(asked))
    assert found is not None and length == 64 and bytes_held([found]) == one_bytes(64)
    part = kept.match(text, 100)[0]
    assert part is not None and isinstance(part.parts[0][0], Block)
    assert not part.parts[0][0].read(0, 128)[0][:, 100:].any(), "a page is read as a whole"
    more, length = kept.match(text, 6400)
    assert holds(more, text) and holds(found, text[:64]) and length == 6400
    assert more is not None and more.parts[0][0] is found.parts[0][0], "one block serves both"


def test_a_sequence_that_goes_on_is_copied_as_it_was_kept() -> None:
    kept, _ = tiers()
    text = tokens_of(300)
    sequence = held(text[:100])
    kept.add(text[:100], sequence)
    write(sequence, text[:200])
    kept.add(text[:200], sequence)
    assert len(kept.host) == 1 and holds(kept.host.match(text, 200)[0], text[:200])
    # Its end is taken back and written anew: the copy, and those who read the copy's tokens here, keep what they have.
    other = np.concatenate([text[:120], tokens_of(80, seed=1)])
    sequence.crop(120)
    write(sequence, other)
    found, length = kept.match(text, 300)
    assert length == 200 and holds(found, text[:200]) and holds(sequence, other)


def test_the_host_lets_go_of_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, left = tiers(1, 2 * one_bytes())
    follow = Block.follow

    def watched(block: Block, *args: Any) -> None:
        follow(block, *args)
        assert kept.host.nbytes + block.nbytes <= kept.host.limit_bytes, "there is room before anything is copied"

    texts = [tokens_of(128, seed) for seed in range(3)]
    for text in texts[:2]:
        kept.add(text, held(text))
    assert kept.match(texts[0], 128)[1] == 128
    with monkeypatch.context() as patch:
        patch.setattr(Block, "follow", watched)
        kept.add(texts[2], held(texts[2]))
    (gone,) = left
    assert np.array_equal(gone[0], texts[1]) and holds(gone[1], texts[1])
    assert [kept.match(text, 128)[1] for text in texts] == [128, 0, 128]
    assert kept.host.nbytes <= kept.host.limit_bytes


@pytest.mark.parametrize("host_limit_bytes", [0, 1000])
def test_what_is_larger_than_the_host_may_hold_leaves_as_it_is(host_limit_bytes: int) -> None:
    kept, left = tiers(1, host_limit_bytes)
    text = tokens_of(128)
    sequence = held(text)
    kept.add(text, sequence)
    assert left[0][1] is sequence and len(kept) == len(kept.host) == 0


def test_nothing_is_kept_where_nothing_is_wanted() -> None:
    kept, left = tiers(0)
    kept.add(tokens_of(128), held(tokens_of(128)))
    assert (len(kept), len(kept.host), left) == (0, 0, [])


def test_an_entry_is_dropped_wherever_it_is() -> None:
    kept, left = tiers(one_bytes())
    texts = [tokens_of(128, seed) for seed in range(2)]
    for number in [kept.add(text, held(text)) for text in texts]:
        kept.drop(number)
    assert (len(kept), len(kept.host), left) == (0, 0, [])


def test_room_is_made_by_moving_everything() -> None:
    kept, left = tiers(MANY)
    assert not kept.make_room()
    texts = [tokens_of(128, seed) for seed in range(3)]
    for text in texts:
        kept.add(text, held(text))
    assert kept.make_room() and not kept.make_room()
    assert (len(kept), len(kept.host), left) == (0, 3, [])


def test_what_is_dropped_leaves_longest_first() -> None:
    kept, left = tiers(one_bytes())
    for count, seed in ((100, 0), (128, 1), (70, 2)):
        kept.add(tokens_of(count, seed), held(tokens_of(count, seed)))
    kept.clear()
    assert [len(tokens) for tokens, _ in left] == [128, 100, 70]
    assert all(holds(sequence, tokens) for tokens, sequence in left)
    assert len(kept) == len(kept.host) == 0


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory", "a broken kernel"])
def test_a_host_without_memory(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError(said)

    kept, left = tiers()
    monkeypatch.setattr(Block, "follow", fail)
    if "broken" in said:
        with pytest.raises(RuntimeError, match=said):
            kept.add(tokens_of(128), held(tokens_of(128)))
        return
    kept.add(tokens_of(128), held(tokens_of(128)))
    assert (len(kept), len(kept.host), left) == (0, 0, [])


PROMPTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=4)
DEEDS = st.lists(st.tuples(PROMPTS, st.booleans()), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(DEEDS, st.sampled_from([1, 50_000, 200_000]), st.sampled_from([0, 60_000, 250_000]))
def test_whatever_moves_is_what_was_computed(deeds: Any, limit_bytes: int, host_limit_bytes: int) -> None:
    """As the engine does: find a beginning, go on from it, keep that; now and then memory runs out."""
    kept, left = tiers(limit_bytes, host_limit_bytes)
    for runs, exhausted in deeds:
        tokens = np.concatenate([tokens_of(50 * count, value) for value, count in runs])
        found, length = kept.match(tokens, len(tokens) - 1)
        assert length == 0 or holds(found, tokens[:length])
        sequence = write((found or Sequence()).fork(length), tokens)
        kept.add(tokens, sequence)
        if exhausted:
            kept.make_room()
        assert kept.nbytes <= limit_bytes and kept.host.nbytes <= host_limit_bytes
        assert holds(sequence, tokens)
    for _, tokens, kv in (*kept.entries(), *kept.host.entries()):
        assert holds(kv, tokens)
    assert all(holds(kv, tokens) for tokens, kv in left)


def piece(start: int, end: int, seed: int) -> list[KeptKV]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(HEADS, end - start, WIDTH, generator=generator) for _ in range(2))
    return [KeptKV(tuple(keys), tuple(values), (torch.arange(start, end, dtype=torch.int32),) * HEADS)] * LAYERS


def same(one: CompressedBlock, other: CompressedBlock, tokens: int) -> bool:
    return all(
        torch.equal(a, b)
        for layer in range(LAYERS)
        for groups in zip(one.read(layer, tokens), other.read(layer, tokens), strict=True)
        for a, b in zip(*groups, strict=True)
    )


def compressed(block: CompressedBlock, tokens: int) -> Sequence:
    sequence = Sequence([(block, tokens)])
    for layer in range(LAYERS):  # a few that are not compressed
        sequence.append(layer, *numbers(tokens_of(8), layer))
    sequence.commit(8)
    sequence.floor = sequence.length
    return sequence


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("form", ["full", "int8", "int4", "fp8", "host", "disk"])
def test_compressed_blocks_move_as_they_are_stored(form: Any, ragged: bool) -> None:
    store = Store(form, group=16)
    block = CompressedBlock(HEADS, ragged=ragged, store=store, whole=not ragged)
    for end in (64, 128):
        block = block.extended(end - 64, end, piece(end - 64, end, end))
    expected = block.extended(0, 64, piece(0, 64, 64)).extended(64, 128, piece(64, 128, 128))
    kept, _ = tiers()
    text = tokens_of(200)
    kept.add(text[:72], compressed(block, 64))
    kept.add(text[:136], compressed(block, 128))
    hosted = [sequence.compressed for _, _, sequence in kept.host.entries()]
    assert len(hosted) == 2 and hosted[0] is hosted[1] is not block
    del block
    found, length = kept.match(text, 200)
    assert found is not None and found.compressed is not None and length == found.floor == 136
    assert same(found.compressed, expected, 128) and same(found.compressed, expected, 64)
    # One prompt goes on behind the first piece, another behind the second: neither changes what the other reads.
    early, _ = kept.match(text[:80], 80)
    assert early is not None and early.compressed is found.compressed
    other = early.compressed.extended(64, 128, piece(64, 128, 5))
    longer = found.compressed.extended(128, 192, piece(128, 192, 6))
    assert longer is found.compressed and other is not longer
    assert same(longer, expected, 128) and not same(other, expected, 128)
    kept.add(text, compressed(longer, 192))
    copy = kept.host.entries()[-1][2].compressed
    assert copy is not None and copy is hosted[0] and copy.nbytes <= longer.nbytes
    kept.add(tokens_of(200, seed=1), compressed(other, 128))
    del found, early, longer, other
    continued, otherwise = kept.match(text, 200)[0], kept.match(tokens_of(200, seed=1), 200)[0]
    assert continued is not None and continued.compressed is not None and same(continued.compressed, expected, 128)
    assert otherwise is not None and otherwise.compressed is not None
    assert same(otherwise.compressed, expected.extended(64, 128, piece(64, 128, 5)), 128)
