"""A run's steps for people and as JSON: where each read, what it decided, what it noted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readthrough.errors import ReadthroughError
from readthrough.types import Document

if TYPE_CHECKING:
    from readthrough.memory.runs import Run, RunLog, Step

LINE_CHARACTERS = 100
_OPTIONS_SHOWN = 8

Where = Callable[[str], Document | None]
"""A document with its text by its id, None where it is gone."""


@dataclass(frozen=True)
class Told:
    """A step with the paths, places and texts behind its ids and hashes."""

    step: Step
    read: tuple[dict[str, Any], ...]
    texts: tuple[str, ...]

    def to_dict(self, full: bool) -> dict[str, Any]:
        """The step as JSON-ready values; texts by their first line unless `full`."""
        values = asdict(self.step)
        del values["spans"], values["read"], values["said"]
        texts = [text if full else first_line(text) for text in self.texts]
        return {**values, "read": list(self.read), "texts": texts, "decisions": list(self.step.decisions)}

    def lines(self, full: bool) -> Iterator[str]:
        """The step for people."""
        step = self.step
        parts = [f"step {step.number}  {step.node}", f"{step.seconds:.1f} s"]
        if step.usage.calls:
            tokens = step.usage.prompt_tokens + step.usage.completion_tokens
            parts += [f"{step.usage.calls:,} calls", f"{tokens:,} tokens"]
        yield "  ".join(parts)
        for span in self.read:
            yield f"  read     {placed(span)}"
        for decision in step.decisions:
            yield f"  decided  {decided(decision)}"
        for text in self.texts:
            words = said(text)
            if words is None and not full:
                continue  # a plan or a table: no line of it says anything
            lines = (text if words is None else words).splitlines() if full else [first_line(words or "")]
            for number, line in enumerate(lines):
                yield f"  {'noted' if number == 0 else '':<7}  {line}"


def told(step: Step, run: Run, runs: RunLog, where: Where | None = None) -> Told:
    """A step of a run with its texts, and with pages and lines where `where` finds the documents."""
    names = {identity: path for path, identity in run.recipe.get("documents", {}).items()}
    read = []
    for document, start, end in step.spans:
        span: dict[str, Any] = {"document": names.get(document, document[:12]), "start": start, "end": end}
        found = where(document) if where is not None else None
        if found is not None:
            span |= {"page": found.page_at(start), "line": found.line_at(start), "section": found.section_at(start)}
        read.append(span)
    return Told(step, tuple(read), tuple(runs.get(text) for text in step.texts))


@contextmanager
def places(home: Path, run: Run) -> Iterator[Where]:
    """Finds the documents of a run in the library of `home`, as far as they are still there."""
    from readthrough.memory.library import Library

    library = Library.open(home)
    names = {identity: path for path, identity in run.recipe.get("documents", {}).items()}
    known: dict[str, Document | None] = {}

    def where(identity: str) -> Document | None:
        if identity not in known:
            try:
                known[identity] = library.read_document(library.show(identity).row, names.get(identity, identity))
            except ReadthroughError:
                known[identity] = None  # deleted since: the offsets still say where it was
        return known[identity]

    try:
        yield where
    finally:
        library.close()


def row(run: Run) -> dict[str, Any]:
    """A run as JSON-ready values, without its recipe and all of its Answer but the text."""
    values = asdict(run)
    del values["recipe"], values["answer"]
    answer = run.answer or {}
    return {**values, "state": run.state, "answer": answer.get("answer"), "stopped": answer.get("stopped")}


def header(run: Run) -> dict[str, str]:
    """What a run was asked, what it was made of, and what it said."""
    answer = run.answer or {}
    usage = answer.get("usage")
    settings = run.recipe.get("settings", {})
    rows = {
        "run": run.id,
        "started": clock(run.started),
        "state": run.state + (f" ({answer['stopped']})" if answer.get("stopped") else ""),
        "question": run.question,
        "choices": "; ".join(run.choices or ()),
        "workflow": json.dumps(run.recipe.get("workflow", run.workflow), ensure_ascii=False),
        "model": run.model,
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items() if isinstance(value, str)),
        "texts": ", ".join(run.recipe.get("documents", {})),
        "answer": answer.get("answer", ""),
        "took": f"{usage['seconds']:.1f} s, {usage['calls']:,} calls" if usage else "",
    }
    return {name: value for name, value in rows.items() if value}


def clock(seconds: float) -> str:
    """A time since 1970 as the local clock shows it."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def first_line(text: str, most: int = LINE_CHARACTERS) -> str:
    """The first line of a text that says something, shortened."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= most else line[: most - 1] + "…"


def said(text: str) -> str | None:
    """What a note says in words: a reply's own text, or those of several notes; None of a plan or a table."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict | list):
        return text
    return "\n".join(_texts(value)) or None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        yield value["text"]
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def placed(span: dict[str, Any]) -> str:
    """A span that was read, for people."""
    parts = [f"{span['document']} {span['start']:,} to {span['end']:,}"]
    parts += [f"{name} {span[name]}" for name in ("page", "line") if span.get(name) is not None]
    return ", ".join([*parts, *([span["section"]] if span.get("section") else [])])


def decided(decision: dict[str, Any]) -> str:
    """A decision for people: its options with their probabilities, or its signs."""
    if "options" not in decision:
        return ", ".join(f"{name} {value}" for name, value in decision.items() if name != "what") + (
            f" ({decision['what']})" if "what" in decision else ""
        )
    pairs = sorted(zip(decision["options"], decision["probabilities"], strict=True), key=lambda pair: -pair[1])
    more = f", {len(pairs) - _OPTIONS_SHOWN} more" if len(pairs) > _OPTIONS_SHOWN else ""
    return ", ".join(f"{option} {share:.2f}" for option, share in pairs[:_OPTIONS_SHOWN]) + more
