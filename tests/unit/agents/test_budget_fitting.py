"""How many calls that go out together fit what is left of a budget."""

from __future__ import annotations

import time

import pytest

from readthrough.agents.runs.budget import Budget, with_spare
from readthrough.errors import BudgetError
from readthrough.models.base import Request
from readthrough.types import Cost, Limits, Usage

EACH = Cost(1, 90, 10)


@pytest.mark.parametrize(
    ("limits", "held", "spent", "fitting"),
    [
        (Limits(), Cost(), Usage(), 8),
        (Limits(calls=20), Cost(), Usage(), 8),
        (Limits(calls=6), Cost(calls=1), Usage(calls=2), 3),
        (Limits(tokens=1_000), Cost(prompt_tokens=200), Usage(prompt_tokens=150, completion_tokens=50), 6),
        (Limits(calls=2, tokens=10_000), Cost(), Usage(), 2),
        (Limits(calls=3), Cost(calls=1), Usage(calls=2), 1),  # none: the call itself says so
        (Limits(seconds=1_000), Cost(), Usage(), 1),  # the pace is not known
    ],
)
def test_as_many_as_fit(limits: Limits, held: Cost, spent: Usage, fitting: int) -> None:
    budget = Budget(limits)
    budget.begin(held)
    budget.spend(spent, 0.0)
    assert budget.fitting(8, EACH) == fitting


def test_seconds_are_reckoned_at_the_pace_of_the_calls_so_far() -> None:
    budget = Budget(Limits(seconds=50))
    budget.spend(Usage(prompt_tokens=90, completion_tokens=10, calls=1), 12)
    assert budget.fitting(8, EACH) == 4


@pytest.mark.parametrize(
    ("likely", "limit", "spare"), [(16, None, 40), (16, 100, 40), (16, 40, 40), (16, 20, 20), (0, 20, 0)]
)
def test_a_reply_may_be_longer_than_is_likely_but_not_than_its_limit(
    likely: int, limit: int | None, spare: int
) -> None:
    assert with_spare(Cost(2, 90, likely, 1.5), limit) == Cost(2, 90, spare, 1.5)


def test_the_time_of_a_turn_is_not_begun_anew_by_its_runs() -> None:
    budget = Budget(Limits(seconds=0.05))
    budget.start()
    time.sleep(0.1)
    for _ in range(2):
        budget.begin(Cost())
        with pytest.raises(BudgetError, match="0.05 seconds"), budget.admitted([Request.user("Who?")], 0):
            pass
        budget.end()
