"""Rust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

DEFINITIONS = """
(function_item name: (identifier) @name) @definition.function
(function_signature_item name: (identifier) @name) @definition.function
(struct_item name: (type_identifier) @name) @definition.type
(union_item name: (type_identifier) @name) @definition.type
(enum_item name: (type_identifier) @name) @definition.type
(trait_item name: (type_identifier) @name) @definition.type
(type_item name: (type_identifier) @name) @definition.type
(const_item name: (identifier) @name) @definition.constant
(static_item name: (identifier) @name) @definition.constant
(mod_item name: (identifier) @name body: (_)) @definition.module
(macro_definition name: (identifier) @name) @definition.macro
(impl_item type: [
    (type_identifier) @name
    (generic_type type: (type_identifier) @name)
    (scoped_type_identifier name: (type_identifier) @name)
    (generic_type type: (scoped_type_identifier name: (type_identifier) @name))
    (reference_type type: (type_identifier) @name)
  ]) @definition.impl
"""
USES = """
(identifier) @reference
(type_identifier) @reference
(field_identifier) @member
(field_declaration name: (field_identifier) @ignore)
(field_initializer field: (field_identifier) @ignore)
(enum_variant name: (identifier) @ignore)
(parameter pattern: (identifier) @local)
(parameter pattern: (mut_pattern (identifier) @local))
(closure_parameters (identifier) @local)
(let_declaration pattern: (identifier) @local)
(let_declaration pattern: (mut_pattern (identifier) @local))
(let_condition pattern: (identifier) @local)
(tuple_pattern (identifier) @local)
(tuple_struct_pattern type: (_) (identifier) @local)
(field_pattern name: (shorthand_field_identifier) @local)
(for_expression pattern: (identifier) @local)
(type_parameter name: (type_identifier) @local)
(use_declaration) @import
(extern_crate_declaration) @skip
(mod_item name: (identifier) !body) @import
"""
BLOCKS = frozenset((
    "source_file", "block", "declaration_list", "field_declaration_list", "enum_variant_list", "match_block",
))  # fmt: skip


def imports(node: Node) -> Iterator[Import]:
    """`mod a;` is the module `mod a`; `use a::{b::C, d}` is `a::b` with the name `C`, and `a` with `d`."""
    if node.type == "mod_item":
        yield Import(f"mod {text_of(node.child_by_field_name('name'))}", (), line_of(node))
        return
    for path in _paths(node.child_by_field_name("argument")):
        module, _, name = path.rpartition("::")
        yield Import(module or name, () if name == "*" or not module else (name,), line_of(node))


def _paths(tree: Node | None) -> Iterator[str]:
    """Every full path of a tree of uses, without `as`."""
    waiting = [(tree, "")]
    while waiting:
        node, prefix = waiting.pop()
        if node is None or node.type in ("line_comment", "block_comment"):
            continue
        if node.type == "use_list":
            waiting += [(child, prefix) for child in reversed(node.named_children)]
        elif node.type == "scoped_use_list":
            path = _joined(prefix, text_of(node.child_by_field_name("path")))
            waiting.append((node.child_by_field_name("list"), path))
        elif node.type == "use_as_clause":
            waiting.append((node.child_by_field_name("path"), prefix))
        elif node.type == "use_wildcard":
            yield _joined(prefix, text_of(node.named_children[0] if node.named_children else None), "*")
        elif node.type == "self" and prefix:
            yield prefix
        else:
            yield _joined(prefix, text_of(node))


def _joined(*parts: str) -> str:
    return "::".join(part for part in parts if part)


GRAMMAR = Grammar("tree_sitter_rust", "language", DEFINITIONS, USES, BLOCKS, imports)
