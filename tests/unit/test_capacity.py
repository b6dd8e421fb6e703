"""The arithmetic of `benchmarks.capacity`."""

from __future__ import annotations

import pytest

from benchmarks.capacity import Rates, most_of_table, table

USAGE = {"prompt_tokens": 30_000, "cached_tokens": 15_000, "completion_tokens": 2_000}


def test_documents_a_day() -> None:
    rates = Rates(read=15_000, written=2_000, busy=0.5, index_seconds=4)
    assert rates.seconds(USAGE, prefixes_kept=True) == pytest.approx(2.0)
    assert rates.seconds(USAGE, prefixes_kept=False) == pytest.approx(3.0)
    assert rates.documents(USAGE, 1) == 21_600
    assert rates.documents(USAGE, 8) == 8 * 21_600
    assert rates.cores(USAGE) == pytest.approx(1.0)


def test_nobody_does_more_than_the_table_gives_out() -> None:
    rates = Rates(read=1e12, written=1e12, busy=1, index_seconds=0)
    assert rates.documents(USAGE, 64) == int(most_of_table())


def test_the_table_has_a_line_for_each_workflow() -> None:
    lines = table(Rates(15_000, 2_000, 0.7, 5.7), [1, 8]).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert any(line.startswith("| retrieve | 971 | 26 |") for line in lines)
