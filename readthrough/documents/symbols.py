"""What a source file defines, uses and imports. Of a broken file there is what can be had."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from readthrough.documents.grammars.base import Import, text_of
from readthrough.documents.parsing import Parsed, parse
from readthrough.types import Section

if TYPE_CHECKING:
    from tree_sitter import Node

VERSION = 1
"""Raised when the same file gives other symbols."""

SIGNATURE_CHARS = 160
# A definition may be wrapped; it then begins with the wrapper: decorators, `export`, template parameters.
_AROUND_ONE = frozenset(("decorated_definition", "export_statement", "template_declaration"))
_AROUND_SOME = frozenset(("type_declaration", "lexical_declaration", "variable_declaration"))
_WITHOUT_HEAD = frozenset(("decorated_definition", "template_declaration"))
_FUNCTIONS = frozenset(("function", "method", "local"))
_TYPES = frozenset(("class", "type", "impl"))
_SECTIONS = _FUNCTIONS | _TYPES | {"module"}
_SECTIONS_IF_LONG = frozenset(("alias", "macro"))


class Definition(NamedTuple):
    """A name that a file defines, and the span of what defines it.

    Attributes:
        kind: function, method, class, type, alias, constant, macro, module, impl, prototype (see
            `documents.grammars.base`), or local: a function or class inside of a function.
        path: the names of the definitions around it and its own.
        line: the line (from 1) of the name.
        signature: how it begins, on one line, up to its body.
    """

    name: str
    kind: str
    path: tuple[str, ...]
    start: int
    end: int
    line: int
    signature: str


@dataclass(frozen=True, slots=True)
class Symbols:
    """What one file defines, in order; how often it uses which name; what it imports, in order."""

    definitions: tuple[Definition, ...] = ()
    references: Mapping[str, int] = field(default_factory=dict)
    imports: tuple[Import, ...] = ()


class _Found(NamedTuple):
    """A definition in bytes: the node around all of it, the node itself, and where its name stands."""

    outer: Node
    node: Node
    kind: str
    path: tuple[str, ...]
    name_byte: int
    line: int


def symbols_of(text: str, language: str | None) -> Symbols | None:
    """What a text defines, uses and imports; None where there is no grammar for the language."""
    parsed = parse(text, language)
    if parsed is None:
        return None
    found = list(_definitions(parsed))
    references, imports = _uses(parsed, found)
    return Symbols(tuple(_spans(parsed, text, found)), references, imports)


def definition_sections(text: str, language: str | None) -> tuple[Section, ...]:
    """Functions, methods and classes as sections with their qualified names, in order and without overlap.

    What stands between definitions belongs to the definition around it, at the top level to none. Empty
    where there is no grammar for the language.
    """
    parsed = parse(text, language)
    if parsed is None:
        return ()
    spans = [
        (made.start, made.end, made.path)
        for made in _spans(parsed, text, list(_definitions(parsed)))
        if made.kind in _SECTIONS or (made.kind in _SECTIONS_IF_LONG and "\n" in text[made.start : made.end - 1])
    ]
    return tuple(_without_overlap(spans))


def _definitions(parsed: Parsed) -> Iterator[_Found]:
    """The definitions, outer before inner, with their names from the outermost definition in."""
    around: list[_Found] = []
    for found in sorted(_named(parsed), key=lambda each: (each.outer.start_byte, -each.outer.end_byte)):
        while around and around[-1].outer.end_byte <= found.outer.start_byte:
            around.pop()
        inside = around[-1] if around else None
        kind = found.kind
        if inside is None:
            made = found
        elif inside.kind == "alias" and inside.path[-1] == found.path[-1]:
            continue  # `typedef struct lamp { ... } lamp;`
        elif inside.kind in _FUNCTIONS and kind not in ("function", "method", "class", "type"):
            continue
        else:
            kind = "local" if inside.kind in _FUNCTIONS else kind
            kind = "method" if kind == "function" and inside.kind in _TYPES else kind
            made = found._replace(kind=kind, path=inside.path + found.path)
        if kind != "constant":
            around.append(made)
        yield made


def _named(parsed: Parsed) -> Iterator[_Found]:
    """What the query finds, each name once: by the first pattern that fits."""
    from tree_sitter import QueryCursor

    best: dict[int, tuple[int, _Found]] = {}
    for pattern, captures in QueryCursor(parsed.tools.definitions).matches(parsed.root):
        key = next((key for key in captures if key.startswith("definition.")), None)
        if key is None:
            continue
        node, kind = captures[key][0], key.partition(".")[2]
        named = captures["name"][0] if "name" in captures else _declared(node)
        if named is None or not named.end_byte > named.start_byte:
            continue
        if kind == "variable":
            kind = "prototype" if _declares_function(node) else "constant"
        qualifier, _, name = text_of(named).rpartition("::")
        owners = tuple(part for part in re.sub(r"<.*>", "", qualifier).split("::") if part)
        owners += tuple(text_of(owner) for owner in captures.get("owner", ()))
        if owners and kind == "function":
            kind = "method"
        made = _Found(_outer(node), node, kind, (*owners, name), named.start_byte, named.start_point[0] + 1)
        if named.start_byte not in best or pattern < best[named.start_byte][0]:
            best[named.start_byte] = (pattern, made)
    return (made for _, made in best.values())


def _declared(node: Node) -> Node | None:
    """The node of the name that a declaration of C declares, behind pointers, parameters and sizes."""
    current = node
    while (inner := current.child_by_field_name("declarator") or _behind(current)) is not None:
        current = inner
    return None if current is node else current


def _behind(node: Node) -> Node | None:
    """The declarator in parentheses or behind `&`, which have no field for it."""
    if node.type not in ("parenthesized_declarator", "reference_declarator"):
        return None
    return node.named_children[-1] if node.named_children else None


def _declares_function(node: Node) -> bool:
    """Whether a declaration is of a function itself, and not of a variable, or of a pointer to a function."""
    current: Node | None = node
    while (current := current.child_by_field_name("declarator") if current is not None else None) is not None:
        if current.type == "function_declarator":
            inner = current.child_by_field_name("declarator")
            return inner is not None and inner.type != "parenthesized_declarator"
    return False


def _outer(node: Node) -> Node:
    """The node with what is wrapped around it."""
    while (parent := node.parent) is not None and (
        parent.type in _AROUND_ONE or (parent.type in _AROUND_SOME and parent.named_child_count == 1)
    ):
        node = parent
    return node


def _spans(parsed: Parsed, text: str, found: Sequence[_Found]) -> Iterator[Definition]:
    """The definitions in characters: whole lines where they stand on lines of their own."""
    offsets = parsed.characters([at for each in found for at in (each.outer.start_byte, each.outer.end_byte)])
    for each in found:
        start = _line_start(text, offsets[each.outer.start_byte])
        end = _line_end(text, offsets[each.outer.end_byte])
        name = each.path[-1]
        yield Definition(name, each.kind, each.path, start, end, each.line, _signature(parsed, each, name))


def _signature(parsed: Parsed, found: _Found, name: str) -> str:
    head = found.node if found.outer.type in _WITHOUT_HEAD else found.outer
    body = next((found_body for each in (found.node, *_values(found.node)) if (found_body := _body(each))), None)
    if body is not None and body.start_byte > head.start_byte:
        data = parsed.data[head.start_byte : body.start_byte]
    else:
        data = parsed.data[head.start_byte : head.end_byte].partition(b"\n")[0]
    line = " ".join(data.decode("utf-8", "replace").split()).rstrip(" {:;")
    if name not in line:
        line = f"{line} {name}"
    return line if len(line) <= SIGNATURE_CHARS else line[: SIGNATURE_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _values(node: Node) -> Iterator[Node]:
    """What a name is set to, where that is a function: `const f = () => {}`, `a.f = function () {}`."""
    for name in ("value", "right", "type"):
        value = node.child_by_field_name(name)
        if value is not None:
            yield value


def _body(node: Node) -> Node | None:
    return node.child_by_field_name("body")


def _uses(parsed: Parsed, found: Sequence[_Found]) -> tuple[dict[str, int], tuple[Import, ...]]:
    """How often each name is used, by name, and the imports in order."""
    from tree_sitter import QueryCursor

    captured = QueryCursor(parsed.tools.uses).captures(parsed.root)
    importing = sorted(captured.get("import", ()), key=lambda node: node.start_byte)
    imports = [made for node in importing for made in parsed.tools.grammar.imports(node) if made.module]
    passed = _Spans((node.start_byte, node.end_byte) for key in ("import", "skip") for node in captured.get(key, ()))
    data, scopes = parsed.data, _Scopes(found)
    ignored = {each.name_byte for each in found}
    for node in captured.get("local", ()):
        if node.start_byte not in ignored:
            scopes.bind(node.start_byte, data[node.start_byte : node.end_byte])
    ignored.update(node.start_byte for key in ("ignore", "local") for node in captured.get(key, ()))
    members = captured.get("member", ())
    behind = {node.start_byte for node in members}
    counts: Counter[bytes] = Counter()
    for node in captured.get("reference", ()):
        start = node.start_byte
        if start not in ignored and start not in behind and start not in passed:
            name = data[start : node.end_byte]
            if not scopes.binds(start, name):
                counts[name] += 1
    for node in members:
        if node.start_byte not in ignored and node.start_byte not in passed:
            counts[data[node.start_byte : node.end_byte]] += 1
    names = sorted((name.decode("utf-8", "replace"), count) for name, count in counts.items())
    return dict(names), tuple(imports)


class _Spans:
    """Spans of bytes, any of which may hold a place."""

    def __init__(self, spans: Iterator[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if not self._ends or end > self._ends[-1]:
                self._starts.append(start)
                self._ends.append(end)

    def __contains__(self, place: int) -> bool:
        index = bisect_right(self._starts, place) - 1
        return index >= 0 and place < self._ends[index]


class _Scopes:
    """Which names are bound where: each definition that holds others or statements is a scope."""

    def __init__(self, found: Sequence[_Found]) -> None:
        self._file = {each.path[0].encode() for each in found if len(each.path) == 1}
        self._parents: list[int] = [-1]
        self._bound: list[set[bytes]] = [set()]
        self._starts, self._owners = [0], [0]
        around: list[tuple[int, int]] = []
        for each in found:
            start, end = each.outer.start_byte, each.outer.end_byte
            self._close(around, start)
            if each.kind not in ("constant", "alias"):
                self._parents.append(around[-1][1] if around else 0)
                self._bound.append(set())
                around.append((end, len(self._parents) - 1))
                self._mark(start, around[-1][1])
        self._close(around, 1 << 62)

    def _close(self, around: list[tuple[int, int]], place: int) -> None:
        while around and around[-1][0] <= place:
            end, scope = around.pop()
            self._mark(end, self._parents[scope])

    def _mark(self, start: int, scope: int) -> None:
        self._starts.append(start)
        self._owners.append(scope)

    def bind(self, place: int, name: bytes) -> None:
        """Note that `name` is bound at a place; at the top level unless the file defines it for others."""
        scope = self._owners[bisect_right(self._starts, place) - 1]
        if scope or name not in self._file:
            self._bound[scope].add(name)

    def binds(self, place: int, name: bytes) -> bool:
        """Whether `name` is bound where it is used at a place."""
        scope = self._owners[bisect_right(self._starts, place) - 1]
        while scope >= 0:
            if name in self._bound[scope]:
                return True
            scope = self._parents[scope]
        return False


def _line_start(text: str, offset: int) -> int:
    start = text.rfind("\n", 0, offset) + 1
    return start if not text[start:offset].strip() else offset


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    end = len(text) if end == -1 else end + 1
    return end if not text[offset:end].strip() else offset


def _without_overlap(spans: list[tuple[int, int, tuple[str, ...]]]) -> Iterator[Section]:
    """Nested spans (outer first) as a row of sections: the outer one goes on where an inner one ends."""
    open_spans: list[tuple[int, tuple[str, ...]]] = []
    position = 0
    for start, end, path in [*spans, (1 << 62, 0, ())]:
        while open_spans and open_spans[-1][0] <= start:
            outer_end, outer_path = open_spans.pop()
            if outer_end > position:
                yield Section(outer_path, position, outer_end)
                position = outer_end
        if start < position or end <= start:
            continue
        if open_spans and start > position:
            yield Section(open_spans[-1][1], position, start)
        position = start
        open_spans.append((end, path))
