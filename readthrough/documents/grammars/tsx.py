"""TypeScript with JSX."""

from __future__ import annotations

from dataclasses import replace

from readthrough.documents.grammars import typescript

GRAMMAR = replace(typescript.GRAMMAR, function="language_tsx")
