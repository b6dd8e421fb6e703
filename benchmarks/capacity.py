"""Documents a day for so many GPUs, worked out from tokens a document (measured) and tokens a second (given).

    python -m benchmarks.capacity --read 15000 --written 2000 [--busy 0.7] [--index-seconds 5.7] [--gpus 1 8 64]

Tokens are those of `results/whole_book_small.json`, one question about a text of 66,050 tokens; the most that the table
gives out is that of `results/batch_table.json`. The rates are of one GPU with many requests at a time, and are not
measured here: put in what your server's own benchmark says of your model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.results import FOLDER

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Rates:
    """What one GPU does.

    Attributes:
        read, written: tokens a second of prompts and of replies, over all requests at work.
        busy: the share of the day that it is at work: the rest goes to gaps, restarts and long tails.
        index_seconds: of one core of a processor, to load, split and index a document.
    """

    read: float
    written: float
    busy: float
    index_seconds: float

    def seconds(self, usage: Mapping[str, Any], prefixes_kept: bool) -> float:
        """Seconds of one GPU for a document; where prefixes are not kept, all prompts are read from their beginning."""
        read = usage["prompt_tokens"] - (usage["cached_tokens"] if prefixes_kept else 0)
        return float(read / self.read + usage["completion_tokens"] / self.written)

    def documents(self, usage: Mapping[str, Any], gpus: int, prefixes_kept: bool = True) -> int:
        """How many documents a day `gpus` GPUs do, as far as the table can give them out."""
        done = gpus * self.busy * DAY_SECONDS / self.seconds(usage, prefixes_kept)
        return int(min(done, most_of_table()))

    def cores(self, usage: Mapping[str, Any]) -> float:
        """How many cores index as fast as one GPU reads."""
        return self.documents(usage, 1) * self.index_seconds / DAY_SECONDS


def most_of_table() -> float:
    """Documents a day that the table in PostgreSQL can give out and take back."""
    milliseconds = _results("batch_table")["postgres"]["working_milliseconds"]
    return DAY_SECONDS * 1000 / float(milliseconds)


def usages() -> dict[str, Mapping[str, Any]]:
    """What each workflow took, measured."""
    found = _results("whole_book_small")["workflows"]
    return {name: each["usage"] for name, each in found.items() if "usage" in each}


def table(rates: Rates, gpus: list[int]) -> str:
    """The table in Markdown."""
    heads = [f"{count} GPU{'s' if count > 1 else ''}" for count in gpus]
    lines = ["| workflow | read | written | " + " | ".join(heads) + f" | {heads[0]}, no prefixes kept | cores a GPU |"]
    lines.append("| --- " * (len(gpus) + 5) + "|")
    for name, usage in usages().items():
        cells = [f"{usage['prompt_tokens'] - usage['cached_tokens']:,}", f"{usage['completion_tokens']:,}"]
        cells += [_rounded(rates.documents(usage, count)) for count in gpus]
        cells.append(_rounded(rates.documents(usage, gpus[0], prefixes_kept=False)))
        cells.append(f"{rates.cores(usage):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table and its assumptions."""
    parser = argparse.ArgumentParser(description="Documents a day, from tokens a document and tokens a second.")
    parser.add_argument("--read", type=float, required=True, help="tokens of prompts a second and GPU")
    parser.add_argument("--written", type=float, required=True, help="tokens of replies a second and GPU")
    parser.add_argument("--busy", type=float, default=0.7, help="share of the day that a GPU is at work")
    parser.add_argument("--index-seconds", type=float, default=5.7, help="of one core, to index a document")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    given = parser.parse_args()
    print(table(Rates(given.read, given.written, given.busy, given.index_seconds), given.gpus))
    print(
        f"\nAssumed: {given.read:,.0f} tokens read and {given.written:,.0f} written a second and GPU, at work "
        f"{given.busy:.0%} of the day; as many GPUs do as many times as much. One question about a document of 66,050 "
        f"tokens. The table gives out at most {_rounded(int(most_of_table()))} documents a day."
    )


def _rounded(count: int) -> str:
    """Two digits: no more of it is known."""
    digits = max(0, len(str(count)) - 2)
    return f"{round(count, -digits):,}"


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
