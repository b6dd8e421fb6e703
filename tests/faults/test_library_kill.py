"""Killed, interrupted, and used by two at once: what was entered stays, and nothing is doubled, lost or locked."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from readthrough.memory import shelving
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.types import Event
from tests.library_samples import HashingEmbedder, open_library, write_stories

ROOT = Path(__file__).parents[2]
INDEXER = """
import sys
from pathlib import Path
from readthrough.memory import shelving, vectors
from tests.library_samples import open_library
shelving.BATCH_DOCUMENTS, vectors.BATCH_CHUNKS = 3, 30
library = open_library(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    shelf = library.shelve([folder])
    print(len(shelf.search("keeper lamp", 5, "hybrid")), flush=True)
"""


def start_indexing(home: Path, *folders: Path) -> subprocess.Popen[str]:
    """A process that waits for a line, then indexes the folders one after the other."""
    command = [sys.executable, "-c", INDEXER, str(home), *map(str, folders)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def assert_whole(library: Library, shelf: Shelf, documents: int) -> None:
    """Every text, chunk, keyword and vector is there once."""
    assert library.check() == ()
    assert len(library.list()) == len(shelf.documents) == documents
    ids = shelf.chunk_ids()
    select = "SELECT count(*) FROM {}"
    for table in ("chunks", "vectors"):
        assert library.connection().execute(select.format(table)).fetchone()[0] == len(ids), table
    assert {row[0] for row in library.connection().execute("SELECT DISTINCT doc FROM words_uses")} == set(ids)
    texts = [chunk.text for chunk in shelf.get(ids)]
    assert np.allclose(shelf.vectors(ids), HashingEmbedder().embed(texts), atol=1e-6)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    books = tmp_path / "books"
    write_stories(books, range(150), paragraphs=12)
    chance = random.Random(1)
    entered = cut_short = 0
    for _ in range(5):
        process = start_indexing(tmp_path / "home", books)
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0.01, 0.15))
        process.send_signal(signal.SIGKILL)
        cut_short += process.communicate()[0] == ""
        library = open_library(tmp_path / "home")
        assert library.check() == ()
        assert len(library.list()) >= entered, "what was entered stays"
        entered = len(library.list())
        library.close()
    library = open_library(tmp_path / "home")
    assert_whole(library, library.shelve([books]), 150)
    assert cut_short >= 2, "otherwise the test has shown nothing"


@pytest.mark.parametrize("stage", ["load", "index", "embed"])
def test_interrupted(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelving, "BATCH_DOCUMENTS", 5)
    write_stories(tmp_path / "books", range(12))

    def interrupt(event: Event) -> None:
        if event.stage == stage and event.done >= 7:
            raise KeyboardInterrupt

    library = open_library(tmp_path / "home")
    with pytest.raises(KeyboardInterrupt):
        library.shelve([tmp_path / "books"], on_event=interrupt)
    assert library.check() == ()
    assert len(library.list()) >= 5, "the batches before are kept"
    assert_whole(library, library.shelve([tmp_path / "books"]), 12)


def test_two_processes_at_once(tmp_path: Path) -> None:
    write_stories(tmp_path / "one", range(40))
    write_stories(tmp_path / "two", range(20, 60))
    home = tmp_path / "home"
    processes = [
        start_indexing(home, tmp_path / "one", tmp_path / "two"),
        start_indexing(home, tmp_path / "two", tmp_path / "one"),
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.split()) == (0, ["5", "5"]), err
    library = open_library(home)
    assert_whole(library, library.shelve([tmp_path / "one", tmp_path / "two"]), 60)


def test_opened_by_many_at_once(tmp_path: Path) -> None:
    command = "import sys; from pathlib import Path; from tests.library_samples import open_library; "
    command += "open_library(Path(sys.argv[1])).list()"
    started = [
        subprocess.Popen([sys.executable, "-c", command, str(tmp_path / "home")], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err


def test_searched_while_another_process_indexes_and_prunes(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_stories(mine, range(5))
    write_stories(tmp_path / "theirs", range(10, 50))
    library = open_library(tmp_path / "home")
    shelf = library.shelve([mine])
    expected = shelf.search("keeper lamp", 10)
    process = start_indexing(tmp_path / "home", tmp_path / "theirs")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    while process.poll() is None:
        assert shelf.search("keeper lamp", 10) == expected
    other = open_library(tmp_path / "home")
    other.delete([holding.id for holding in other.list() if "theirs" in holding.paths[0]])
    other.prune()
    assert shelf.search("keeper lamp", 10) == expected
    process.communicate()
    assert process.returncode == 0
    assert os.listdir(tmp_path / "home" / "vectors")


def test_many_threads(tmp_path: Path) -> None:
    write_stories(tmp_path / "books", range(10))
    library = open_library(tmp_path / "home")
    shelf = library.shelve([tmp_path / "books"], vectors=False)
    expected = open_library(tmp_path / "home").shelve([tmp_path / "books"]).search("keeper lamp", 10)
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                found = shelf.search("keeper lamp", 10)
                if found != expected:
                    wrong.append(found)
                shelf.chunks(shelf.documents[3].id)
        except Exception as error:  # noqa: BLE001 (whatever it is, the test must fail)
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
