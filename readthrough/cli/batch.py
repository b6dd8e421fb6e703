"""`readthrough batch run|status|retry`."""

from __future__ import annotations

import inspect
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.cli.ask import workflow_options
from readthrough.cli.flags import Asking, Common, Limited, command
from readthrough.cli.guard import INTERRUPTED, PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import overrides
from readthrough.errors import UsageError
from readthrough.types import SCHEMA_VERSION, Limits

if TYPE_CHECKING:
    from readthrough.batch.answering import Stop
    from readthrough.batch.file import Read
    from readthrough.batch.job import Job, Work
    from readthrough.batch.running import Outcome
    from readthrough.batch.table import Failure, Result, Table

_SHOWN = 20

DATABASE = typer.Option(
    metavar="ADDRESS", help="Where the table is kept, if not at home: postgresql://USER@HOST/DATABASE."
)


class Over(StrEnum):
    """What a question is about."""

    document = "document"
    folder = "folder"


class Engine(StrEnum):
    """What the workers are."""

    threads = "threads"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class RunFlags(Asking, Limited):
    """Flags of `batch run`."""

    what: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder, or a YAML file that says all.", show_default=False)
    ]
    more: Annotated[list[str] | None, typer.Option("-q", help="A question. Repeatable.")] = None
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Questions from a file: lines, or JSON.")] = (
        None
    )
    extract: Annotated[
        str | None, typer.Option(metavar="SCHEMA", help="Fields to extract: the file of a JSON Schema.")
    ] = None
    summarize: Annotated[bool, typer.Option("--summarize", help="Summarise.")] = False
    words: Annotated[int | None, typer.Option(min=1, help="How long a summary is to be.")] = None
    focus: Annotated[str | None, typer.Option(help="What a summary is to be about.")] = None
    over: Annotated[Over, typer.Option(help="Ask of every document, or of the folder as a whole.")] = Over.document
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the results go: .jsonl, .csv or .parquet.")
    ] = None
    include: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only such files. Repeatable.")] = None
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="No such files. Repeatable.")] = None
    no_recursive: Annotated[bool, typer.Option("--no-recursive", help="No folders within the folder.")] = False
    option: Annotated[
        list[str] | None, typer.Option("-o", metavar="NAME=VALUE", help="An option of the workflow. Repeatable.")
    ] = None
    document_seconds: Annotated[float | None, typer.Option(help="The most seconds for one document.")] = None
    document_tokens: Annotated[int | None, typer.Option(help="The most tokens for one document.")] = None
    document_calls: Annotated[int | None, typer.Option(help="The most calls for one document.")] = None
    document_cost: Annotated[float | None, typer.Option(help="The most money for one document.")] = None
    abstain_below: Annotated[
        float | None, typer.Option(metavar="CONFIDENCE", help="Refuse an answer to a question of lower confidence.")
    ] = None
    tries: Annotated[int, typer.Option(min=1, help="Set a document aside after so many tries.")] = 3
    workers: Annotated[int, typer.Option(min=0, help="Documents at work at a time; 0: as fits the model.")] = 0
    engine: Annotated[Engine, typer.Option(help="Threads of this process, or actors of Ray.")] = Engine.threads
    gpus_a_worker: Annotated[
        float | None, typer.Option(min=0, help="Share of a GPU for each actor of Ray, such as 0.5.")
    ] = None
    database: Annotated[str | None, DATABASE] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and answer nothing.")] = False


_IN_FILE = frozenset((*inspect.get_annotations(RunFlags), *inspect.get_annotations(Limited))) - {"what", "dry_run"}
"""What a YAML file says in place of flags."""


@dataclass(frozen=True, kw_only=True)
class TableFlags(Common):
    """Flags of `batch status` and `batch retry`."""

    database: Annotated[str | None, DATABASE] = None

    out: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The results of the batch; of the latest where left out.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Ask of every document of a folder; killed anywhere, it goes on.", no_args_is_help=True)
    command(group, RunFlags, "run")(run)
    command(group, TableFlags, "status")(status)
    command(group, TableFlags, "retry")(retry)
    app.add_typer(group, name="batch")


def run(flags: RunFlags) -> int:
    """Ask every document of a folder; what has its answer already is not asked again."""
    from readthrough.batch import running
    from readthrough.batch.answering import Stop
    from readthrough.batch.open import open_table
    from readthrough.config import load_settings

    screen = Screen(flags)
    read = _read(flags)
    given: Any = {name: value for name, value in overrides(flags).items() if value is not None}
    settings = load_settings({**read.overrides, **given}).settings
    if flags.dry_run:
        return _estimate(read.job, settings, screen)
    stop = Stop()
    listener = running.Listener(screen.on_event, lambda work, result: screen.say(_line(work, result), verbose=1))
    with _draining(stop, screen), screen.progress():
        outcome = running.run(read.job, settings, listener, stop)
    _report(read.job, outcome, screen)
    if outcome.lost or outcome.failed:
        with closing(open_table(settings)) as table:
            _print_failures(table.failures(read.job.name), screen.say, flags.verbose)
        screen.say("`readthrough batch retry` lets them be tried again")
    if outcome.stopped:
        screen.say(f"the budget for all documents is spent ({outcome.stopped}); `{_again()}` goes on")
    if outcome.drained:
        screen.say(f"interrupted; `{_again()}` goes on")
        return INTERRUPTED
    return PARTIAL if outcome.partial else 0


def status(flags: TableFlags) -> None:
    """Say how far a batch is, and what failed and why."""
    screen = Screen(flags)
    with closing(_table(flags)) as table:
        name, job = table.find(_name(flags))
        counts = table.counts(name, whole=False)
        failures = table.failures(name)
    if flags.json:
        questions = {work["id"]: work["question"] for work in job["works"]}
        errors = [
            {"document": each.path, "question": questions.get(each.work), "state": each.state, "error": each.error}
            for each in failures
        ]
        failed = sum(1 for each in failures if each.work)
        told = {"out": name, **job, "documents": counts, "failed_answers": failed, "errors": errors}
        screen.json({"schema": SCHEMA_VERSION, **told})
        return
    screen.data(name, style="bold")
    screen.data(f"  {job['folder']}: {len(job['works'])} things wanted")
    screen.table([[f"  {state}", f"{count:,}"] for state, count in sorted(counts.items())])
    _print_failures(failures, screen.data, flags.verbose)


def retry(flags: TableFlags) -> None:
    """Let what failed be tried again by the next `batch run`."""
    screen = Screen(flags)
    with closing(_table(flags)) as table:
        name, _ = table.find(_name(flags))
        count = table.retry(name)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "out": name, "waiting": count})
    else:
        screen.data(f"{count} documents wait to be tried again; `readthrough batch run` goes on")


def _read(flags: RunFlags) -> Read:
    """The job of the flags, or of the file they name."""
    from readthrough.batch.file import Read, read_job

    if flags.what.suffix in (".yaml", ".yml"):
        for each in fields(flags):
            if each.name in _IN_FILE and getattr(flags, each.name) not in (each.default, []):
                flag = "-q" if each.name == "more" else f"--{each.name.replace('_', '-')}"
                raise UsageError(f"{flags.what} says all of the batch: {flag} is not for here")
        return read_job(flags.what)
    return Read(_job(flags))


def _job(flags: RunFlags) -> Job:
    from readthrough.batch.job import Job

    if flags.out is None:
        raise UsageError("where are the results to go?", hint="--out FILE, which ends in .jsonl, .csv or .parquet")
    document = {name: getattr(flags, f"document_{name}") for name in ("seconds", "tokens", "calls", "cost")}
    return Job(
        folder=flags.what,
        works=tuple(_works(flags)),
        out=flags.out,
        include=tuple(flags.include or ()),
        exclude=tuple(flags.exclude or ()),
        recursive=not flags.no_recursive,
        options=workflow_options(flags.option or []),
        document_limits=Limits(**document),
        limits=Limits(flags.max_seconds, flags.max_tokens, flags.max_calls, cost=flags.max_cost),
        abstain_below=flags.abstain_below,
        tries=flags.tries,
        workers=flags.workers,
        engine=flags.engine.value,
        gpus_a_worker=flags.gpus_a_worker,
    )


def _works(flags: RunFlags) -> list[Work]:
    from readthrough.batch.works import asks, extraction, summary
    from readthrough.questions import Asked, read_questions

    whole = flags.over is Over.folder
    questions = [] if flags.questions is None else read_questions(flags.questions)
    works = asks([*questions, *(Asked(text) for text in flags.more or [])], whole)
    if flags.extract is not None:
        works.append(extraction(flags.extract, whole))
    if flags.summarize:
        works.append(summary(flags.words, flags.focus, whole))
    elif flags.words is not None or flags.focus is not None:
        raise UsageError("--words and --focus are for --summarize")
    return works


@contextmanager
def _draining(stop: Stop, screen: Screen) -> Iterator[None]:
    """Ctrl-C once lets the answers of now be finished; twice, it ends the process at once. Both can go on."""

    def interrupted(number: int, frame: object) -> None:
        if stop:
            shown = b"\x1b[?25h" if sys.stderr.isatty() else b""  # a progress bar hides the cursor
            os.write(sys.stderr.fileno(), shown + b"\ninterrupted; the same command goes on\n")
            os._exit(INTERRUPTED)
        stop.set()
        screen.say("finishing what is being answered; Ctrl-C again ends at once")

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(flags: TableFlags) -> str | None:
    """The name of the batch that is meant, None for the latest."""
    from readthrough.batch.job import name_of

    return None if flags.out is None else name_of(flags.out)


def _table(flags: TableFlags) -> Table:
    from readthrough.batch.open import open_table
    from readthrough.config import load_settings

    return open_table(load_settings({"home": flags.home, "database": flags.database}).settings)


def _estimate(job: Job, settings: Any, screen: Screen) -> int:
    from readthrough.batch.estimating import estimate

    with screen.progress():
        expected = estimate(job, settings, screen.on_event)
    if screen.as_json:
        screen.json({"schema": SCHEMA_VERSION, **expected.to_dict()})
        return 0
    cost = expected.cost
    money = "" if cost.money is None else f", ${cost.money:,.2f}"
    screen.data(
        f"{expected.documents:,} documents, {expected.answers:,} answers: about {cost.seconds:,.0f} s, "
        f"{cost.calls:,} calls, {cost.prompt_tokens:,} tokens read, {cost.completion_tokens:,} written{money}"
    )
    if 0 < expected.sample < expected.documents:
        screen.say(f"judged by {expected.sample} of them, of all sizes")
    return 0


def _report(job: Job, outcome: Outcome, screen: Screen) -> None:
    """What came of it."""
    usage = outcome.usage
    told = {
        "out": str(job.out),
        "documents": outcome.counts,
        "answers": outcome.asked,
        "failed_answers": outcome.failed,
        "new": outcome.changes.new,
        "changed": outcome.changes.changed,
        "gone": outcome.changes.gone,
        "seconds": round(outcome.seconds, 3),
        "calls": usage.calls,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost": usage.cost,
    }
    if screen.as_json:
        screen.json({"schema": SCHEMA_VERSION, **told})
        return
    done, total = outcome.counts.get("done", 0), sum(outcome.counts.values())
    money = "" if usage.cost is None else f", ${usage.cost:,.2f}"
    screen.data(f"{done:,} of {total:,} documents done, {outcome.asked:,} answers now; {job.out}")
    screen.say(f"{outcome.seconds:,.1f} s, {usage.calls:,} calls, {told['tokens']:,} tokens{money}")


def _print_failures(failures: list[Failure], say: Callable[[str], None], verbose: int) -> None:
    """What failed, and why."""
    said = {"aside": "set aside", "stopped": "stopped by a budget"}
    for each in failures[: None if verbose else _SHOWN]:
        say(f"  {said.get(each.state, each.state)} {each.path}: {_reason(each.error)}".removesuffix(": "))
    if len(failures) > _SHOWN and not verbose:
        say(f"  {len(failures) - _SHOWN} more; `readthrough batch status -v` names them")


def _reason(error: dict[str, Any] | None) -> str:
    return "" if error is None else f"{error['message']}" + (f" ({error['hint']})" if error.get("hint") else "")


def _line(work: Work, result: Result) -> str:
    said = result.answer["answer"] if result.answer is not None else _reason(result.error)
    return f"{result.path}: {work.question} {said}"


def _again() -> str:
    """The command that goes on with a batch."""
    return shlex.join(["readthrough", *sys.argv[1:]])
