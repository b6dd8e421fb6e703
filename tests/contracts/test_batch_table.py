"""The table of batches, in SQLite and in PostgreSQL: the same in both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from readthrough.batch.files import Found
from readthrough.batch.job import WHOLE
from readthrough.batch.open import open_table
from readthrough.batch.table import Claim, Result, Table
from readthrough.config import load_settings
from readthrough.errors import UsageError
from tests.postgres import running_postgres

JOB = "/out.jsonl"
Open = Callable[[], Table]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same table, as another process does."""
    database = None if request.param == "sqlite" else request.getfixturevalue("postgres")
    settings = load_settings({"home": tmp_path, "database": database}, {}).settings
    opened: list[Table] = []

    def call() -> Table:
        opened.append(open_table(settings))
        return opened[-1]

    yield call
    with opened[0]._file.write() as db:
        db.execute("DELETE FROM jobs")
    for table in opened:
        table.close()


@pytest.fixture
def table(opens: Open) -> Table:
    made = opens()
    made.register(JOB, {"folder": "/f"})
    return made


def file(path: str, content: str = "") -> Found:
    return Found(path, content or f"content of {path}", 1, 2, path.encode()[:4])


def recipes(path: str, content: str) -> dict[str, str]:
    return {"w": f"{content}!"}


def claimed(table: Table, worker: str = "a:1:x", lease_seconds: float = 60.0) -> Claim:
    claim = table.claim(JOB, worker, lease_seconds)
    assert claim is not None
    return claim


def answered(path: str, recipe: str = "r", text: str = "Ann") -> Result:
    return Result(path, "w", recipe, "done", "run", {"answer": text}, None, 1.5)


def test_a_look_at_the_folder(table: Table) -> None:
    changes = table.enter(JOB, [file("a"), file("b"), file("c")], recipes)
    assert (changes.new, changes.changed, changes.gone) == (3, 0, 0)
    assert table.known(JOB)["a"] == ("content of a", 1, 2)
    changes = table.enter(JOB, [file("a"), file("b", "other"), file("d")], recipes)
    assert (changes.new, changes.changed, changes.gone) == (1, 1, 1)
    assert [row.path for row in table.documents(JOB)] == ["a", "b", "d"]
    assert {row.path: row.size_bytes for row in table.waiting(JOB)} == {"a": 1, "b": 1, "d": 1}
    assert table.counts(JOB) == {"waiting": 3}


def test_paths_are_sorted_by_their_letters_codes(table: Table) -> None:
    names = ["b", "B", "a/z", "a-z", "é", "日本", "_", "Z", "a b", "~"]
    table.enter(JOB, [file(name) for name in names], recipes)
    assert [row.path for row in table.documents(JOB)] == sorted(names)


def test_more_documents_than_are_read_at_a_time(table: Table) -> None:
    names = [f"{number:05}" for number in range(1203)]
    table.enter(JOB, [file(name) for name in names], recipes)
    assert [row.path for row in table.documents(JOB)] == names


def test_one_worker_holds_a_document_until_its_lease_ends(table: Table) -> None:
    table.enter(JOB, [file("a"), file("b")], recipes)
    assert (claimed(table, "a:1:x").path, claimed(table, "b:1:x").path) == ("a", "b")
    assert table.claim(JOB, "c:1:x") is None
    assert sorted(table.holders(JOB)) == ["a:1:x", "b:1:x"]
    table.renew("a:1:x", -1)
    again = claimed(table, "c:1:x")
    assert (again.path, again.attempts, again.tries) == ("a", 2, 2)
    assert not table.keep(JOB, "a:1:x", answered("a")), "what it held is another's"
    assert table.keep(JOB, "c:1:x", answered("a"))
    table.expire("b:1:x")
    table.leave(JOB, "c:1:x", "a", "done")
    assert claimed(table, "d:1:x").path == "b"
    assert table.counts(JOB) == {"done": 1, "running": 1}


def test_one_of_documents_with_the_same_content_is_at_work(table: Table) -> None:
    table.enter(JOB, [file("a", "same"), file("b", "same"), file("c")], recipes)
    assert [claimed(table, name).path for name in ("w1", "w2")] == ["a", "c"]
    assert table.claim(JOB, "w3") is None
    table.keep(JOB, "w1", answered("a", "r1"))
    table.leave(JOB, "w1", "a", "done")
    assert claimed(table, "w3").path == "b"
    twin = table.twin("r1")
    assert twin is not None and twin.path == "a" and twin.answer == {"answer": "Ann"}


def test_the_folder_as_a_whole_waits_for_all(table: Table) -> None:
    table.enter(JOB, [file(WHOLE), file("a")], recipes)
    assert claimed(table).path == "a"
    assert table.claim(JOB, "b:1:x") is None
    table.leave(JOB, "a:1:x", "a", "done")
    assert claimed(table).path == WHOLE


def test_results_failures_and_another_try(table: Table) -> None:
    table.enter(JOB, [file("a"), file("b"), file("c")], recipes)
    for name in "abc":
        claimed(table, name)
    error = {"type": "EndpointError", "message": "it's down: 100% of ?", "path": None, "hint": None}
    assert table.keep(JOB, "a", answered("a", "content of a!", 'é \u2028 "%s" ? \\u0000'))
    assert table.keep(JOB, "b", Result("b", "w", "content of b!", "failed", "run", None, error, 2.0))
    table.leave(JOB, "a", "a", "done")
    table.leave(JOB, "b", "b", "done")
    table.leave(JOB, "c", "c", "failed", error)
    assert table.results(JOB, "a")["w"] == answered("a", "content of a!", 'é \u2028 "%s" ? \\u0000')
    assert [(each.path, each.work, each.error) for each in table.failures(JOB)] == [("b", "w", error), ("c", "", error)]
    assert table.retry(JOB, ("DocumentError",)) == 0
    assert table.retry(JOB, ("EndpointError",)) == 2
    assert table.counts(JOB) == {"done": 1, "waiting": 2}


def test_the_latest_job_is_found_and_the_others_by_name(table: Table) -> None:
    table.register("/second.jsonl", {"folder": "/g"})
    assert table.find(None) == ("/second.jsonl", {"folder": "/g"})
    assert table.find(JOB) == (JOB, {"folder": "/f"})
    with pytest.raises(UsageError, match="no batch that writes /third"):
        table.find("/third")


def test_nothing_is_claimed_twice_by_many_at_once(table: Table, opens: Open) -> None:
    table.enter(JOB, [file(f"{number:03}") for number in range(60)], recipes)
    claims: list[str] = []

    def work(other: Table, name: str) -> None:
        while (claim := other.claim(JOB, name)) is not None:
            claims.append(claim.path)

    threads = [threading.Thread(target=work, args=(opens(), f"w{number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == [f"{number:03}" for number in range(60)]


def test_a_transaction_that_fails_leaves_nothing(table: Table) -> None:
    def wrong(path: str, content: str) -> dict[str, str]:
        if path == "b":
            raise ValueError("no")
        return {}

    with pytest.raises(ValueError, match="no"):
        table.enter(JOB, [file("a"), file("b")], wrong)
    assert table.counts(JOB) == {}
    table.enter(JOB, [file("a")], recipes)
    assert table.counts(JOB) == {"waiting": 1}
