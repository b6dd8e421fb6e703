"""JavaScript, and what TypeScript shares with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readthrough.documents.grammars.base import Grammar, Import, line_of, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

_FUNCTION = "[(arrow_function) (function_expression) (generator_function)]"
_REQUIRED = '(#not-match? @value "^require[(]")'
_AT_TOP = """
(program [(lexical_declaration {0}) (variable_declaration {0})] {1})
(program (export_statement [(lexical_declaration {0}) (variable_declaration {0})]) {1})
"""
_FUNCTIONS = _AT_TOP.format(f"(variable_declarator name: (_) @name value: {_FUNCTION}) @definition.function", "")
_VALUES = _AT_TOP.format(
    "(variable_declarator name: (identifier) @name value: (_) @value) @definition.constant", _REQUIRED
)
_EMPTY = _AT_TOP.format("(variable_declarator name: (identifier) @name !value) @definition.constant", "")

DEFINITIONS = f"""
(function_declaration name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(class_declaration name: (_) @name) @definition.class
(method_definition name: (_) @name) @definition.method
{_FUNCTIONS}{_VALUES}{_EMPTY}(program (expression_statement (assignment_expression
  left: (member_expression property: (property_identifier) @name) right: {_FUNCTION}) @definition.function))
(program (expression_statement (assignment_expression
  left: (member_expression object: (_) @exports property: (property_identifier) @name)) @definition.constant)
  (#match? @exports "^(module[.])?exports$"))
"""
_FIELDS = "(field_definition property: (property_identifier) @name value: (arrow_function)) @definition.method"
_PARAMETERS = "(formal_parameters (identifier) @local)"
USES = """
(identifier) @reference
(shorthand_property_identifier) @reference
(member_expression property: (property_identifier) @member)
(arrow_function parameter: (identifier) @local)
(function_expression name: (identifier) @local)
(variable_declarator name: (identifier) @local)
(shorthand_property_identifier_pattern) @local
(pair_pattern value: (identifier) @local)
(array_pattern (identifier) @local)
(assignment_pattern left: (identifier) @local)
(rest_pattern (identifier) @local)
(catch_clause parameter: (identifier) @local)
(for_in_statement left: (identifier) @local)
(import_statement) @import
(export_statement source: (string)) @import
((call_expression function: [(identifier) (import)] @called arguments: (arguments . (string) .)) @import
  (#match? @called "^(require|import)$"))
"""
BLOCKS = frozenset(("program", "statement_block", "class_body", "switch_body", "switch_case", "switch_default"))


def imports(node: Node) -> Iterator[Import]:
    """`import`, `export ... from`, `require("...")` and `import("...")`; the default import's name is not known."""
    if node.type == "call_expression":
        arguments = node.child_by_field_name("arguments")
        source = arguments.named_children[0] if arguments is not None else None
        names = _required(node)
    else:
        source = node.child_by_field_name("source")
        specifiers = [each for each in _below(node) if each.type in ("import_specifier", "export_specifier")]
        names = [text_of(each.child_by_field_name("name")) for each in specifiers]
    if source is not None:
        yield Import(text_of(source).strip("'\"`"), tuple(names), line_of(node))


def _required(call: Node) -> list[str]:
    """The names of `const { a, b: c } = require("...")` and of `require("...").a`."""
    parent = call.parent
    if parent is None:
        return []
    if parent.type == "member_expression":
        return [text_of(parent.child_by_field_name("property"))]
    pattern = parent.child_by_field_name("name") if parent.type == "variable_declarator" else None
    if pattern is None or pattern.type != "object_pattern":
        return []
    return [text_of(each.child_by_field_name("key") or each) for each in pattern.named_children]


def _below(node: Node) -> Iterator[Node]:
    """Everything inside of a node, in order."""
    waiting = [node]
    while waiting:
        inner = waiting.pop().named_children
        yield from inner
        waiting += reversed(inner)


GRAMMAR = Grammar("tree_sitter_javascript", "language", DEFINITIONS + _FIELDS, USES + _PARAMETERS, BLOCKS, imports)
