"""CPU seconds of reading a repository into the library, and of the steps of its map.

    python -m benchmarks.code_map FOLDER --home HOME --for "a question"

Run it twice in one home: what the library has is not read again. `parse` is for symbols alone; a document is also
parsed where it is loaded and cut, within `shelve`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.results import write_results
from readthrough.types import Event


def main() -> None:
    """Shelve the folder without vectors, build the graph, draw the map twice; print the seconds."""
    parser = argparse.ArgumentParser(description="CPU seconds of a repository's map.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--for", dest="question", default="")
    parser.add_argument("--out", default=None, help="name of the results file to write")
    options = parser.parse_args()
    from readthrough.memory.library import Library

    parsing: list[tuple[float, Event]] = []

    def listen(event: Event) -> None:
        if event.stage == "parse":
            parsing.append((time.process_time(), event))

    seconds: dict[str, float] = {}
    clock = [time.process_time()]

    def lap(name: str) -> None:
        clock.append(time.process_time())
        seconds[name] = round(clock[-1] - clock[-2], 2)

    shelf = Library.open(options.home).shelve([str(options.folder)], vectors=False, on_event=listen)
    lap("shelve")
    seconds["parse"] = round(parsing[-1][0] - parsing[0][0], 2) if parsing else 0.0
    graph = shelf.code()
    lap("symbols")
    pairs = sum(map(len, graph.imported))
    lap("imports")
    edges = len(graph.edges.sources)
    lap("edges")
    for name in ("map", "map again"):
        shelf.map(options.question, 1024)
        lap(name)
    report: dict[str, Any] = {
        "files": len(graph.files),
        "parsed_files": int(parsing[-1][1].done) if parsing else 0,
        "lines": sum(shelf.document(file.document).text.count("\n") for file in graph.files),
        "definitions": len(graph.definitions),
        "imports": pairs,
        "edges": edges,
        "cpu_seconds": seconds,
    }
    print(json.dumps(report, indent=2))
    if options.out:
        write_results(options.out, report)


if __name__ == "__main__":
    main()
