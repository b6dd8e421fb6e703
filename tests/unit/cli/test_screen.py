from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from readthrough.cli.flags import Common
from readthrough.cli.guard import guarded, one_line, report
from readthrough.cli.progress import PATIENCE_SECONDS, ProgressView, amount
from readthrough.cli.screen import Screen, coverage_line, printable
from readthrough.errors import DocumentError, EndpointError, UsageError
from readthrough.types import Answer, Coverage, Event, Evidence, SkippedFile, Usage

Captured = pytest.CaptureFixture[str]


def test_coverage_line() -> None:
    assert coverage_line(Coverage()) == "read 0 of 0 tokens"
    line = coverage_line(Coverage(61_000, read=3_000, retrieved=120, skipped=400, unread=57_480))
    assert line == "read 3,120 of 61,000 tokens; passed over 400; not looked at 57,480"


def test_printable_leaves_text_and_takes_control_characters() -> None:
    assert printable("naïve 日本 😀\n\ttext") == "naïve 日本 😀\n\ttext"
    assert printable("\x1b[31mred\x1b]0;title\x07\x9b1m\r") == "�[31mred�]0;title��1m�"
    assert one_line("a\nb\x1bc") == "a b c"


def answer(quote: str = "the keeper is Ann") -> Answer:
    evidence = Evidence("book.txt", 3, 3 + len(quote), quote, page=2, line=7, section="One", verified=True)
    return Answer("who?", "Ann", confidence=0.83, evidence=(evidence,), usage=Usage(seconds=1.25, calls=2))


def test_evidence_and_account(capsys: Captured) -> None:
    screen = Screen(Common())
    screen.evidence(answer("word " * 60))
    screen.account(answer())
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[1].startswith(" 1. “word word")
    assert max(map(len, lines)) <= 100
    assert len(lines) > 4
    assert lines[-1] == "    book.txt, page 2, line 7, One"
    assert err == "read 0 of 0 tokens; confidence 0.83; 1.2 s\n"


def test_quiet_says_nothing_but_what_was_skipped(capsys: Captured) -> None:
    screen = Screen(Common(quiet=True))
    screen.account(answer())
    screen.skipped([SkippedFile("a.pdf", "no text layer")])
    assert capsys.readouterr().err == "skipped a.pdf: no text layer\n"


def test_what_is_no_document_is_only_counted(capsys: Captured) -> None:
    files = [SkippedFile(f"{n}.pdf", "broken") for n in range(12)] + [SkippedFile("a.png", "binary", failed=False)]
    Screen(Common()).skipped(files)
    said = capsys.readouterr().err.splitlines()
    assert said[9:] == [
        "skipped 9.pdf: broken",
        "skipped 2 more; -v names them",
        "passed over 1 empty, binary or linked files; -v names them",
    ]
    Screen(Common(verbose=1)).skipped(files)
    assert len(capsys.readouterr().err.splitlines()) == 13


def test_verbose_says_more(capsys: Captured) -> None:
    Screen(Common(verbose=1)).account(answer())
    assert "2 calls" in capsys.readouterr().err


def test_markup_in_documents_is_text(capsys: Captured) -> None:
    Screen(Common()).data("[bold]x[/bold] :smile: [/]")
    assert capsys.readouterr().out == "[bold]x[/bold] :smile: [/]\n"


def test_long_answers_are_not_wrapped_into_pipes(capsys: Captured) -> None:
    Screen(Common()).data("word " * 100)
    assert capsys.readouterr().out.count("\n") == 1


def test_progress_needs_a_terminal_and_a_second() -> None:
    for console in (
        Console(file=io.StringIO(), force_terminal=False),
        Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}),
    ):
        with ProgressView(console, quiet=False) as view:
            view(Event("read", 1, 2, "files"))
            view._show()
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with ProgressView(console, quiet=False) as view:
        view(Event("read", 1, 2, "files"))
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]
        view._show()  # what the timer calls after PATIENCE_SECONDS
        view(Event("read", 2, 2, "files"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert PATIENCE_SECONDS == 1.0
    assert "read" in shown
    assert "files" in shown


def test_amounts() -> None:
    assert amount(256, 507, 51.2, "chunks") == "256 of 507 chunks, 51.2/s"
    assert amount(1_500, None, None, "files") == "1,500 files"
    assert amount(5e8, 1e9, 2.5e8, "bytes joining") == "500 of 1,000 MB joining, 250/s"


def test_warnings_are_said(capsys: Captured) -> None:
    Screen(Common()).on_event(Event("warning", 0, note="the index was damaged"))
    assert capsys.readouterr().err == "warning: the index was damaged\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no"), 2),
        (DocumentError("is encrypted", path="a.pdf", hint="remove the password"), 4),
        (EndpointError("no"), 5),
        (ZeroDivisionError("no"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_a_line_and_a_code(error: BaseException, code: int, capsys: Captured) -> None:
    def run(flags: Common) -> int:
        raise error

    assert guarded(run, Common()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_tracebacks_on_demand(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(flags: Common) -> int:
        raise ZeroDivisionError

    guarded(run, Common(verbose=2))
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("READTHROUGH_DEBUG", "1")
    guarded(run, Common())
    assert "Traceback" in capsys.readouterr().err


def test_errors_as_json(capsys: Captured) -> None:
    error = DocumentError("is encrypted", path="a.pdf", hint="remove the password")
    assert report(error, as_json=True) == 4
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "schema": 1,
        "error": {
            "type": "DocumentError",
            "message": "is encrypted",
            "path": "a.pdf",
            "hint": "remove the password",
        },
    }


def test_flags_of_paths(tmp_path: Path) -> None:
    assert Common(home=tmp_path).home == tmp_path
