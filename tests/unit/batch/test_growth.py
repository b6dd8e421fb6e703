"""What a document costs does not depend on how many there are."""

from __future__ import annotations

import gc
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from readthrough.batch.files import Found
from readthrough.batch.open import _create
from readthrough.batch.table import Table
from readthrough.memory.database import Database
from readthrough.memory.library import Library
from readthrough.memory.runs import RunLog
from readthrough.memory.sqlite_file import SqliteFile
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.library_samples import HashingEmbedder, chunker


@pytest.fixture
def table(tmp_path: Path) -> Any:
    made = Table(SqliteFile(tmp_path / "batch.sqlite", (_create,), "table"))
    yield made
    made.close()


def wanted(path: str, content: str) -> dict[str, str]:
    return {"who": path + content}


def test_documents_are_claimed_in_the_order_of_their_places_and_the_folder_last(table: Table) -> None:
    table.register("job", {})
    heads = {"c": b"1", "a": b"2", "b": b"1", ".": b""}
    table.enter("job", [Found(path, path, 1, 1, head) for path, head in heads.items()], wanted)
    claimed = [table.claim("job", "one") for _ in range(4)]
    assert [claim.path if claim else None for claim in claimed] == ["b", "c", "a", None]
    for path in "abc":
        table.leave("job", "one", path, "done")
    folder = table.claim("job", "one")
    assert folder is not None and folder.path == "."
    assert table.claim("job", "two") is None


def test_a_lease_that_ended_is_taken_up_before_what_waits(table: Table) -> None:
    table.register("job", {})
    table.enter("job", [Found(path, path, 1, 1) for path in "ab"], wanted)
    first = table.claim("job", "one", lease_seconds=-1)
    again = table.claim("job", "two")
    assert first is not None and again is not None and (first.path, again.path, again.tries) == ("a", "a", 2)


def test_no_claim_sorts_the_table(table: Table, tmp_path: Path) -> None:
    table.register("job", {})
    table.enter("job", [Found(str(number), "", 1, 1) for number in range(50)], wanted)
    asked: list[str] = []
    table._file._db.set_trace_callback(asked.append)  # type: ignore[attr-defined]
    table.claim("job", "one")
    table._file._db.set_trace_callback(None)  # type: ignore[attr-defined]
    with sqlite3.connect(tmp_path / "batch.sqlite") as db:
        plans = [
            step[3]
            for query in asked
            if query.startswith(("SELECT", "UPDATE"))
            for step in db.execute(f"EXPLAIN QUERY PLAN {query}")
        ]
    assert plans and not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN documents")]


def test_a_run_is_known_by_its_id_without_a_look_at_the_others(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "runs.sqlite")
    run = log.start("Who?", "retrieve", "scripted")
    assert log.has(run) and not log.has(run[:-1]) and not log.has("")
    assert log.find(run).id == log.find(run[-6:]).id == run
    log.close()


def test_a_script_from_a_file_does_not_keep_what_it_was_asked(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text("replies: [one, two]\n")
    model = ScriptedModel.from_yaml(tmp_path / "script.yaml")
    said = [model.complete([Request.user("Who?")])[0].text for _ in range(2)]
    assert said == ["one", "two"] and model.calls == []


def test_a_connection_goes_with_its_thread(tmp_path: Path) -> None:
    database = Database(tmp_path / "library.sqlite")
    for _ in range(20):
        thread = threading.Thread(target=database.connection)
        thread.start()
        thread.join()
    gc.collect()
    assert len(database._opened) == 1  # of this thread
    database.close()
    assert database.connection().execute("SELECT 1").fetchone() == (1,)
    database.close()


def test_of_the_vector_files_only_new_ones_are_read(tmp_path: Path) -> None:
    library = Library.open(tmp_path / "home", embedder=HashingEmbedder(), chunker=chunker(24))
    asked: list[str] = []
    for number in range(70):
        (tmp_path / f"{number}.txt").write_text(f"The keeper of lamp {number} slept.")
        library.connection().set_trace_callback(asked.append if number == 60 else None)
        shelf = library.shelve([tmp_path / f"{number}.txt"])
        assert len(shelf.search("keeper", 5, "vectors")) == 1
    assert not [query for query in asked if "FROM vectors WHERE embedder" in query]
    assert len([query for query in asked if "SELECT chunk FROM vectors WHERE segment" in query]) == 1
    everything = library.shelve([tmp_path / f"{number}.txt" for number in range(70)])
    kept = library.vectors.get(everything.chunk_array())
    made = HashingEmbedder().embed([chunk.text for chunk in everything.get(everything.chunk_array().tolist())])
    assert np.allclose(kept, made, atol=1e-6)
    library.close()
