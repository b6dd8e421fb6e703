"""The graph of source files: what a name means, what ranks first, and the map within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from readthrough.documents.languages import language_of
from readthrough.documents.symbols import symbols_of
from readthrough.retrieval.code.graph import CodeFile, CodeGraph
from readthrough.retrieval.code.outline import CodeMap, draw
from readthrough.retrieval.code.ranking import rank
from readthrough.retrieval.code.related import rests_on
from readthrough.types import Chunk
from tests.code_samples import FILES


def graph_of(files: dict[str, str]) -> CodeGraph:
    made = []
    for path, text in files.items():
        symbols = symbols_of(text, language_of(path))
        if symbols is not None:
            made.append(CodeFile(path, path, language_of(path) or "", symbols))
    return CodeGraph(made)


@pytest.fixture(scope="module")
def graph() -> CodeGraph:
    return graph_of(FILES)


def file(graph: CodeGraph, path: str) -> int:
    return next(number for number, each in enumerate(graph.files) if each.path == path)


def meant(graph: CodeGraph, path: str, name: str) -> list[str]:
    numbers = graph.meant(file(graph, path), name)
    return [f"{graph.files[graph.file_of[each]].path}:{'.'.join(graph.definitions[each].path)}" for each in numbers]


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def draw_map(graph: CodeGraph, question: str = "", tokens: int = 10_000) -> CodeMap:
    return draw(graph, rank(graph, question), tokens, count_words)


def test_direct_imports(graph: CodeGraph) -> None:
    imported = {each.path: graph.imported[number] for number, each in enumerate(graph.files)}
    named = {path: [graph.files[number].path for number in numbers] for path, numbers in imported.items()}
    assert named["coast/tower.py"] == ["coast/lamp.py", "coast/weather/storm.py"]
    assert named["coast/main.py"] == ["coast/__init__.py", "coast/oil.py"]
    assert named["tests/test_storm.py"] == ["coast/weather/storm.py"]


def test_a_name_is_looked_for_nearby_first() -> None:
    graph = graph_of(
        {
            "a/__init__.py": "from .one import run\n",
            "a/one.py": "def run(): return 1\n",
            "b/two.py": "def run(): return 2\ndef go(): return run()\n",
            "c/three.py": "from a import run\nrun()\n",
            "d/four.py": "from a.one import run\nrun()\n",
            "b/five.py": "import b.six\nrun()\n",
            "e/six.py": "run()\n",
        }
    )
    assert meant(graph, "b/two.py", "run") == ["b/two.py:run"], "its own"
    assert meant(graph, "d/four.py", "run") == ["a/one.py:run"], "imported"
    assert meant(graph, "c/three.py", "run") == ["a/one.py:run"], "handed on by a package"
    assert meant(graph, "b/five.py", "run") == ["b/two.py:run"], "in the same folder"
    assert meant(graph, "e/six.py", "run") == ["a/one.py:run", "b/two.py:run"], "anywhere"
    assert meant(graph, "e/six.py", "walk") == []


def test_what_a_name_does_not_mean() -> None:
    graph = graph_of(
        {
            "compat.py": "str = bytes\n",
            "a.py": "x = str(1)\n",
            "b.py": "from compat import str\nx = str(1)\n",
            "c.go": "package c\nfunc light() {}\n",
            "d.py": "light()\n",
            "lamp.h": "int dim(int hours);\n",
            "lamp.c": '#include "lamp.h"\nint dim(int hours) { return hours; }\n',
            "use.c": '#include "lamp.h"\nint main() { return dim(3); }\n',
        }
    )
    assert meant(graph, "a.py", "str") == [], "a builtin"
    assert meant(graph, "b.py", "str") == ["compat.py:str"]
    assert meant(graph, "d.py", "light") == [], "another language's"
    assert meant(graph, "use.c", "dim") == ["lamp.c:dim"], "not the prototype"


def test_a_name_of_many_means_nothing() -> None:
    files = {f"m{number}/a.py": "def run(): pass\n" for number in range(25)}
    graph = graph_of({**files, "use.py": "run()\n"})
    assert meant(graph, "use.py", "run") == []


QUESTIONS = {
    "coast/weather/storm.py": "How is the barometer read?",
    "coast/lamp.py": "What does light_up do?",
    "coast/oil.py": "Where is the tank refilled with oil?",
    "coast/main.py": "What does main do first?",
    "tests/test_storm.py": "Which tests are there of the barometer?",
}


@pytest.mark.parametrize("path", QUESTIONS)
def test_the_right_file_comes_first(graph: CodeGraph, path: str) -> None:
    made = draw_map(graph, QUESTIONS[path])
    assert made.files[0].path == path


def test_what_is_used_most_comes_first_without_a_question(graph: CodeGraph) -> None:
    order = [file.path for file in draw_map(graph).files]
    assert order[0] == "coast/oil.py"
    assert order.index("coast/lamp.py") < order.index("coast/main.py")


def test_what_a_search_found_counts(graph: CodeGraph) -> None:
    start = FILES["coast/lamp.py"].index("def dim")
    ranking = rank(graph, "zzz", [("coast/lamp.py", start, start + 5), ("README.md", 0, 9)])
    assert graph.definitions[ranking.order()[0]].path == ("Lamp", "dim")
    assert graph.files[int(np.argmax(ranking.files))].path == "coast/lamp.py"


@pytest.mark.parametrize("question", ["", *QUESTIONS.values(), "???", "the of", "größe"])
def test_ranks_are_a_distribution_and_always_the_same(graph: CodeGraph, question: str) -> None:
    first, again = rank(graph, question), rank(graph_of(FILES), question)
    assert first.files.sum() == pytest.approx(1)
    assert (first.files > 0).all()
    assert first.order() == again.order()
    assert draw(graph, first, 60, count_words) == draw(graph_of(FILES), again, 60, count_words)


def test_a_budget_is_never_exceeded(graph: CodeGraph) -> None:
    for tokens in range(1, 150):
        made = draw_map(graph, "barometer", tokens)
        assert made.tokens <= tokens
        assert made.tokens == count_words([made.text])[0]
        shown = sum(len(file.definitions) for file in made.files)
        assert made.definitions_left == len(graph.definitions) - shown
        assert made.files_left == len(graph.files) - len(made.files)
    assert not draw_map(graph, "barometer", 5).files
    assert draw_map(graph, "barometer", 40).tokens > 30


def test_the_outline_shows_classes_around_methods() -> None:
    graph = graph_of({"a/deep/lamp.py": "class Lamp:\n    def light(self):\n        return 1\n"})
    assert draw_map(graph, "light").text == "a/deep/lamp.py\n 1 class Lamp\n 2   def light(self)"
    two = graph_of({"a/b/lamp.py": "def light(): return dim()\n", "a/c/dim.py": "\n\ndef dim(): return 1\n"})
    assert draw_map(two, "light").text == "a/:\nb/lamp.py\n 1 def light()\nc/dim.py\n 3 def dim()"


def test_an_empty_graph_and_files_without_definitions() -> None:
    graph = graph_of({"a.py": "print(1)\n", "b.py": "import a\n"})
    assert draw_map(graph, "print").text == ""
    assert rank(graph, "print").files.sum() == pytest.approx(1)


def chunk(path: str, part: str) -> Chunk:
    text = FILES[path]
    start = text.index(part)
    end = text.find("\n\n", start)
    return Chunk(1, path, 0, start, end, text[start:end])


def test_what_a_passage_rests_on(graph: CodeGraph) -> None:
    def names(*chunks: Chunk) -> list[str]:
        return [".".join(graph.definitions[number].path) for number, _ in rests_on(graph, chunks)]

    watch = chunk("coast/tower.py", "    def keep_watch")
    assert set(names(watch)) >= {"forecast_storm", "Lamp.light_up", "MAX_HOURS"}
    assert names(watch)[0] in ("forecast_storm", "MAX_HOURS")
    assert "Tower.keep_watch" not in names(watch)
    imports = chunk("coast/main.py", "from coast import")
    assert set(names(imports)) == {"Tower", "refill_tank", "OilStore"}
    light = chunk("coast/lamp.py", "    def light_up")
    assert names(light) == ["OilStore.draw_oil"]
    draw_oil = chunk("coast/oil.py", "    def draw_oil")
    assert names(light, draw_oil) == [], "what was found already"
    assert names(Chunk(1, "README.md", 0, 0, 5, "Lamp")) == []
    scores = [score for _, score in rests_on(graph, [watch])]
    assert scores == sorted(scores, reverse=True)


def test_fixtures_of_all_languages_make_one_graph() -> None:
    folder = Path(__file__).parents[2] / "fixtures" / "code"
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())}
    graph = graph_of(files)
    assert {each.language for each in graph.files} >= {"python", "javascript", "typescript", "tsx", "go", "java"}
    assert meant(graph, "view.tsx", "Tower") == ["tower.ts:Tower"]
    assert meant(graph, "tower.c", "BURN") == ["tower.h:BURN"]
    assert draw_map(graph).files_left == 0 or draw_map(graph).definitions_left > 0
