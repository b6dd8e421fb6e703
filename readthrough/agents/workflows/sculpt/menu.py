"""What can be done to a context next, and what each of it gains: a short list of actions, one of which is taken."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from textwrap import shorten
from typing import Literal

from readthrough.agents.reading.answering import log_average
from readthrough.agents.reading.gating import Scale
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.workflows.sculpt.desk import Table
from readthrough.models.base import Request

ACT = Prompt(
    """{context}

Question: {question}

What should be done next to answer the question?
{options}
Answer with the letter of the best action."""
)

NOTHING_OPEN = "(no passage is open)"

Kind = Literal["answer", "search", "expand", "restore", "fold", "summarize"]

_DESCRIBED = {
    "expand": "open the passage that begins “{}”",
    "restore": "open again, in place of its summary, the passage that begins “{}”",
    "fold": "put away the passage that begins “{}”",
    "summarize": "summarize the passage that begins “{}”",
}

_ROTATIONS = 2
_CANDIDATES = 3
_TERMS = 2
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be done: to the fragment `number`, or with the `term`.

    `gain` is in standard deviations of how much fragments raise the question.
    """

    kind: Kind
    described: str
    number: int = -1
    term: str = ""
    gain: float = 0.0


ANSWER = Action("answer", "answer now: the passages above say it")


def weighed(table: Table, least_gain: float) -> list[Action]:
    """The actions that gain at least `least_gain`, best first, and to answer as the last; for a model with logits.

    Opening what was found gains as much as it raises the question more than the mean, and folding what is open as much
    as it does less. Where there is no room, what raises the question least makes room for what raises it more: it is
    folded, or summarised where it says more than the mean. To search for a name gains what the sentence gains that
    names it. What the question names, and the best of what was found where nothing is open, gain the least that counts:
    they come before giving up.
    """
    desk, left, scale = table.desk, table.left_tokens(), _scale(table.desk.weights)
    worth = {number: scale.standard(weight) for number, weight in desk.weights.items()}
    lying = [*desk.open, *desk.summaries]
    least = min(lying, key=lambda number: worth[number], default=None)
    actions = [
        _search(term, least_gain if weight is None else scale.standard(weight)) for term, weight in desk.terms.items()
    ]
    for number in sorted(desk.folded, key=lambda number: -worth[number])[:_CANDIDATES]:
        if table.size(number) <= left:
            actions.append(_action(table, "expand", number, worth[number] if lying else max(worth[number], least_gain)))
        elif least is not None and worth[number] >= least_gain:
            kind: Kind = "summarize" if least in desk.open and worth[least] > 0 else "fold"
            actions.append(_action(table, kind, least, worth[number] - worth[least]))
    if least is not None and len(lying) > 1:
        actions.append(_action(table, "fold", least, -worth[least]))
    fitting = [number for number in desk.summaries if table.size(number) <= left]
    actions += [_action(table, "restore", number, worth[number] / 2) for number in fitting]
    gaining = [action for action in actions if action.gain >= least_gain]
    return [*sorted(gaining, key=lambda action: -action.gain), ANSWER]


def offered(table: Table) -> list[Action]:
    """The actions that are possible, of each kind a few, for the model to choose from.

    What it has put away is not offered again: small models would go to and fro.
    """
    desk, left = table.desk, table.left_tokens()
    unseen = [number for number in desk.folded if number not in desk.seen and table.size(number) <= left]
    actions = [_action(table, "expand", number) for number in unseen[:_CANDIDATES]]
    for number in desk.open[:1] if len(desk.open) > 1 else []:
        actions += [_action(table, "fold", number), _action(table, "summarize", number)]
    fitting = [number for number in desk.summaries if table.size(number) <= left]
    actions += [_action(table, "restore", number) for number in fitting[:1]]
    return [ANSWER, *actions, *(_search(term) for term in list(desk.terms)[:_TERMS])]


def chosen(table: Table, actions: Sequence[Action]) -> Action:
    """The action that the model chooses, by the letters in several orders."""
    if len(actions) == 1:
        return actions[0]
    rotations = _ROTATIONS if "logits" in table.services.model.capabilities else 1
    orders = [[(place + shift) % len(actions) for place in range(len(actions))] for shift in range(rotations)]
    letters = list(string.ascii_uppercase[: len(actions)])
    requests = []
    for order in orders:
        options = "\n".join(f"{letter}. {actions[at].described}" for letter, at in zip(letters, order, strict=True))
        content = ACT.format(
            context=table.material() or NOTHING_OPEN, question=table.question.with_choices, options=options
        )
        requests.append(Request.user(content))
    scores = log_average(table.reader().choose(requests, [letters] * len(orders)), orders)
    return actions[max(range(len(actions)), key=scores.__getitem__)]


def _scale(weights: Mapping[int, float]) -> Scale:
    known = list(weights.values()) or [0.0]
    return Scale(fmean(known), pstdev(known) or 1.0)


def _action(table: Table, kind: Kind, number: int, gain: float = 0.0) -> Action:
    begins = shorten(table.text(number), _SHOWN_CHARACTERS, placeholder=" ...")
    return Action(kind, _DESCRIBED[kind].format(begins), number, gain=gain)


def _search(term: str, gain: float = 0.0) -> Action:
    return Action("search", f"search the whole text for “{term}”", term=term, gain=gain)
