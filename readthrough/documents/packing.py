"""Pack the pieces of a text into chunks of a bounded number of tokens, at the best boundaries there are."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

from readthrough.documents.base import CountTokens
from readthrough.documents.reading import without_surrogates
from readthrough.errors import ConfigError

Span = tuple[int, int]

# Whatever a tokenizer says, a token stands for at most this many characters. WordPiece counts an unbroken run
# of a megabyte as one unknown token; a model that reads the chunk will not.
MOST_CHARS_PER_TOKEN = 8
COUNT_BATCH = 4096
PIECES_PER_CHUNK = 16
ZERO_WIDTH_JOINER = "\u200d"


class Level(IntEnum):
    """What begins at a boundary, weakest first."""

    CUT = 0
    LINE = 1  # of code, inside of a statement
    SENTENCE = 2
    PARAGRAPH = 3
    SECTION = 4


# What a division costs, where one more chunk costs 1. Joining over the start of a section costs more than a
# chunk of its own does, unless that chunk would be small; a full chunk that breaks a paragraph costs about as
# much as a chunk that is three quarters full and does not.
END_COST = {Level.CUT: 2.0, Level.LINE: 0.7, Level.SENTENCE: 0.3, Level.PARAGRAPH: 0.0, Level.SECTION: 0.0}
CROSSING_COST = 1.5
SMALL_COST = 2.0
SMALL_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class Piece:
    """A span that need not be divided, what begins with it, and its length in tokens."""

    start: int
    end: int
    level: Level
    tokens: int


class Packer:
    """Turns boundaries into chunk spans that cover a text, none longer than `size_tokens`."""

    def __init__(self, size_tokens: int, count_tokens: CountTokens) -> None:
        self._size = size_tokens
        self._count_tokens = count_tokens

    def pack(self, text: str, boundaries: Mapping[int, Level]) -> list[Span]:
        """Chunk spans in order: the first starts at 0, each starts where the one before ends, the last ends the text.

        Args:
            text: the text to cover.
            boundaries: where it may well be divided, and what begins there.

        Raises:
            ConfigError: one character of the text has more tokens than a chunk may have.
        """
        text = without_surrogates(text)  # tokenizers refuse them; offsets stay as they are
        starts = sorted({0, *boundaries})
        ends = [*starts[1:], len(text)]
        spans = [(a, b, boundaries.get(a, Level.SECTION)) for a, b in zip(starts, ends, strict=True) if a < b]
        pieces = self._divided(text, self._counted(text, spans))
        return self._verified(text, self._grouped(self._coarse(pieces)))

    def _counted(self, text: str, spans: Sequence[tuple[int, int, Level]]) -> list[Piece]:
        pieces: list[Piece] = []
        longest_chars = self._size * MOST_CHARS_PER_TOKEN
        for first in range(0, len(spans), COUNT_BATCH):
            batch = spans[first : first + COUNT_BATCH]
            # A span that is too long by its characters alone need not go through the tokenizer.
            texts = [text[start:end] if end - start <= longest_chars else "" for start, end, _ in batch]
            for (start, end, level), counted in zip(batch, self._count_tokens(texts), strict=True):
                tokens = max(counted, math.ceil((end - start) / MOST_CHARS_PER_TOKEN))
                pieces.append(Piece(start, end, level, tokens))
        return pieces

    def _divided(self, text: str, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces, each that is too long in parts that fit."""
        fitting: list[Piece] = []
        for piece in pieces:
            if piece.tokens <= self._size:
                fitting.append(piece)
            else:
                fitting += self._divided(text, self._counted(text, list(self._parts(text, piece))))
        return fitting

    def _parts(self, text: str, piece: Piece) -> Iterator[tuple[int, int, Level]]:
        """A piece that is too long, in parts of about a quarter of the size."""
        length = piece.end - piece.start
        if length == 1:
            raise ConfigError(
                f"a chunk of {self._size} tokens cannot hold U+{ord(text[piece.start]):04X}: it has {piece.tokens}",
                hint="make the chunks larger",
            )
        part_chars = max(min(length * self._size // (4 * piece.tokens), length // 2), 1)
        start, level = piece.start, piece.level
        while start < piece.end:
            end = (
                _break_before(text, start, min(start + part_chars, piece.end))
                if start + part_chars < piece.end
                else piece.end
            )
            yield start, end, level
            start, level = end, Level.CUT

    def _coarse(self, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces, tiny ones joined up to the next section: finer boundaries cost time and gain nothing."""
        joined: list[Piece] = []
        most_tokens = self._size // PIECES_PER_CHUNK
        for piece in pieces:
            last = joined[-1] if joined else piece
            if joined and piece.level is not Level.SECTION and last.tokens + piece.tokens <= most_tokens:
                joined[-1] = Piece(last.start, piece.end, last.level, last.tokens + piece.tokens)
            else:
                joined.append(piece)
        return joined

    def _grouped(self, pieces: Sequence[Piece]) -> list[list[Piece]]:
        """The division into chunks that costs least, by dynamic programming over the ends of chunks."""
        sums = [0, *accumulate(piece.tokens for piece in pieces)]
        small_tokens = SMALL_RATIO * self._size
        costs, origins = [0.0], [0]
        for end in range(1, len(pieces) + 1):
            least, origin, crossings = math.inf, end - 1, 0.0
            for begin in range(end - 1, -1, -1):
                tokens = sums[end] - sums[begin]
                if tokens > self._size:
                    break
                cost = costs[begin] + crossings
                if tokens < small_tokens:
                    cost += SMALL_COST * (1 - tokens / small_tokens)
                if cost < least:
                    least, origin = cost, begin
                if pieces[begin].level is Level.SECTION:
                    crossings += CROSSING_COST
            costs.append(least + 1 + (END_COST[pieces[end].level] if end < len(pieces) else 0.0))
            origins.append(origin)
        chunks: list[list[Piece]] = []
        end = len(pieces)
        while end > 0:
            chunks.append(list(pieces[origins[end] : end]))
            end = origins[end]
        return chunks[::-1]

    def _verified(self, text: str, chunks: Sequence[Sequence[Piece]]) -> list[Span]:
        """The spans of chunks, counted as they are: tokens of pieces do not always add up to those of the whole."""
        spans: list[Span] = []
        wholes = self._counted(text, [(chunk[0].start, chunk[-1].end, chunk[0].level) for chunk in chunks])
        for chunk, whole in zip(chunks, wholes, strict=True):
            middle = len(chunk) // 2
            if whole.tokens <= self._size:
                spans.append((whole.start, whole.end))
            elif middle:
                spans += self._verified(text, (chunk[:middle], chunk[middle:]))
            else:
                spans += self._verified(text, [[part] for part in self._divided(text, [whole])])
        return spans


def _break_before(text: str, start: int, end: int) -> int:
    """Where to cut `text` in the last quarter before `end`: behind white space, else not inside of a character."""
    earliest = end - (end - start) // 4
    for position in range(end, earliest, -1):
        if text[position - 1].isspace():
            return position
    for position in range(end, max(earliest, end - 32, start + 1) - 1, -1):
        if not _joins(text[position - 1], text[position]):
            return position
    return end


def _joins(before: str, after: str) -> bool:
    """Whether two code points belong to one character that a reader sees."""
    return ZERO_WIDTH_JOINER in (before, after) or unicodedata.category(after) in ("Mn", "Me", "Mc", "Sk")
