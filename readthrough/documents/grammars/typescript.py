"""TypeScript: JavaScript with types."""

from __future__ import annotations

from readthrough.documents.grammars import javascript
from readthrough.documents.grammars.base import Grammar

DEFINITIONS = (
    javascript.DEFINITIONS
    + """
(public_field_definition name: (property_identifier) @name value: (arrow_function)) @definition.method
(abstract_class_declaration name: (_) @name) @definition.class
(interface_declaration name: (_) @name) @definition.type
(enum_declaration name: (_) @name) @definition.type
(type_alias_declaration name: (_) @name) @definition.type
(internal_module name: (_) @name) @definition.module
(function_signature name: (_) @name) @definition.prototype
(abstract_method_signature name: (_) @name) @definition.method
(method_signature name: (_) @name) @definition.method
"""
)
USES = (
    javascript.USES
    + """
(type_identifier) @reference
(required_parameter pattern: (identifier) @local)
(optional_parameter pattern: (identifier) @local)
(type_parameter name: (type_identifier) @local)
(enum_assignment name: (property_identifier) @ignore)
"""
)
BLOCKS = javascript.BLOCKS | {"interface_body", "object_type", "enum_body"}

GRAMMAR = Grammar("tree_sitter_typescript", "language_typescript", DEFINITIONS, USES, BLOCKS, javascript.imports)
