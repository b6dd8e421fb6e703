"""A folder of real documents of mixed kinds, some of them broken, made from the texts of another folder.

    python -m benchmarks.mixed_folder TEXTS FOLDER [--documents 200] [--broken 10] [--seed 0]

TEXTS holds text files (.txt, .md) or JSON lines whose rows have a long text. They are cut at the borders of paragraphs
into documents of 1 to 40 pages, none twice, and written as PDF, DOCX, EPUB, HTML, Markdown and plain text; every
seventh document is a Python source of an installed package. `--documents` counts the broken ones too. Beside FOLDER
stands `FOLDER.manifest.json`: what each file is; of every fifth, a question with its answer, which a sentence in the
middle of the text gives.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.broken_files import write_broken
from benchmarks.mixed_files import WRITERS, fits_pdf

PAGE_CHARACTERS = 1_800
MOST_PAGES = 40
QUESTION = "What is the shelf mark of this document?"
_SENTENCE = "The shelf mark of this document is {}."
_ASKED_EVERY = 5
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_CODE_BYTES = (2_000, 60_000)


@dataclass(frozen=True)
class Made:
    """A file of the folder.

    Attributes:
        path: in the folder.
        kind: its suffix; of source code `py`.
        source: the text that it is cut from.
        characters: of the text that it holds.
        broken: it cannot be read.
        question, answer: what can be asked of it, None where nothing is known.
    """

    path: str
    kind: str
    source: str
    characters: int
    broken: bool = False
    question: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Piece:
    """Some paragraphs of a text."""

    source: str
    paragraphs: tuple[str, ...]

    @property
    def characters(self) -> int:
        return sum(map(len, self.paragraphs))


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description="A folder of documents of mixed kinds.")
    parser.add_argument("texts", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--broken", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made = make(options.texts, options.folder, options.documents - options.broken, options.broken, options.seed)
    path = manifest_of(options.folder)
    path.write_text(json.dumps({"seed": options.seed, "files": [asdict(file) for file in made]}, indent=1) + "\n")
    print(f"{len(made)} files in {options.folder}, {path}")


def manifest_of(folder: Path) -> Path:
    """Where it stands what a folder holds."""
    return folder.with_name(f"{folder.name}.manifest.json")


def make(texts: Path, folder: Path, whole: int, broken: int, seed: int) -> list[Made]:
    """Write `whole` documents that can be read and `broken` that cannot into a folder that is made.

    Raises:
        FileExistsError: the folder exists.
        SystemExit: the texts are too few.
    """
    chance = random.Random(seed)
    kinds = [*WRITERS, "py"]
    wanted = [kinds[number % len(kinds)] for number in range(whole)]
    pieces = sorted(_pieces(texts, chance), key=lambda piece: chance.random())
    programs = sorted(_programs(), key=lambda path: (chance.random(), path))
    if len(pieces) < whole - wanted.count("py"):
        raise SystemExit(f"{texts} is enough for {len(pieces)} documents, not for {whole - wanted.count('py')}")
    folder.mkdir(parents=True)
    made = []
    for number, kind in enumerate(wanted):
        path = folder / kind / f"{number:04}.{kind}"
        path.parent.mkdir(exist_ok=True)
        if kind == "py":
            made.append(_copied(programs.pop(), path, folder))
        else:
            taken = next(place for place, piece in enumerate(pieces) if kind != "pdf" or _fits_pdf(piece))
            mark = f"{chance.choice('KLMQRT')}{chance.randrange(1000, 10000)}" if number % _ASKED_EVERY == 0 else None
            made.append(_written(pieces.pop(taken), path, folder, mark))
    return made + [Made(write_broken(folder, number), "", "", 0, broken=True) for number in range(broken)]


def _written(piece: Piece, path: Path, folder: Path, mark: str | None) -> Made:
    paragraphs = list(piece.paragraphs)
    if mark is not None:
        paragraphs.insert(len(paragraphs) // 2, _SENTENCE.format(mark))
    title = f"{Path(piece.source).stem.replace('_', ' ')}, {path.stem}"
    path.write_bytes(WRITERS[path.suffix[1:]](title, paragraphs))
    name, characters = path.relative_to(folder).as_posix(), sum(map(len, paragraphs))
    return Made(name, path.suffix[1:], piece.source, characters, False, QUESTION if mark else None, mark)


def _copied(program: Path, path: Path, folder: Path) -> Made:
    text = program.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return Made(path.relative_to(folder).as_posix(), "py", "/".join(program.parts[-2:]), len(text))


def _fits_pdf(piece: Piece) -> bool:
    return all(map(fits_pdf, piece.paragraphs))


def _pieces(texts: Path, chance: random.Random) -> Iterator[Piece]:
    """All texts cut into pieces of 1 to 40 pages, small ones as likely as those ten times as long."""
    for source, text in _texts(texts):
        paragraphs: list[str] = []
        wanted = _pages(chance)
        for paragraph in re.split(r"\n\s*\n", _CONTROL.sub(" ", text)):
            if paragraph.strip():
                paragraphs.append(" ".join(paragraph.split()))
            if sum(map(len, paragraphs)) >= wanted * PAGE_CHARACTERS:
                yield Piece(source, tuple(paragraphs))
                paragraphs, wanted = [], _pages(chance)
        if sum(map(len, paragraphs)) >= PAGE_CHARACTERS:
            yield Piece(source, tuple(paragraphs))


def _pages(chance: random.Random) -> float:
    return float(MOST_PAGES ** chance.random())


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".txt", ".md"):
            yield path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8-sig", errors="replace")
        elif path.suffix == ".jsonl":
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                longest = max((value for value in json.loads(line).values() if isinstance(value, str)), key=len)
                yield f"{path.relative_to(folder).as_posix()}:{number}", longest


def _programs() -> Sequence[Path]:
    """Python sources of the installed packages that are neither tiny nor huge."""
    least, most = _CODE_BYTES
    found = sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))
    return [path for path in found if least <= path.stat().st_size <= most and _is_utf8(path)]


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


if __name__ == "__main__":
    main()
