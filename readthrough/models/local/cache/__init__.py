"""The KV cache."""

from readthrough.models.local.cache.compressed import CompressedBlock, KeptKV
from readthrough.models.local.cache.numbers import ROUND_TOKENS
from readthrough.models.local.cache.sequence import AnyBlock, Block, Sequence, bytes_held
from readthrough.models.local.cache.transformers import SequenceCache

__all__ = [
    "ROUND_TOKENS",
    "AnyBlock",
    "Block",
    "CompressedBlock",
    "KeptKV",
    "Sequence",
    "SequenceCache",
    "bytes_held",
]
