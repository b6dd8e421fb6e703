"""The table of all methods, from the rows of `benchmarks.methods_grid`.

    python -m benchmarks.methods_report FOLDER docs/methods.md [docs/methods.html]

FOLDER may also be a file of rows. The HTML page has plots as well.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.methods_grid import DENSE, PROVENANCE, ROWS
from benchmarks.results import rows_of
from readthrough.evaluation.reports import html, markdown
from readthrough.evaluation.reports.plots import Axis, Chart, Point, Series, chart
from readthrough.evaluation.reports.tables import Cell, Table
from readthrough.evaluation.statistics import interval, paired_bootstrap

Row = Mapping[str, Any]
Key = tuple[str, float | None]

TITLE = "What the methods are worth"
KINDS = {
    "select": "Patterns: which keys a prompt's tokens attend to",
    "keep": "Policies: which tokens' KV stays",
    "decode": "Selectors: what a reply's tokens attend to",
    "store": "Stores: how KV is kept",
}
ASKED = {"key": "key-value", "colour": "needle", "hop": "two hops", "visit": "count"}
NOTE = (
    "Perplexity is that of the real tokens that follow, as a reply to the text, over that of dense attention. Scores "
    "are of 100, with the interval over texts. A text that is read densely is read once for all methods of a kind: "
    "their seconds of reading, marked +, come on top of dense's. An answer's seconds are those of one of all the "
    "questions about a text, asked together. Marked are methods that are worse than random choice at the same budget: "
    "in answers, where the interval of the difference is below 0, and in loss, where all texts say so."
)


def main() -> None:
    """Write the pages."""
    source, pages = Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]]
    rows = rows_of(source / ROWS if source.is_dir() else source)
    if not rows or not pages:
        sys.exit(f"{source}: {len(rows)} rows, {len(pages)} pages to write")
    measured = source / PROVENANCE if source.is_dir() else source.with_suffix(".measured.json")
    told = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else {}
    for page in pages:
        page.write_text((as_html if page.suffix == ".html" else as_markdown)(rows, told), encoding="utf-8")


def as_markdown(rows: Sequence[Row], measured: Mapping[str, Any]) -> str:
    """The tables."""
    shown = "\n".join(markdown.shown(table) for table in tables(rows))
    return f"# {TITLE}\n\n{NOTE}\n\n{shown}\n{provenance(measured)}\n"


def as_html(rows: Sequence[Row], measured: Mapping[str, Any]) -> str:
    """The tables and plots."""
    made = by_cell(rows)
    drawn = "".join(chart(plot) for plot in charts(made))
    shown = "".join(html.shown(table) for table in tables(rows))
    body = f'<p class="note">{NOTE}</p><div class="charts">{drawn}</div>{shown}<p>{provenance(measured)}</p>'
    return html.document(TITLE, body)


def provenance(measured: Mapping[str, Any]) -> str:
    """What the rows were measured with, in a sentence."""
    packages = ", ".join(f"{name} {version}" for name, version in measured.get("packages", {}).items())
    told = [measured.get(name, "") for name in ("model", "device", "date")]
    return "Measured with " + "; ".join(filter(None, [*told, packages, f"commit {measured.get('commit', 'unknown')}."]))


def by_cell(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    """The rows of each method at each budget."""
    found: dict[Key, list[Row]] = {}
    for row in rows:
        found.setdefault((row["method"], row["budget"]), []).append(row)
    return found


def tables(rows: Sequence[Row]) -> list[Table]:
    """One of each kind that was measured, dense in every one."""
    made = by_cell(rows)
    heads = ("method", "budget", "perplexity", "score", *ASKED.values(), "read s", "answer s", "KV smaller", "")
    found = []
    for part, title in KINDS.items():
        keys = [key for key in made if key[0].startswith(f"{part}:")]
        if keys:
            keys.sort(key=lambda key: (-(key[1] or 1), -score(made[key])))
            found.append(Table(title, heads, tuple(line(key, made) for key in [(DENSE, None), *keys] if key in made)))
    return found


def line(key: Key, made: Mapping[Key, Sequence[Row]]) -> tuple[Cell, ...]:
    """A method at a budget."""
    rows, dense = made[key], made.get((DENSE, None), [])
    name, budget = key[0].partition(":")[2] or DENSE, Cell("") if key[1] is None else Cell(f"{key[1]:.0%}", key[1])
    refused = [row["why"] for row in rows if "why" in row]
    asked = [row for row in rows if "score" in row]
    if refused or not asked:
        return Cell(name), budget, *[Cell("")] * (len(ASKED) + 5), Cell(f"refused: {refused[0]}" if refused else "")
    more, spread = perplexity_ratio(rows, dense), interval(list(by_text(rows).values()))
    types = [[row["score"] for row in asked if row["type"] == kind] for kind in ASKED]
    read, answer = (fmean(row[f"{what}_seconds"] for row in asked) for what in ("prefill", "answer"))
    shared = "+ " if all(row["cached_tokens"] for row in asked) else ""
    smaller = fmean(row["kv_bytes"] for row in dense if "score" in row) / fmean(row["kv_bytes"] for row in asked)
    return (
        Cell(name),
        budget,
        Cell("" if more is None else f"{more:.3f}", more),
        Cell(f"{100 * spread.value:.0f} ({100 * spread.low:.0f}-{100 * spread.high:.0f})", spread.value),
        *(Cell(f"{100 * fmean(of):.0f}", fmean(of)) if of else Cell("") for of in types),
        Cell(f"{shared}{read:.1f}", read),
        Cell(f"{answer:.2f}", answer),
        Cell(f"{smaller:.1f}", smaller),
        Cell(", ".join(worse_than_random(key, made))),
    )


def score(rows: Sequence[Row]) -> float:
    """The mean over the questions; -1 where none was asked."""
    found = [row["score"] for row in rows if "score" in row]
    return fmean(found) if found else -1.0


def by_text(rows: Sequence[Row]) -> dict[str, float]:
    """The mean score of each text."""
    parts = dict.fromkeys(row["part"] for row in rows if "score" in row)
    return {part: score([row for row in rows if row["part"] == part]) for part in parts}


def losses(rows: Sequence[Row]) -> dict[str, float]:
    """The loss of each text, in nats a token."""
    return {row["part"]: row["nll"] for row in rows if "nll" in row}


def perplexity_ratio(rows: Sequence[Row], dense: Sequence[Row]) -> float | None:
    """Perplexity over that of dense attention on the same texts; None where there is none."""
    one, other = losses(rows), losses(dense)
    shared = one.keys() & other.keys()
    return math.exp(fmean(one[part] - other[part] for part in shared)) if shared else None


def worse_than_random(key: Key, made: Mapping[Key, Sequence[Row]]) -> list[str]:
    """In what a method is worse than the random choice of its kind at its budget."""
    control = (f"{key[0].partition(':')[0]}:random", key[1])
    if control not in made or control == key:
        return []
    found = []
    one, other = by_text(made[key]), by_text(made[control])
    shared = sorted(one.keys() & other.keys())
    if shared and paired_bootstrap([one[part] for part in shared], [other[part] for part in shared]).high < 0:
        found.append("answers worse than random")
    one, other = losses(made[key]), losses(made[control])
    if one and all(value > other.get(part, math.inf) for part, value in one.items()):
        found.append("loss worse than random")
    return found


def charts(made: Mapping[Key, Sequence[Row]]) -> list[Chart]:
    """Of each kind the score by perplexity, each method's budgets joined."""
    dense = made.get((DENSE, None), [])
    found = []
    for part, title in KINDS.items():
        series = []
        for method in dict.fromkeys([DENSE, *(key[0] for key in made if key[0].startswith(f"{part}:"))]):
            points = []
            for key in (key for key in made if key[0] == method):
                x, y = perplexity_ratio(made[key], dense), score(made[key])
                if x is not None and y >= 0:
                    points.append(Point(x, y, note=f"{method} {key[1] or ''}"))
            if points:
                series.append(Series(method.partition(":")[2] or DENSE, len(series), tuple(points)))
        if len(series) > 1:
            found.append(Chart(title, Axis("perplexity over dense"), Axis("score", ratio=True), tuple(series)))
    return found


if __name__ == "__main__":
    main()
