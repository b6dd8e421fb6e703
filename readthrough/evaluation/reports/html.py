"""A report as one HTML page that opens offline: tables, plots as inline SVG, and every single answer.

The page refers to nothing outside itself, and its policy forbids the browser to load anything and to run any script
but its own: what documents and answers hold is text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from readthrough.evaluation.reports import groups
from readthrough.evaluation.reports.figures import charts, heat_maps
from readthrough.evaluation.reports.groups import Section
from readthrough.evaluation.reports.markdown import EMPTY
from readthrough.evaluation.reports.tables import Table, provenance, tables
from readthrough.evaluation.reports.text import cut, escaped
from readthrough.evaluation.store import Result, short_names

MOST_CHARACTERS = 2000
"""Of a question or an answer: longer ones stand in the results themselves."""


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    return document("Evaluation", _body(results) if results else f"<p>{EMPTY}</p>")


def document(title: str, body: str) -> str:
    """A page with its style, its script and a policy that allows no other; `body` is HTML."""
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>\n{body}"
        f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _body(results: Sequence[Result]) -> str:
    sections, styles = groups.sections(results), groups.styles(results)
    names = short_names(results)
    days = sorted({result.finished[:10] for result in results if result.finished})
    date = "" if not days else f", {days[0]}" if len(days) == 1 else f", {days[0]} to {days[-1]}"
    tasks = len({groups.family(result) for result in results})
    told = f"{len(results):,} answers: {_many(len(styles), 'system')}, {_many(tasks, 'task')}{date}"
    links = [f'<li><a href="#section-{i}">{escaped(section.title)}</a></li>' for i, section in enumerate(sections)]
    links += ['<li><a href="#provenance">Provenance</a></li>', '<li><a href="#answers">Answers</a></li>']
    parts = [f'<p class="note">{escaped(told)}</p>', f"<nav><ul>{''.join(links)}</ul></nav>"]
    parts += [_section(place, section, styles) for place, section in enumerate(sections)]
    parts.append(f'<h2 id="provenance">Provenance</h2>{shown(provenance(results), "made")}')
    parts.append('<h2 id="answers">Answers</h2>')
    parts += [
        f"<details><summary>{escaped(task)}: {_many(len(those), 'answer')}</summary>{_answers(those, names)}</details>"
        for task, those in groups.grouped(results, lambda result: result.task_name).items()
    ]
    return "\n".join(parts)


def _section(place: int, section: Section, styles: Mapping[str, int]) -> str:
    scores, *others = tables(section)
    figures = "".join(
        f'<div class="{kind}">{"".join(drawn)}</div>'
        for kind, drawn in (("charts", charts(section, styles)), ("maps", heat_maps(section, styles)))
        if drawn
    )
    rest = "".join(map(shown, others))
    return f'<section><h2 id="section-{place}">{escaped(section.title)}</h2>{shown(scores)}{figures}{rest}</section>'


def shown(table: Table, kind: str = "sortable") -> str:
    """A table below its title; numbers stand to the right."""
    numeric = [any(row[i].order is not None for row in table.rows) for i in range(len(table.heads))]
    heads = "".join(
        f"<th{_CLASS[right]}>{f'<button>{escaped(head)}</button>' if kind == 'sortable' else escaped(head)}</th>"
        for head, right in zip(table.heads, numeric, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = []
        for cell, right in zip(row, numeric, strict=True):
            order = "" if cell.order is None else f' data-order="{cell.order:.10g}"'
            cells.append(f"<td{_CLASS[right]}{order}>{escaped(cell.text)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f'<p class="note">{escaped(note)}</p>' for note in table.notes)
    grid = f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<h3>{escaped(table.title)}</h3><div class="wide">{grid}</div>{notes}'


_CLASS = {True: ' class="number"', False: ""}

_ANSWER_HEADS = "".join(
    f"<th{_CLASS[head in ('score', 'seconds')]} style='width:{width}%'><button>{head}</button></th>"
    for head, width in (
        ("example", 9), ("system", 12), ("question", 26), ("right", 18), ("answer", 21), ("score", 6), ("seconds", 8)
    )
)  # fmt: skip


def _answers(results: Sequence[Result], names: Mapping[str, str]) -> str:
    """Every answer with its question and what is right."""
    rows = []
    for result in results:
        texts = (result.question, "\n".join(result.answers) or "(no answer is in the texts)", _answer(result))
        said = "".join(f'<td class="text" dir="auto">{escaped(cut(text, MOST_CHARACTERS))}</td>' for text in texts)
        rows.append(
            f"<tr><td>{escaped(result.example)}</td><td>{escaped(names[result.system_name])}</td>{said}"
            f'<td class="number" data-order="{result.score:g}">{result.score:.2f}</td>'
            f'<td class="number" data-order="{result.seconds:g}">{result.seconds:.1f}</td></tr>'
        )
    grid = f"<thead><tr>{_ANSWER_HEADS}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table class="sortable single">{grid}</table></div>'


def _answer(result: Result) -> str:
    """What was answered, and how the answer ended where it did not end well."""
    if result.answer is None:
        error = result.error or {}
        return f"(error) {error.get('type', '')}: {error.get('message', '')}"
    refused = "(refused) " if result.answer["abstained"] else ""
    stopped = f"(stopped: {result.answer['stopped']}) " if result.answer["stopped"] else ""
    return f"{refused}{stopped}{result.answer['answer']}"


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


@cache
def _resource(name: str) -> str:
    return files("readthrough.evaluation.reports").joinpath(name).read_text(encoding="utf-8")
