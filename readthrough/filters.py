"""What a search may find."""

from __future__ import annotations

from dataclasses import dataclass

from readthrough.errors import UsageError


@dataclass(frozen=True, slots=True)
class Filter:
    """Which chunks a search may find: those that hold a part of what every field that is set names.

    Attributes:
        documents: ids or paths of documents, folders, or patterns such as `*.md`.
        section: words of a heading, in any case: `chapter 3` fits `Part I > Chapter 3: Home`, not `Chapter 30`.
        pages: the first and the last page, from 1; documents without pages have none of them.
        lines: the first and the last line, from 1.
        start: a place in the document's text, in characters.
        end: the place behind the last, None for the end of the text.
    """

    documents: tuple[str, ...] | None = None
    section: str | None = None
    pages: tuple[int, int] | None = None
    lines: tuple[int, int] | None = None
    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        for name in ("pages", "lines"):
            value = getattr(self, name)
            if value is not None and not 1 <= value[0] <= value[1]:
                raise UsageError(f"{name} = {value[0]}-{value[1]}: not a range from 1 on")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise UsageError(f"characters {self.start}-{self.end}: not a range from 0 on")
        if self.section is not None and not self.section.strip():
            raise UsageError("the section is empty")

    def __str__(self) -> str:
        """What is set, for people."""
        parts = [f"in {', '.join(self.documents)}"] if self.documents is not None else []
        parts += [f"section {self.section!r}"] if self.section is not None else []
        for name in ("pages", "lines"):
            value = getattr(self, name)
            parts += [f"{name} {value[0]}-{value[1]}"] if value is not None else []
        if self.start or self.end is not None:
            parts.append(f"characters {self.start}-{'' if self.end is None else self.end}")
        return ", ".join(parts)
