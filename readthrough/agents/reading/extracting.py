"""Filling in the fields of a schema from texts: is it said, what is it, where does it stand?

All calls of a batch go out together, each after the text that it is about, so that what they share is read once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from readthrough.agents.base import MOST_CHOICES, Question
from readthrough.agents.reading.answering import choose_options
from readthrough.agents.reading.filling import Filled, Source, merged, prove, settle, settle_item
from readthrough.agents.reading.looking import stated_pairs
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.reading.schemas import Field, reply_schema, wire
from readthrough.agents.runs.services import Services
from readthrough.models.base import Completion, Request
from readthrough.models.structured import InvalidReply, parse

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

# A window that may name an item is read; what it does not name is dropped when it is looked for.
_MAY_NAME = 0.1
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
    pairs = [(each.text, Question(each.field.asked(), choices_of(each.field))) for each in asked]
    made = []
    for each, (_, question), reply in zip(asked, pairs, choose_options(services, pairs), strict=True):
        value = each.field.options[(question.choices or ()).index(reply.text)]
        made.append((each, settle(each.field, value, each.source, _least(each.stated, reply.confidence))))
    return _proved(services, made)


def write_values(
    services: Services, groups: Sequence[Sequence[Asked]], question: str, writing: Writing
) -> tuple[list[Found], bool]:
    """Fill in groups of fields, each group from one text with one call; and whether a limit cut a reply."""
    requests = [_values_request(group, question, writing) for group in groups]
    made, cut = [], False
    for group, request, completion in zip(groups, requests, services.complete(requests), strict=True):
        value, whole = _parsed(completion, request)
        cut |= not whole
        for each in group:
            sure = _least(each.stated, _probability(completion), 1.0)
            made.append((each, settle(each.field, value.get(each.field.key), each.source, sure)))
    return _proved(services, made), cut


def write_items(
    services: Services, asked: Sequence[Asked], question: str, writing: Writing
) -> tuple[list[Found], bool]:
    """The items of lists that are in some windows, a call each; and whether a limit cut a reply."""
    worth = [each for each in asked if each.stated is None or each.stated >= _MAY_NAME]
    requests = [_items_request(each, question, writing) for each in worth]
    made, cut = [], False
    for each, request, completion in zip(worth, requests, services.complete(requests), strict=True):
        value, whole = _parsed(completion, request)
        cut |= not whole
        sure = _least(each.stated, _probability(completion), 1.0)
        items = [settle_item(item_of(each.field), item, each.source, sure) for item in value.get(_ITEMS, [])]
        made.append((each, merged([item for item in items if item is not None])))
    return _proved(services, made), cut


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


def unsaid(asked: Asked) -> Found:
    """That a text does not say a field."""
    return Found(asked.blank, None, None if asked.stated is None else 1 - asked.stated)


def described(field: Field) -> str:
    """A field, and those in it, as lines of a prompt."""
    return "\n".join(_lines(field))


def _lines(field: Field) -> Iterator[str]:
    if field.kind != "form":
        said = str(field.schema.get("format") or _HINTS.get(field.type, ""))
        said = f"one of {', '.join(map(str, field.options))}" if field.type == "enum" else said
        yield f"- {field.key or 'item'}: {field.asked()}{f' ({said})' if said else ''}"
    for part in field.fields if field.item is None else (field.item,) if field.item.kind != "value" else ():
        yield from _lines(part)


def _values_request(group: Sequence[Asked], question: str, writing: Writing) -> Request:
    fields = "\n".join(described(each.field) for each in group)
    prompt = FIELDS.format(text=group[0].text, question=question, fields=fields)
    most = sum(writing.list_tokens if each.field.kind == "list" else writing.value_tokens for each in group)
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
        pass_on = {name: _whole_items(completion.text) for name in schema["properties"] if name == _ITEMS}
        return pass_on, False


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


def _proved(services: Services, made: Sequence[tuple[Asked, Filled | None]]) -> list[Found]:
    """What was filled in, judgements with the sentences that they rest on."""
    there = [(each, filled) for each, filled in made if filled is not None]
    proved = iter(prove(services, [(filled, each.field.asked(), each.source) for each, filled in there]))
    return [unsaid(each) if filled is None else Found(each.blank, next(proved)) for each, filled in made]


def _probability(completion: Completion) -> float | None:
    """How probable the model found its reply, a token."""
    if completion.logprob is None:
        return None
    return math.exp(completion.logprob / max(1, completion.usage.completion_tokens))


def _least(*shares: float | None) -> float:
    return round(min(share for share in shares if share is not None), 4)
