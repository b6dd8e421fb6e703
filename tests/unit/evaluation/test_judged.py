"""A judge over kept results: what is clear is not asked, what was judged is kept, systems are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from readthrough.errors import EndpointError, UsageError
from readthrough.evaluation.comparing import results_in
from readthrough.evaluation.judged import BATCH, grade, rank, standings
from readthrough.evaluation.judging import NO_ANSWER, Judge
from readthrough.evaluation.store import Result, Store
from readthrough.models.base import Request
from readthrough.models.scripted import ScriptedModel
from tests.result_samples import failed, result


def keep(folder: Path, results: Sequence[Result]) -> None:
    store = Store(folder, make=True)
    store.start("now", "grid")
    store.plan([each.key for each in results])
    for each in results:
        store.write(each)
    store.close()


def prefers_ann() -> ScriptedModel:
    """A judge to whom `Ann` is right and better than anything else, and anything better than no answer."""

    def choose(request: Request, options: Sequence[str]) -> str:
        text = request.messages[-1].content
        if options[0] == "Yes":
            return "Yes" if "graded:\nAnn\n" in text else "No"
        return "1" if "Answer 1:\nAnn\n" in text or f"Answer 2:\n{NO_ANSWER}\n" in text else "2"

    return ScriptedModel(choices=choose, name="judge")


def test_what_is_clear_is_not_asked(tmp_path: Path) -> None:
    results = [
        result("q1", answer="Ann"),
        result("q2", answer="Tom"),
        result("q3", answer="Ann", abstained=True),
        result("q4", answer="Ann", abstained=True, type="unanswerable", answers=("unanswerable",)),
        result("q5", answer="Ann", choices=("Ann", "Tom"), answers=("A",), score=1.0),
        failed("q6"),
        result("q7", answer="Ann", answers=()),
    ]
    keep(tmp_path, results)
    model = prefers_ann()
    found = grade(tmp_path, Judge(model))
    assert [found.get(each.key) for each in results] == [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, None]
    assert len(model.calls) == 2
    assert grade(tmp_path, Judge(model)) == found and len(model.calls) == 2
    said = [each.scores.get(f"right by {model.identity}") for each in results_in(tmp_path)]
    assert said == [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, None]


def test_a_judge_that_fails_loses_no_verdict(tmp_path: Path) -> None:
    results = [result(f"q{number}", answer="Ann", question=f"Who is {number}?") for number in range(BATCH + 3)]
    keep(tmp_path, results)
    broken = replace(prefers_ann(), faults={BATCH: EndpointError("gone")}, calls=[])
    with pytest.raises(EndpointError):
        grade(tmp_path, Judge(broken))
    model = prefers_ann()
    assert set(grade(tmp_path, Judge(model)).values()) == {1.0}
    assert len(model.calls) == 3


def test_systems_are_ranked_and_preferences_kept(tmp_path: Path) -> None:
    asked = [f"q{number}" for number in range(4)]
    good = [result(each, "retrieve", answer="Ann") for each in asked]
    bad = [result(each, "full-context", answer="Tom") for each in asked[:3]]
    silent = [failed(each, "map-reduce") for each in asked]
    keep(tmp_path, [*good, *bad, *silent])
    model = prefers_ann()
    ranking = rank(tmp_path, Judge(model))
    assert list(ranking.strengths) == ["retrieve", "full-context", "map-reduce"]
    assert ranking.wins["retrieve", "full-context"] == 3 and ranking.wins["full-context", "map-reduce"] == 3
    assert ranking.swapped_ratio == 0
    calls = len(model.calls)
    assert calls == 2 * (3 + 4 + 3)
    assert rank(tmp_path, Judge(model)).strengths == ranking.strengths and len(model.calls) == calls
    rows = standings(results_in(tmp_path), grade(tmp_path, Judge(model)), ranking)
    assert [(row.system, row.answers, row.right) for row in rows] == [
        ("retrieve", 4, 1.0),
        ("full-context", 3, 0.0),
        ("map-reduce", 4, 0.0),
    ]
    assert [row.strength for row in rows] == list(ranking.strengths.values())


def test_an_answer_that_is_given_anew_is_judged_anew(tmp_path: Path) -> None:
    silent, other = failed("q1"), result("q1", "full-context", answer="Tom")
    keep(tmp_path, [silent, other])
    model = prefers_ann()
    assert grade(tmp_path, Judge(model))[silent.key] == 0.0
    assert rank(tmp_path, Judge(model)).wins["full-context", "retrieve"] == 1
    # It is asked for again under its key.
    again = result("q1", answer="Ann")
    assert again.key == silent.key
    keep(tmp_path, [again, other])
    assert grade(tmp_path, Judge(model))[silent.key] == 1.0
    assert rank(tmp_path, Judge(model)).wins["retrieve", "full-context"] == 1
    # The same answer once more: nothing is judged again.
    calls = len(model.calls)
    keep(tmp_path, [again, other])
    grade(tmp_path, Judge(model))
    rank(tmp_path, Judge(model))
    assert len(model.calls) == calls


def test_a_ranking_needs_two_systems(tmp_path: Path) -> None:
    keep(tmp_path, [result("q1")])
    with pytest.raises(UsageError, match="1 systems"):
        rank(tmp_path, Judge(prefers_ann()))
