"""Episodes: who does what to whom, in what state, where and when, as a model writes it of a few sentences at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from readthrough.agents.reading.concluding import Span
from readthrough.agents.reading.keeping import chunks_within, keep, sentence_of, text_of
from readthrough.agents.reading.pointers import sentences, words
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.retrieval.facts import Fact, one_line, recipe_of, whole_json

EPISODES = Prompt(
    """Before this: {before}

Text: {text}

List what happens or is said to be so in the text, in its order, one entry for each verb. Each entry has: who (the \
name of the person or thing, no pronoun), role (what they are), did (the verb and what belongs to it), state (how \
they are), whom (the other person or thing), where, when. Leave empty what the text does not say. Reply in JSON."""
)

NOTHING_BEFORE = "(nothing)"

EPISODE_TOKENS = 80
"""The most tokens of an episode; most have three fifths of them."""

_MOST_CHARACTERS = 80


class Episode(NamedTuple):
    """What one verb phrase says: an actor with its role and state, and what is bound to it. Empty where nothing is."""

    who: str
    role: str
    did: str
    state: str
    whom: str
    where: str
    when: str

    @property
    def line(self) -> str:
        """The episode as one line."""
        said = " ".join(filter(None, [self.who, f"({self.role})" if self.role else "", self.did, self.whom]))
        return "; ".join(filter(None, [said, self.state, self.where, self.when]))


def form(most: int) -> dict[str, Any]:
    """The form of a reply with at most `most` episodes."""
    item = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": _MOST_CHARACTERS} for name in Episode._fields},
        "required": list(Episode._fields),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"episodes": {"type": "array", "items": item, "minItems": 1, "maxItems": most}},
        "required": ["episodes"],
        "additionalProperties": False,
    }


def episodes_recipe(services: Services, most: int) -> str:
    """What must be the same for episodes to be the same."""
    return recipe_of(services.model, EPISODES.format(before="", text=""), form(most))


def parts(services: Services, size: int, overlap: int) -> list[Span]:
    """The texts in parts of `size` sentences, each beginning with the last `overlap` sentences of the one before."""
    found: list[Span] = []
    for number, entry in enumerate(services.shelf.documents):
        among = sentences(services.shelf.chunks(entry.id))
        for at in range(0, max(1, len(among) - overlap), size - overlap) if among else ():
            part = among[at : at + size]
            found.append((number, part[0].start, part[-1].end))
    return found


def extract(services: Services, batch: Sequence[Sequence[int]], before: Sequence[Sequence[int]], most: int) -> None:
    """Write the episodes of some parts, together, and keep them in the library.

    `before` is what is shown of the text before each, so that pronouns have names; it may be empty.
    """
    shelf = services.shelf
    asked, chunks = [], [services.chunks(chunks_within(shelf, part)) for part in batch]
    shown = [text_of(shelf, span) if span[1] < span[2] else "" for span in before]
    for part, context in zip(batch, shown, strict=True):
        prompt = EPISODES.format(before=context or NOTHING_BEFORE, text=text_of(shelf, part))
        asked.append(Request.user(prompt, max_tokens=most * EPISODE_TOKENS, schema=form(most)))
    made: list[list[Fact]] = []
    dropped = 0
    for part, context, within, reply in zip(batch, shown, chunks, services.complete(asked), strict=True):
        among = [each for each in sentences(within) if part[1] <= each.start and each.end <= part[2]]
        known = frozenset(words(context)).union(*(sentence.words for sentence in among))
        written = [_episode(item, known) for item in whole_json(reply.text).get("episodes", [])]
        facts: dict[str, Fact] = {}
        for episode in written:
            sentence = sentence_of(episode.line, among) if episode.who and episode.did else None
            if sentence is not None:
                facts.setdefault(episode.line, Fact(episode.line, tuple(episode), sentence.start, sentence.end))
        made.append(list(facts.values()))
        dropped += len(written) - len(facts)
    keep(services, episodes_recipe(services, most), zip(batch, made, strict=True))
    services.decide("episodes", kept=sum(map(len, made)), dropped=dropped)


def _episode(item: dict[str, Any], known: frozenset[str]) -> Episode:
    """An episode of a reply; what shares no word with the text was invented, and is left out.

    A verb may stand there in another form (`hide`, `hidden`): it is held against the text with the whole line.
    """
    said = {name: one_line(str(item.get(name, ""))) for name in Episode._fields}
    return Episode(**{name: at if name == "did" or known.intersection(words(at)) else "" for name, at in said.items()})
