"""Java."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

DEFINITIONS = """
(class_declaration name: (identifier) @name) @definition.class
(record_declaration name: (identifier) @name) @definition.class
(interface_declaration name: (identifier) @name) @definition.type
(enum_declaration name: (identifier) @name) @definition.type
(annotation_type_declaration name: (identifier) @name) @definition.type
(method_declaration name: (identifier) @name) @definition.method
(constructor_declaration name: (identifier) @name) @definition.method
(compact_constructor_declaration name: (identifier) @name) @definition.method
((field_declaration (modifiers) @modifiers declarator: (variable_declarator name: (identifier) @name))
  @definition.constant (#match? @modifiers "\\\\bstatic\\\\b"))
"""
USES = """
(identifier) @reference
(type_identifier) @reference
(method_invocation name: (identifier) @member)
(method_reference (identifier) @member .)
(field_access field: (identifier) @member)
(element_value_pair key: (identifier) @ignore)
(enum_constant name: (identifier) @ignore)
(formal_parameter name: (identifier) @local)
(variable_declarator name: (identifier) @local)
(enhanced_for_statement name: (identifier) @local)
(catch_formal_parameter name: (identifier) @local)
(resource name: (identifier) @local)
(inferred_parameters (identifier) @local)
(lambda_expression parameters: (identifier) @local)
(type_parameter (type_identifier) @local)
(package_declaration) @skip
(import_declaration) @import
"""
BLOCKS = frozenset((
    "program", "block", "class_body", "interface_body", "enum_body", "enum_body_declarations", "constructor_body",
    "annotation_type_body", "switch_block", "switch_block_statement_group",
))  # fmt: skip


def imports(node: Node) -> Iterator[Import]:
    """`a.b.C` has the name `C`, `a.b.*` none; of a static import, which names a member, the class is the module."""
    path = text_of(next((each for each in node.named_children if each.type.endswith("identifier")), None))
    wildcard = any(each.type == "asterisk" for each in node.named_children)
    static = any(each.type == "static" for each in node.children)
    module, _, last = path.rpartition(".")
    if static:
        yield Import(path if wildcard else module, () if wildcard else (last,), line_of(node))
    else:
        yield Import(f"{path}.*" if wildcard else path, () if wildcard else (last,), line_of(node))


GRAMMAR = Grammar("tree_sitter_java", "language", DEFINITIONS, USES, BLOCKS, imports)
