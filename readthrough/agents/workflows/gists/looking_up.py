"""Which pages to look up: their gists ranked by a question, and by what was read already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from readthrough.agents.reading.answering import log_average
from readthrough.agents.reading.passages import as_data, numbered, windows
from readthrough.agents.reading.prompts import Prompt
from readthrough.agents.runs.services import Services
from readthrough.models.base import Request
from readthrough.retrieval.rerankers.likelihood import raised

WHICH_PAGE = Prompt(
    """These are shortened pages of a text.

{gists}

Read in full so far: {known}

Question: {question}
Which of the numbered pages should be read in full to answer the question? Reply with its number, or with 0 if no \
page is needed."""
)

NOTHING_YET = "(nothing yet)"

# The mark of a gist, and the blank line before it.
_MARK_TOKENS = 8


def rank_by_likelihood(services: Services, question: str, gists: Mapping[int, str], known: str) -> list[int]:
    """The pages by how much their gists raise the question, behind the text of what is known. One batch."""
    before = f"{known}\n\n" if known else ""
    gains = raised(services, question, [before + as_data(gist) for gist in gists.values()])
    for page, gain in zip(gists, gains, strict=True):
        services.decide("look it up?", page=page, raised=gain)
    return [page for page, _ in sorted(zip(gists, gains, strict=True), key=lambda each: -each[1])]


def rank_by_choice(
    services: Services, question: str, gists: Mapping[int, str], known: str, room_tokens: int
) -> list[int]:
    """The pages by what the model chooses; none where something is known, and it says that no page is needed.

    Gists that have no room in one prompt are chosen from in several, and the better half of each goes on to the next
    round, until one prompt holds what is left. Each prompt is read in two orders where the model gives logits.

    Args:
        services: what is asked.
        question: the question.
        gists: by page.
        known: what was read in full so far.
        room_tokens: the most tokens of gists in a prompt.
    """
    sizes = dict(zip(gists, services.count_tokens(list(gists.values())), strict=True))
    sizes = {page: size + _MARK_TOKENS for page, size in sizes.items()}
    room = max(room_tokens, 2 * max(sizes.values(), default=0))  # two fit, so that rounds come to an end
    left, beaten = list(gists), list[int]()
    while True:
        groups = windows(left, sizes, room)
        decided = _decided(services, question, [[gists[page] for page in group] for group in groups], known)
        shares = {
            page: share
            for group, found in zip(groups, decided, strict=True)
            for page, share in zip(group, found[1:], strict=True)
        }
        if len(groups) <= 1:
            if known and decided and decided[0][0] > max(decided[0][1:]):
                return []
            return [*sorted(left, key=lambda page: -shares[page]), *beaten]
        ranked = [sorted(group, key=lambda page: -shares[page]) for group in groups]
        kept = {page for group in ranked for page in group[: max(1, len(group) // 2)]}
        beaten = [*sorted((page for page in left if page not in kept), key=lambda page: -shares[page]), *beaten]
        left = [page for page in left if page in kept]


def _decided(services: Services, question: str, groups: Sequence[Sequence[str]], known: str) -> list[list[float]]:
    """For each group of gists the log-probability that no page is needed, and then that of each."""
    rotations = 2 if "logits" in services.model.capabilities else 1
    orders, requests, options = list[list[list[int]]](), list[Request](), list[list[str]]()
    for group in groups:
        forward = list(range(1, len(group) + 1))
        orders.append([[0, *order] for order in (forward, forward[::-1])[:rotations]])
        for order in orders[-1]:
            shown = numbered(group[place - 1] for place in order[1:])
            text = WHICH_PAGE.format(gists=shown, known=known or NOTHING_YET, question=question)
            requests.append(Request.user(text, prefill="["))
            options.append([f"{number}]" for number in range(len(group) + 1)])
    decided = iter(services.choose(requests, options))
    return [log_average([next(decided) for _ in turned], turned) for turned in orders]
