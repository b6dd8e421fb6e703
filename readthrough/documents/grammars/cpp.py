"""C++: C with classes, namespaces and templates."""

from __future__ import annotations

from readthrough.documents.grammars import c
from readthrough.documents.grammars.base import Grammar

DEFINITIONS = (
    c.DEFINITIONS
    + """
(class_specifier name: [(type_identifier) @name (template_type name: (_) @name)] body: (_)) @definition.class
(struct_specifier name: (template_type name: (_) @name) body: (_)) @definition.type
(namespace_definition name: (_) @name) @definition.module
(alias_declaration name: (type_identifier) @name) @definition.alias
(concept_definition name: (identifier) @name) @definition.type
(field_declaration declarator: (function_declarator)) @definition.variable
"""
)
USES = (
    c.USES
    + """
(parameter_declaration declarator: (reference_declarator (identifier) @local))
(optional_parameter_declaration declarator: (_ (identifier) @local))
(optional_parameter_declaration declarator: (identifier) @local)
(declaration declarator: (reference_declarator (identifier) @local))
(init_declarator declarator: (reference_declarator (identifier) @local))
(for_range_loop declarator: (identifier) @local)
(for_range_loop declarator: (reference_declarator (identifier) @local))
(type_parameter_declaration (type_identifier) @local)
"""
)

GRAMMAR = Grammar("tree_sitter_cpp", "language", DEFINITIONS, USES, c.BLOCKS, c.imports)
