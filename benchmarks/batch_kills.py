"""A batch that is killed (SIGKILL) at random moments and run again until it is done, against one that is not: the same
rows, and how many calls were made again.

    python -m benchmarks.batch_kills [FOLDER] [--kills 50] [--seed 1] [--workflow NAME] [--out NAME]

Without a folder, 40 documents are made. A server on loopback answers, and counts; so any difference is the batch's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from readthrough.batch.running import ENDPOINT_WORKERS
from tests.batch_processes import Child, finish, start
from tests.batch_samples import answers, asking, lasting, lights, rows, served, write_folder
from tests.fake_server import FakeServer, Handler, fails

ON_ITS_WAY_SECONDS = 0.05
"""A reply that was sent so shortly before a kill may not have been taken yet: it counts as in flight."""
_DELAY_SECONDS = 0.02
_MOMENT_SECONDS = 0.2
_QUESTIONS = ("Who keeps the light?", "When did the boats go out?")


@dataclass(frozen=True)
class Kill:
    """One kill: after how many calls of this process, how many rows there were, how many calls were in flight."""

    after_calls: int
    rows: int
    in_flight: int


@dataclass(frozen=True)
class Killed:
    """What came of a batch.

    Attributes:
        documents: how many the folder holds.
        same_rows: whether the rows are those of the batch that was not killed, but for run ids, usage and times.
        calls_unkilled, calls: how many calls the server answered, for one and for the other.
        kills: each of them.
    """

    documents: int
    same_rows: bool
    calls_unkilled: int
    calls: int
    kills: tuple[Kill, ...]

    @property
    def calls_in_flight(self) -> int:
        """How many calls were in flight at all kills together: these may have been paid for in vain."""
        return sum(kill.in_flight for kill in self.kills)

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {
            "documents": self.documents,
            "kills": len(self.kills),
            "same_rows": self.same_rows,
            "calls_unkilled": self.calls_unkilled,
            "calls": self.calls,
            "calls_repeated": self.calls - self.calls_unkilled,
            "calls_in_flight_at_kills": self.calls_in_flight,
        }


class CountingServer(FakeServer):
    """Answers after a moment, and knows which calls it answered when, and how many it is at."""

    def __init__(self) -> None:
        super().__init__([self._step])
        self.answered: list[float] = []
        self._under_way = 0
        self._counting = threading.Lock()

    def in_flight(self) -> int:
        """How many calls are at work now, or were answered just before."""
        now = time.monotonic()
        with self._counting:
            return self._under_way + sum(now - moment < ON_ITS_WAY_SECONDS for moment in self.answered[-100:])

    def _step(self, handler: Handler, body: dict[str, Any]) -> None:
        if "logprobs" in body:  # found out anew by every process, and no call that is paid for
            fails(400, "logprobs are not supported")(handler, body)
            return
        with self._counting:
            self._under_way += 1
        self.stopped.wait(_DELAY_SECONDS)
        with self._counting:
            self._under_way -= 1
            self.answered.append(time.monotonic())
        answers(handler, body)


def main() -> None:
    """Kill, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Random kills of a batch.")
    parser.add_argument("folder", type=Path, nargs="?", default=None)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workflow", default="retrieve")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    with tempfile.TemporaryDirectory() as work:
        folder = options.folder or write_folder(Path(work) / "docs", lights(40))
        killed = kill_batch(folder, Path(work), options.kills, random.Random(options.seed), options.workflow)
    report = {**killed.summary(), "workflow": options.workflow, "workers": ENDPOINT_WORKERS, "seed": options.seed}
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, {**report, "each": [asdict(kill) for kill in killed.kills]})


def kill_batch(folder: Path, work: Path, kills: int, chance: random.Random, workflow: str = "retrieve") -> Killed:
    """Run a batch over `folder` once unkilled, and once with `kills` kills; `work` holds what both write.

    The kills are spread over the batch: each comes a random number of calls, and a moment, after it has begun again.

    Raises:
        RuntimeError: a batch failed by itself.
    """
    with CountingServer() as server:
        settings = served(work / "whole", server.url, workflow=workflow)
        child = Child(asking(folder, work / "whole.jsonl", *_QUESTIONS), settings)
        _must_end(finish(child))
        calls = len(server.answered)
        whole = lasting(rows(child.job.out))
        server.answered.clear()
        again = replace(
            child,
            job=replace(child.job, out=work / "killed.jsonl"),
            settings=settings.model_copy(update={"home": work / "killed"}),
        )
        most = 2 * calls // (kills + 1)
        done = [_kill(again, server, chance.randint(0, most), chance.uniform(0, _MOMENT_SECONDS)) for _ in range(kills)]
        _must_end(finish(again))
        same = lasting(rows(again.job.out)) == whole
        documents = len({row["document"] for row in whole})
        return Killed(documents, same, calls, len(server.answered), tuple(kill for kill in done if kill is not None))


def _kill(child: Child, server: CountingServer, after_calls: int, moment_seconds: float) -> Kill | None:
    """Run a batch and kill it a moment after so many calls were answered; None where it was done before that."""
    before = len(server.answered)
    process = start(child)
    while len(server.answered) < before + after_calls and process.exitcode is None:
        process.join(0.002)
    process.join(moment_seconds)
    if process.exitcode is not None:
        _must_end(process.exitcode)
        return None
    in_flight = server.in_flight()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return Kill(len(server.answered) - before, _lines(child.job.out), in_flight)


def _lines(out: Path) -> int:
    return len(rows(out)) if out.exists() else 0


def _must_end(code: int) -> None:
    if code != 0:
        raise RuntimeError(f"the batch ended with {code}")


if __name__ == "__main__":
    main()
