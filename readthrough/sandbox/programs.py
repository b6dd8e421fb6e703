"""Programs that nobody has read, over a text: each session is a process without files, network or other processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from readthrough.errors import SandboxError
from readthrough.sandbox.child import Child, message
from readthrough.sandbox.session import MESSAGE_BYTES

SESSION_MODULE = "readthrough.sandbox.session"

Tool = Callable[[list[Any]], Any]
"""What a program calls: from a list of plain values, which may be any, to a plain value."""

_START_SECONDS = 60.0
# No time of its own runs while a program waits for a tool: what it can call is bounded by their number.
_MOST_CALLS = 1_000
# For how many programs a session has processor time, in case its parent is gone.
_MOST_PROGRAMS = 64
_AGAIN_RATIO = 10.0
_ERROR_CHARACTERS = 500
_MOST_CHARACTERS = 10**12


class ToolError(Exception):
    """What a program did wrong that called a tool: told to the program."""


@dataclass(frozen=True, slots=True)
class ProgramLimits:
    """What a program may take.

    Attributes:
        seconds: time of its own, without that of the tools that it calls.
        memory_bytes: beside the text.
        output_characters: how much is kept of what it prints.
    """

    seconds: float = 10.0
    memory_bytes: int = 256 << 20
    output_characters: int = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program.

    Attributes:
        output: the beginning of what it printed.
        characters: how much it printed.
        error: what ended it before its end, None where nothing did.
        answer: what it handed to `answer`.
        alive: whether the session goes on. Where it does not, all names are lost.
    """

    output: str = ""
    characters: int = 0
    error: str | None = None
    answer: str | None = None
    alive: bool = True


class ProgramSession:
    """A process that runs programs over a text, one after the other, in names that they share. Use it as a context.

    Programs find `context` (the text), `documents` (the name, start and end of each), and the tools `search`, `find`,
    `llm_query`, `llm_query_batched` and `answer`; `search` and `llm_query_batched` are the caller's.
    """

    def __init__(self, context: str, documents: Sequence[tuple[str, int, int]], limits: ProgramLimits) -> None:
        """Start the process, and see to it that it can do no harm.

        Raises:
            SandboxError: it could.
        """
        self._limits = limits
        self._over = False
        # Nothing of the environment decides what a program does, but the order of sets: it is the same each time.
        self._child = Child(SESSION_MODULE, ("-s", "-S", "-B"), {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"})
        given = {
            "context": context,
            "documents": documents,
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": _MOST_PROGRAMS * limits.seconds,
            "output_characters": limits.output_characters,
        }
        try:
            self._begin(given)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._over = True
        self._child.stop()

    def run(self, source: str, tools: Mapping[str, Tool], again: bool = False) -> Outcome:
        """Run a program. Whatever a tool raises that is no ToolError ends it, and comes out here.

        After an outcome that is not `alive` the session is over. One that is run `again` has more time: it has shown
        that it ends.
        """
        seconds = self._limits.seconds * (_AGAIN_RATIO if again else 1.0)
        left, calls = seconds, 0
        say: dict[str, Any] = {"program": source}
        while not self._over:
            began = time.monotonic()
            try:
                heard = self._exchange(say, began + left)
            except TimeoutError:
                return self._end(f"it took longer than {seconds:g} seconds")
            except (BrokenPipeError, EOFError):
                return self._end(f"the program crashed ({self._child.cause_of_death()})")
            except (ValueError, RecursionError):
                return self._end("the program broke its connection")
            left -= time.monotonic() - began
            if "call" not in heard:
                return _outcome(heard, self._limits.output_characters)
            calls += 1
            if calls > _MOST_CALLS:
                return self._end(f"it called tools more than {_MOST_CALLS} times")
            say = _called(heard, tools)
        return Outcome(error="the session is over", alive=False)

    def _end(self, error: str) -> Outcome:
        """The outcome of a program after which nothing that the process says would be worth hearing."""
        self.close()
        return Outcome(error=error, alive=False)

    def _begin(self, given: dict[str, Any]) -> None:
        try:
            said = self._exchange(given, time.monotonic() + _START_SECONDS)
        except (TimeoutError, BrokenPipeError, EOFError, ValueError) as error:
            reason = f"its process ended ({self._child.cause_of_death()})"
            raise _refused(reason) from error
        if said["open"]:
            means = ", ".join(said["means"]) or "nothing"
            raise _refused(f"with {means} in force a program could still {', '.join(said['open'])}")

    def _exchange(self, value: dict[str, Any], deadline: float) -> dict[str, Any]:
        self._child.send(message(json.dumps(value).encode()), deadline)
        heard = _clean(json.loads(self._child.receive(MESSAGE_BYTES, deadline)))
        if not isinstance(heard, dict):
            raise ValueError("no message")
        return heard


def _refused(reason: str) -> SandboxError:
    return SandboxError(
        f"programs of a model cannot be run safely here: {reason}",
        hint="use another workflow; on Linux, allow seccomp and prctl, and on a container at least its default profile",
    )


def _called(heard: dict[str, Any], tools: Mapping[str, Tool]) -> dict[str, Any]:
    """What a tool says to a call, which may be anything at all."""
    name, arguments = heard["call"], heard.get("arguments")
    if not isinstance(name, str) or name not in tools or not isinstance(arguments, list):
        return {"error": "there is no such tool"}
    try:
        return {"result": tools[name](arguments)}
    except ToolError as error:
        return {"error": str(error)}


def _outcome(heard: dict[str, Any], most_characters: int) -> Outcome:
    """The end of a program, as far as what it says can be one."""
    output, error, answer, characters = (heard.get(name) for name in ("output", "error", "answer", "characters"))
    return Outcome(
        output=output[:most_characters] if isinstance(output, str) else "",
        characters=min(characters, _MOST_CHARACTERS) if isinstance(characters, int) else 0,
        error=error[:_ERROR_CHARACTERS] if isinstance(error, str) else None,
        answer=answer[:most_characters] if isinstance(answer, str) else None,
    )


def _clean(value: Any) -> Any:
    """A plain value without half characters, which cannot be written anywhere."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value
