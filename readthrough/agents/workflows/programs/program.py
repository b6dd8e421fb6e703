"""Programs as a model writes them, and as the run log keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from readthrough.agents.reading.pointers import words
from readthrough.agents.workflows.programs.tools import Call, ReplayedTools
from readthrough.sandbox.programs import Outcome, ProgramSession

FENCE = "```"
"""What stands around a program in a reply."""

_NOTHING = "(nothing)"
_FENCED = re.compile(r"```[ \t]*(?:python|py|repl)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
# An answer that is written down, and not what a program has found.
_LITERAL = re.compile(r"\banswer\(\s*(?:text\s*=\s*)?r?[\"'\d]")
# The share of an answer's words that must be known before a model may write it down.
_PRINTED_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was run: its source, what became of it, and the answers to its calls."""

    source: str
    outcome: Outcome
    calls: list[Call]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Program:
        """The program that `asdict` made `values` of."""
        return cls(values["source"], Outcome(**values["outcome"]), [(call, answer) for call, answer in values["calls"]])

    @property
    def printed(self) -> str:
        """What it printed, and what ended it, as its author sees it."""
        outcome, left = self.outcome, self.outcome.characters - len(self.outcome.output)
        cut = f"... ({left:,} more characters)" if left > 0 else ""
        failed = f"It failed: {outcome.error}" if outcome.error else ""
        return "\n".join(filter(None, (outcome.output.strip(), cut, failed))) or _NOTHING

    @property
    def found(self) -> str:
        """What it printed, and the answer that it has computed; nothing where it failed."""
        outcome = self.outcome
        computed = outcome.answer if outcome.answer and not _LITERAL.search(self.source) else ""
        return "" if outcome.error else "\n".join(filter(None, (outcome.output.strip(), computed)))

    def knows(self, question: str, before: Sequence[Program]) -> bool:
        """Whether the answer that it gives was computed, or stands in what was printed, by it or `before`.

        Words of the question may stand in it too.
        """
        said, known = words(self.outcome.answer or ""), set(words(question))
        for program in (*before, self):
            known.update(words(program.found))
        return sum(word in known for word in said) >= _PRINTED_RATIO * len(said) > 0


def program_in(reply: str, begun: bool) -> str:
    """The program in a model's reply: what stands in a fence, or where that was `begun` for it, all up to its end."""
    fenced = _FENCED.search(reply)
    if fenced and not (begun and reply[: fenced.start()].strip()):
        return fenced[1].rstrip()
    return reply.partition(FENCE)[0].strip("\n").rstrip()


def run_again(session: ProgramSession, programs: Sequence[Program]) -> str | None:
    """Bring a session to where some programs have left it; says why where that can't be done."""
    for number, program in enumerate(programs, 1):
        if program.outcome.alive:
            outcome = session.run(program.source, ReplayedTools(program.calls).tools(), again=True)
            if not outcome.alive:
                return f"program {number} could not be run again: {outcome.error}"
    return None
