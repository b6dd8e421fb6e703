"""Growing trees of summaries: level by level, in batches, each summary once.

Source: Sarthi et al., "RAPTOR: Recursive Abstractive Processing for Tree-Organized Retrieval", arXiv 2401.18059.

Differs from the paper: neighbours that are alike are summarised together, so that a change in one place changes the
summaries above it only (`clustering="mixture"` has the paper's soft clusters wherever they stand); a tree ends in one
summary of its document, not in a layer of eleven.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from readthrough.documents.sentences import sentence_spans, whole_sentences
from readthrough.errors import PromptTooLongError, UsageError
from readthrough.models.base import Completion, ModelBackend, Request
from readthrough.retrieval.embedding import embed_texts
from readthrough.retrieval.rerankers.likelihood import CHAT_TOKENS
from readthrough.retrieval.trees.base import Ground, Node, Summary, Tree
from readthrough.retrieval.trees.clustering import CLUSTERINGS, Clustering, Clusters, neighbours
from readthrough.types import Cost, Event

SUMMARIZE = """{text}

Summarize the text above in at most {words} words and in its own language, with as many of its key details as \
possible: names, numbers, places, what happens. Write the summary and nothing else."""

UNLIMITED_TOKENS = 10**12
"""`most_tokens` of workflows: whoever asks for one that reads everything has it read, its estimate says how much."""

_TOKENS_A_WORD = 1.5
_LEAST_TOKENS = 16


@dataclass(frozen=True)
class Grower:
    """How trees are grown.

    Attributes:
        clustering: what is summarised together: `neighbours` that are alike, or RAPTOR's `mixture`.
        children: the most neighbours of one summary; at least half as many, but where they do not fit.
        read_tokens: the most tokens of text that are summarised at once.
        summary_tokens: the most tokens of a summary.
        batch: how many summaries are asked for side by side, and lost at most by a kill.
        most_tokens: the most tokens of all prompts and replies together.
    """

    clustering: Clustering = "neighbours"
    children: int = 8
    read_tokens: int = 2048
    summary_tokens: int = 128
    batch: int = 8
    most_tokens: int = 500_000

    def __post_init__(self) -> None:
        if self.clustering not in CLUSTERINGS:
            raise ValueError(f"clustering must be one of {', '.join(CLUSTERINGS)}, got {self.clustering!r}")
        if self.children < 2 or self.batch < 1 or self.most_tokens < 1:
            raise ValueError("children must be at least 2, batch and most_tokens at least 1")
        if self.summary_tokens < _LEAST_TOKENS or self.read_tokens < 2 * self.summary_tokens:
            raise ValueError(f"summary_tokens must be at least {_LEAST_TOKENS}, read_tokens twice as many or more")

    def recipe(self, ground: Ground, model: ModelBackend) -> str:
        """What must be the same for trees to be the same: the model, the embedder, the prompt and these options."""
        options = {name: value for name, value in asdict(self).items() if name not in ("batch", "most_tokens")}
        made = hashlib.sha256(f"{SUMMARIZE}{sorted(options.items())}".encode()).hexdigest()
        return f"{model.identity} {ground.embedder.name} {made[:12]}"

    def cost(
        self,
        ground: Ground,
        model: ModelBackend,
        shown: Callable[[str], str] = str,
        documents: Sequence[str] | None = None,
    ) -> Cost:
        """The most that `grow` asks of the model, less what is there already.

        Exact for the lowest level that is to be made. Above it, an estimate of mixtures, and where documents changed.
        """
        return self._cost(self._growths(ground, model, shown, documents), model)

    def grow(
        self,
        ground: Ground,
        model: ModelBackend,
        *,
        complete: Callable[[Sequence[Request]], list[Completion]] | None = None,
        shown: Callable[[str], str] = str,
        on_event: Callable[[Event], None] | None = None,
        documents: Sequence[str] | None = None,
    ) -> dict[str, Tree]:
        """Make what is missing of the trees of documents; every batch stays, whatever comes after.

        Args:
            ground: the documents.
            model: what writes the summaries.
            complete: how it is asked, where its calls are to be counted. It may answer the first few of a batch, one
                at least: the others are asked for again.
            shown: a text of a document, or one that was written of it, as it stands in a prompt.
            on_event: hears of each batch.
            documents: those whose trees are wanted; all where left out.

        Returns:
            A tree for each document that has one; that of a document of one chunk has no summaries.

        Raises:
            UsageError: it takes more than `most_tokens`; nothing was asked.
            PromptTooLongError: what is read at once does not fit the model, or a chunk does not fit what is read.
            ModelError: the model failed; the summaries that were made are kept.
        """
        recipe, growths = self.recipe(ground, model), self._growths(ground, model, shown, documents)
        cost = self._cost(growths, model)
        if cost.tokens > self.most_tokens:
            raise UsageError(
                f"to summarize {len(growths)} documents takes up to {cost.calls} calls with {cost.tokens} tokens, "
                f"more than most_tokens = {self.most_tokens}",
                hint="raise most_tokens, or grow trees of fewer documents",
            )
        work = _Work(ground, recipe, self.summary_tokens, complete or model.complete, on_event, cost.calls)
        while wanted := [(growth, key, prompt) for growth in growths for key, prompt in growth.first_missing().items()]:
            for start in range(0, len(wanted), self.batch):
                work.write(wanted[start : start + self.batch])
        for growth in growths:
            ground.trees.finish(recipe, growth.document, growth.tree)
        return ground.trees.load(recipe)

    def clusters(self, vectors: np.ndarray, tokens: Sequence[int]) -> Clusters:
        """What is summarised together of items with vectors `[N, D]`: fewer than N, where two fit what is read."""
        found = CLUSTERINGS[self.clustering](vectors, tokens, self.children, self.read_tokens)
        return found if len(found) < len(tokens) else neighbours(vectors, tokens, self.children, self.read_tokens)

    def prompt(self, texts: Sequence[str]) -> str:
        """The order to summarize some texts, as they stand in it."""
        return SUMMARIZE.format(text="\n\n".join(texts), words=int(self.summary_tokens / _TOKENS_A_WORD))

    def _growths(
        self, ground: Ground, model: ModelBackend, shown: Callable[[str], str], documents: Sequence[str] | None
    ) -> list[_Growth]:
        """The documents that have no complete tree, each at its chunks."""
        recipe, frame = self.recipe(ground, model), _frame_tokens(model)
        if self.read_tokens + self.summary_tokens + frame > model.window_tokens:
            raise PromptTooLongError(
                f"read_tokens = {self.read_tokens} and summary_tokens = {self.summary_tokens} do not fit the "
                f"{model.window_tokens} tokens of {model.name}",
                hint="set fewer read_tokens",
            )
        complete, tokens = ground.trees.load(recipe), ground.count_tokens(model)
        growths = []
        for document in ground.document_ids() if documents is None else documents:
            ids = ground.chunk_ids(document)
            if not ids or document in complete:
                continue
            sizes = [tokens[chunk] for chunk in ids]
            if max(sizes) > self.read_tokens:
                raise PromptTooLongError(
                    f"a chunk has {max(sizes)} tokens, more than read_tokens = {self.read_tokens}",
                    hint="set more read_tokens, or split documents into smaller chunks",
                )
            texts = [chunk.text for chunk in ground.get(ids)]
            level = _Level(list(range(len(ids))), texts, sizes, ground.vectors(ids))
            growths.append(_Growth(document, self, (model, shown), level, ground.trees.summaries(recipe, document)))
        return growths

    def _cost(self, growths: Sequence[_Growth], model: ModelBackend) -> Cost:
        """What is missing of the lowest level of each document that misses some, and a bound on the levels above."""
        cost, frame = Cost(), _frame_tokens(model)
        for growth in growths:
            missing = growth.first_missing()
            if not missing:
                continue
            prompts = sum(model.count_tokens(list(missing.values()))) + len(missing) * CHAT_TOKENS
            cost += Cost(len(missing), prompts, len(missing) * self.summary_tokens)
            nodes, made = len(growth.clusters), len(missing)
            fewest = max(2, min(self.children // 2, self.read_tokens // self.summary_tokens))
            while nodes > 1:
                read = min(min(self.children, nodes) * self.summary_tokens, self.read_tokens) + frame
                nodes = math.ceil(nodes / fewest)
                made = min(made, nodes)  # what did not change has the parents that it had
                cost += Cost(made, made * read, made * self.summary_tokens)
        return replace(cost, beside_tokens=cost.completion_tokens * (self.batch - 1) // self.batch)


@dataclass(slots=True)
class _Level:
    """The items of a level: their numbers in the tree, texts, tokens and unit vectors `[N, D]`."""

    numbers: list[int]
    texts: list[str]
    tokens: list[int]
    vectors: np.ndarray


class _Growth:
    """The tree of one document while it grows."""

    def __init__(
        self,
        document: str,
        grower: Grower,
        asking: tuple[ModelBackend, Callable[[str], str]],
        leaves: _Level,
        known: Mapping[str, Summary],
    ) -> None:
        self.document = document
        self.known = dict(known)
        self._grower = grower
        self._model, self._shown = asking
        self._leaves = len(leaves.numbers)
        self._nodes: list[Node] = []
        self._stand(leaves)

    @property
    def tree(self) -> Tree:
        """What has grown so far."""
        return Tree(self._leaves, tuple(self._nodes))

    def first_missing(self) -> dict[str, str]:
        """Climb as far as the summaries are known; the prompts, by key, of those that are missing on the next level."""
        while self.clusters:
            missing = {key: prompt for key, prompt in self._prompts if key not in self.known}
            if missing:
                return missing
            self._climb()
        return {}

    def fallback(self, key: str) -> str:
        """What stands for a summary where the model wrote nothing: how its parts begin."""
        place = [known for known, _ in self._prompts].index(key)
        texts = [self._level.texts[item] for item in self.clusters[place]]
        firsts = [text[start:end] for text in texts for start, end in sentence_spans(text)[:1]]
        most = self._grower.summary_tokens
        sizes = np.cumsum(self._model.count_tokens(firsts)) if firsts else np.empty(0)
        return " ".join(firsts[: max(1, int((sizes <= most).sum()))])

    def _stand(self, level: _Level) -> None:
        """Go on from a level: what of it is summarised together, and how it is asked."""
        self._level = level
        self.clusters: Clusters = []
        if len(level.numbers) > 1:
            self.clusters = self._grower.clusters(level.vectors, level.tokens)
        self._prompts: list[tuple[str, str]] = []
        for cluster in self.clusters:
            prompt = self._grower.prompt([self._shown(level.texts[item].strip()) for item in cluster])
            self._prompts.append((_key(prompt), prompt))

    def _climb(self) -> None:
        """Make the summaries of this level the next one."""
        made = [self.known[key] for key, _ in self._prompts]
        first = self._leaves + len(self._nodes)
        for summary, cluster in zip(made, self.clusters, strict=True):
            self._nodes.append(Node(summary, tuple(self._level.numbers[item] for item in cluster)))
        texts = [summary.text for summary in made]
        # Two summaries always count as fitting, so that every level is smaller than the one below.
        tokens = [min(size, self._grower.read_tokens // 2) for size in self._model.count_tokens(texts)]
        vectors = np.stack([summary.vector for summary in made])
        self._stand(_Level(list(range(first, first + len(made))), texts, tokens, vectors))


@dataclass
class _Work:
    """The calls of one growing, counted for progress."""

    ground: Ground
    recipe: str
    most_tokens: int
    complete: Callable[[Sequence[Request]], list[Completion]]
    on_event: Callable[[Event], None] | None
    expected: int
    done: int = 0

    def write(self, batch: Sequence[tuple[_Growth, str, str]]) -> None:
        """Ask for a batch of summaries and keep them."""
        replies = self.complete([Request.user(prompt, max_tokens=self.most_tokens) for _, _, prompt in batch])
        batch = batch[: len(replies)]
        texts = [
            whole_sentences(reply.text.strip(), reply.finish == "length") or growth.fallback(key)
            for (growth, key, _), reply in zip(batch, replies, strict=True)
        ]
        vectors = embed_texts(self.ground.embedder, texts)
        kept: dict[str, list[Summary]] = {}
        for (growth, key, _), text, vector in zip(batch, texts, vectors, strict=True):
            growth.known[key] = summary = Summary(key, text, vector)
            kept.setdefault(growth.document, []).append(summary)
        for document, made in kept.items():
            self.ground.trees.add(self.recipe, document, made)
        self.done += len(batch)
        if self.on_event is not None:
            self.on_event(Event("summarize", self.done, max(self.expected, self.done), "summaries"))


def _frame_tokens(model: ModelBackend) -> int:
    return model.count_tokens([SUMMARIZE])[0] + CHAT_TOKENS


def _key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:32]
