"""Batches and checkpoints on a real PostgreSQL: shared, taken over, killed, cut off, misaddressed."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (extra postgres)")
pytest.importorskip("langgraph.checkpoint.postgres", reason="its saver is not installed (extra postgres)")
import psycopg

from readthrough.agents.runs.checkpoints import open_saver, prune
from readthrough.batch.job import Recipes
from readthrough.batch.leases import Leases
from readthrough.batch.open import open_table
from readthrough.batch.running import enter, run
from readthrough.batch.table import TABLES, Result
from readthrough.config import load_settings
from readthrough.errors import ConfigError, LibraryError, ReadthroughError
from readthrough.memory import postgres_file
from readthrough.memory.postgres_file import PostgresFile
from readthrough.memory.runs import RunLog
from tests.agent_samples import write_book
from tests.cluster_samples import (
    begin,
    calls,
    ended,
    in_thread,
    job_of,
    rows,
    settings_of,
    slowly,
    wait_until,
    write_documents,
)
from tests.fake_server import FakeServer
from tests.kill_samples import copied, go, latest_run, prepared
from tests.postgres import running_postgres

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def test_two_machines_share_a_batch(postgres: str, tmp_path: Path) -> None:
    """Each has a home of its own; nothing but the folder and the database is shared."""
    folder, out = write_documents(tmp_path / "docs", 10), tmp_path / "out.jsonl"
    with FakeServer([slowly(0.3)]) as server:
        both = [
            begin(folder, tmp_path / f"home{number}", out, server, "--database", postgres, "--workers", "1")
            for number in range(2)
        ]
        for process in both:
            ended(process)
        assert set(calls(server).values()) == {1}, "something was asked twice"
    assert [row["document"] for row in rows(out)] == [f"{number:03}.txt" for number in range(10)]
    done = [_runs(tmp_path / f"home{number}") for number in range(2)]
    assert sum(done) == 10 and min(done) > 0, "one of them did it all"


def _runs(home: Path) -> int:
    with closing(RunLog(home / "runs.sqlite")) as log:
        return len(log.runs())


def test_what_another_machine_left_is_taken_over_after_its_lease(postgres: str, tmp_path: Path) -> None:
    folder, out = write_documents(tmp_path / "docs", 2), tmp_path / "out.jsonl"
    with FakeServer([slowly(0)]) as server:
        settings, job = settings_of(tmp_path / "home", server, postgres), job_of(folder, out)
        with closing(open_table(settings)) as table:
            enter(job, table, settings)
            claim = table.claim(job.name, "elsewhere:1:x", lease_seconds=2)
            assert claim is not None
            work = job.works[0]
            recipe = Recipes(job, settings).of(claim.path, claim.content)[work.id]
            left = Result(claim.path, work.id, recipe, "open", "20200101-000000-00000000")
            assert table.keep(job.name, "elsewhere:1:x", left)
        outcome = run(job, settings)
        assert outcome.counts == {"done": 2}
    assert len(rows(out)) == 2
    runs = {json.loads(line)["run"] for line in out.read_text().splitlines()}
    assert left.run not in runs, "a run goes on where its texts are, nowhere else"


def test_a_machine_of_the_same_name_is_another(postgres: str, tmp_path: Path) -> None:
    """Leases are ended early only where a process is known to be dead: on this machine, in this home."""
    folder = write_documents(tmp_path / "docs", 1)
    with FakeServer([slowly(0)]) as server:
        settings, job = settings_of(tmp_path / "home", server, postgres), job_of(folder, tmp_path / "other.jsonl")
        with closing(open_table(settings)) as table, Leases(table, tmp_path / "one") as one:
            enter(job, table, settings)
            assert table.claim(job.name, one.name) is not None
            with Leases(table, tmp_path / "two") as two:
                two.free_the_dead(job.name)
                assert table.claim(job.name, two.name) is None
            dead = one.name.rpartition(":")[0] + ":000000000000"
            with table._file.write() as db:
                db.execute("UPDATE documents SET worker = ? WHERE job = ?", (dead, job.name))
            one.free_the_dead(job.name)
            assert table.claim(job.name, one.name) is not None


def test_leases_run_by_the_clock_of_the_server(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = PostgresFile(postgres, (TABLES,), "table of batches")
    before = file.now()
    file.close()
    real = postgres_file.time.time
    monkeypatch.setattr(postgres_file.time, "time", lambda: real() + 3600)
    file = PostgresFile(postgres, (TABLES,), "table of batches")
    assert abs(file.now() - before) < 60
    file.close()


def test_a_killed_run_goes_on_from_its_checkpoints(postgres: str, tmp_path: Path) -> None:
    first = prepared("chain-of-agents", tmp_path / "home", write_book(tmp_path / "books", paragraphs=50))
    whole = go(copied(first, tmp_path / "whole"))
    for number, part in enumerate((0.3, 0.6, 0.95)):
        case = copied(first, tmp_path / f"home{number}")
        case = type(case)(case.workflow, case.home, case.book, postgres)
        killed = go(case, kill_at=int(part * whole.moments))
        assert killed.answer is None
        run_id = latest_run(case)
        resumed = go(case, resumed=run_id)
        assert resumed.answer == whole.answer
        assert whole.calls <= killed.calls + resumed.calls <= whole.calls + whole.largest_step_calls
        assert not (case.home / "checkpoints.sqlite").exists()
        with closing(RunLog(case.home / "runs.sqlite")) as log:
            assert run_id is not None and _checkpoints(postgres, run_id) > 0
            assert prune(log, postgres, [run_id]) == [run_id]
            assert _checkpoints(postgres, run_id) == 0


def _checkpoints(url: str, run_id: str) -> int:
    return _ask(url, "SELECT count(*) FROM readthrough.checkpoints WHERE thread_id = %s", run_id)


def _ask(url: str, query: str, *values: object) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode(), values).fetchone()
    return int(row[0]) if row else 0


class _Counting(TypedDict):
    number: Annotated[int, operator.add]
    notes: list[str]


def test_a_long_run_does_not_grow_its_checkpoints(postgres: str) -> None:
    from langgraph.graph import END, START, StateGraph

    steps = 430
    graph = StateGraph(_Counting)
    graph.add_node("count", lambda state: {"number": 1, "notes": [f"step {state['number']}"]})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: END if state["number"] >= steps else "count")
    config: Any = {"configurable": {"thread_id": "long"}, "recursion_limit": steps + 10}
    with open_saver(postgres) as saver:
        graph.compile(checkpointer=saver).invoke({"number": 0, "notes": []}, config, durability="sync")
    for table in ("checkpoints", "checkpoint_writes", "checkpoint_blobs"):
        held = _ask(postgres, f"SELECT count(*) FROM readthrough.{table} WHERE thread_id = 'long'")
        assert 0 < held < 4 * 210, f"{table}: {held}"
    with open_saver(postgres) as saver:
        state = graph.compile(checkpointer=saver).get_state(config)
        assert state.values == {"number": steps, "notes": [f"step {steps - 1}"]}
        assert sum(1 for _ in saver.list(config)) < 210
        for old in saver.list(config):
            assert old.checkpoint["channel_values"].keys() >= {"number", "notes"}, "a value of a kept one is gone"


@pytest.mark.parametrize("noticed", [True, False])
def test_a_lost_connection_is_made_again(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noticed: bool
) -> None:
    """Noticed before it is used, or by the first statement."""
    if not noticed:
        monkeypatch.setattr(postgres_file, "_has_news", lambda connection: False)
    settings = load_settings({"home": tmp_path, "database": postgres}, {}).settings
    end = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
    with closing(open_table(settings)) as table, open_saver(postgres) as saver:
        table.register("/lost", {"n": 1})
        assert saver.get_tuple({"configurable": {"thread_id": "none"}}) is None, "connected by now"
        assert _ask(postgres, end + " AND backend_type = 'client backend'") >= 2
        assert table.find("/lost") == ("/lost", {"n": 1})
        _ask(postgres, end + " AND backend_type = 'client backend'")
        table.register("/lost", {"n": 2})
        assert table.find("/lost") == ("/lost", {"n": 2})
        assert saver.get_tuple({"configurable": {"thread_id": "none"}}) is None


def test_a_connection_lost_in_the_middle_keeps_nothing(postgres: str, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path, "database": postgres}, {}).settings
    with closing(open_table(settings)) as table:
        table.register("/middle", {"n": 1})
        end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
        with pytest.raises(LibraryError, match="table of batches"), table._file.write() as db:
            db.execute("UPDATE jobs SET job = '{}' WHERE name = ?", ("/middle",))
            _ask(postgres, end + " AND backend_type = 'client backend'")
            db.execute("SELECT 1").fetchone()
        assert table.find("/middle") == ("/middle", {"n": 1})


def test_a_newer_table_is_left_alone(postgres: str) -> None:
    newer = PostgresFile(postgres, (("CREATE TABLE one (a TEXT)",), ("CREATE TABLE two (a TEXT)",)), "versions tried")
    newer.close()
    with pytest.raises(LibraryError, match="schema version 2, this readthrough knows 1"):
        PostgresFile(postgres, (("CREATE TABLE one (a TEXT)",),), "versions tried")
    assert _ask(postgres, "SELECT count(*) FROM readthrough.one") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("postgres@/postgres", "nobody@/postgres"), 'role "nobody" does not exist'),
        (("@/postgres?", "@/none?"), 'database "none" does not exist'),
        (("?host=", "?host=/nowhere"), "nowhere"),
    ],
)
def test_a_wrong_address_is_said(postgres: str, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    if "host=/" not in postgres:
        pytest.skip("the server is another than the one that is started here")
    wrong = postgres.replace(*change)
    for opens in (
        lambda: open_table(load_settings({"home": tmp_path, "database": wrong}, {}).settings),
        lambda: open_saver(wrong).__enter__(),
    ):
        with pytest.raises(LibraryError, match=said) as caught:
            opens()
        assert caught.value.path == wrong and "PGPASSWORD" in (caught.value.hint or "")


def test_a_wrong_password_is_said_and_not_shown(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "host=/" not in postgres:
        pytest.skip("the server is another than the one that is started here")
    with psycopg.connect(postgres, autocommit=True) as admin:
        row = admin.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        rules.write_text("local all ann scram-sha-256\n" + rules.read_text())
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
    settings = load_settings({"home": tmp_path, "database": postgres.replace("postgres@/", "ann@/")}, {}).settings
    monkeypatch.setenv("PGPASSWORD", "verysecret")
    with pytest.raises(LibraryError, match='password authentication failed for user "ann"') as caught:
        open_table(settings)
    assert "verysecret" not in json.dumps(caught.value.to_dict())
    monkeypatch.setenv("PGPASSWORD", "right")
    with pytest.raises(LibraryError, match="permission denied"):  # the password fits, and the tables are another's
        open_table(settings)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:secret@h/d", "postgresql://h/d?user=ann&password=secret", "mysql://a:secret@h"]
)
def test_a_password_has_no_place_in_the_address(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"database": url}, {})
    assert "secret" not in json.dumps(caught.value.to_dict())


def test_an_address_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="begins with postgresql://"):
        load_settings({}, {"READTHROUGH_DATABASE": "batches.sqlite"})


def test_the_database_changes_no_recipe(tmp_path: Path) -> None:
    here = load_settings({"home": tmp_path}, {}).settings
    there = load_settings({"home": tmp_path, "database": "postgresql://h/d"}, {}).settings
    assert here.to_keep() == there.to_keep()


def test_a_batch_ends_with_the_reason_when_the_server_goes_away(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_file, "RETRY_SECONDS", 0.0)
    folder = write_documents(tmp_path / "docs", 4)
    with FakeServer([slowly(0.05)]) as server:
        settings, job = settings_of(tmp_path / "home", server, postgres), job_of(folder, tmp_path / "gone.jsonl")
        real = postgres_file.connect

        def refuses(url: str, **options: Any) -> Any:
            if len(server.requests) > 2:
                return real(url.replace("@/", "@/none"), **options)
            return real(url, **options)

        monkeypatch.setattr(postgres_file, "connect", refuses)
        end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid != pg_backend_pid()"

        def cut() -> None:
            wait_until(lambda: len(server.requests) > 2)
            _ask(postgres, end + " AND backend_type = 'client backend'")

        thread = in_thread(cut)
        with pytest.raises(ReadthroughError, match="cannot be used"):
            run(job, settings)
        thread.join()
        monkeypatch.setattr(postgres_file, "connect", real)
        assert run(job, settings).counts == {"done": 4}
    assert len(rows(tmp_path / "gone.jsonl")) == 4
