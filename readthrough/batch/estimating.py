"""What a batch will take: from a sample of its documents, of all sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from readthrough.batch import output
from readthrough.batch.answering import LentBook, Tools, open_works, read_document, read_together
from readthrough.batch.job import WHOLE, Job, Recipes, Work
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
    """What the open part of a batch will take; documents are read for it, a few
    of all sizes (all, where something is asked of all together), and nothing is answered.

    Raises:
        UsageError: a workflow cannot say what it will take.
        ReadthroughError: as `running.run`.
    """
    output.check(job.out)
    table = open_table(settings)
    try:
        enter(job, table, settings)
        waiting = sorted(table.waiting(job.name), key=lambda row: row.size_bytes)
        recipes = Recipes(job, settings)
        left = {
            row.path: open_works(job, row.path, recipes.of(row.path, row.content), table.results(job.name, row.path))
            for row in waiting
        }
        documents = [path for path, works in left.items() if works and path != WHOLE]
        with opened(settings, on_event) as tools:
            books = ((path, _book(job, table, tools, path)) for path in sample(documents))
            costs = [_cost(job, book, left[path]) for path, book in books if book is not None]
            total = _scaled(costs, len(documents)) if costs else Cost()
            if WHOLE in left:
                total += _cost_of_whole(job, table, tools, left[WHOLE])
            prices = getattr(tools.models.get(settings.model), "prices", None)
    finally:
        table.close()
    money = None if prices is None else prices.cost(total.prompt_tokens, total.cached_tokens, total.completion_tokens)
    total = _with_seconds(total, total.seconds / workers_of(job, settings))
    answers = [len(works) for works in left.values() if works]
    return Expected(len(answers), sum(answers), len(costs), total, money)


def sample(paths: list[str], most: int = SAMPLE) -> list[str]:
    """At most so many of the paths, which are sorted by size: the middles of as many equal parts."""
    count = min(most, len(paths))
    return [paths[(2 * part + 1) * len(paths) // (2 * count)] for part in range(count)]


def _book(job: Job, table: Table, tools: Tools, path: str) -> LentBook | None:
    """A document; None for one that cannot be read."""
    try:
        return read_document(job, table, tools, path)
    except InputError:
        return None


def _cost(job: Job, book: LentBook, works: list[tuple[Work, str]]) -> Cost:
    costs = (book.estimate(work.question, work.choices, work.workflow, **job.options_of(work)) for work, _ in works)
    return sum(costs, Cost())


def _cost_of_whole(job: Job, table: Table, tools: Tools, works: list[tuple[Work, str]]) -> Cost:
    """What the questions of all documents together will take: all of these are read for it, as far as they can be."""
    there = [row.path for row in table.documents(job.name) if row.state in ("waiting", "done") and row.path != WHOLE]
    readable = [path for path in there if _book(job, table, tools, path) is not None]
    return _cost(job, read_together(job, tools, readable), works) if readable else Cost()


def _scaled(costs: list[Cost], documents: int) -> Cost:
    """The costs of a sample, for so many documents."""
    share = documents / len(costs)
    total = sum(costs, Cost())
    counts = {name: round(value * share) for name, value in asdict(total).items() if name != "seconds"}
    return Cost(**counts, seconds=total.seconds * share)


def _with_seconds(cost: Cost, seconds: float) -> Cost:
    return Cost(**(asdict(cost) | {"seconds": seconds}))
