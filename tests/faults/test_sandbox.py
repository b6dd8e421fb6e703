"""Programs that mean harm: each ends in an error that its author can read, and nothing else happens."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from readthrough.errors import SandboxError
from readthrough.sandbox import programs
from readthrough.sandbox.programs import Outcome, ProgramLimits, ProgramSession

CONTEXT = "The brass key was hidden by Ann Weller.\n\nNobody knows why."
DOCUMENTS = [("book.txt", 0, len(CONTEXT))]
LIMITS = ProgramLimits(seconds=20.0, memory_bytes=64 << 20, output_characters=500)
TOOLS = {"search": lambda arguments: [["found", 0, 5]], "llm_query_batched": lambda arguments: ["said"]}

SYSCALL = """import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
print(libc.syscall({}), ctypes.get_errno())"""

REFUSED = {
    "read a file": "open('/etc/passwd').read()",
    "read what can be imported": "open(json.__file__).read()",
    "write a file": "open('harm.txt', 'w').write('x')",
    "read /proc": "open('/proc/self/environ').read()",
    "look into the parent": "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "list folders": "import os\nos.listdir('/')",
    "look at a file": "import os\nos.stat('/etc/passwd')",
    "delete": "import os\nos.remove('/etc/hostname')",
    "change rights": "import os\nos.chmod('.', 0o777)",
    "link": "import os\nos.symlink('/etc', 'etc')",
    "make a pipe": "import os\nos.pipe()",
    "copy a descriptor": "import os\nos.dup(0)",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "a local socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "a pair of sockets": "import socket\nsocket.socketpair()",
    "look up a name": "import socket\nsocket.getaddrinfo('example.invalid', 80)",
    "the shell": "import os\nos.system('touch harm.txt')",
    "a process": "import subprocess\nsubprocess.run(['ls'])",
    "spawn": "import os\nos.posix_spawn('/bin/ls', ['ls'], {})",
    "a fork": "import os\nos.fork()",
    "a fork bomb": "import os\nwhile True:\n    os.fork()",
    "another program": "import os\nos.execv('/bin/ls', ['ls'])",
    "a thread": "import threading\nthreading.Thread(target=print).start()",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)",
    "kill all": "import os\nos.kill(-1, 9)",
    "more descriptors": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
    "more memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "a pickle": "import pickle\npickle.loads(b'cos\\nsystem\\n(S\\'touch harm.txt\\'\\ntR.')",
    "a large text": "x = 'x' * 10**10",
    "ever more memory": "def f(kept):\n    while True:\n        kept.append('x' * 10**6)\nf([])",
    "a module from disk": "import sqlite3",
    "endless recursion": "def f():\n    return f()\nf()",
    "an end": "import sys\nsys.exit(3)",
    "no program": "Here is the program:",
    "bytes that are no text": "x = '\\0'\0",
    "another tool": "llm_query.__self__._ask('shell', ['ls'])",
    "a tool with nonsense": "search({}, k='many')",
}

CRASHES = {
    "an endless loop": "while True: pass",
    "a long sleep": "import time\ntime.sleep(1000)",
    "a crash": "import ctypes\nctypes.string_at(0)",
    "an end without a word": "import os\nos._exit(0)",
    "a signal to itself": "import ctypes\nctypes.CDLL(None).abort()",
    "words that are no message": "import os\nos.write(1, b'x' * 100)",
    "an endless message": "import os\nos.write(1, (1 << 60).to_bytes(8, 'big'))",
    "a message that is no JSON": "import os\nos.write(1, (3).to_bytes(8, 'big') + b'abc')",
    "a message that is no object": "import os\nos.write(1, (2).to_bytes(8, 'big') + b'[]')",
    "a deep message": "import os\nos.write(1, (10**5).to_bytes(8, 'big') + b'[' * 10**5)",
    "a closed pipe": "import os\nos.close(1)\nos.close(0)",
    "a question that it does not wait for": "while True:\n    llm_query.__self__._pipe.send({'call': 'search'})",
    "an error that cannot be told": "class E(Exception):\n    def __str__(self):\n        raise self\nraise E",
}


@pytest.fixture(scope="module")
def session() -> Iterator[ProgramSession]:
    with ProgramSession(CONTEXT, DOCUMENTS, LIMITS) as opened:
        yield opened


@pytest.fixture(autouse=True)
def unharmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    assert not Path("harm.txt").exists() and not Path("etc").exists()


@pytest.mark.parametrize("attack", REFUSED)
def test_what_is_refused_is_an_error_and_the_session_goes_on(session: ProgramSession, attack: str) -> None:
    outcome = session.run(REFUSED[attack], TOOLS)
    assert outcome.error and outcome.alive, outcome
    assert session.run("print(len(context))", TOOLS) == Outcome(f"{len(CONTEXT)}\n", len(str(len(CONTEXT))) + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="system calls of Linux")
@pytest.mark.parametrize(
    "call",
    [
        "257, -100, b'/etc/passwd', 0",  # openat
        "56, -100, b'/etc/passwd', 0",  # openat where the machine is aarch64; clone on x86-64
        "2, b'/etc/passwd', 0",  # open
        "437, -100, b'/etc/passwd', 0, 0",  # openat2
        "425, 8, 0",  # io_uring_setup
        "41, 2, 1, 0",  # socket
        "59, b'/bin/ls', 0, 0",  # execve
        "435, 0, 0",  # clone3
        "310, 1, 0, 0, 0, 0, 0",  # process_vm_readv
        "101, 16, 1, 0, 0",  # ptrace
        "157, 22, 0, 0, 0, 0",  # prctl
        "321, 0, 0, 0",  # bpf
        "319, b'x', 0",  # memfd_create
        "9, 0, 4096, 7, 34, -1, 0",  # mmap of memory that can be executed
        "0x40000002, b'/etc/passwd', 0",  # open of the x32 interface
    ],
)
def test_system_calls_of_its_own_are_refused(session: ProgramSession, call: str) -> None:
    assert session.run(SYSCALL.format(call), TOOLS).output.split() in (["-1", "1"], ["-1", "38"])


@pytest.mark.parametrize("attack", CRASHES)
def test_what_ends_the_process_is_an_error_too(attack: str) -> None:
    quick = ProgramLimits(seconds=2.0, memory_bytes=64 << 20)
    with ProgramSession(CONTEXT, DOCUMENTS, quick) as opened:
        outcome = opened.run(CRASHES[attack], TOOLS)
        assert outcome.error and not outcome.alive
        assert not opened.run("print(1)", TOOLS).alive


def test_a_huge_output_is_cut(session: ProgramSession) -> None:
    outcome = session.run("for number in range(10**5):\n    print('x' * 100)", TOOLS)
    assert len(outcome.output) == 500 and outcome.characters == 101 * 10**5 and outcome.alive


def test_what_it_says_is_cleaned_and_cut(session: ProgramSession) -> None:
    outcome = session.run("print('\\ud800' + 'x')\nanswer('\\udfff' * 10**4)\nraise ValueError('y' * 10**5)", TOOLS)
    assert outcome.output == "?x\n" and outcome.answer == "?" * 500
    assert outcome.error is not None and len(outcome.error) == 500


def test_nothing_of_ours_is_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with ProgramSession(CONTEXT, DOCUMENTS, LIMITS) as opened:
        outcome = opened.run("import os, sys\nprint(dict(os.environ), 'torch' in sys.modules)", TOOLS)
    assert outcome.output == "{} False\n"


def test_an_error_of_ours_comes_out_and_the_process_is_gone() -> None:
    def broken(arguments: list[Any]) -> Any:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError, match="ours"), ProgramSession(CONTEXT, DOCUMENTS, LIMITS) as opened:
        opened.run("search('x')", {"search": broken})
    assert opened._child._process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="a signal of Linux")
def test_it_ends_with_its_parent() -> None:
    pipe_read, pipe_write = os.pipe()
    parent = os.fork()
    if parent == 0:
        opened = ProgramSession(CONTEXT, DOCUMENTS, LIMITS)
        os.write(pipe_write, str(opened._child._process.pid).encode() + b"\n")
        threading.Thread(target=opened.run, args=("while True: pass", TOOLS), daemon=True).start()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(parent, 0)
    child = int(os.read(pipe_read, 64))
    os.close(pipe_read), os.close(pipe_write)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the program outlives its parent")


MEANS = "from readthrough.sandbox import confining, session\nmeans = confining._means\n"
ONLY = MEANS + "confining._means = lambda size: {{k: v for k, v in means(size).items() if k in {!r}}}\nsession.main()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="means of Linux")
@pytest.mark.parametrize(
    ("means", "refused"),
    [
        ((), "its process ended"),  # it could become another program
        (("memory",), "its process ended"),
        (("memory", "limits", "landlock"), "look at a file"),
        (("limits", "seccomp"), "take more memory"),
        (("memory", "seccomp"), None),
    ],
)
def test_where_no_means_suffices_it_is_refused(
    means: tuple[str, ...], refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weak_session.py").write_text(ONLY.format(means))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(programs, "SESSION_MODULE", "weak_session")
    if refused is None:
        ProgramSession(CONTEXT, DOCUMENTS, LIMITS).close()
        return
    with pytest.raises(SandboxError, match=refused) as caught:
        ProgramSession(CONTEXT, DOCUMENTS, LIMITS)
    assert caught.value.exit_code == 4 and caught.value.hint
