"""How far a document was read: what an Answer says of a position after which nothing was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AsOf:
    """The position that a document was read up to.

    Attributes:
        position: as it was asked for: `chapter 12`, `p. 120`, `40%`.
        document: the document's path.
        end: the place behind the last character that was read.
        page: the page of that character, where the document has pages.
        line: its line.
        section: its innermost section.
        unread_tokens: how many tokens of the document stand after it; the coverage counts them as unread.
        document_id: the id of the whole document; empty in answers of earlier versions.
    """

    position: str
    document: str
    end: int
    page: int | None = None
    line: int | None = None
    section: str | None = None
    unread_tokens: int = 0
    document_id: str = ""

    def __str__(self) -> str:
        """For people: `chapter 12 of book.epub (to page 120, line 4110); 52,310 tokens after it are unread`."""
        places = [f"{name} {value}" for name, value in (("page", self.page), ("line", self.line)) if value is not None]
        return f"{self.position} of {self.document} (to {', '.join(places)}); {self.unread_tokens:,} tokens after it \
are unread"

    def reaches(self, other: AsOf) -> bool:
        """Whether all that was read up to `other` had been read here; not known of another version of the document."""
        same = self.document == other.document and self.document_id == other.document_id != ""
        return same and other.end <= self.end
