"""Go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

DEFINITIONS = """
(function_declaration name: (identifier) @name) @definition.function
(method_declaration receiver: (parameter_list (parameter_declaration type: [
    (type_identifier) @owner
    (pointer_type (type_identifier) @owner)
    (generic_type type: (type_identifier) @owner)
    (pointer_type (generic_type type: (type_identifier) @owner))
  ])) name: (field_identifier) @name) @definition.method
(type_spec name: (type_identifier) @name) @definition.type
(type_alias name: (type_identifier) @name) @definition.type
(source_file (const_declaration (const_spec name: (identifier) @name) @definition.constant))
(source_file (var_declaration (var_spec name: (identifier) @name) @definition.constant))
(source_file (var_declaration (var_spec_list (var_spec name: (identifier) @name) @definition.constant)))
"""
USES = """
(identifier) @reference
(type_identifier) @reference
(field_identifier) @member
(field_declaration name: (field_identifier) @ignore)
(method_elem name: (field_identifier) @ignore)
(keyed_element . (literal_element (identifier) @ignore))
(parameter_declaration name: (identifier) @local)
(variadic_parameter_declaration name: (identifier) @local)
(type_parameter_declaration name: (identifier) @local)
(short_var_declaration left: (expression_list (identifier) @local))
(range_clause left: (expression_list (identifier) @local))
(var_spec name: (identifier) @local)
(const_spec name: (identifier) @local)
(import_spec) @import
"""
BLOCKS = frozenset((
    "source_file", "block", "statement_list", "field_declaration_list", "expression_case", "default_case", "type_case",
    "expression_switch_statement", "type_switch_statement", "select_statement", "communication_case",
    "import_spec_list", "const_declaration", "var_spec_list", "interface_type",
))  # fmt: skip


def imports(node: Node) -> Iterator[Import]:
    """A package by its path."""
    yield Import(text_of(node.child_by_field_name("path")).strip('"`'), (), line_of(node))


GRAMMAR = Grammar("tree_sitter_go", "language", DEFINITIONS, USES, BLOCKS, imports)
