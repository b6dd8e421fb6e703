"""Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

DEFINITIONS = """
(function_definition name: (identifier) @name) @definition.function
(class_definition name: (identifier) @name) @definition.class
(type_alias_statement left: (type (identifier) @name)) @definition.type
(module (expression_statement (assignment left: (identifier) @name) @definition.constant))
(module (expression_statement (assignment left: (pattern_list (identifier) @name)) @definition.constant))
(module [
  (if_statement (block (expression_statement (assignment left: (identifier) @name) @definition.constant)))
  (try_statement (block (expression_statement (assignment left: (identifier) @name) @definition.constant)))
])
"""
USES = """
(identifier) @reference
(attribute attribute: (identifier) @member)
(keyword_argument name: (identifier) @ignore)
(parameters (identifier) @local)
(lambda_parameters (identifier) @local)
(default_parameter name: (identifier) @local)
(typed_default_parameter name: (identifier) @local)
(typed_parameter . (identifier) @local)
(list_splat_pattern (identifier) @local)
(dictionary_splat_pattern (identifier) @local)
(assignment left: (identifier) @local)
(assignment left: (pattern_list (identifier) @local))
(assignment left: (tuple_pattern (identifier) @local))
(for_statement left: (identifier) @local)
(for_statement left: (pattern_list (identifier) @local))
(for_in_clause left: (identifier) @local)
(for_in_clause left: (pattern_list (identifier) @local))
(pattern_list (tuple_pattern (identifier) @local))
(as_pattern_target (identifier) @local)
(named_expression name: (identifier) @local)
(import_statement) @import
(import_from_statement) @import
(future_import_statement) @skip
"""
BLOCKS = frozenset(("module", "block"))


def imports(node: Node) -> Iterator[Import]:
    """`import a.b, c` is a module each; `from .a import b as c` has the module `.a` and the name `b`."""
    names = [each.child_by_field_name("name") or each for each in node.children_by_field_name("name")]
    if node.type == "import_statement":
        for name in names:
            yield Import(text_of(name), (), line_of(node))
        return
    module = text_of(node.child_by_field_name("module_name")).replace(" ", "")
    yield Import(module, tuple(map(text_of, names)), line_of(node))


GRAMMAR = Grammar("tree_sitter_python", "language", DEFINITIONS, USES, BLOCKS, imports)
