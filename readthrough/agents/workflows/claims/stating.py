"""What is a claim, and how a verdict on it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from readthrough.agents.base import Question
from readthrough.agents.reading.answering import Reply
from readthrough.agents.workflows.claims.judging import Sign, Verdict

TRUE, FALSE, UNTOLD = "true", "false", "untold"

_SAID = {"true": TRUE, "yes": TRUE, "false": FALSE, "no": FALSE}
_CLAIMED = re.compile(
    r"^\W*(?:(?:is it (?:true|right|correct|so)|verify|check)\s+(?:that|whether|if)\s+"
    r"|(?:true or false|claim|verify)\b[^:]{0,80}:)\s*",
    re.IGNORECASE,
)
_ASKS = re.compile(r"^\W*(?:who|whom|whose|what|which|when|where|why|how)\b|\?\W*$", re.IGNORECASE)
_TELLS = 0.5


def claim_of(question: Question) -> str | None:
    """The claim that is to be verified; None where something else is asked, or to be chosen than true or false."""
    if question.choices is not None and {_said_by(choice) for choice in question.choices} != {TRUE, FALSE}:
        return None
    claimed = _CLAIMED.match(question.text)
    if claimed:
        return question.text[claimed.end() :].strip().rstrip("?").strip() or None
    return None if _ASKS.search(question.text) else question.text.strip()


def said_of(verdict: Verdict, question: Question) -> str:
    """The most probable verdict; where true or false has to be chosen, of these."""
    shares = {TRUE: verdict.true, FALSE: verdict.false, UNTOLD: 0.0 if question.choices else verdict.untold}
    return max(shares, key=shares.__getitem__)


def reply_of(verdict: Verdict, question: Question, for_it: int, against: int, explained: str) -> Reply:
    """The verdict as the answer, with how many places speak for the claim and against it; or the choice it is."""
    said = said_of(verdict, question)
    if said == UNTOLD:
        return Reply.refused(1 - verdict.untold)
    probability = verdict.true if said == TRUE else verdict.false
    if question.choices is not None:
        told = verdict.true + verdict.false
        chosen = next(choice for choice in question.choices if _said_by(choice) == said)
        return Reply(chosen, round(probability / told, 4) if told else None)
    sides = [("For it", for_it), ("Against it", against)]
    if said == FALSE:
        sides.reverse()
    listed = " ".join(f"{name}: {count} {'place' if count == 1 else 'places'}." for name, count in sides if count)
    text = "\n".join(filter(None, [f"{said.capitalize()}.", listed, explained]))
    return Reply(text, round(probability, 4))


def sides(each: Sequence[Sign], said: str) -> tuple[list[int], list[int]]:
    """Which of some sentences speak for the claim, and which against it, the surest first.

    For a verdict one at least speaks: the one that comes nearest to it.
    """
    order = sorted(range(len(each)), key=lambda at: -abs(each[at].true) * each[at].told)
    told = [at for at in order if each[at].told >= _TELLS]
    for_it = [at for at in told if each[at].true > 0]
    against = [at for at in told if each[at].true <= 0]
    if said == TRUE and not for_it:
        for_it = [max(order, key=lambda at: each[at].true)]
        against = [at for at in against if at not in for_it]
    if said == FALSE and not against:
        against = [min(order, key=lambda at: each[at].true)]
        for_it = [at for at in for_it if at not in against]
    return for_it, against


def _said_by(choice: str) -> str:
    return _SAID.get(choice.strip(" .").lower(), UNTOLD)
