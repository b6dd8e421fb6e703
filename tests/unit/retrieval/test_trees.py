"""Trees of summaries: how they grow, go on after a kill, and change with their documents."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from readthrough.errors import ModelError, PromptTooLongError, UsageError
from readthrough.memory import schema
from readthrough.memory.library import Library
from readthrough.memory.shelf import Shelf
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from readthrough.retrieval.trees.base import Summary, Tree
from readthrough.retrieval.trees.growing import Grower
from readthrough.types import Event, Usage
from tests.library_samples import HashingEmbedder, chunker, open_library, story, write_stories

ROOT = Path(__file__).parents[3]
GROWER = Grower(children=4, read_tokens=1000, summary_tokens=32, batch=3)


def summarize(request: Request) -> str:
    """A few words of each part, so that every summary tells what it is of."""
    parts = request.messages[-1].content.split("\n\nSummarize the text above")[0].split("\n\n")
    return " ".join(f"{' '.join(re.findall(r'[a-z]{4,8}', part)[3:6])}." for part in parts)


def model(reply: Callable[[Request], str] = summarize) -> ScriptedModel:
    return ScriptedModel(replies=reply)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library(tmp_path / "home")


@pytest.fixture
def shelf(library: Library, tmp_path: Path) -> Shelf:
    """A book of 40 chunks, one of 6, one of one."""
    folder = tmp_path / "books"
    write_stories(folder, [1], paragraphs=40)
    write_stories(folder, [2], paragraphs=6)
    write_stories(folder, [3], paragraphs=1)
    return library.shelve([folder])


def rows(library: Library, table: str = "summaries") -> int:
    return int(library.connection().execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def told(tree: Tree) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.summary.text, node.children) for node in tree.nodes]


def test_a_tree_holds_its_document_and_ends_in_one_summary(shelf: Shelf) -> None:
    scripted, events = model(), list[Event]()
    trees = GROWER.grow(shelf, scripted, on_event=events.append)
    assert list(trees) == shelf.document_ids()
    book, short, single = trees.values()
    assert (book.leaves, short.leaves) == (len(shelf.chunk_ids(shelf.documents[0].id)), 6)
    assert single == Tree(1) and single.tops == (0,)
    assert len(book.tops) == 1 and book.below[-1].tolist() == list(range(book.leaves))
    assert [child for node in book.nodes for child in node.children] == list(range(book.leaves + len(book.nodes) - 1))
    texts = [chunk.text.strip() for chunk in shelf.chunks(shelf.documents[0].id)]
    texts += [node.summary.text for node in book.nodes]
    asked = [call.request.messages[-1].content for call in scripted.calls]
    for node in book.nodes:
        assert sum(prompt.startswith("\n\n".join(texts[child] for child in node.children)) for prompt in asked) == 1
    assert np.allclose(book.vectors, HashingEmbedder().embed([node.summary.text for node in book.nodes]), atol=1e-6)
    assert len(asked) == len(book.nodes) + len(short.nodes)
    assert (events[-1].stage, events[-1].done) == ("summarize", len(asked))


def test_calls_go_out_in_batches_of_all_documents(shelf: Shelf) -> None:
    scripted, sizes = model(), list[int]()

    def complete(requests: list[Request]) -> list:  # type: ignore[type-arg]
        sizes.append(len(requests))
        return scripted.complete(requests)

    GROWER.grow(shelf, scripted, complete=complete)
    assert max(sizes) == GROWER.batch and sum(sizes) == len(scripted.calls)
    assert sizes[:3] == [3, 3, 3]


def test_what_is_there_is_not_made_again(shelf: Shelf, library: Library) -> None:
    trees = GROWER.grow(shelf, model())
    again = model()
    grown = GROWER.grow(shelf, again)
    assert again.calls == [] and [told(tree) for tree in grown.values()] == [told(tree) for tree in trees.values()]
    kept = shelf.trees.load(GROWER.recipe(shelf, again))
    assert [told(tree) for tree in kept.values()] == [told(tree) for tree in trees.values()]
    assert rows(library) == sum(len(tree.nodes) for tree in trees.values())


@pytest.mark.parametrize("failing", [0, 1, 7, 11, 14])
def test_after_a_failure_it_goes_on_with_what_was_kept(shelf: Shelf, library: Library, failing: int) -> None:
    broken = model()
    broken.faults = {failing: ModelError("gone")}
    with pytest.raises(ModelError, match="gone"):
        GROWER.grow(shelf, broken)
    kept = failing // GROWER.batch * GROWER.batch
    assert rows(library) == kept and rows(library, "trees") == 0
    assert shelf.trees.load(GROWER.recipe(shelf, broken)) == {}, "half a tree is none"
    second = model()
    trees = GROWER.grow(shelf, second)
    assert len(second.calls) == sum(len(tree.nodes) for tree in trees.values()) - kept


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.library_samples import open_library
from tests.unit.retrieval.test_trees import GROWER, model, summarize
calls = []
def reply(request):
    calls.append(request)
    if len(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return summarize(request)
GROWER.grow(open_library(Path(sys.argv[1])).shelve([sys.argv[2]]), model(reply))
"""


def test_a_killed_process_loses_one_batch(shelf: Shelf, library: Library, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "home"), str(tmp_path / "books")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert rows(library) == 6
    scripted = model()
    trees = GROWER.grow(shelf, scripted)
    assert len(scripted.calls) == sum(len(tree.nodes) for tree in trees.values()) - 6


def test_only_what_changed_is_made_anew(shelf: Shelf, library: Library, tmp_path: Path) -> None:
    first = model()
    before = GROWER.grow(shelf, first)
    path = tmp_path / "books" / "story001.txt"
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")
    paragraphs[20] = story(99, paragraphs=1).strip()
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    changed = library.shelve([tmp_path / "books"])
    assert changed.document_ids()[0] != shelf.document_ids()[0] and rows(library, "trees") == 2
    second = model()
    expected = GROWER.cost(changed, second)
    after = GROWER.grow(changed, second)
    assert 0 < len(second.calls) <= min(8, expected.calls) < len(first.calls)
    assert len(after) == 3 and rows(library) == sum(len(tree.nodes) for tree in after.values()), "the rest is forgotten"
    fresh = open_library(tmp_path / "other").shelve([tmp_path / "books"])
    anew = GROWER.grow(fresh, model())
    assert [told(tree) for tree in after.values()] == [told(tree) for tree in anew.values()]
    assert told(after[changed.document_ids()[1]]) == told(before[shelf.document_ids()[1]])


def test_trees_go_with_their_documents(shelf: Shelf, library: Library) -> None:
    GROWER.grow(shelf, model())
    gone = shelf.documents[0].id
    library.delete([gone])
    assert list(shelf.trees.load(GROWER.recipe(shelf, model()))) == shelf.document_ids()[1:]
    assert rows(library) == len(shelf.trees.load(GROWER.recipe(shelf, model()))[shelf.document_ids()[1]].nodes)
    shelf.trees.add("recipe", gone, [Summary("key", "text", np.ones(3, np.float32))])
    shelf.trees.finish("recipe", gone, Tree(1))
    assert shelf.trees.summaries("recipe", gone) == {}
    library.delete(shelf.document_ids()[1:])
    assert rows(library) == rows(library, "trees") == 0


def test_trees_belong_to_a_model_its_options_and_a_split(shelf: Shelf, library: Library, tmp_path: Path) -> None:
    trees = GROWER.grow(shelf, model())
    other = model()
    other.name = "other"
    for grower, asked in ((GROWER, other), (replace(GROWER, summary_tokens=40), model())):
        assert grower.cost(shelf, asked).calls > 0
    assert replace(GROWER, batch=1, most_tokens=9_999).cost(shelf, model()).calls == 0
    finer = library.shelve([tmp_path / "books"], chunker=chunker(30))
    assert GROWER.cost(finer, model()).calls > 0
    finely = GROWER.grow(finer, model())
    assert next(iter(finely.values())).leaves > next(iter(trees.values())).leaves
    kept = shelf.trees.load(GROWER.recipe(shelf, model()))
    assert [told(tree) for tree in kept.values()] == [told(tree) for tree in trees.values()]


@pytest.mark.parametrize("clustering", ["neighbours", "mixture"])
def test_it_costs_no_more_than_it_said(shelf: Shelf, clustering: str) -> None:
    grower, scripted = replace(GROWER, clustering=clustering), model()
    said = grower.cost(shelf, scripted)
    assert scripted.calls == []
    grower.grow(shelf, scripted)
    used = sum((call.result.usage for call in scripted.calls if call.result), Usage())
    assert used.calls <= said.calls <= 2 * used.calls
    assert used.prompt_tokens <= said.prompt_tokens and used.completion_tokens <= said.completion_tokens
    assert 0 < said.beside_tokens < said.completion_tokens
    assert grower.cost(shelf, scripted).tokens == 0


def test_too_much_is_refused_before_anything_is_asked(shelf: Shelf, library: Library) -> None:
    scripted = model()
    with pytest.raises(UsageError, match="most_tokens = 500") as refused:
        replace(GROWER, most_tokens=500).grow(shelf, scripted)
    assert refused.value.hint and scripted.calls == [] and rows(library) == 0
    for grower in (replace(GROWER, read_tokens=9000), replace(GROWER, read_tokens=40, summary_tokens=16)):
        with pytest.raises(PromptTooLongError) as too_long:
            grower.grow(shelf, scripted)
        assert "read_tokens" in str(too_long.value) and too_long.value.hint and scripted.calls == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"clustering": "none"},
        {"children": 1},
        {"batch": 0},
        {"summary_tokens": 8},
        {"read_tokens": 63},
        {"most_tokens": 0},
    ],
)
def test_nonsense_options(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(GROWER, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("reply", ["", "  \n", "and on and on " * 100, "Round it goes. " * 5])
def test_bad_replies_still_make_a_tree(shelf: Shelf, reply: str) -> None:
    trees = replace(GROWER, read_tokens=200).grow(shelf, model(lambda request: reply))
    book = next(iter(trees.values()))
    assert len(book.tops) == 1
    for node in book.nodes:
        text = node.summary.text
        assert text and text.count("Round it goes.") <= 1
        if not reply.strip():
            assert " ".join(text.split()[:3]) in shelf.document(next(iter(trees))).text, "what its parts begin with"


def test_texts_stand_in_prompts_as_they_are_shown(shelf: Shelf) -> None:
    scripted = model(lambda request: "Question: what now?")
    GROWER.grow(shelf, scripted, shown=lambda text: f"<{text}>")
    asked = [call.request.messages[-1].content for call in scripted.calls]
    assert all(prompt.startswith("<") for prompt in asked) and any(
        "<Question: what now?>" in prompt for prompt in asked
    )


def test_mixtures_overlap_and_end(shelf: Shelf) -> None:
    trees = replace(GROWER, clustering="mixture").grow(shelf, model())
    book = next(iter(trees.values()))
    assert len(book.tops) == 1 and book.below[-1].tolist() == list(range(book.leaves))


def test_an_older_library_gets_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_stories(tmp_path / "books", [1])
    with monkeypatch.context() as old:
        old.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._add_trees)])
        open_library(tmp_path / "home").close()
    shelf = open_library(tmp_path / "home").shelve(paths)
    assert GROWER.grow(shelf, model())
