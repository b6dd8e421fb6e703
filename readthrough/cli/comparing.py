"""Two runs compared: what they were made of, which step first differs, and how: what was read, noted and decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from readthrough.cli.telling import Told, decided, placed, row, said, told

if TYPE_CHECKING:
    from readthrough.memory.runs import Run, RunLog, Step

_OF_ONE_LIBRARY = "chunk"
"""What a decision says of its passage: a number that an edit changes."""


@dataclass(frozen=True)
class Pair:
    """A step of both runs, or of one where the other has none such; `differs` says in what."""

    a: Told | None
    b: Told | None
    differs: tuple[str, ...]

    @property
    def node(self) -> str:
        """The node's name."""
        return next(each.step.node for each in (self.a, self.b) if each is not None)

    @property
    def number(self) -> str:
        """The step's number in both runs."""
        numbers = ["-" if each is None else str(each.step.number) for each in (self.a, self.b)]
        return numbers[0] if numbers[0] == numbers[1] else " / ".join(numbers)

    def texts(self) -> list[str]:
        """What was noted, as a unified diff, a line each."""
        before, after = ([] if each is None else _notes(each) for each in (self.a, self.b))
        return list(unified_diff(before, after, "a", "b", lineterm=""))

    def decisions(self) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
        """The decisions that differ, each with that of the other run; of a step that only one run has, all."""
        both = (() if each is None else _decisions(each.step) for each in (self.a, self.b))
        return [(one, other) for one, other in zip_longest(*both) if one != other]

    def to_dict(self) -> dict[str, Any]:
        """The pair as JSON-ready values."""
        steps = {"a": self.a, "b": self.b}
        return {
            "node": self.node,
            **{name: None if each is None else each.step.number for name, each in steps.items()},
            "differs": list(self.differs),
            "read": {name: [] if each is None else list(each.read) for name, each in steps.items()},
            "texts": "\n".join(self.texts()),
            "decisions": [{"a": one, "b": other} for one, other in self.decisions()],
        }

    def lines(self) -> Iterator[str]:
        """The pair for people."""
        yield f"step {self.number}  {self.node}  {', '.join(self.differs)}"
        if "read" in self.differs:
            for mark, each in (("-", self.a), ("+", self.b)):
                yield from (f"  {mark} read     {placed(span)}" for span in (each.read if each is not None else ()))
        for one, other in self.decisions():
            yield from (f"  {mark} decided  {decided(each)}" for mark, each in (("-", one), ("+", other)) if each)
        yield from (f"  {line}" for line in self.texts()[2:])


@dataclass(frozen=True)
class Comparison:
    """Two runs beside each other: what of their recipes is not the same, and their steps, pair by pair."""

    a: Run
    b: Run
    changed: tuple[str, ...]
    pairs: tuple[Pair, ...]

    @property
    def different(self) -> list[Pair]:
        """The steps that differ."""
        return [pair for pair in self.pairs if pair.differs]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-ready values; steps that are the same are only counted."""
        different = self.different
        return {
            "a": _outcome(self.a),
            "b": _outcome(self.b),
            "changed": list(self.changed),
            "steps": len(self.pairs),
            "same": len(self.pairs) - len(different),
            "first": different[0].to_dict() if different else None,
            "different": [pair.to_dict() for pair in different],
        }

    def lines(self) -> Iterator[str]:
        """The comparison for people."""
        yield from (f"{mark} {run.id}  {run.workflow} with {run.model}" for mark, run in (("-", self.a), ("+", self.b)))
        yield from (f"changed: {what}" for what in self.changed)
        different = self.different
        if not different:
            yield f"all {len(self.pairs)} steps are the same"
        else:
            first = different[0]
            yield f"{len(different)} of {len(self.pairs)} steps differ, the first is {first.number} ({first.node})"
        for pair in different:
            yield ""
            yield from pair.lines()
        yield ""
        for name, show in (("coverage", _coverage), ("answer", _answer)):
            before, after = show(self.a), show(self.b)
            yield from [f"  {name}  {before}"] if before == after else [f"- {name}  {before}", f"+ {name}  {after}"]


def compare(a: Run, b: Run, runs: RunLog, changed: Sequence[str]) -> Comparison:
    """Compare two runs of a log; `changed` is what of their recipes differs, in words."""
    asked = [
        f"{name} (was {before}, is {after})"
        for name, before, after in (
            ("the question", a.question, b.question),
            ("the choices", a.choices, b.choices),
            ("the position", *(run.recipe.get("settings", {}).get("as_of") for run in (a, b))),
        )
        if before != after
    ]
    steps = [[told(step, run, runs) for step in runs.steps(run.id)] for run in (a, b)]
    return Comparison(a, b, (*asked, *changed), tuple(_pairs(*steps)))


def _pairs(a: Sequence[Told], b: Sequence[Told]) -> Iterator[Pair]:
    before, after = ([each.step.node for each in steps] for steps in (a, b))
    for tag, a_start, a_end, b_start, b_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            for one, other in zip(a[a_start:a_end], b[b_start:b_end], strict=True):
                yield Pair(one, other, tuple(_differences(one, other)))
        else:
            yield from (Pair(one, None, ("only in a",)) for one in a[a_start:a_end])
            yield from (Pair(None, other, ("only in b",)) for other in b[b_start:b_end])


def _differences(one: Told, other: Told) -> Iterator[str]:
    if one.step.read != other.step.read:
        yield "read"
    if _notes(one) != _notes(other):
        yield "noted"
    if _decisions(one.step) != _decisions(other.step):
        yield "decided"


def _notes(each: Told) -> list[str]:
    """The lines of what a step noted, without plans and tables: these hold numbers of one library."""
    return [line for text in each.texts for line in (said(text) or "").splitlines()]


def _decisions(step: Step) -> list[dict[str, Any]]:
    from readthrough.agents.runs.services import KEPT

    return [
        {name: value for name, value in decision.items() if name != _OF_ONE_LIBRARY}
        for decision in step.decisions
        if decision.get("what") != KEPT
    ]


def _outcome(run: Run) -> dict[str, Any]:
    answer = run.answer or {}
    return {**row(run), **{name: answer.get(name) for name in ("confidence", "coverage", "usage", "as_of")}}


def _answer(run: Run) -> str:
    answer = run.answer or {}
    sure = answer.get("confidence")
    return str(answer.get("answer", "(none)")) + ("" if sure is None else f" (confidence {sure:.2f})")


def _coverage(run: Run) -> str:
    coverage = (run.answer or {}).get("coverage") or {}
    return ", ".join(f"{name} {count:,}" for name, count in coverage.items() if count) or "(none)"
