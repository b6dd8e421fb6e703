"""Programming languages: which suffix is which, and which are known well."""

from __future__ import annotations

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
    ".diff": "diff", ".patch": "diff",
}  # fmt: skip
FILE_NAMES = {"dockerfile": "dockerfile", "makefile": "make", "cmakelists.txt": "cmake", "jenkinsfile": "groovy"}
DATA = frozenset(("yaml", "toml", "json", "ini", "properties", "xml", "css", "scss", "less", "diff"))
"""Of these the ones that hold data, settings, looks or changes, and no program."""
GRAMMARS = ("python", "javascript", "typescript", "tsx", "go", "rust", "java", "c", "cpp")
"""The languages whose definitions, uses and imports are known: those with a file in `documents.grammars`."""


def language_of(file_name: str) -> str | None:
    """The language of a file by its name, or None."""
    lower = file_name.lower()
    return FILE_NAMES.get(lower) or LANGUAGES.get(lower[lower.rfind(".") :] if "." in lower else "")
