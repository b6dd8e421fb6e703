"""The results of evaluations in one SQLite file: a row an answer, with everything that is needed to get it again."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from readthrough.errors import InputError
from readthrough.memory.database import BUSY_SECONDS, guard, use_wal
from readthrough.memory.schema import migrate

FILE = "results.sqlite"
"""The file in the folder of an evaluation."""

_WHICH = ("seed", "samples", "limit", "ids")


@dataclass(frozen=True, slots=True)
class Result:
    """What one system answered to one example.

    Attributes:
        key: SHA-256 of all that the answer depends on: a result of the same key is not asked for again.
        content: SHA-256 of the example: the same for every system that was asked it.
        task: the task's spec, `{name: {option: value}}`, with the options that were given.
        example: the example's id within its task.
        system: what answered: `workflow` (a spec, or a file's content), `model`, `index`, and `file`, the YAML file
            that the workflow stands in, None for a built-in one.
        question, choices, answers, metric, type, tags, evidence: the example's own.
        sources: the texts it is about, each with `name`, and `sha256` (of a text that is kept in the folder) or
            `path`.
        limits: the most that an answer may take, `{seconds, tokens, calls}`; what has no limit is left out.
        answer: the Answer in its JSON form; None where there is none.
        scores: `score`, from 0 to 1, and others that the task knows of; an answer that failed has a score of 0.
        error: why there is no answer or no score: `type`, `message`, and what else is known; None where all went well.
        seconds: of wall time for the answer, without `reading_seconds`.
        reading_seconds: of wall time for reading and indexing the texts when the run first came to them, shared out
            among the questions about them: near 0 where the library had them.
        memory_bytes: the most memory that the process held while it answered, or that was in use on the GPU; None
            where it is not known, as with several answers side by side.
        made: where and with what: `readthrough`, `commit`, `sources` (SHA-256), `model`, `device`, `python`, ...
        finished: date and time, ISO 8601, UTC.
    """

    key: str
    content: str
    task: Mapping[str, Mapping[str, Any]]
    example: str
    system: Mapping[str, Any]
    question: str
    choices: tuple[str, ...] | None
    answers: tuple[str, ...]
    metric: str
    type: str
    tags: Mapping[str, Any]
    evidence: tuple[str, ...]
    sources: tuple[Mapping[str, Any], ...]
    limits: Mapping[str, float]
    answer: Mapping[str, Any] | None
    scores: Mapping[str, float]
    error: Mapping[str, Any] | None
    seconds: float
    reading_seconds: float
    memory_bytes: int | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""

    def same(self, other: Result) -> bool:
        """Whether both say the same, as they are kept."""
        return _json(self.to_dict()) == _json(other.to_dict())

    @property
    def score(self) -> float:
        """The score, from 0 to 1."""
        return float(self.scores["score"])

    @property
    def tokens(self) -> int:
        """The tokens that were read and written for the answer."""
        usage = self.answer["usage"] if self.answer else {}
        return int(usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0))

    @property
    def confidence(self) -> float | None:
        """The answer's confidence, where it has one."""
        return self.answer["confidence"] if self.answer else None

    @property
    def task_name(self) -> str:
        """The task with its options, but for those that say which of its examples: what a report shows as one."""
        name, options = next(iter(self.task.items()))
        return spec_name({name: {option: value for option, value in options.items() if option not in _WHICH}})

    @property
    def system_name(self) -> str:
        """The system in full: `chain-of-agents(message_tokens=512), small, hybrid`."""
        workflow = self.system["file"] or spec_name(self.system["workflow"])
        return ", ".join([workflow, spec_name(self.system["model"]), self.system["index"]])

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The result whose `to_dict` gave `values`."""
        given = dict(values)
        for name in ("answers", "evidence", "sources", "choices"):
            given[name] = None if given[name] is None else tuple(given[name])
        return cls(**given)


def spec_name(spec: str | Mapping[str, Any]) -> str:
    """A spec as people read it: `retrieve`, `retrieve(k=20)`."""
    if isinstance(spec, str):
        return spec
    name, options = next(iter(spec.items()))
    said = ", ".join(f"{option}={value}" for option, value in (options or {}).items())
    return f"{name}({said})" if said else name


def short_names(results: Sequence[Result]) -> dict[str, str]:
    """`system_name` -> the same without the model or index that all systems share."""
    systems = {result.system_name: result.system for result in results}
    models = {spec_name(system["model"]) for system in systems.values()}
    indexes = {system["index"] for system in systems.values()}
    return {
        name: ", ".join(
            [
                system["file"] or spec_name(system["workflow"]),
                *([spec_name(system["model"])] if len(models) > 1 else []),
                *([system["index"]] if len(indexes) > 1 else []),
            ]
        )
        for name, system in systems.items()
    }


_COLUMNS = [each.name for each in fields(Result)]
_PLAIN = (
    "key",
    "content",
    "example",
    "question",
    "metric",
    "type",
    "seconds",
    "reading_seconds",
    "memory_bytes",
    "finished",
)
"""The columns that hold their value as it is; the others hold JSON."""


def _create(connection: sqlite3.Connection) -> None:
    kinds = {"seconds": "REAL NOT NULL", "reading_seconds": "REAL NOT NULL", "memory_bytes": "INTEGER"}
    columns = ", ".join(f"{name} {kinds.get(name, 'TEXT NOT NULL')}" for name in _COLUMNS)
    connection.execute(f"CREATE TABLE results ({columns}, PRIMARY KEY (key)) WITHOUT ROWID")
    connection.execute("CREATE TABLE runs (number INTEGER PRIMARY KEY, started TEXT NOT NULL, grid TEXT NOT NULL)")
    connection.execute(
        """CREATE TABLE run_results (
            run INTEGER NOT NULL REFERENCES runs, place INTEGER NOT NULL, key TEXT NOT NULL,
            PRIMARY KEY (run, place)) WITHOUT ROWID"""
    )


def _add_verdicts(connection: sqlite3.Connection) -> None:
    connection.execute(
        """CREATE TABLE grades (
            judge TEXT NOT NULL, key TEXT NOT NULL, probability REAL NOT NULL,
            PRIMARY KEY (judge, key)) WITHOUT ROWID"""
    )
    connection.execute(
        """CREATE TABLE preferences (
            judge TEXT NOT NULL, one TEXT NOT NULL, other TEXT NOT NULL, shown_first REAL NOT NULL,
            shown_second REAL NOT NULL, PRIMARY KEY (judge, one, other)) WITHOUT ROWID"""
    )


class Store:
    """The results in a folder. Each is written as soon as it is there, so that a kill loses none that is finished."""

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        """Open the results in `folder`; `make` them where there are none.

        Raises:
            InputError: there are none, and none are made.
            LibraryError: the file cannot be used.
        """
        self.path = folder / FILE
        self._lock = threading.Lock()
        if not make and not self.path.is_file():
            raise InputError("there are no results", path=str(folder), hint="readthrough eval run FILE makes them")
        with self._guard():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None)
            use_wal(self._db)
            self._db.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing, a power cut the last rows
            migrate(self._db, str(self.path), (_create, _add_verdicts), "file of results")

    def start(self, started: str, grid: str) -> None:
        """Note the beginning of a run, whose results are those of `results` from now on."""
        with self._guard():
            self._db.execute("INSERT INTO runs (started, grid) VALUES (?, ?)", (started, grid))

    def plan(self, keys: Sequence[str]) -> None:
        """Note what else the latest run is to answer, in order."""
        with self._guard(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            run = self._db.execute("SELECT max(number) FROM runs").fetchone()[0]
            done = self._db.execute("SELECT count(*) FROM run_results WHERE run = ?", (run,)).fetchone()[0]
            rows = [(run, place, key) for place, key in enumerate(keys, done)]
            self._db.executemany("INSERT INTO run_results VALUES (?, ?, ?)", rows)

    def write(self, result: Result) -> None:
        """Keep a result, in place of one of the same key; what a judge said of another answer is dropped."""
        values = asdict(result)
        row = [values[name] if name in _PLAIN else _json(values[name]) for name in _COLUMNS]
        other = "EXISTS (SELECT * FROM results WHERE key = :key AND (answer != :answer OR answers != :answers))"
        judged = {"key": result.key, "answer": _json(result.answer), "answers": _json(result.answers)}
        with self._guard(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(f"DELETE FROM grades WHERE key = :key AND {other}", judged)
            self._db.execute(f"DELETE FROM preferences WHERE (one = :key OR other = :key) AND {other}", judged)
            self._db.execute(f"INSERT OR REPLACE INTO results VALUES ({', '.join('?' * len(row))})", row)

    def find(self, keys: Sequence[str]) -> dict[str, Result]:
        """The results that there are of `keys`, those with an error too."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM results WHERE key = ?"
        with self._guard():
            found = [self._db.execute(query, (key,)).fetchone() for key in keys]
        return {row[0]: _result(row) for row in found if row is not None}

    def results(self) -> list[Result]:
        """The results of the latest run so far, in its order."""
        latest = "SELECT max(number) FROM runs"
        columns = ", ".join(f"results.{name}" for name in _COLUMNS)
        query = (
            f"SELECT {columns} FROM run_results JOIN results ON results.key = run_results.key "
            f"WHERE run = ({latest}) ORDER BY place"
        )
        with self._guard():
            return [_result(row) for row in self._db.execute(query)]

    def grades(self) -> dict[str, dict[str, float]]:
        """What judges said: by the judge and the key of a result, how probable it is that the answer is right."""
        found: dict[str, dict[str, float]] = {}
        with self._guard():
            for judge, key, probability in self._db.execute("SELECT judge, key, probability FROM grades"):
                found.setdefault(judge, {})[key] = probability
        return found

    def keep_grades(self, judge: str, grades: Mapping[str, float]) -> None:
        """Keep what a judge said of results, by their keys."""
        with self._guard():
            rows = [(judge, key, probability) for key, probability in grades.items()]
            self._db.executemany("INSERT OR REPLACE INTO grades VALUES (?, ?, ?)", rows)

    def preferences(self, judge: str) -> dict[tuple[str, str], tuple[float, float]]:
        """How much a judge preferred one result to another, by the keys of both: shown first, and shown second."""
        query = "SELECT one, other, shown_first, shown_second FROM preferences WHERE judge = ?"
        with self._guard():
            return {(one, other): (first, second) for one, other, first, second in self._db.execute(query, (judge,))}

    def keep_preferences(self, judge: str, found: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Keep how much a judge preferred one result to another."""
        with self._guard():
            rows = [(judge, *pair, *shown) for pair, shown in found.items()]
            self._db.executemany("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self._lock, guard(self.path, "file of results"):
            yield


def write_json_lines(results: Iterable[Result], path: Path) -> None:
    """Write results as JSON, one a line.

    Raises:
        LibraryError: the file cannot be written.
    """
    with guard(path, "file of results"), path.open("w", encoding="utf-8") as file:
        for result in results:
            file.write(_json(result.to_dict()) + "\n")


def _json(value: Any) -> str:
    """A value as JSON; lone surrogates, which broken texts have, are escaped."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode("utf-8")


def _result(row: Sequence[Any]) -> Result:
    values = zip(_COLUMNS, row, strict=True)
    return Result.from_dict({name: value if name in _PLAIN else json.loads(value) for name, value in values})
