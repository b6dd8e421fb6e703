"""What each language defines, uses and imports: `tests/fixtures/code/NAME.symbols` says what is in `NAME`."""

from __future__ import annotations

from pathlib import Path

import pytest

from readthrough.documents import parsing
from readthrough.documents.languages import GRAMMARS, language_of
from readthrough.documents.statements import inner_lines
from readthrough.documents.symbols import SIGNATURE_CHARS, Symbols, symbols_of

CODE = Path(__file__).parents[2] / "fixtures" / "code"
SOURCES = sorted(path.stem for path in CODE.glob("*.symbols"))


def read(name: str) -> str:
    return (CODE / name).read_text(encoding="utf-8")


def shown(symbols: Symbols) -> str:
    """Definitions, uses and imports as the `.symbols` files write them down."""
    definitions = [f"{made.line} {made.kind} {'.'.join(made.path)}: {made.signature}" for made in symbols.definitions]
    uses = [name if count == 1 else f"{name}*{count}" for name, count in symbols.references.items()]
    imports = [f"{made.line} {made.module}: {' '.join(made.names)}".rstrip() for made in symbols.imports]
    return "\n\n".join("\n".join(part) for part in (definitions, uses, imports)) + "\n"


@pytest.mark.parametrize("name", SOURCES)
def test_symbols_of_each_language(name: str) -> None:
    symbols = symbols_of(read(name), language_of(name))
    assert symbols is not None
    assert shown(symbols) == read(f"{name}.symbols")


def test_every_grammar_has_a_sample() -> None:
    assert {language_of(name) for name in SOURCES} == set(GRAMMARS)


@pytest.mark.parametrize("name", SOURCES)
def test_spans_and_lines_are_those_of_the_text(name: str) -> None:
    text = read(name)
    symbols = symbols_of(text, language_of(name))
    assert symbols is not None
    for made in symbols.definitions:
        assert made.name in text.split("\n")[made.line - 1]
        assert made.name in text[made.start : made.end]
        assert len(made.signature) <= SIGNATURE_CHARS


def test_half_a_file_gives_what_is_there() -> None:
    """A file that is being written: cut at any place it has symbols, and the definitions before the cut."""
    text = read("tower.py")
    for end in range(0, len(text), 7):
        symbols = symbols_of(text[:end], "python")
        assert symbols is not None
        if end > text.index("class Tower"):
            assert "größe" in [made.name for made in symbols.definitions]


@pytest.mark.parametrize("language", GRAMMARS)
@pytest.mark.parametrize(
    "text", ["", "\n", "((" * 2000, "\0\x01 }}} def class", "\ud800 = 1", "{" * 2000, "a::" * 2000, "use a::{" * 2000]
)
def test_no_text_is_an_error(language: str, text: str) -> None:
    assert symbols_of(text, language) is not None
    inner_lines(text, language)


def test_what_cannot_be_parsed() -> None:
    assert symbols_of("fn main() {}", "brainfuck") is None
    assert symbols_of("a = 1", None) is None
    assert symbols_of("a = 1\n" * (parsing.PARSED_CHARS // 6 + 1), "python") is None


def test_a_header_of_c_with_classes_is_read_as_cpp() -> None:
    symbols = symbols_of("#pragma once\nnamespace sea {\nclass Tower {\n  void light();\n};\n}\n", "c")
    assert symbols is not None
    assert [made.path for made in symbols.definitions] == [("sea",), ("sea", "Tower"), ("sea", "Tower", "light")]


def test_a_name_is_local_only_in_its_function() -> None:
    symbols = symbols_of("def a(light):\n    return light\n\ndef b():\n    return light\n", "python")
    assert symbols is not None
    assert symbols.references == {"light": 1}


LONG = """def light(self):
    burn(
        oil=1,
        hours=2,
    )
    if lit:
        turn()
    else:
        dim()
    text = '''
    said
    '''
    return lit
"""


def test_lines_inside_of_statements() -> None:
    inner = inner_lines(LONG, "python")
    begun, position = [], 0
    for line in LONG.splitlines(keepends=True):
        if position not in inner:
            begun.append(line.strip())
        position += len(line)
    assert begun == ["def light(self):", "if lit:", "text = '''", "return lit"]
