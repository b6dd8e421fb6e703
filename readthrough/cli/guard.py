"""From what a command raises to one clean line (or JSON), and an exit code.

0 done; 1 failed; 2 wrong usage; 3 partial; 4 bad input or configuration; 5 endpoint or model; 130 interrupted;
141 the reader of our output went away (said to nobody).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from readthrough.errors import ReadthroughError

if TYPE_CHECKING:
    from readthrough.cli.flags import Common

PARTIAL = 3
INTERRUPTED = 130
BROKEN_PIPE = 141

Flags = TypeVar("Flags", bound="Common")


class InternalError(ReadthroughError):
    """A mistake of this program, or of the machine under it."""


def guarded(run: Callable[[Flags], int | None], flags: Flags) -> int:
    """Run a command and return its exit code, having said what went wrong."""
    try:
        code = run(flags) or 0
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print(f"interrupted{interrupt}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except BrokenPipeError:
        silence()
        return BROKEN_PIPE
    except ReadthroughError as error:
        return report(error, as_json=flags.json, verbose=flags.verbose)
    except Exception as error:  # noqa: BLE001  nobody above would print it better
        kind = type(error).__name__
        wrapped = InternalError(f"{kind}: {error}", hint="-vv shows the traceback")
        wrapped.__cause__ = error
        return report(wrapped, as_json=flags.json, verbose=flags.verbose)
    return code


def report(error: ReadthroughError, *, as_json: bool, verbose: int = 0) -> int:
    """Say what went wrong, JSON on standard output or a line on standard error; the exit code."""
    if verbose >= 2 or os.environ.get("READTHROUGH_DEBUG"):
        traceback.print_exception(error, file=sys.stderr)
    try:
        if as_json:
            print(json.dumps(error.to_dict()), flush=True)  # noqa: T201
        else:
            print(f"readthrough: {one_line(str(error))}", file=sys.stderr)  # noqa: T201
    except BrokenPipeError:
        silence()
        return BROKEN_PIPE
    return error.exit_code


def one_line(text: str) -> str:
    """`text` on one line, without characters that could drive a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def silence() -> None:
    """Point standard output and error at nothing, so that the interpreter's last flush does not complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
