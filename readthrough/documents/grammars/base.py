"""What a language file holds. To add a language: its file here, named as the language, and its suffixes in
`documents.languages`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node


@dataclass(frozen=True, slots=True)
class Import:
    """What a file takes from elsewhere: a module as it is written there, and the names that are taken from it."""

    module: str
    names: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Grammar:
    """One language, by tree-sitter.

    Attributes:
        module: the Python package of the grammar, and `function`, what in it returns the grammar.
        definitions: a query. `@definition.KIND` is a definition, `@name` its name (found through declarators where
            it is left out), `@owner` the type that it belongs to where it does not stand inside of it. Kinds:
            function, method, class, type, alias, constant, macro, module, impl (more of a type that is
            defined elsewhere), prototype (a function that is defined elsewhere), variable (a constant or a
            prototype, by its declarator).
        uses: a query. `@reference` is the use of a name, `@member` one behind a dot, `@local` where a name is
            bound in its function, `@ignore` a name that is neither, `@skip` code without uses, `@import` a node
            for `imports`.
        blocks: types of the nodes whose children are statements or declarations.
        imports: reads an `@import` node.
    """

    module: str
    function: str
    definitions: str
    uses: str
    blocks: frozenset[str]
    imports: Callable[[Node], Iterator[Import]]


def text_of(node: Node | None) -> str:
    """The text of a node on one line; empty for None."""
    return " ".join(node.text.decode("utf-8", "replace").split()) if node is not None and node.text else ""


def line_of(node: Node) -> int:
    """The line (from 1) where a node starts."""
    return node.start_point[0] + 1
