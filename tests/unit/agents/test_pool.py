"""Budgets that runs share, and limits of money."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import readthrough as rt
from readthrough.agents.base import Question
from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.pool import Pool
from readthrough.agents.runs.running import run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.errors import BudgetError, ConfigError
from readthrough.memory.runs import RunLog
from readthrough.memory.shelf import Shelf
from readthrough.models.allowance import one_more
from readthrough.models.base import Prices, Request
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Answer, Cost, Limits, Usage
from tests.agent_samples import QUESTION, decides, says_what_it_reads, shelve, write_book

FLOW = ChainOfAgents(window_tokens=600, message_tokens=40)
ASK = [Request.user("Who?")]
THREADS = 8
PRICES = Prices(prompt=10_000.0, completion=20_000.0)  # a cent a token read, two a token written


class Priced(ScriptedModel):
    """A scripted model that costs something."""

    prices = PRICES

    def complete(self, requests):  # type: ignore[no-untyped-def]
        completions = super().complete(requests)
        return [replace(each, usage=replace(each.usage, cost=_cost(each.usage))) for each in completions]

    def choose(self, requests, options):  # type: ignore[no-untyped-def]
        choices = super().choose(requests, options)
        return [replace(each, usage=replace(each.usage, cost=_cost(each.usage))) for each in choices]


def _cost(usage: Usage) -> float:
    return PRICES.cost(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return shelve(tmp_path / "home", write_book(tmp_path / "books", paragraphs=60))


def model(kind: type[ScriptedModel] = ScriptedModel) -> ScriptedModel:
    return kind(replies=says_what_it_reads, choices=decides)


@pytest.mark.parametrize(
    ("limits", "stopped"),
    [
        (Limits(calls=50), "max_calls=50"),
        (Limits(tokens=5_000), "max_tokens=5000"),
        (Limits(cost=7.5), "max_cost=7.5"),
    ],
)
def test_eight_threads_spend_all_of_a_pool_and_no_more(limits: Limits, stopped: str) -> None:
    pool, ends = Pool(limits), []
    usage = Usage(prompt_tokens=90, completion_tokens=10, calls=1, cost=0.15)

    def spend() -> None:
        budget = Budget(shared=[pool])
        with pytest.raises(BudgetError) as caught:
            while True:
                with budget.admitted(ASK, 90, 0.135):
                    time.sleep(0.001)
                    budget.spend(usage, 0.001)
        ends.append(caught.value.budget)

    threads = [threading.Thread(target=spend, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [stopped] * THREADS
    assert 50 - THREADS < pool.spent.calls <= 50 + (THREADS if limits.calls is None else 0)


def test_runs_in_threads_stop_when_their_pool_is_spent(shelf: Shelf) -> None:
    pool = Pool(Limits(calls=60))

    def ask(number: int) -> Answer:
        services = Services(model(), shelf, RunLog(), budget=Budget(Limits(tokens=10**6), shared=[pool]))
        return run(FLOW, Question(f"{QUESTION} {number}"), services)

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, range(2 * THREADS)))
    assert sum(answer.usage.calls for answer in answers) == pool.spent.calls <= 60
    assert pool.spent.calls > 60 - THREADS
    assert {answer.stopped for answer in answers} <= {None, "max_calls=60"}
    assert any(answer.stopped for answer in answers)
    assert pool.left(0.0) == {"calls": 60 - pool.spent.calls}  # nothing is held back or reserved any more


def test_what_a_last_step_takes_is_held_back_from_all() -> None:
    pool = Pool(Limits(calls=5))
    one, other = Budget(shared=[pool]), Budget(shared=[pool])
    one.begin(Cost(calls=2))
    for _ in range(3):
        with other.admitted(ASK, 0):
            other.spend(Usage(calls=1), 0.0)
    with pytest.raises(BudgetError), other.admitted(ASK, 0):
        raise AssertionError
    with one.finishing(), one.admitted(ASK * 2, 0):
        one.spend(Usage(calls=1), 0.0)
    one.end()
    assert pool.left(0.0) == {"calls": 1}
    assert other.fitting(8, Cost(1)) == 1


def test_of_a_call_that_one_limit_refuses_nothing_is_reserved() -> None:
    own, shared = Limits(calls=10), Pool(Limits(tokens=10))
    budget = Budget(own, [shared])
    with pytest.raises(BudgetError, match="10 tokens"), budget.admitted(ASK, 11):
        raise AssertionError
    with budget.admitted(ASK * 10, 10):
        assert shared.left(0.0) == {"tokens": 0.0}
    assert shared.left(0.0) == {"tokens": 10.0}


def test_the_seconds_of_a_pool_end_its_runs(shelf: Shelf) -> None:
    pool = Pool(Limits(seconds=0.2))
    time.sleep(0.25)
    answer = run(FLOW, Question(QUESTION), Services(model(), shelf, RunLog(), budget=Budget(shared=[pool])))
    assert answer.stopped == "max_seconds=0.2" and answer.usage.calls == 0


def test_one_call_more_goes_out_where_it_fits() -> None:
    budget = Budget(Limits(calls=3))
    assert one_more()
    with budget.admitted(ASK * 2, 0):
        assert one_more()
        assert not one_more()
    with budget.admitted(ASK * 3, 0):
        assert not one_more()


def test_a_limit_of_money_ends_a_run_within_a_call(shelf: Shelf) -> None:
    whole = run(FLOW, Question(QUESTION), Services(model(Priced), shelf, RunLog()))
    assert whole.usage.cost is not None
    limit = round(whole.usage.cost * 0.6, 2)
    asked = model(Priced)
    answer = run(FLOW, Question(QUESTION), Services(asked, shelf, RunLog(), budget=Budget(Limits(cost=limit))))
    assert answer.stopped == f"max_cost={limit:g}"
    assert answer.usage.cost is not None and 0.3 * limit < answer.usage.cost <= limit
    assert answer.answer and answer.coverage.unread > 0


def test_a_limit_of_money_wants_prices(shelf: Shelf) -> None:
    runs = RunLog()
    for budget in (Budget(Limits(cost=1.0)), Budget(shared=[Pool(Limits(cost=1.0))])):
        with pytest.raises(ConfigError, match=r"max_cost: what scripted costs is not known.*prices: \{prompt"):
            run(FLOW, Question(QUESTION), Services(model(), shelf, runs, budget=budget))
    assert runs.runs() == []


def test_books_share_a_pool(tmp_path: Path) -> None:
    write_book(tmp_path / "books", paragraphs=60)
    pool = Pool(Limits(calls=6))
    with rt.read(tmp_path / "books", home=tmp_path / "home", model=model()) as book:
        book.pools = [pool]
        answer = book.ask(QUESTION, workflow="chain-of-agents", message_tokens=100)
        again = book.ask(QUESTION, workflow="chain-of-agents", message_tokens=100)
    assert answer.stopped == again.stopped == "max_calls=6"
    assert pool.spent.calls == answer.usage.calls + again.usage.calls <= 6
