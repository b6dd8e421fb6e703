"""What every answer is held to, whatever it scores."""

from __future__ import annotations

from typing import Any

from readthrough.api import Book
from readthrough.errors import InvalidAnswerError
from readthrough.types import Answer


def verified(given: Answer, book: Book) -> dict[str, Any]:
    """An Answer in its JSON form, checked against the texts that it is about.

    Raises:
        InvalidAnswerError: a quote does not stand where it is said to, or the coverage does not sum to the tokens.
    """
    answer, ids = given.to_dict(), {entry.path: entry.id for entry in book.documents}
    for item in answer["evidence"]:
        if item["document"] not in ids:
            raise InvalidAnswerError(f"a quote from a document that was not read: {item['document']}")
        if book.document(ids[item["document"]]).text[item["start"] : item["end"]] != item["quote"]:
            raise InvalidAnswerError(f"a quote that is not there: {item['quote']!r}", path=item["document"])
    coverage = dict(answer["coverage"])
    if coverage.pop("tokens") != sum(coverage.values()):
        raise InvalidAnswerError(f"the coverage does not sum to its tokens: {answer['coverage']}")
    return answer
