"""Triton kernels where there is no GPU: run by Triton's interpreter, and compiled for a GPU that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

ARCHITECTURE = 90
"""H100."""


def run_apart(test_file: str, code: str, folder: Path, *, interpret: bool) -> None:
    """Run `code` after importing the module of `test_file` as `tests`, in a process of its own.

    Whether Triton interprets or compiles is settled when it is imported.
    """
    file = Path(test_file)
    preamble = f"import sys, torch; sys.path.insert(0, {str(file.parent)!r}); import {file.stem} as tests\n"
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder), "TRITON_INTERPRET": "1" if interpret else "0"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", preamble + code], capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stderr


def run_interpreted(file: str, test: str) -> None:
    """Run tests of `file` whose names contain `test` under Triton's interpreter, which must be on before the import."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", test]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def compile_kernel(kernel: Any, arguments: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    """Compile a kernel to machine code. Raises Triton's error where it does not compile.

    Args:
        kernel: the function with `triton.jit`.
        arguments: the types of the others of its parameters, as `"*bf16"`, `"i32"` or tuples of them.
        constants: the values of its compile-time parameters, which come last.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = [*arguments, *constants]
    source = ASTSource(
        fn=kernel,
        signature={**arguments, **dict.fromkeys(constants, "constexpr")},
        constexprs={(names.index(name),): value for name, value in constants.items()},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", ARCHITECTURE, 32))
    assert "cubin" in compiled.asm
    # what a block of threads of an H100 may share
    assert compiled.metadata.shared <= 227 * 1024
