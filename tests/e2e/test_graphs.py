"""The example graphs: by the installed command with a scripted model, and one with the small real model."""

from __future__ import annotations

import json
from pathlib import Path
from pydoc_data.topics import topics

import pytest

import readthrough as rt
from tests.e2e.conftest import Run
from tests.schemas import ANSWER, checked

GRAPHS = Path(__file__).parents[2] / "examples" / "graphs"
EXAMPLES = sorted(GRAPHS.glob("*.yaml"))
QUESTION = "Who keeps the light on the cliff?"
# Yes where the sentence is in front of it; the route for a fact; of several passages the first.
SCRIPT = r"""replies:
  'Ann keeps the light': Ann keeps the light.
  '': Nothing about it.
choices:
  '(?s)Ann keeps the light.*Yes or No': [0.95, 0.05]
  'Yes or No': [0.05, 0.95]
  'A. a question about one fact': A
  'B. a question about one fact': B
  'Which passage': '1]'
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_answer(run: Run, book: Path, tmp_path: Path, path: Path) -> None:
    script = tmp_path / "graph.yaml"
    script.write_text(SCRIPT)
    # --model wins over the models that the files name, so that no weights are needed.
    done = run("ask", QUESTION, book, "--workflow", path, "--model", f"scripted:{script}", "--index", "bm25", "--json")
    assert done.returncode == 0, done.stderr
    answer = checked(done.stdout, ANSWER)
    assert answer["answer"] == "Ann keeps the light."
    assert any("Ann keeps the light on the cliff" in item["quote"] for item in answer["evidence"])
    assert answer["workflow"] in (path.name, "retrieve")
    assert sum(answer["coverage"].values()) == 2 * answer["coverage"]["tokens"]


def test_a_wrong_graph_is_said_before_the_text_is_read(run: Run, book: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((GRAPHS / "router.yaml").read_text().replace("manager", "manger"))
    done = run("ask", QUESTION, book, "--workflow", wrong)
    assert done.returncode == 4 and not done.stdout
    assert done.stderr.count("\n") == 1 and f"{wrong}:" in done.stderr and "did you mean 'manager'" in done.stderr
    assert json.loads(run("library", "list", "--json").stdout)["documents"] == []


def test_the_small_model_reads_what_matters(small_model, tmp_path: Path) -> None:
    text = "\n\n".join(str(topics[name]) for name in sorted(topics))[:12_000]
    middle = text.index("\n\n", len(text) // 2)
    fact = "The brass key of the lighthouse was hidden under the third stair by Ann Weller."
    path = tmp_path / "manual.txt"
    path.write_text(f"{text[:middle]}\n\n{fact}{text[middle:]}", encoding="utf-8")
    with rt.read(path, model=small_model, home=tmp_path / "home", index="bm25") as book:
        answer = book.ask("Who hid the brass key of the lighthouse?", workflow=str(GRAPHS / "gated-read.yaml"))
        steps = [step.node for step in book.runs.steps(answer.run)]
    assert "Ann Weller" in answer.answer and not answer.abstained
    assert fact in [item.quote for item in answer.evidence]
    assert 0 < answer.coverage.read < answer.coverage.tokens
    assert answer.coverage.read + answer.coverage.skipped == answer.coverage.tokens
    assert steps.count("look") == steps.count("next") - 1 >= 1
