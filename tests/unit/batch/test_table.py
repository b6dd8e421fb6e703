"""The table of batches: what is claimed by whom, what is kept, what waits again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from readthrough.batch.files import Found
from readthrough.batch.job import WHOLE
from readthrough.batch.open import FILE, open_table
from readthrough.batch.table import Changes, Result, Table
from readthrough.config import Settings
from readthrough.errors import UsageError
from tests.batch_samples import JOB, answered, claimed, must_claim

ERROR = {"type": "DocumentError", "message": "broken", "path": "a", "hint": None}
DOWN = {"type": "EndpointError", "message": "no", "path": None, "hint": None}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = open_table(Settings(home=tmp_path))
    made.register(JOB, {"folder": "f"})
    yield made
    made.close()


def recipes(path: str, content: str) -> dict[str, str]:
    return {"w": f"recipe of {content}"}


def enter(table: Table, *paths: str, **contents: str) -> Changes:
    found = [Found(path, contents.get(path, f"content of {path}"), 10, 5, path.encode()) for path in paths]
    return table.enter(JOB, found, recipes)


def finish(table: Table, *paths: str) -> None:
    for path in paths:
        assert claimed(table, "me") == path
        table.leave(JOB, "me", path, "done")


def test_the_file_is_its_owners_alone(table: Table, tmp_path: Path) -> None:
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600


# What is in the folder


def test_enter_new_changed_gone_and_returned(table: Table) -> None:
    assert enter(table, "a", "b", "c") == Changes(new=3)
    finish(table, "a", "b", "c")
    assert enter(table, "a", "b", "c") == Changes()
    assert enter(table, "a", "b", "d", b="another") == Changes(new=1, changed=1, gone=1)
    assert table.counts(JOB) == {"done": 1, "waiting": 2}
    finish(table, "b", "d")
    assert enter(table, "a", "b", "c", "d", b="another") == Changes(changed=1)
    assert table.counts(JOB) == {"done": 3, "waiting": 1}
    assert enter(table) == Changes(gone=4)
    assert table.counts(JOB) == {}
    assert enter(table) == Changes(), "what is gone is gone once"


def test_other_works_make_a_document_wait_again(table: Table) -> None:
    enter(table, "a")
    finish(table, "a")
    found = [Found("a", "content of a", 10, 5, b"a")]
    assert table.enter(JOB, found, lambda path, content: {"w": "recipe of content of a", "v": "x"}) == Changes(
        changed=1
    )
    assert claimed(table, "me") == "a"


def test_results_of_what_is_no_longer_wanted_are_not_current_and_come_back(table: Table) -> None:
    enter(table, "a")
    must_claim(table, "me")
    table.keep(JOB, "me", answered("a", recipe="recipe of content of a"))
    table.leave(JOB, "me", "a", "done")
    enter(table, "a", a="edited")
    assert not table.results(JOB, "a")["w"].current
    enter(table, "a")
    assert table.results(JOB, "a")["w"].current


def test_a_file_that_was_touched_is_not_hashed_for_ever(table: Table) -> None:
    enter(table, "a")
    assert table.known(JOB) == {"a": ("content of a", 10, 5)}
    assert table.enter(JOB, [Found("a", "content of a", 10, 77, b"a")], recipes) == Changes()
    assert table.known(JOB) == {"a": ("content of a", 10, 77)}


def test_a_document_that_changes_or_goes_is_no_longer_its_workers(table: Table) -> None:
    enter(table, "a", "b")
    assert [claimed(table, "me"), claimed(table, "me")] == ["a", "b"]
    enter(table, "a", a="edited")
    for path in ("a", "b"):
        assert not table.keep(JOB, "me", answered(path))
        table.leave(JOB, "me", path, "done")
        assert table.results(JOB, path) == {}
    assert table.counts(JOB) == {"waiting": 1}


def test_documents_are_listed_by_pages(table: Table) -> None:
    paths = [f"{number:04}" for number in range(1201)]
    enter(table, *paths)
    assert [row.path for row in table.documents(JOB)] == paths


# Claims


def test_a_document_is_claimed_once_in_the_order_of_its_place(table: Table) -> None:
    found = [Found(path, path, 1, 1, head) for path, head in (("x", b"b"), ("y", b"a"), ("z", b"b"))]
    table.enter(JOB, found, recipes)
    assert [claimed(table, "me"), claimed(table, "you"), claimed(table, "me"), claimed(table, "you")] == [
        *("y", "x", "z"),
        None,
    ]


def test_a_claim_counts_attempts_and_tries(table: Table) -> None:
    enter(table, "a")
    for number in (1, 2, 3):
        claim = must_claim(table, "me", lease_seconds=-1)
        assert (claim.attempts, claim.tries, claim.content) == (number, number, "content of a")
    table.forward(JOB, "me", "a", steps=4)
    claim = must_claim(table, "you")
    assert (claim.attempts, claim.tries, claim.steps) == (4, 2, 4)
    table.forward(JOB, "me", "a", steps=9)
    table.leave(JOB, "you", "a", "waiting")
    assert must_claim(table, "you").tries == 1, "it was left in order: that was no try in vain"


def test_a_lease_runs_out_unless_it_is_renewed(table: Table) -> None:
    enter(table, "a")
    assert claimed(table, "me", 0.2) == "a"
    assert claimed(table, "you") is None
    table.renew("me", 60)
    time.sleep(0.25)
    assert claimed(table, "you") is None
    table.expire("me")
    assert claimed(table, "you") == "a"
    assert table.holders(JOB) == ["you"]


def test_who_lost_the_lease_can_neither_keep_nor_leave(table: Table) -> None:
    enter(table, "a")
    assert claimed(table, "me", -1) == "a"
    assert claimed(table, "you") == "a"
    assert table.keep(JOB, "you", answered("a", run="yours"))
    assert not table.keep(JOB, "me", Result("a", "w", "r", "open", "mine"))
    table.leave(JOB, "me", "a", "failed", ERROR)
    assert table.results(JOB, "a")["w"].run == "yours"
    assert table.counts(JOB) == {"running": 1}
    table.leave(JOB, "you", "a", "done")
    assert table.counts(JOB) == {"done": 1}


def test_what_was_left_behind_comes_first_and_alone(table: Table) -> None:
    """Four at work when a process dies: of these one at a time is tried again, so that the poison shows."""
    enter(table, *"abcdefgh")
    assert [claimed(table, "dead", -1) for _ in range(1)] == ["a"]
    dead = [claimed(table, "dead") for _ in range(3)]
    table.expire("dead")
    assert dead == ["a", "b", "c"], "the lease of the first had run out"
    assert [claimed(table, "me") for _ in range(3)] == ["a", "d", "e"]
    assert [claimed(table, "you") for _ in range(2)] == ["b", "f"]
    table.leave(JOB, "me", "a", "done")
    assert [claimed(table, "me") for _ in range(2)] == ["c", "g"]


def test_of_the_same_content_one_is_at_work_at_a_time(table: Table) -> None:
    enter(table, "a", "b", "c", a="same", b="same")
    assert [claimed(table, "me"), claimed(table, "me"), claimed(table, "me")] == ["a", "c", None]
    table.leave(JOB, "me", "a", "done")
    assert claimed(table, "me") == "b"


def test_the_folder_as_a_whole_waits_for_all(table: Table) -> None:
    enter(table, WHOLE, "a", "b")
    assert [claimed(table, "me"), claimed(table, "me"), claimed(table, "me")] == ["a", "b", None]
    table.leave(JOB, "me", "a", "done")
    assert claimed(table, "me") is None
    table.leave(JOB, "me", "b", "failed", ERROR)
    assert claimed(table, "me", -1) == WHOLE
    assert claimed(table, "you") == WHOLE, "left behind, it is taken up as others are"
    assert claimed(table, "me") is None


def test_claims_of_many_documents_are_quick(table: Table) -> None:
    enter(table, *(f"{number:05}" for number in range(20_000)))
    started = time.process_time()
    for _ in range(50):
        must_claim(table, "me")
    assert time.process_time() - started < 1


# Results


def test_a_result_is_kept_in_place_of_the_one_before(table: Table) -> None:
    enter(table, "a")
    must_claim(table, "me")
    assert table.keep(JOB, "me", Result("a", "w", "r", "open", "run"))
    assert table.twin("r") is None
    lone = answered("a", answer={"answer": "half \ud83d", "evidence": []})
    assert table.keep(JOB, "me", lone)
    assert table.results(JOB, "a") == {"w": lone}
    assert table.twin("r") == lone


def test_failures_name_documents_and_answers(table: Table) -> None:
    enter(table, "a", "b", "c", "d")
    for path in "abc":
        assert claimed(table, "me") == path
    table.leave(JOB, "me", "a", "failed", ERROR)
    for path, state in (("b", "failed"), ("c", "stopped")):
        table.keep(JOB, "me", Result(path, "w", f"recipe of content of {path}", state, error=DOWN))  # type: ignore[arg-type]
        table.leave(JOB, "me", path, "done")
    assert [(each.path, each.state, each.work, (each.error or {}).get("type")) for each in table.failures(JOB)] == [
        ("a", "failed", "", "DocumentError"),
        ("b", "failed", "w", "EndpointError"),
        ("c", "stopped", "w", "EndpointError"),
    ]
    enter(table, "b", "d", b="edited")
    assert table.failures(JOB) == [], "what is gone or edited has not failed"


def test_retry(table: Table) -> None:
    enter(table, "a", "b", "c", "d", "e")
    for path, state in (("a", "failed"), ("b", "failed"), ("c", "stopped"), ("d", "done")):
        assert claimed(table, "me") == path
        error = {"a": ERROR, "b": DOWN}.get(path)
        table.keep(JOB, "me", Result(path, "w", f"recipe of content of {path}", state, "its run", error=error))  # type: ignore[arg-type]
        table.leave(JOB, "me", path, "done")
    assert claimed(table, "me") == "e"
    table.leave(JOB, "me", "e", "aside", ERROR)
    assert table.retry(JOB, ("EndpointError",)) == 2, "that of the endpoint, and the one that a budget stopped"
    assert [claimed(table, "me"), claimed(table, "me"), claimed(table, "me")] == ["b", "c", None]
    assert table.results(JOB, "b")["w"] == Result("b", "w", "recipe of content of b", "open", "its run")
    assert table.retry(JOB) == 2
    assert [claimed(table, "me"), claimed(table, "me"), claimed(table, "me")] == ["a", "e", None]
    table.leave(JOB, "me", "e", "waiting")
    claim = must_claim(table, "me")
    assert (claim.attempts, claim.tries) == (2, 1)
    enter(table)
    assert table.retry(JOB) == 0, "what is gone waits for nothing"


def test_retry_leaves_alone_what_is_at_work(table: Table) -> None:
    """Another process begins while this one is at the next question of the document."""
    enter(table, "a")
    must_claim(table, "me")
    failed = Result("a", "w", "recipe of content of a", "failed", "its run", error=DOWN)
    table.keep(JOB, "me", failed)
    assert table.retry(JOB) == 0
    assert table.results(JOB, "a")["w"] == failed
    table.leave(JOB, "me", "a", "done")
    assert table.retry(JOB) == 1


# Jobs


def test_jobs_are_found_by_name_or_the_latest(table: Table) -> None:
    table.register("other", {"folder": "g"})
    assert table.find(None) == ("other", {"folder": "g"})
    table.register(JOB, {"folder": "h"})
    assert table.find(None) == (JOB, {"folder": "h"})
    assert table.find("other")[0] == "other"
    with pytest.raises(UsageError, match="no batch that writes x") as caught:
        table.find("x")
    assert caught.value.hint == f"there are: {JOB}, other"


def test_no_batch_yet(tmp_path: Path) -> None:
    table = open_table(Settings(home=tmp_path))
    with pytest.raises(UsageError, match="no batch yet"):
        table.find(None)
    table.close()
    table.close()
