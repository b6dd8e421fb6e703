"""The process in which programs run that a model wrote: started by `programs` as `python -m`.

It is handed a text, gives away all that it could do harm with, and then runs one program after the other over the
text, each in the names that those before it left. What it cannot do itself (search, ask a model) it asks its parent
for. Messages go both ways as eight bytes of length and JSON; the parent believes nothing that it says.
"""

from __future__ import annotations

import ast
import bisect
import builtins
import collections
import contextlib
import dataclasses
import datetime
import difflib
import functools
import heapq
import io
import itertools
import json
import math
import operator
import os
import random
import re
import statistics
import string
import sys
import textwrap
import traceback
import types
import typing
import unicodedata
from collections.abc import Iterable
from typing import Any

from readthrough.sandbox.checking import open_doors
from readthrough.sandbox.child import LENGTH_BYTES, message
from readthrough.sandbox.confining import confine

# What a program may import: nothing that is not here already can be read from disk later.
_AT_HAND: tuple[types.ModuleType, ...] = (
    bisect, builtins, collections, dataclasses, datetime, difflib, functools, heapq, itertools, math, operator,
    statistics, string, textwrap, typing, unicodedata,
)  # fmt: skip

MESSAGE_BYTES = 16 << 20
"""The longest message of a program."""

_PROGRAM = "<program>"
_BLOCK_BYTES = 1 << 20
_BESIDE_CHARACTERS = 300
_BOTTOM = 1_000_000


class Piece(str):
    """A piece of the text, and where it stands in it."""

    start: int
    end: int

    @classmethod
    def at(cls, text: str, start: int, end: int) -> Piece:
        """The piece `[start, end)` of a text."""
        piece = cls(text)
        piece.start, piece.end = start, end
        return piece


class Pieces(list[Piece]):
    """Pieces that are printed one below the other."""

    def __str__(self) -> str:
        return "\n\n".join(self)

    __repr__ = __str__


class Pipe:
    """Messages from and to the parent. No file object: these look at files, which is refused."""

    def receive(self) -> dict[str, Any] | None:
        """The next message, None where there will be no more."""
        head = self._read(LENGTH_BYTES)
        body = self._read(int.from_bytes(head, "big"))
        return None if len(head) < LENGTH_BYTES else json.loads(body)

    def send(self, value: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            ValueError: it is too long.
        """
        body = json.dumps(value).encode()
        if len(body) > MESSAGE_BYTES:
            raise ValueError(f"{len(body):,} bytes are too many at once")
        left = message(body)
        while left:
            left = left[os.write(1, left) :]

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            block = os.read(0, min(size - len(data), _BLOCK_BYTES))
            if not block:
                return bytes(data)
            data += block
        return bytes(data)


class Output(io.TextIOBase):
    """What a program prints: its first characters, and how many there were."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._kept: list[str] = []
        self._kept_characters = 0
        self.characters = 0

    def write(self, text: str) -> int:
        """Take note of some text."""
        self.characters += len(text)
        part = text[: self._most - self._kept_characters]
        if part:
            self._kept.append(part)
            self._kept_characters += len(part)
        return len(text)

    @property
    def text(self) -> str:
        """What was kept."""
        return "".join(self._kept)


class Session:
    """The names that programs share, and the tools among them."""

    def __init__(self, pipe: Pipe, context: str, documents: list[list[Any]], output_characters: int) -> None:
        self._pipe = pipe
        self._context = context
        self._output_characters = output_characters
        self._answer: str | None = None
        tools = (self.search, self.find, self.llm_query, self.llm_query_batched, self.answer)
        self._names: dict[str, Any] = {
            "__name__": "__main__",
            "context": context,
            "documents": [tuple(document) for document in documents],
            **{tool.__name__: tool for tool in tools},
            **{module.__name__: module for module in (re, json, math, collections)},
        }

    def run(self, source: str) -> dict[str, Any]:
        """Run a program: what it printed, the error that ended it, the answer that it gave."""
        self._answer = None
        random.seed(0)
        output, error = Output(self._output_characters), None
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                self._execute(source)
        except BaseException as raised:  # noqa: BLE001 - a program may raise anything, SystemExit too: it is told to its author
            error = _told(raised)
        return {"output": output.text, "characters": output.characters, "error": error, "answer": self._answer}

    def search(self, query: str, k: int = 5) -> Pieces:
        """The `k` passages of the text that fit a query best, best first."""
        return Pieces(Piece.at(*found) for found in self._ask("search", [str(query), int(k)]))

    def find(self, pattern: str, most: int = 20) -> Pieces:
        """The places of the text, with what stands around them, that match a regular expression in any case."""
        try:
            wanted = re.compile(str(pattern), re.IGNORECASE)
        except re.error:
            wanted = re.compile(re.escape(str(pattern)), re.IGNORECASE)
        found = Pieces()
        for match in wanted.finditer(self._context):
            if match.start() == match.end() or (found and match.start() < found[-1].end):
                continue
            start, end = self._around(match.start(), match.end())
            found.append(Piece.at(self._context[start:end], start, end))
            if len(found) == most:
                break
        return found

    def llm_query(self, prompt: str) -> str:
        """What a language model replies to a prompt."""
        return self.llm_query_batched([prompt])[0]

    def llm_query_batched(self, prompts: Iterable[str]) -> list[str]:
        """What a language model replies to each of some prompts."""
        asked = [prompts] if isinstance(prompts, str) else [str(prompt) for prompt in prompts]
        replies: list[str] = self._ask("llm_query_batched", [asked])
        return replies

    def answer(self, text: object) -> None:
        """Give the answer to the question."""
        self._answer = str(text)

    def _ask(self, tool: str, arguments: list[Any]) -> Any:
        self._pipe.send({"call": tool, "arguments": arguments})
        reply = self._pipe.receive()
        if reply is None:
            raise SystemExit
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    def _around(self, start: int, end: int) -> tuple[int, int]:
        """A match widened to its paragraph, or to some hundred characters of it."""
        before = self._context.rfind("\n\n", max(0, start - _BESIDE_CHARACTERS), start)
        after = self._context.find("\n\n", end, end + _BESIDE_CHARACTERS)
        first = before + 2 if before >= 0 else max(0, start - _BESIDE_CHARACTERS)
        last = after if after >= 0 else min(len(self._context), end + _BESIDE_CHARACTERS)
        while 0 < first < start and not self._context[first - 1].isspace():
            first += 1
        while end < last < len(self._context) and not self._context[last].isspace():
            last -= 1
        return first, last

    def _execute(self, source: str) -> None:
        """Run a program; where its last line is an expression, print what that is, as Python does at a prompt."""
        tree = ast.parse(source, _PROGRAM)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, _PROGRAM, "exec"), self._names)  # this is what the process is for
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), _PROGRAM, "eval"), self._names)
            if value is not None:
                sys.stdout.write(f"{value}\n")


def _told(error: BaseException) -> str:
    """An error as its author has to know it: the line of the program, the kind, the message."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: SyntaxError: {error.msg}"
    if isinstance(error, MemoryError):
        return "MemoryError: the program needs more memory than it may have"
    frames = traceback.extract_tb(error.__traceback__, limit=-_BOTTOM) if error.__traceback__ else []
    lines = [frame.lineno for frame in frames if frame.filename == _PROGRAM]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _refuse_quiet_failures(event: str, _: tuple[Any, ...]) -> None:
    """An audit hook. What the system refuses without an error of Python's is an error here."""
    if event == "os.system":
        raise PermissionError("no process can be started here")


def main() -> None:
    """Take the text, give away the rest, say what could not be given away, and run programs until there are none."""
    pipe, parent = Pipe(), os.getppid()
    given = pipe.receive()
    if given is None:
        return
    sys.setrecursionlimit(500)
    sys.addaudithook(_refuse_quiet_failures)
    os.environ.clear()
    memory_bytes: int = given["memory_bytes"]
    means = confine(memory_bytes, given["cpu_seconds"])
    pipe.send({"means": means, "open": open_doors(memory_bytes, parent)})
    session = Session(pipe, given["context"], given["documents"], given["output_characters"])
    while (order := pipe.receive()) is not None:
        pipe.send(session.run(order["program"]))


if __name__ == "__main__":
    main()
