"""What a batch will take: from a sample of its documents, of all sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from readthrough.batch.answering import LentBook, Tools, read_document
from readthrough.batch.job import WHOLE, Job
from readthrough.batch.open import open_table, opened
from readthrough.batch.running import enter, workers_of
from readthrough.batch.table import Table
from readthrough.config import Settings
from readthrough.errors import InputError
from readthrough.types import Cost, Event

SAMPLE = 8
"""So many documents are read to estimate all of them."""


@dataclass(frozen=True)
class Expected:
    """What is left of a batch, and what it will take.

    Attributes:
        documents, answers: how many are open.
        sample: how many documents the estimate is made from.
        cost: calls, tokens, and seconds with all workers at it.
        money: where the prices of the model are known.
    """

    documents: int
    answers: int
    sample: int
    cost: Cost
    money: float | None

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON-ready values."""
        counts = {"documents": self.documents, "answers": self.answers, "sample": self.sample, "money": self.money}
        return {**counts, **asdict(self.cost), "tokens": self.cost.tokens}


def estimate(job: Job, settings: Settings, on_event: Callable[[Event], None] | None = None) -> Expected:
    """What the open part of a batch will take; a few of its documents are read for it, and nothing is answered.

    Raises:
        UsageError: a workflow cannot say what it will take.
        ReadthroughError: as `running.run`.
    """
    table = open_table(settings)
    try:
        enter(job, table, settings)
        waiting = table.waiting(job.name)
        documents = [path for path, _ in sorted(waiting, key=lambda row: row[1]) if path != WHOLE]
        answers = sum(len(job.works_of(path)) for path, _ in waiting)
        chosen = sample(documents)
        with opened(settings, on_event) as tools:
            costs = [cost for path in chosen if (cost := _cost(job, table, tools, path)) is not None]
            total = _scaled(costs, len(documents)) if costs else Cost()
            if len(waiting) > len(documents):
                total += _cost(job, table, tools, WHOLE) or Cost()
            prices = getattr(tools.models.get(settings.model), "prices", None)
    finally:
        table.close()
    money = None if prices is None else prices.cost(total.prompt_tokens, total.cached_tokens, total.completion_tokens)
    total = _with_seconds(total, total.seconds / workers_of(job, settings))
    return Expected(len(waiting), answers, len(costs), total, money)


def sample(paths: list[str], most: int = SAMPLE) -> list[str]:
    """At most so many of the paths, which are sorted by size: the middles of as many equal parts."""
    count = min(most, len(paths))
    return [paths[(2 * part + 1) * len(paths) // (2 * count)] for part in range(count)]


def _cost(job: Job, table: Table, tools: Tools, path: str) -> Cost | None:
    """What a document will take; None for one that cannot be read."""
    try:
        book = read_document(job, table, tools, path)
    except InputError:
        return None
    return sum((_work(job, book, work) for work in job.works_of(path)), Cost())


def _work(job: Job, book: LentBook, work: Any) -> Cost:
    return book.estimate(work.question, work.choices, work.workflow, **job.options_of(work))


def _scaled(costs: list[Cost], documents: int) -> Cost:
    """The costs of a sample, for so many documents."""
    share = documents / len(costs)
    total = sum(costs, Cost())
    counts = {name: round(value * share) for name, value in asdict(total).items() if name != "seconds"}
    return Cost(**counts, seconds=total.seconds * share)


def _with_seconds(cost: Cost, seconds: float) -> Cost:
    return Cost(**(asdict(cost) | {"seconds": seconds}))
