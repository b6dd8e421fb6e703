"""`readthrough eval run|report|compare|judge|calibrate|tasks`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.catalogue import find, names
from readthrough.cli.flags import Asking, Common, Modelled, Opening, command, complete
from readthrough.cli.guard import PARTIAL
from readthrough.cli.screen import Screen
from readthrough.cli.session import open_book, overrides
from readthrough.errors import UsageError
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.evaluation.judged import Standing
    from readthrough.evaluation.store import Result

FOLDER = Path("evaluations")
"""Where an evaluation has its folder, where none is given: `evaluations/NAME` of `NAME.yaml`."""

LIBRARY = "library"
REPORT = "report"

Folder = Annotated[Path | None, typer.Argument(metavar="FOLDER", help="The evaluation; the latest where left out.")]
JsonLines = Annotated[Path | None, typer.Option("--jsonl", metavar="OUT", help="Write the results, one a line.")]
Open = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]


@dataclass(frozen=True, kw_only=True)
class RunFlags(Asking):
    """Flags of `eval run`; workflow, model and index win over the file's."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="The grid, in YAML.", show_default=False)]
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where results are kept; evaluations/NAME where left out.")
    ] = None
    jsonl: JsonLines = None
    open: Open = False


@dataclass(frozen=True, kw_only=True)
class ReportFlags(Common):
    """Flags of `eval report`."""

    folder: Folder = None
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score the answers again, as tasks and metrics are now.")
    ] = False
    jsonl: JsonLines = None
    open: Open = False


@dataclass(frozen=True, kw_only=True)
class CompareFlags(Common):
    """Flags of `eval compare`."""

    one: Annotated[str, typer.Argument(metavar="ONE", help="SYSTEM, FOLDER:SYSTEM, or a folder.", show_default=False)]
    other: Annotated[str, typer.Argument(metavar="OTHER", help="What it is compared with.", show_default=False)]
    into: Annotated[
        Path | None, typer.Option("--in", metavar="FOLDER", help="The evaluation; the latest where left out.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class JudgeFlags(Opening):
    """Flags of `eval judge`."""

    folder: Folder = None
    rank: Annotated[bool, typer.Option("--rank", help="Compare every two systems too, and rank them.")] = False


@dataclass(frozen=True, kw_only=True)
class CalibrateFlags(Modelled):
    """Flags of `eval calibrate`."""

    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Texts to make questions from.", show_default=False)
    ] = None
    results: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Take the answers of an evaluation; ask nothing.")
    ] = None
    questions: Annotated[int, typer.Option(min=10, help="From how many passages questions are made.")] = 60
    seed: Annotated[int, typer.Option(help="Which passages are drawn.")] = 0


@dataclass(frozen=True, kw_only=True)
class TasksFlags(Common):
    """Flags of `eval tasks`."""

    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help="Show all of one task.",
            autocompletion=complete(lambda: names("tasks")),
            show_default=False,
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Measure which workflow, model and setting is better.", no_args_is_help=True)
    command(group, RunFlags, "run")(run)
    command(group, ReportFlags, "report")(report)
    command(group, CompareFlags, "compare")(compare)
    command(group, JudgeFlags, "judge")(judge)
    command(group, CalibrateFlags, "calibrate")(calibrate)
    command(group, TasksFlags, "tasks")(tasks)
    app.add_typer(group, name="eval")


def run(flags: RunFlags) -> int:
    """Ask every system of a grid every question of its tasks; what has a result already is not asked again."""
    from readthrough.config import load_settings
    from readthrough.evaluation.grid import read_grid
    from readthrough.evaluation.running import Listener, evaluate
    from readthrough.spec import names_file

    screen = Screen(flags)
    folder = flags.into or FOLDER / flags.file.stem
    settings = load_settings({**overrides(flags), "workflow": None, "home": flags.home or folder / LIBRARY}).settings
    workflow = flags.workflow
    if workflow is not None and names_file(workflow):
        workflow = str(Path(workflow).absolute())  # paths in the grid start from its folder, this one from here
    grid = read_grid(flags.file, settings, {"workflow": workflow, "model": flags.model, "index": flags.index})
    listener = Listener(screen.on_event, lambda result: screen.say(_line(result), verbose=1))
    try:
        with screen.progress():
            outcome = evaluate(grid, folder, settings, listener)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"; `{_again(flags)}` goes on") from interrupt
    rows = _scores(outcome.results)
    counts = {name: getattr(outcome, name) for name in ("asked", "kept", "failed", "left")}
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "folder": str(folder), **counts, "scores": rows})
    else:
        _print_scores(rows, screen)
    screen.say(f"{outcome.asked} questions were asked, {outcome.kept} had an answer from before")
    if outcome.failed:
        screen.say(f"{outcome.failed} failed and score 0; `{_again(flags)}` tries them again")
    if outcome.left:
        screen.say(f"the budget is spent: {outcome.left} are left; `{_again(flags)}` goes on")
    if outcome.results:
        _write(outcome.results, folder, flags, screen)
    return PARTIAL if outcome.failed or outcome.left else 0


def report(flags: ReportFlags) -> None:
    """Write the report of an evaluation as Markdown and as one HTML page."""
    from readthrough.evaluation.comparing import results_in
    from readthrough.evaluation.rescoring import rescore

    screen = Screen(flags)
    folder = flags.folder or _latest()
    changed = rescore(folder) if flags.rescore else None
    results = results_in(folder)
    if not results:
        raise UsageError(f"the latest run in {folder} has no result yet", hint="readthrough eval run FILE goes on")
    if changed is not None:
        screen.say(f"{changed} of {len(results)} scores changed")
    paths = _write(results, folder, flags, screen)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "reports": [str(path) for path in paths], "scores": _scores(results)})


def compare(flags: CompareFlags) -> None:
    """Compare two systems, or two evaluations, over the questions that both were asked."""
    from readthrough.evaluation.comparing import compare as compare_systems

    screen = Screen(flags)
    found = compare_systems(flags.one, flags.other, flags.into or _newest())
    if flags.json:
        rows = [{**asdict(each), "verdict": each.verdict} for each in found]
        screen.json({"schema": SCHEMA_VERSION, "comparisons": rows})
        return
    for each in found:
        chance = "" if each.p is None else f", McNemar p = {each.p:.3g}"
        screen.data(f"{each.one}: {each.one_score:.3f}")
        screen.data(f"{each.other}: {each.other_score:.3f}")
        screen.data(
            f"difference {each.difference:+.3f} (95% interval {each.low:+.3f} to {each.high:+.3f}{chance}) over "
            f"{each.questions} questions, {each.wins} better and {each.losses} worse"
        )
        screen.data(each.verdict, style="bold")


def judge(flags: JudgeFlags) -> None:
    """Let a model judge the answers beside their scores: a stronger one than those that answered, and another."""
    from readthrough.config import load_settings
    from readthrough.evaluation.comparing import results_in
    from readthrough.evaluation.judged import grade, rank, standings
    from readthrough.evaluation.judging import Judge
    from readthrough.opening import Models

    screen = Screen(flags)
    folder = flags.folder or _latest()
    settings = load_settings(overrides(flags)).settings
    results_in(folder)  # what is wrong with the folder is told before a model is loaded
    models = Models(settings, None, screen.on_event)
    try:
        with screen.progress():
            by = Judge(models.get(settings.model))
            grades = grade(folder, by, screen.on_event)
            ranking = rank(folder, by, screen.on_event) if flags.rank else None
    finally:
        models.close()
    results = results_in(folder)
    rows = standings(results, grades, ranking)
    if not rows:
        raise UsageError("no question here has a right answer to judge by", hint="--rank compares the systems")
    swapped = None if ranking is None else ranking.swapped_ratio
    if flags.json:
        said = {"judge": by.model.identity, "swapped_ratio": swapped, "systems": [asdict(row) for row in rows]}
        screen.json({"schema": SCHEMA_VERSION, "folder": str(folder), **said})
    else:
        screen.table([["", "right, by the judge", "score", "answers", "strength"], *map(_standing, rows)])
    if swapped is not None:
        screen.say(f"the judge changed its mind with the order in {swapped:.0%} of the comparisons; these are ties")
    _write_pages(results, folder, screen)


def calibrate(flags: CalibrateFlags) -> None:
    """Fit how sure a model's answers are, to questions made from your texts or to an evaluation's answers."""
    from readthrough.config import load_settings
    from readthrough.evaluation.calibrating import ask, fit, from_results, make_questions
    from readthrough.models.weights import ALIASES
    from readthrough.opening import keep_calibration

    screen = Screen(flags)
    if (flags.results is None) == (not flags.paths):
        raise UsageError("nothing to calibrate by", hint="name texts to make questions from, or --from FOLDER")
    settings = load_settings(overrides(flags)).settings
    if flags.results is not None:
        model = ALIASES.get(str(settings.model), str(settings.model))
        found = fit(from_results(flags.results, model))
    else:
        with open_book(flags, flags.paths or [], screen) as book, screen.progress():
            model = ALIASES.get(book.model.name, book.model.name)
            examples = make_questions(book, flags.questions, flags.seed)
            found = fit(list(ask(book, examples, screen.on_event)))
    path = keep_calibration(settings, model, found.calibration)
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "model": model, **found.to_dict()})
        return
    measured = found.measured
    screen.data(f"{found.answers} answers, {found.right_ratio:.0%} of them right")
    screen.data(f"AUROC {measured.auroc or 0.0:.2f}, calibration error {measured.ece or 0.0:.2f}")
    others = "" if found.recognised_ratio is None else f" and {found.recognised_ratio:.0%} of the others"
    screen.data(f"--abstain-below {found.refuse_below:.3f} refuses 10% of the questions that have an answer{others}")
    screen.say(f"wrote {path}")


def _standing(row: Standing) -> list[str]:
    right, strength = ("" if value is None else f"{value:.3f}" for value in (row.right, row.strength))
    return [f"  {row.system}", right, f"{row.score:.3f}", str(row.answers), strength]


def tasks(flags: TasksFlags) -> None:
    """List the tasks with their options, or show one."""
    screen = Screen(flags)
    chosen = names("tasks") if flags.task is None else [flags.task]
    rows = [_task(name) for name in chosen]
    if flags.json:
        screen.json({"schema": SCHEMA_VERSION, "tasks": rows})
        return
    for row in rows:
        screen.data(row["name"], style="bold")
        screen.data(f"    {row['summary'] if flags.task is None else row['about']}")
        options = (option if default is None else f"{option}={default}" for option, default in row["options"].items())
        screen.data(f"    options: {', '.join(options)}", style="dim")


def _task(name: str) -> dict[str, Any]:
    task = find("tasks", name)
    about = cleandoc(task.__doc__ or "")
    options = {each.name: None if each.default in (None, MISSING) else each.default for each in fields(task)}
    return {"name": name, "summary": about.partition("\n")[0], "about": about, "options": options}


def _scores(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What each system scored in each task, and in all where there are several; the best first."""
    from readthrough.evaluation.reports import groups

    return [
        {
            "task": section.title,
            "system": system,
            "questions": len(those),
            **dict(zip(("score", "low", "high"), groups.score_interval(those), strict=True)),
            "median_seconds": groups.median_seconds(those),
            "mean_tokens": sum(result.tokens for result in those) / len(those),
            "failed": sum(result.error is not None for result in those),
        }
        for section in (groups.sections(results) if results else ())
        for system, those in section.systems.items()
    ]


def _print_scores(rows: Sequence[dict[str, Any]], screen: Screen) -> None:
    for task in dict.fromkeys(row["task"] for row in rows):
        screen.data(task, style="bold")
        table = [["", "score (95% interval)", "questions", "median s", "mean tokens", "failed"]]
        for row in rows:
            if row["task"] == task:
                seconds = "" if row["median_seconds"] is None else f"{row['median_seconds']:.1f}"
                score = f"{row['score']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
                counts = [seconds, f"{row['mean_tokens']:,.0f}", str(row["failed"])]
                table.append([f"  {row['system']}", score, str(row["questions"]), *counts])
        screen.table(table)


def _write_pages(results: Sequence[Result], folder: Path, screen: Screen) -> list[Path]:
    """Write the report."""
    from readthrough.evaluation.reports import html, markdown
    from readthrough.memory.database import guard

    paths = [folder / f"{REPORT}.md", folder / f"{REPORT}.html"]
    for path, page in zip(paths, (markdown.page, html.page), strict=True):
        with guard(path, "report"):
            path.write_text(page(list(results)), encoding="utf-8", errors="backslashreplace")
        screen.say(f"wrote {path}")
    return paths


def _write(results: Sequence[Result], folder: Path, flags: RunFlags | ReportFlags, screen: Screen) -> list[Path]:
    """Write the report, and the results where they are wanted; open it where that is wanted."""
    from readthrough.evaluation.store import write_json_lines

    paths = _write_pages(results, folder, screen)
    if flags.jsonl is not None:
        write_json_lines(results, flags.jsonl)
        screen.say(f"wrote {flags.jsonl}")
    if flags.open:
        import webbrowser

        webbrowser.open(paths[1].resolve().as_uri())
    return paths


def _line(result: Result) -> str:
    wrong = "" if result.error is None else f", {result.error['type']}: {result.error['message']}"
    return (
        f"{result.task_name} {result.example}, {result.system_name}: {result.score:.2f}, {result.seconds:.1f} s{wrong}"
    )


def _again(flags: RunFlags) -> str:
    """The command that goes on with a run."""
    words = ["readthrough", "eval", "run", str(flags.file)]
    for name in ("into", "home", "workflow", "model", "index", "device", "dtype", "encoding"):
        value = getattr(flags, name)
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _latest() -> Path:
    found = _newest()
    if found is None:
        raise UsageError(f"there are no results below {FOLDER}", hint="readthrough eval run FILE makes them")
    return found


def _newest() -> Path | None:
    """The folder below `evaluations` whose results are the newest, None where there is none."""
    from readthrough.evaluation.store import FILE

    found = max(FOLDER.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime, default=None)
    return None if found is None else found.parent
