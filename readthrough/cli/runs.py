"""`readthrough runs list|show|diff|resume|replay|trace|prune|search`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from readthrough.cli import telling
from readthrough.cli.ask import print_answer
from readthrough.cli.flags import Asking, Bounded, Common, Modelled, command
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import limits, on_approval, overrides, piped, resumable
from readthrough.cli.tracing import print_trace
from readthrough.errors import UsageError
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.api import Book
    from readthrough.config import Settings
    from readthrough.memory.runs import Run, RunLog

DAY_SECONDS = 24 * 60 * 60
NAME_HELP = "An id, the beginning or end of one, or `last`."

RunName = Annotated[str, typer.Argument(metavar="RUN", help=NAME_HELP, show_default=False)]


@dataclass(frozen=True, kw_only=True)
class ListFlags(Common):
    """Flags of `runs list`."""

    most: Annotated[int, typer.Option("--limit", min=1, help="How many, at most.")] = 20
    text: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Only those whose question, answer or notes hold this, letter by letter."),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class SearchFlags(Common):
    """Flags of `runs search`."""

    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.", show_default=False)]
    most: Annotated[int, typer.Option("--limit", min=1, help="How many, at most.")] = 10


@dataclass(frozen=True, kw_only=True)
class ShowFlags(Common):
    """Flags of `runs show`."""

    run: RunName
    full: Annotated[bool, typer.Option("--full", help="All of every text, not its first line.")] = False


@dataclass(frozen=True, kw_only=True)
class DiffFlags(Common):
    """Flags of `runs diff`."""

    a: Annotated[str, typer.Argument(metavar="A", help=NAME_HELP, show_default=False)]
    b: Annotated[str, typer.Argument(metavar="B", help="The other run.", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class ReplayFlags(Common):
    """Flags of `runs replay`."""

    run: RunName
    at: Annotated[int | None, typer.Option(metavar="STEP", min=1, help="Only this step.")] = None


@dataclass(frozen=True, kw_only=True)
class ResumeFlags(Asking, Bounded):
    """Flags of `runs resume`."""

    run: RunName
    approve: Annotated[
        bool | None, typer.Option("--approve/--deny", help="The answer to what the run asked.", show_default=False)
    ] = None


class TraceMethod(StrEnum):
    """How causes are found."""

    auto = "auto"
    attention = "attention"
    search = "search"


@dataclass(frozen=True, kw_only=True)
class TraceFlags(Modelled):
    """Flags of `runs trace`."""

    run: RunName
    k: Annotated[int, typer.Option("--k", min=1, help="How many causes are named, at most.")] = 5
    method: Annotated[TraceMethod, typer.Option(help="Attention needs a local model; search is slow.")] = (
        TraceMethod.auto
    )
    check: Annotated[bool, typer.Option("--check/--no-check", help="Score the answer again without its causes.")] = True


@dataclass(frozen=True, kw_only=True)
class PruneFlags(Common):
    """Flags of `runs prune`."""

    older_than: Annotated[float | None, typer.Option(metavar="DAYS", min=0, help="Delete runs that are older.")] = None
    keep: Annotated[int | None, typer.Option(metavar="N", min=0, help="Delete all but the newest.")] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="The log of runs: what was asked, read, noted and answered.", no_args_is_help=True)
    command(group, ListFlags, "list")(list_all)
    command(group, SearchFlags, "search")(search)
    command(group, ShowFlags, "show")(show)
    command(group, DiffFlags, "diff")(diff)
    command(group, ReplayFlags, "replay")(replay)
    command(group, ResumeFlags, "resume")(resume)
    command(group, TraceFlags, "trace")(trace)
    command(group, PruneFlags, "prune")(prune)
    app.add_typer(group, name="runs")


def list_all(flags: ListFlags) -> None:
    """List the latest runs, newest first."""
    with _log(flags) as (runs, _):
        _print(runs.runs(flags.most, flags.text), runs, flags)


def search(flags: SearchFlags) -> None:
    """Find the runs whose question and answer fit a query best, by words and by meaning, best first."""
    from readthrough.opening import open_recall

    if not flags.query.strip():
        raise UsageError("there is nothing to look for")
    screen = Screen(flags)
    with _log(flags) as (runs, settings), closing(open_recall(settings)) as recall:
        every = runs.runs()
        found = recall.search(every, flags.query, flags.most)
        recall.keep_runs(every)  # as they were before they had their answer, they are still there
        states = [_state(run, runs) for run, _ in found]
    if flags.json:
        rows = [
            {**telling.row(run), "state": state, "score": score}
            for (run, score), state in zip(found, states, strict=True)
        ]
        screen.json({"schema": SCHEMA_VERSION, "runs": rows})
        return
    for (run, _), state in zip(found, states, strict=True):
        screen.data(f"{run.id}  {telling.clock(run.started)}  {state}")
        screen.data(f"  {telling.first_line(run.question)}")
        screen.data(f"  {telling.first_line(str((run.answer or {}).get('answer', '')))}", style="dim")
    if not found:
        screen.say("nothing found")


def show(flags: ShowFlags) -> None:
    """Show what a run was made of, its steps with what they decided and noted, and its answer."""
    screen = Screen(flags)
    with _log(flags) as (runs, _):
        run = runs.find(flags.run)
        steps = [telling.told(step, run, runs) for step in runs.steps(run.id)]
    if flags.json:
        values = {**telling.row(run), "recipe": run.recipe, "result": run.answer}
        rows = [step.to_dict(flags.full) for step in steps]
        screen.json({"schema": SCHEMA_VERSION, "run": values, "steps": rows})
        return
    screen.table([[name, value] for name, value in telling.header(run).items()])
    for step in steps:
        screen.data("")
        for line in step.lines(flags.full):
            screen.data(line)


def replay(flags: ReplayFlags) -> None:
    """Go through a run from its log, step by step, without a model: what it read, noted and decided."""
    screen = Screen(flags)
    with _log(flags) as (runs, settings):
        run = runs.find(flags.run)
        steps = runs.steps(run.id)
        chosen = [step for step in steps if flags.at in (None, step.number)]
        if not chosen:
            last = max((step.number for step in steps), default=0)
            raise UsageError(f"run {run.id} has no step {flags.at or 1}", hint=f"it has {last} steps")
        with telling.places(settings.home, run) as where:
            told = [telling.told(step, run, runs, where) for step in chosen]
    if flags.json:
        rows = [step.to_dict(full=True) for step in told]
        screen.json({"schema": SCHEMA_VERSION, "run": run.id, "question": run.question, "steps": rows})
        return
    screen.data(run.question, style="bold")
    for step in told:
        screen.data("")
        for line in step.lines(full=True):
            screen.data(line)
    if flags.at is None and run.answer is not None:
        screen.data("")
        screen.data(run.answer["answer"], style="bold")


def diff(flags: DiffFlags) -> None:
    """Compare two runs: the first step that differs, and what was read, noted and decided otherwise."""
    from readthrough.agents.runs.recipe import changes
    from readthrough.cli.comparing import compare

    screen = Screen(flags)
    with _log(flags) as (runs, _):
        a, b = runs.find(flags.a), runs.find(flags.b)
        found = compare(a, b, runs, changes(a.recipe, b.recipe))
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, **found.to_dict()})
        return
    for line in found.lines():
        screen.data(line)


def resume(flags: ResumeFlags) -> int:
    """Go on with a run that was killed, interrupted, or ended by a budget; its answer is printed as by `ask`."""
    from readthrough.types import Answer

    screen = Screen(flags)
    bounds = limits(flags)
    with _log(flags) as (runs, _):
        found = runs.find(flags.run)
    if found.state == "done":
        answer = Answer.from_dict(found.answer or {})
        print_answer(answer, flags, screen)
        return PARTIAL if answer.stopped is not None else 0
    answers = (lambda _: bool(flags.approve)) if flags.approve is not None else on_approval(screen)
    with _reopened(found, flags, screen) as book:
        with resumable(book, flags, screen), screen.progress():
            answer = book.resume(found.id, limits=bounds, on_approval=answers)
        print_answer(answer, flags, screen)
        return PARTIAL if answer.stopped is not None or book.partial else 0


def trace(flags: TraceFlags) -> None:
    """Say which texts caused the answer of a run, through its notes too; they are read again."""
    screen = Screen(flags)
    with _log(flags) as (runs, _):
        found = runs.find(flags.run)
    with _reopened(found, flags, screen) as book, screen.progress():
        traced = book.trace(found.id, k=flags.k, method=flags.method.value, check=flags.check)
    if flags.json:
        screen.json(traced.to_dict())
        return
    screen.data(traced.question, style="dim")
    screen.data(traced.answer, style="bold")
    print_trace(traced, screen)


def prune(flags: PruneFlags) -> None:
    """Delete old runs, their notes and their checkpoints; one that is at work stays."""
    from readthrough.agents.runs.checkpoints import prune as prune_runs
    from readthrough.opening import checkpoints_of, forget

    if flags.older_than is None and flags.keep is None:
        raise UsageError("nothing to prune by", hint="--older-than DAYS, --keep N, or both")
    screen = Screen(flags)
    with _log(flags) as (runs, settings):
        before = datetime.now(UTC).timestamp() - (flags.older_than or 0) * DAY_SECONDS
        doomed = [
            run.id
            for place, run in enumerate(runs.runs())
            if (flags.keep is not None and place >= flags.keep)
            or (flags.older_than is not None and run.started < before)
        ]
        gone = prune_runs(runs, checkpoints_of(settings), doomed)
        forget(settings, runs=runs.runs())
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "deleted": gone, "kept": sorted(set(doomed) - set(gone))})
        return
    for run in gone:
        screen.data(run)
    screen.say(f"{len(gone)} runs were deleted")
    if len(gone) < len(doomed):
        screen.say(f"{len(doomed) - len(gone)} are at work, and stay")


@contextmanager
def _reopened(run: Run, flags: Common, screen: Screen) -> Iterator[Book]:
    """The texts of a run, read as they were for it."""
    from readthrough.resuming import reopen

    stdin = piped() if "-" in run.recipe.get("settings", {}).get("paths", ()) else None
    with screen.progress():
        book = reopen(run.id, stdin, screen.on_event, **overrides(flags))
    with book:
        yield book


@contextmanager
def _log(flags: Common) -> Iterator[tuple[RunLog, Settings]]:
    from readthrough.config import load_settings
    from readthrough.opening import open_runs

    settings = load_settings(overrides(flags)).settings
    runs = open_runs(settings)
    try:
        yield runs, settings
    finally:
        runs.close()


def _state(run: Run, runs: RunLog) -> str:
    return "running" if run.state == "open" and runs.is_held(run.id) else run.state


def _print(found: Sequence[Run], runs: RunLog, flags: Common) -> None:
    screen = Screen(flags)
    states = [_state(run, runs) for run in found]
    if flags.json:
        rows = [{**telling.row(run), "state": state} for run, state in zip(found, states, strict=True)]
        screen.json({"schema": SCHEMA_VERSION, "runs": rows})
        return
    screen.table(
        [
            [run.id, telling.clock(run.started), state, run.workflow, run.model, telling.first_line(run.question, 60)]
            for run, state in zip(found, states, strict=True)
        ]
    )
