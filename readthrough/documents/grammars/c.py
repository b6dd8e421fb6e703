"""C, and what C++ shares with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

DEFINITIONS = """
(function_definition) @definition.function
(struct_specifier name: (type_identifier) @name body: (_)) @definition.type
(union_specifier name: (type_identifier) @name body: (_)) @definition.type
(enum_specifier name: (type_identifier) @name body: (_)) @definition.type
(type_definition declarator: (_)) @definition.alias
(enumerator name: (identifier) @name) @definition.constant
(preproc_def name: (identifier) @name value: (preproc_arg)) @definition.macro
(preproc_function_def name: (identifier) @name) @definition.macro
(declaration) @definition.variable
"""
# How deep a declared name may stand in its declarator: `char *names[]`.
_NAME = "(identifier) @local"
_ONCE = f"(pointer_declarator declarator: {_NAME}) (array_declarator declarator: {_NAME})"
_TWICE = f"(pointer_declarator declarator: [{_ONCE}]) (array_declarator declarator: [{_ONCE}])"
_DECLARED = f"[{_NAME} {_ONCE} {_TWICE}]"
USES = f"""
(identifier) @reference
(type_identifier) @reference
(field_identifier) @member
(field_declaration declarator: (field_identifier) @ignore)
(field_declaration declarator: (pointer_declarator declarator: (field_identifier) @ignore))
(field_declaration declarator: (array_declarator declarator: (field_identifier) @ignore))
(parameter_declaration declarator: {_DECLARED})
(declaration declarator: {_DECLARED})
(init_declarator declarator: {_DECLARED})
(preproc_params (identifier) @local)
(preproc_ifdef name: (identifier) @ignore)
(preproc_def name: (identifier) @ignore)
(preproc_include) @import
"""
BLOCKS = frozenset((
    "translation_unit", "compound_statement", "field_declaration_list", "enumerator_list", "declaration_list",
    "case_statement", "preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif",
))  # fmt: skip


def imports(node: Node) -> Iterator[Import]:
    """The header as it is written, `<` and `>` left on one of the system."""
    path = node.child_by_field_name("path")
    if path is not None and path.type in ("string_literal", "system_lib_string"):
        yield Import(text_of(path).strip('"'), (), line_of(node))


GRAMMAR = Grammar("tree_sitter_c", "language", DEFINITIONS, USES, BLOCKS, imports)
