"""Programming languages: which suffix is which, and where the definitions in a source file stand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from readthrough.types import Section

if TYPE_CHECKING:
    from tree_sitter import Language, Node

# Names as tree-sitter gives them.
LANGUAGES = {
    ".py": "python", ".pyi": "python", ".pyw": "python",
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
    ".go": "go", ".rs": "rust", ".java": "java", ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala",
    ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hh": "cpp", ".hpp": "cpp", ".hxx": "cpp",
    ".cu": "cuda", ".cuh": "cuda", ".m": "objc", ".mm": "objc", ".cs": "c_sharp", ".fs": "fsharp", ".vb": "vb",
    ".rb": "ruby", ".php": "php", ".pl": "perl", ".pm": "perl", ".lua": "lua", ".swift": "swift", ".dart": "dart",
    ".jl": "julia", ".r": "r", ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".hs": "haskell", ".ml": "ocaml",
    ".mli": "ocaml", ".clj": "clojure", ".lisp": "commonlisp", ".el": "elisp", ".scm": "scheme", ".zig": "zig",
    ".nim": "nim", ".f90": "fortran", ".f": "fortran", ".asm": "asm", ".s": "asm", ".v": "verilog", ".sv": "verilog",
    ".vhd": "vhdl", ".sol": "solidity", ".groovy": "groovy", ".gradle": "groovy",
    ".sh": "bash", ".bash": "bash", ".zsh": "bash", ".fish": "fish", ".ps1": "powershell", ".bat": "batch",
    ".sql": "sql", ".graphql": "graphql", ".proto": "proto", ".thrift": "thrift",
    ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json", ".jsonl": "json", ".json5": "json",
    ".ini": "ini", ".cfg": "ini", ".conf": "ini", ".properties": "properties", ".env": "properties",
    ".xml": "xml", ".xsd": "xml", ".xsl": "xml", ".svg": "xml", ".css": "css", ".scss": "scss", ".less": "less",
    ".vue": "vue", ".svelte": "svelte", ".cmake": "cmake", ".mk": "make", ".nix": "nix", ".tf": "hcl", ".hcl": "hcl",
    ".diff": "diff", ".patch": "diff", ".ipynb": "json",
}  # fmt: skip
FILE_NAMES = {"dockerfile": "dockerfile", "makefile": "make", "cmakelists.txt": "cmake", "jenkinsfile": "groovy"}
# language -> module of its grammar and the function that returns it, for the grammars that are Python packages.
GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
}
DEFINITIONS = frozenset((
    "function_definition", "class_definition", "struct_specifier", "class_specifier", "enum_specifier",
    "union_specifier", "namespace_definition", "template_declaration", "function_declaration",
    "generator_function_declaration", "class_declaration", "method_definition", "abstract_class_declaration",
    "interface_declaration", "enum_declaration", "type_alias_declaration", "method_declaration", "type_spec",
    "constructor_declaration", "record_declaration", "function_item", "struct_item", "enum_item", "trait_item",
    "impl_item", "mod_item", "macro_definition",
))  # fmt: skip
# A definition may be wrapped; its section then begins with the wrapper (decorators, export, template parameters).
WRAPPERS = frozenset(("decorated_definition", "export_statement", "template_declaration", "type_declaration"))
# Beyond this a file is data or minified, and a parse may take long.
PARSED_CHARS = 4_000_000


def language_of(file_name: str) -> str | None:
    """The language of a file by its name, or None."""
    lower = file_name.lower()
    return FILE_NAMES.get(lower) or LANGUAGES.get(lower[lower.rfind(".") :] if "." in lower else "")


@cache
def _grammar(language: str) -> Language | None:
    """The grammar of `language`, or None where it is not installed."""
    if language not in GRAMMARS:
        return None
    module, function = GRAMMARS[language]
    try:
        from tree_sitter import Language

        return Language(getattr(import_module(module), function)())
    except ImportError:
        return None


def definition_sections(text: str, language: str | None) -> tuple[Section, ...]:
    """Functions, methods and classes as sections with their qualified names, in order and without overlap.

    What stands between definitions belongs to the definition around it, at the top level to none. Empty
    where there is no grammar for the language.
    """
    grammar = _grammar(language) if language and len(text) <= PARSED_CHARS else None
    if grammar is None:
        return ()
    from tree_sitter import Parser

    data = text.encode("utf-8", "replace")
    found = list(_definitions(Parser(grammar).parse(data).root_node))
    offsets = _char_offsets(data, [offset for start, end, _ in found for offset in (start, end)])
    spans = [(_line_start(text, offsets[start]), _line_end(text, offsets[end]), path) for start, end, path in found]
    return tuple(_without_overlap(spans))


def _definitions(root: Node) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Definitions, outer before inner, as (start byte, end byte, qualified name)."""
    stack: list[tuple[Node, tuple[str, ...], int]] = [(root, (), -1)]
    while stack:
        node, path, wrapper_start = stack.pop()
        start = wrapper_start if wrapper_start >= 0 else node.start_byte
        name = _name(node) if node.type in DEFINITIONS else ""
        if name:
            path = (*path, name)
            yield start, node.end_byte, path
        inherited = start if node.type in WRAPPERS and not name else -1
        stack += [(child, path, inherited) for child in reversed(node.named_children)]


def _name(node: Node) -> str:
    """The name of a definition, through the declarators of C; empty where it has none, or is only a use."""
    if node.type.endswith("_specifier") and node.child_by_field_name("body") is None:
        return ""
    current: Node | None = node
    for field in ("name", "declarator", "declarator", "declarator", "type"):
        inner = current.child_by_field_name(field) if current is not None else None
        current = inner or current
    if current is None or current is node or current.text is None:
        return ""
    return " ".join(current.text.decode("utf-8", "replace").split())


def _char_offsets(data: bytes, byte_offsets: list[int]) -> dict[int, int]:
    """Character offsets by byte offset: tree-sitter counts bytes of UTF-8."""
    if data.isascii():
        return {offset: offset for offset in byte_offsets}
    offsets: dict[int, int] = {}
    done_bytes = done_chars = 0
    for offset in sorted(set(byte_offsets)):
        done_chars += len(data[done_bytes:offset].decode("utf-8", "replace"))
        done_bytes = offset
        offsets[offset] = done_chars
    return offsets


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
