"""The file of checkpoints and the time of a step in a long run: a scripted model reads a text in thousands of steps.

    python -m benchmarks.checkpoint_growth [--steps 10000] [--out NAME]

Nothing but the graph, the run log and the checkpoints is measured: the model answers at once.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from readthrough.agents.base import Question
from readthrough.agents.runs.checkpoints import open_saver
from readthrough.agents.runs.running import run
from readthrough.agents.runs.services import Services
from readthrough.agents.workflows.chain_of_agents import ChainOfAgents
from readthrough.memory.runs import RunLog
from readthrough.models.scripted import ScriptedModel
from readthrough.types import Event
from tests.agent_samples import QUESTION, decides, says_what_it_reads, write_book
from tests.library_samples import open_library

# One chunk a window; a chunk of the samples holds a paragraph and a half, and 15,600 paragraphs are 5.7 MB.
FLOW = ChainOfAgents(window_tokens=312, message_tokens=24)
PARAGRAPHS_A_STEP = 1.57
MARKS = 10


def main() -> None:
    """Measure, print, and write the results where asked."""
    parser = argparse.ArgumentParser(description="Growth of the file of checkpoints over a long run.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options.steps)
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


def measure(folder: Path, steps: int) -> dict[str, Any]:
    """Read a text of about `steps` chunks, one a step; sizes and times at every tenth of it.

    Returns:
        Bytes of the text, steps, seconds, and a list of `{step, bytes, seconds_a_step}`, where the seconds are the
        mean since the mark before.
    """
    book = write_book(folder / "books", paragraphs=round(steps * PARAGRAPHS_A_STEP))
    library = open_library(folder / "home")
    shelf = library.shelve([book])
    saved, marks, last = folder / "checkpoints.sqlite", [], [time.perf_counter(), 0.0]

    def on_event(event: Event) -> None:
        if event.stage == "read" and event.done % (steps // MARKS) == 0:
            now = time.perf_counter()
            pace = (now - last[0]) / (event.done - last[1])
            marks.append({"step": int(event.done), "bytes": size_bytes(saved), "seconds_a_step": round(pace, 5)})
            last[:] = [now, event.done]

    model = ScriptedModel(replies=says_what_it_reads, choices=decides)
    runs = RunLog(folder / "runs.sqlite")
    started = time.perf_counter()
    with open_saver(saved) as saver:
        run(FLOW, Question(QUESTION), Services(model, shelf, runs, on_event=on_event), saver)
    taken = len(runs.steps(runs.find("last").id))
    library.close()
    return {
        "text_bytes": book.stat().st_size,
        "steps": taken,
        "seconds": round(time.perf_counter() - started, 1),
        "run_log_bytes": size_bytes(folder / "runs.sqlite"),
        "marks": marks,
    }


def size_bytes(path: Path) -> int:
    """A SQLite file with its write-ahead log."""
    return sum(part.stat().st_size for part in path.parent.glob(path.name + "*"))


if __name__ == "__main__":
    main()
