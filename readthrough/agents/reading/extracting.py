"""Filling in the fields of a schema from texts: is it said, what is it, where does it stand?

All calls of a batch go out together, each after the text that it is about, so that what they share is read once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readthrough.agents.base import MOST_CHOICES, Question
from readthrough.agents.reading.answering import choose_options
from readthrough.agents.reading.confidence import log_odds
from readthrough.agents.reading.filling import Filled, Source, merged, prove, settle, settle_item
from readthrough.agents.reading.looking import stated_pairs
from readthrough.agents.reading.passages import as_data, unwrap
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.schemas import LIST_ITEMS, Field, reply_schema, wire
from readthrough.agents.runs.services import Services
from readthrough.models.base import Completion, Request
from readthrough.models.structured import InvalidReply, parse

WORKFLOW = "extract"
EXTRACT = "Extract the data that the schema describes."
"""The question that goes with a schema, where there is none."""

FIELDS = Prompt(
    """{text}

{question}
Fill in these fields from the text above, in its own words and numbers. Write null where it does not say one.
{fields}
Reply with JSON."""
)

ITEMS = Prompt(
    """{text}

{question}
{asked} List every one that the text above names, in its order, in its own words and numbers. Write null for a field \
that it does not say, and an empty list where it names none.
{fields}
Reply with JSON."""
)

TRUTH = Prompt(
    """{text}

Question: {question}
Answer Yes or No."""
)

# What a text hardly says is not asked for; what it says is decided when it is known where it would say it.
_HARDLY = 0.05
# As for letters of options (docs/log.md).
_PRIOR_WEIGHT = 0.75
# A second look sees the places of a list's first items, and what stands around them.
_PLACES = 3
_AROUND_CHARACTERS = 80
_ITEMS = "items"
_HINTS = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "array": "a list"}


@dataclass(frozen=True, slots=True)
class Writing:
    """How fields are filled in.

    Attributes:
        value_tokens: the most tokens of a field's value.
        list_tokens: the most tokens of a list.
    """

    value_tokens: int
    list_tokens: int

    def most_tokens(self, field: Field) -> int:
        """The most tokens of a field."""
        return self.list_tokens if field.kind == "list" else self.value_tokens

    def limit(self, fields: Iterable[Field]) -> str:
        """The limit that cut a reply with these fields, as `Answer.stopped` tells it."""
        lists = any(field.kind == "list" for field in fields)
        return f"list_tokens={self.list_tokens}" if lists else f"value_tokens={self.value_tokens}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A field (`blank` is its number in the form) and the text that it is looked for in; `stated` is how probable it
    is that this says it, where that is known."""

    blank: int
    field: Field
    source: Source
    text: str
    stated: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a field: its value, None where the text does not say it, which is `unsaid` probable."""

    blank: int
    filled: Filled | None
    unsaid: float | None = None

    def keep(self) -> list[Any]:
        """The arguments of `kept`, as plain values."""
        return [self.blank, self.filled and self.filled.keep(), self.unsaid]

    @classmethod
    def kept(cls, blank: int, filled: list[Any] | None, unsaid: float | None) -> Found:
        """What went through JSON."""
        return cls(blank, Filled.kept(*filled) if filled else None, unsaid)


def look_at(services: Services, asked: Sequence[Asked]) -> list[Asked]:
    """Fields with how probable it is that their texts say them. Needs a model with logits."""
    shares = stated_pairs(services, [(each.text, Question(each.field.asked())) for each in asked])
    return [replace(each, stated=share) for each, share in zip(asked, shares, strict=True)]


def choose_values(services: Services, asked: Sequence[Asked]) -> list[Found]:
    """Fill in fields that are a choice (`choices_of`), by logits where the model has them."""
    truths = [each for each in asked if each.field.type == "boolean"]
    others = [each for each in asked if each.field.type != "boolean"]
    made = [
        (each, settle(each.field, true >= 0.5, each.source, max(true, 1 - true)))
        for each, true in zip(truths, _true(services, truths), strict=True)
    ]
    pairs = [(each.text, Question(each.field.asked(), choices_of(each.field))) for each in others]
    for each, (_, question), reply in zip(others, pairs, choose_options(services, pairs), strict=True):
        value = each.field.options[(question.choices or ()).index(reply.text)]
        made.append((each, settle(each.field, value, each.source, reply.confidence)))
    return _proved(services, made)


def _true(services: Services, asked: Sequence[Asked]) -> list[float]:
    """How probable it is that what some fields ask is so: yes against no, less what is said without the text."""
    texts = (text for each in asked for text in (each.text, ""))
    questions = (each.field.asked() for each in asked for _ in range(2))
    prompts = [TRUTH.format(text=text, question=ask).strip() for text, ask in zip(texts, questions, strict=True)]
    if "logits" not in services.model.capabilities:
        prompts = prompts[::2]
    choices = services.choose([Request.user(prompt) for prompt in prompts], [["Yes", "No"]] * len(prompts))
    odds = [log_odds(choice.probabilities[0]) for choice in choices]
    if len(odds) > len(asked):
        odds = [given - _PRIOR_WEIGHT * before for given, before in zip(odds[::2], odds[1::2], strict=True)]
    return [round(1 / (1 + math.exp(-each)), 4) for each in odds]


def write_values(
    services: Services, groups: Sequence[Sequence[Asked]], question: str, writing: Writing
) -> tuple[list[Found], str]:
    """Fill in groups of fields, each group from one text with one call; and the limit that cut a reply, or ""."""
    requests = [_values_request(group, question, writing) for group in groups]
    made, limit = [], ""
    for group, request, completion in zip(groups, requests, services.complete(requests), strict=True):
        value, whole = _parsed(completion, request)
        limit = limit if whole else writing.limit(each.field for each in group)
        for each in group:
            filled = settle(each.field, value.get(each.field.key), each.source, 1.0)
            limit = f"list_items={LIST_ITEMS}" if _full(each.field, filled) else limit
            made.append((each, filled))
    return _proved(services, made), limit


def write_items(
    services: Services, asked: Sequence[Asked], question: str, writing: Writing
) -> list[tuple[Found, bool]]:
    """The items of lists that are in some windows, a call each; and whether there may be more than were written."""
    worth = [each for each in asked if may_say(each)]
    requests = [_items_request(each, question, writing) for each in worth]
    made, cut = [], list[bool]()
    for each, request, completion in zip(worth, requests, services.complete(requests), strict=True):
        value, whole = _parsed(completion, request)
        sure = 1.0 if each.stated is None else round(each.stated, 4)
        items = [settle_item(item_of(each.field), item, each.source, sure) for item in value.get(_ITEMS, [])]
        made.append((each, merged([item for item in items if item is not None])))
        cut.append(not whole or _full(each.field, made[-1][1]))
    found = iter(zip(_proved(services, made), cut, strict=True))
    return [next(found) if may_say(each) else (unsaid(each), False) for each in asked]


def _full(field: Field, filled: Filled | None) -> bool:
    """Whether a list has as many items as are written at once, and the schema would have more."""
    return (
        filled is not None
        and field.kind == "list"
        and LIST_ITEMS <= len(filled.value) < field.schema.get("maxItems", math.inf)
    )


def item_of(field: Field) -> Field:
    """The item of a list."""
    if field.item is None:
        raise ValueError(f"{field.key} is not a list")
    return field.item


def choices_of(field: Field) -> tuple[str, ...] | None:
    """The options of a field as texts, where it is a choice that can be put to a model by letters."""
    shown = tuple({True: "Yes", False: "No"}[each] if isinstance(each, bool) else str(each) for each in field.options)
    fits = 2 <= len(shown) <= MOST_CHOICES and len(set(shown)) == len(shown) and all(map(str.strip, shown))
    return shown if fits and field.kind == "value" else None


def may_say(asked: Asked) -> bool:
    """Whether it is worth while to ask what a text says of a field."""
    return asked.stated is None or asked.stated >= _HARDLY


def said(services: Services, asked: Sequence[Asked], found: Sequence[Found], abstain_below: float) -> list[Found]:
    """What was found, less what the texts probably do not say.

    Where the whole text left that open, the field is looked for once more in the sentence that its value stands in:
    that says little else. Needs the fields as `look_at` returns them.
    """
    known = {each.blank: each for each in asked}
    open_ones = [
        (each, known[each.blank])
        for each in found
        if each.filled is not None and (known[each.blank].stated or 0.0) < abstain_below
    ]
    pairs = [
        (_evidence(services, each.filled), Question(what.field.asked())) for each, what in open_ones if each.filled
    ]
    again = {each.blank: share for (each, _), share in zip(open_ones, stated_pairs(services, pairs), strict=True)}
    made = []
    for each in found:
        sure = max(known[each.blank].stated or 0.0, again.get(each.blank, 0.0))
        if each.filled is None or sure < abstain_below:
            made.append(Found(each.blank, None, round(1 - sure, 4)))
        else:
            made.append(Found(each.blank, each.filled.at_most(round(sure, 4))))
    return made


def unsaid(asked: Asked) -> Found:
    """That a text does not say a field."""
    return Found(asked.blank, None, None if asked.stated is None else round(1 - asked.stated, 4))


def described(field: Field) -> str:
    """A field, and those in it, as lines of a prompt."""
    return "\n".join(_lines(field))


def _lines(field: Field) -> Iterator[str]:
    if field.kind != "form":
        said = "a date, as the text writes it" if field.is_date else _HINTS.get(field.type, "")
        said = f"one of {', '.join(map(str, field.options))}" if field.type == "enum" else said
        yield f"- {field.key or 'item'}: {field.asked()}{f' ({said})' if said else ''}"
    for part in field.fields if field.item is None else (field.item,) if field.item.kind != "value" else ():
        yield from _lines(part)


def _values_request(group: Sequence[Asked], question: str, writing: Writing) -> Request:
    fields = "\n".join(described(each.field) for each in group)
    prompt = FIELDS.format(text=group[0].text, question=question, fields=fields)
    most = min(sum(writing.most_tokens(each.field) for each in group), max(writing.list_tokens, writing.value_tokens))
    schema = reply_schema({each.field.key: wire(each.field) for each in group})
    return Request.user(prompt, max_tokens=most, schema=schema)


def _items_request(each: Asked, question: str, writing: Writing) -> Request:
    fields = described(item_of(each.field))
    prompt = ITEMS.format(text=each.text, question=question, asked=each.field.asked(), fields=fields)
    return Request.user(prompt, max_tokens=writing.list_tokens, schema=reply_schema({_ITEMS: wire(each.field)}))


def _parsed(completion: Completion, request: Request) -> tuple[Mapping[str, Any], bool]:
    """The reply as a value, and whether it is whole; of a list that was cut, the items that are."""
    schema = request.schema or {}
    try:
        return parse(completion.text, schema), True
    except InvalidReply:
        [(name, only), *more] = schema["properties"].items()
        is_list = not more and only.get("type") == "array"
        return {name: _whole_items(completion.text)} if is_list else {}, False


def _whole_items(text: str) -> list[Any]:
    """The items of a list whose end is missing."""
    decoder, items = json.JSONDecoder(), list[Any]()
    at = text.find("[") + 1
    while at > 0:
        try:
            item, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip(" ,\n")))
        except ValueError:
            break
        items.append(item)
    return items


def _evidence(services: Services, filled: Filled) -> str:
    """The lines in which the values of a field stand, with some of what stands around them."""
    places = list(dict.fromkeys(mark.place for mark in filled.marks if mark.place is not None))[:_PLACES]
    pieces = []
    for document, start, end in places:
        text = services.shelf.document(document).text
        before = text[max(0, start - 2 * _AROUND_CHARACTERS) : start].partition("\n")
        after = text[end : end + 2 * _AROUND_CHARACTERS].rpartition("\n")
        pieces.append(f"{before[2] or before[0]}{text[start:end]}{after[0] or after[2]}")
    return "\n".join(as_data(unwrap(piece)) for piece in pieces)


def _proved(services: Services, made: Sequence[tuple[Asked, Filled | None]]) -> list[Found]:
    """What was filled in, judgements with the sentences that they rest on."""
    there = [(each, filled) for each, filled in made if filled is not None]
    proved = iter(prove(services, [(filled, each.field.asked(), each.source) for each, filled in there]))
    return [unsaid(each) if filled is None else Found(each.blank, next(proved)) for each, filled in made]
