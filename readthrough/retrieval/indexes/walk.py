"""Trees of summaries walked from the top: a model weighs what lies below, and the best goes on.

Source: LATTICE, Gupta et al., arXiv 2510.13217, and its authors' code (nilesh2797/lattice, b24930d): a beam of 2, 20
steps, and a path whose score is the mean of a node's own and of its parent's path.

Differs from the paper: nothing is written; a node's score is how much it raises the question (query likelihood), which
compares as it is, or the log-probability with which it is chosen among its siblings and the best of those seen, put on
one scale by `trees/calibration.py`. The calibrated scores lead the walk too, where the code uses them for the chunks
alone. The mean is taken of every score, in nats, where theirs leaves out those under 0.09.

It needs a model and trees, so it has no name among the catalogue's indexes: make it with both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from readthrough.errors import UsageError
from readthrough.retrieval.base import Among, Judge
from readthrough.retrieval.rerankers.choices import MARK_TOKENS, WHICH, chosen
from readthrough.retrieval.rerankers.likelihood import CHAT_TOKENS, QUESTION_ABOUT, raised
from readthrough.retrieval.trees.base import Ground, Tree
from readthrough.retrieval.trees.calibration import calibrated
from readthrough.types import Cost, Event

SLATE = 16
"""The most nodes that are weighed against each other, those seen before among them."""

Place = tuple[str, int]
"""A document and the number of a chunk or summary in its tree."""


@dataclass(frozen=True)
class Walking:
    """How trees are walked.

    Attributes:
        by: how nodes are weighed: `likelihood` of the question, or `choice` among those that stand side by side.
        beam: how many summaries are opened at once.
        steps: how often, at most.
        own_share: what a node's own score weighs beside its parent's path.
        anchors: how many of the best seen are weighed again beside each others' children, by `choice`.
        room_tokens: the most tokens of what is weighed in one prompt, by `choice`; None weighs by number alone.
        most_tokens: the most tokens of all prompts of a search.
    """

    by: Literal["likelihood", "choice"] = "likelihood"
    beam: int = 2
    steps: int = 20
    own_share: float = 0.5
    anchors: int = 3
    most_tokens: int = 200_000
    room_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.by not in ("likelihood", "choice"):
            raise ValueError(f"by must be likelihood or choice, got {self.by!r}")
        if self.beam < 1 or self.steps < 1 or self.most_tokens < 1:
            raise ValueError("beam, steps and most_tokens must be at least 1")
        if not 0 < self.own_share <= 1 or not 1 <= self.anchors <= SLATE // 2:
            raise ValueError(f"own_share must be above 0 and at most 1, anchors 1 to {SLATE // 2}")


@dataclass
class Walk:
    """What was seen on one walk: it can be put aside between two steps, and gone on with.

    Attributes:
        beam: what is opened next; None stands for the tops of all trees. Empty where the walk is over.
        steps: how many were taken.
        parents: what was seen with the summary that it was first seen under, in that order.
        seen: how much each place fits the question by itself.
        slates: the scores of places that were weighed side by side.
        opened: summaries that are in the beam, or were.
    """

    beam: list[Place | None] = field(default_factory=lambda: [None])
    steps: int = 0
    parents: dict[Place, Place | None] = field(default_factory=dict)
    seen: dict[Place, float] = field(default_factory=dict)
    slates: list[dict[Place, float]] = field(default_factory=list)
    opened: set[Place] = field(default_factory=set)

    def path(self, place: Place, own_share: float) -> float:
        """A node's own score and those above it, the nearer the more."""
        parent = self.parents[place]
        if parent is None:
            return self.seen[place]
        return own_share * self.seen[place] + (1 - own_share) * self.path(parent, own_share)

    def depth(self, place: Place | None) -> int:
        """How many summaries lie above a place, and itself."""
        depth = 0
        while place is not None:
            place = self.parents[place]
            depth += 1
        return depth

    def to_json(self) -> dict[str, Any]:
        """The walk as plain values, the names of documents once."""
        documents = list(dict.fromkeys(document for document, _ in self.parents))
        numbers = {document: number for number, document in enumerate(documents)}

        def short(place: Place | None) -> list[int] | None:
            return place and [numbers[place[0]], place[1]]

        return {
            "documents": documents,
            "steps": self.steps,
            "beam": [short(place) for place in self.beam],
            "parents": [(short(place), short(parent)) for place, parent in self.parents.items()],
            "seen": [(short(place), score) for place, score in self.seen.items()],
            "slates": [[(short(place), score) for place, score in slate.items()] for slate in self.slates],
            "opened": [short(place) for place in sorted(self.opened)],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Walk:
        """The walk that `to_json` was asked of."""

        def whole(short: Sequence[int]) -> Place:
            return value["documents"][short[0]], short[1]

        return cls(
            beam=[short and whole(short) for short in value["beam"]],
            steps=value["steps"],
            parents={whole(short): parent and whole(parent) for short, parent in value["parents"]},
            seen={whole(short): score for short, score in value["seen"]},
            slates=[{whole(short): score for short, score in slate} for slate in value["slates"]],
            opened={whole(short) for short in value["opened"]},
        )


class WalkIndex:
    """The chunks that a walk down the trees comes to."""

    def __init__(
        self,
        ground: Ground,
        trees: Mapping[str, Tree],
        judge: Judge,
        walking: Walking | None = None,
        *,
        shown: Callable[[str], str] = str,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """`trees` by document, of one without a tree every chunk is weighed; `shown` is a text as it stands in a
        prompt; `on_event` hears of each step."""
        self._ground = ground
        self._trees = trees
        self._judge = judge
        self._walking = walking or Walking()
        self._shown = shown
        self._on_event = on_event or (lambda event: None)
        self._sizes: dict[Place, int] = {}

    def cost(self, query: str, among: Among = None) -> Cost:
        """The most that a search asks of the model."""
        return self._cost(query, _Wood(self._ground, self._trees, among))

    def search(self, query: str, k: int, among: Among = None) -> list[tuple[int, float]]:
        """The `k` best of the chunks that were come to, as (chunk id, score of the path to it).

        Raises:
            UsageError: it may take more than `most_tokens`; nothing was asked.
            ModelError: the model gives no logits, and is to weigh by likelihood.
        """
        wood = _Wood(self._ground, self._trees, among)
        if not query.strip() or not wood.tops:
            return []
        tokens, most = self._cost(query, wood).prompt_tokens, self._walking.most_tokens
        if tokens > most:
            raise UsageError(
                f"to walk these trees for a question may take prompts of {tokens} tokens, more than "
                f"most_tokens = {most}",
                hint="raise most_tokens, take fewer steps, or ask about fewer documents",
            )
        walk = Walk()
        while walk.beam:
            self._step(walk, query, wood)
        return self.hits(walk, k)

    def step(self, walk: Walk, query: str, among: Among = None) -> None:
        """One step of a walk for `query`; it is over when its beam is empty."""
        self._step(walk, query, _Wood(self._ground, self._trees, among))

    def ranked(self, walk: Walk) -> list[tuple[Place, float]]:
        """All that a walk has seen with the scores of the paths to it, best first."""
        scores = {place: walk.path(place, self._walking.own_share) for place in walk.seen}
        return sorted(scores.items(), key=lambda each: -each[1])

    def hits(self, walk: Walk, k: int) -> list[tuple[int, float]]:
        """The `k` best of the chunks that a walk has seen, as `search` returns them."""
        wood = _Wood(self._ground, self._trees, None)
        found = ((wood.chunk(place), score) for place, score in self.ranked(walk) if not wood.is_summary(place))
        return list(islice(found, k))

    def _step(self, walk: Walk, query: str, wood: _Wood) -> None:
        """Weigh what lies below the beam, and open the best that was seen and not opened yet."""
        new: dict[Place | None, list[Place]] = {}
        for parent in walk.beam:
            new[parent] = [child for child in wood.children(parent) if child not in walk.parents]
            walk.parents.update((child, parent) for child in new[parent])
        if self._walking.by == "likelihood":
            places = [place for below in new.values() for place in below]
            walk.seen.update(zip(places, raised(self._judge, query, self._texts(wood, places)), strict=True))
        else:
            slates = [slate for parent, below in new.items() for slate in self._beside(wood, walk, parent, below)]
            scored = chosen(self._judge, query, [self._texts(wood, slate) for slate in slates])
            walk.slates += [dict(zip(slate, scores, strict=True)) for slate, scores in zip(slates, scored, strict=True)]
            walk.seen = calibrated(walk.slates)
        self._on_event(Event("walk", walk.steps, self._walking.steps, "steps"))
        closed = [place for place, _ in self.ranked(walk) if wood.is_summary(place) and place not in walk.opened]
        walk.beam = list(closed[: self._walking.beam]) if walk.steps < self._walking.steps else []
        walk.opened.update(place for place in walk.beam if place is not None)
        walk.steps += 1

    def _texts(self, wood: _Wood, places: Sequence[Place]) -> list[str]:
        return [self._shown(wood.text(place).strip()) for place in places]

    def _beside(self, wood: _Wood, walk: Walk, parent: Place | None, below: Sequence[Place]) -> list[list[Place]]:
        """Nodes in slates, each tied to others: by the best seen as deep, by their parent, or by a neighbour."""
        depth = walk.depth(parent) + 1
        alike = [place for place, _ in self.ranked(walk) if walk.depth(place) == depth]
        anchors = alike[: self._walking.anchors] or ([] if parent is None else [parent])
        if self._walking.room_tokens is not None:
            self._measure(wood, [*below, *anchors])
        slates, start = list[list[Place]](), 0
        while start < len(below):
            new, tied = self._packed(below[start:], anchors or below[max(0, start - 1) : start])
            slates.append([*new, *tied])
            start += len(new)
        return slates

    def _packed(self, below: Sequence[Place], tied: Sequence[Place]) -> tuple[list[Place], list[Place]]:
        """The first of some nodes, one at least, and what they are tied to, as one prompt has room for them."""
        room, most = self._walking.room_tokens, SLATE - self._walking.anchors
        if room is None:
            return list(below[:most]), list(tied)
        sizes = {place: self._sizes[place] + MARK_TOKENS for place in (*below, *tied)}
        left, beside = room - sizes[below[0]], list[Place]()
        for place in tied:  # what is new has half of the room
            if sizes[place] <= min(left, room // 2 - sum(sizes[other] for other in beside)):
                beside.append(place)
                left -= sizes[place]
        new = [below[0]]
        for place in below[1:most]:
            left -= sizes[place]
            if left < 0:
                break
            new.append(place)
        return new, beside

    def _measure(self, wood: _Wood, places: Sequence[Place]) -> None:
        new = [place for place in places if place not in self._sizes]
        self._sizes.update(zip(new, self._judge.count_tokens(self._texts(wood, new)), strict=True))

    def _cost(self, query: str, wood: _Wood) -> Cost:
        """The top, and the summaries that are dearest to open."""
        if not wood.tops:
            return Cost()
        walking = self._walking
        self._measure(wood, wood.places())
        asked = self._judge.count_tokens([QUESTION_ABOUT + WHICH + query])[0] + CHAT_TOKENS
        largest = max((self._sizes[place] + MARK_TOKENS for place in wood.places()), default=0)
        beside = SLATE - walking.anchors
        if walking.room_tokens is not None:
            beside = max(1, min(beside, walking.room_tokens // 2 // max(1, largest)))

        def opening(parent: Place | None) -> Cost:
            children = wood.children(parent)
            read = sum(self._sizes[child] for child in children)
            if walking.by == "likelihood":
                return Cost(len(children) + 1, read + (len(children) + 1) * asked)
            slates = -(-len(children) // beside)
            tied = slates * (walking.anchors * largest + asked) + len(children) * MARK_TOKENS
            return Cost(2 * slates, 2 * (read + tied))

        dearest = sorted(map(opening, wood.summaries()), key=lambda cost: -cost.prompt_tokens)
        return sum(dearest[: walking.steps * walking.beam], opening(None))


class _Wood:
    """The trees of the documents that are searched, without what no chunk of them is under."""

    def __init__(self, ground: Ground, trees: Mapping[str, Tree], among: Among) -> None:
        self._ground = ground
        allowed = set(ground.chunk_array(among).tolist())
        self._ids: dict[str, list[int]] = {}
        self._trees: dict[str, Tree] = {}
        self._open: set[Place] = set()
        self.tops: list[Place] = []
        for document in ground.document_ids():
            ids = ground.chunk_ids(document)
            if allowed.isdisjoint(ids):
                continue
            tree = trees.get(document) or Tree(len(ids))
            self._ids[document], self._trees[document] = ids, tree
            self._open |= {(document, place) for place, chunk in enumerate(ids) if chunk in allowed}
            for place, below in enumerate(tree.below):
                if any(ids[position] in allowed for position in below):
                    self._open.add((document, tree.leaves + place))
            self.tops += [(document, number) for number in tree.tops if (document, number) in self._open]

    def places(self) -> list[Place]:
        """Every chunk and summary, in order."""
        return sorted(self._open)

    def summaries(self) -> list[Place]:
        """Every summary."""
        return [place for place in self.places() if self.is_summary(place)]

    def is_summary(self, place: Place) -> bool:
        """Whether there is something below."""
        return place[1] >= self._trees[place[0]].leaves

    def children(self, parent: Place | None) -> list[Place]:
        """What lies directly below a summary; the tops of all trees where there is none."""
        if parent is None:
            return self.tops
        document, number = parent
        below = ((document, child) for child in self._trees[document].node(number).children)
        return [place for place in below if place in self._open]

    def text(self, place: Place) -> str:
        """A summary, or the text of a chunk."""
        if self.is_summary(place):
            return self._trees[place[0]].node(place[1]).summary.text
        return self._ground.get([self.chunk(place)])[0].text

    def chunk(self, place: Place) -> int:
        """The id of a chunk."""
        return self._ids[place[0]][place[1]]
