"""What programs find in their session; the filter of system calls; the self-test."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from readthrough.sandbox.checking import open_doors
from readthrough.sandbox.programs import ProgramLimits, ProgramSession, ToolError
from readthrough.sandbox.syscalls import ALLOWED, filter_of

CONTEXT = "Chapter 1\n\nAnn hid the key.\nBob saw it.\n\nChapter 2\n\nann left, and\nnobody knew."
DOCUMENTS = [("a.txt", 0, 40), ("b.txt", 42, len(CONTEXT))]


@pytest.fixture(scope="module")
def session() -> Iterator[ProgramSession]:
    with ProgramSession(CONTEXT, DOCUMENTS, ProgramLimits(memory_bytes=64 << 20)) as opened:
        yield opened


def tools(asked: list[Any]) -> dict[str, Any]:
    def search(arguments: list[Any]) -> Any:
        asked.append(arguments)
        return [[CONTEXT[11:27], 11, 27]]

    def query(arguments: list[Any]) -> Any:
        asked.append(arguments)
        if "no" in arguments[0]:
            raise ToolError("not that one")
        return [prompt.upper() for prompt in arguments[0]]

    return {"search": search, "llm_query_batched": query}


def test_programs_share_names_and_see_the_text(session: ProgramSession) -> None:
    asked: list[Any] = []
    given = tools(asked)
    assert session.run("n = len(context)\nprint(documents[1][0])", given).output == "b.txt\n"
    assert session.run("n", given).output == f"{len(CONTEXT)}\n"
    assert session.run("n += 1; x = re.sub('a', 'b', 'a'); print(x, math.pi > 3, n)", given).output == "b True 79\n"
    assert asked == []


def test_tools_are_asked_of_the_parent(session: ProgramSession) -> None:
    asked: list[Any] = []
    given = tools(asked)
    assert session.run("found = search('key')\nprint(found, found[0].start)", given).output == "Ann hid the key. 11\n"
    assert session.run("print(llm_query('a'), llm_query_batched(['b', 1]))", given).output == "A ['B', '1']\n"
    assert asked == [["key", 5], [["a"]], [["b", "1"]]]
    failed = session.run("print(1)\nllm_query('no')", given)
    assert (failed.output, failed.error) == ("1\n", "line 2: RuntimeError: not that one")


def test_find_gives_the_paragraphs_around_matches(session: ProgramSession) -> None:
    found = session.run("for place in find('ANN'):\n    print(repr(place), place.start)", {}).output.splitlines()
    assert found == [r"'Ann hid the key.\nBob saw it.' 11", r"'ann left, and\nnobody knew.' 52"]
    assert session.run("print(len(find('(')), len(find('n', 1)), len(find('x*')))", {}).output == "0 1 0\n"


def test_the_answer_is_that_of_the_last_call(session: ProgramSession) -> None:
    assert session.run("answer(1)\nanswer(2)", {}).answer == "2"
    assert session.run("print()", {}).answer is None


def test_errors_name_their_line(session: ProgramSession) -> None:
    assert session.run("x = 1\n\nx / 0", {}).error == "line 3: ZeroDivisionError: division by zero"
    assert (session.run("def", {}).error or "").startswith("line 1: SyntaxError")


def test_every_session_is_the_same() -> None:
    program = "import random\nprint(random.random(), hash('a'), list({'x', 'y', 'z'}), id(context) > 0)"
    said = set()
    for _ in range(2):
        with ProgramSession(CONTEXT, DOCUMENTS, ProgramLimits()) as opened:
            said.add(opened.run(program, {}).output)
    assert len(said) == 1


ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
MACHINES = {"x86_64": (0xC000003E, {"openat": 257, "socket": 41, "execve": 59, "mmap": 9}),
            "aarch64": (0xC00000B7, {"openat": 56, "socket": 198, "execve": 221, "mmap": 222})}  # fmt: skip


def verdict(machine: str, arch: int, number: int, third: int = 0) -> int:
    """What the kernel would make of a call, by interpreting the filter."""
    data = struct.pack("=IIQ6Q", number, arch, 0, 0, 0, third, 0, 0, 0)
    steps = list(struct.iter_unpack("=HBBI", filter_of(machine)))
    at, value = 0, 0
    while True:
        code, true, false, k = steps[at]
        at += 1
        if code == 0x06:
            return int(k)
        if code == 0x20:
            value = struct.unpack_from("=I", data, k)[0]
        else:
            at += true if (value == k if code == 0x15 else value & k) else false


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_lets_little_through(machine: str) -> None:
    arch, calls = MACHINES[machine]
    for number in ALLOWED[machine].values():
        assert verdict(machine, arch, number) == ALLOW
        assert verdict(machine, 1, number) == KILL
    mmap = calls.pop("mmap")
    assert verdict(machine, arch, mmap, 3) == ALLOW and verdict(machine, arch, mmap, 7) == REFUSE
    for number in calls.values():
        assert verdict(machine, arch, number) == REFUSE
    passed = [number for number in range(600) if verdict(machine, arch, number) == ALLOW]
    assert len(passed) == len(ALLOWED[machine]) + 2


def test_the_self_test_notices_an_open_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    monkeypatch.setattr(os, "fork", lambda: 1)
    monkeypatch.setattr(os, "waitpid", lambda *_: None)
    assert len(open_doors(1 << 20, os.getppid())) == 10
