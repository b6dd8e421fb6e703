"""What the nodes of one run work with: the model, the texts, the run log, all counted and noted step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from readthrough.agents.runs.budget import Budget
from readthrough.agents.runs.streaming import listeners, spoken, tell
from readthrough.config import Spec
from readthrough.errors import BudgetError, ConfigError, UsageError
from readthrough.memory.runs import RunLog, Step, text_hash
from readthrough.models.base import Attention, Choice, Completion, Likelihood, ModelBackend, Request
from readthrough.models.deadline import check_stop
from readthrough.models.journal import journal
from readthrough.types import Chunk, Cost, Event, Usage

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManager

    from readthrough.agents.reading.confidence import Calibration
    from readthrough.asof import AsOf
    from readthrough.memory.shelf import Shelf

Counted = TypeVar("Counted", Completion, Choice, Likelihood, Attention)
Given = TypeVar("Given")

KEPT = "said before"
"""What the decision is called that counts the replies of a step that an earlier run had got."""


@dataclass
class _Open:
    """The step that is being taken."""

    usage: Usage = field(default_factory=Usage)
    chunks: list[Chunk] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    said: list[str] = field(default_factory=list)


_STEP: ContextVar[_Open | None] = ContextVar("readthrough_step", default=None)


@dataclass
class Services:
    """The context of a workflow's graph. Nodes call models and read texts through it, never around it.

    Attributes:
        keep_replies: what a repeatable model said to an earlier run of the log is not asked again.
    """

    model: ModelBackend
    shelf: Shelf
    runs: RunLog
    run: str = ""
    on_event: Callable[[Event], None] | None = None
    on_text: Callable[[str], None] | None = None
    budget: Budget = field(default_factory=Budget)
    open_model: Callable[[Spec], ModelBackend] | None = None
    on_approval: Callable[[Mapping[str, Any]], bool] | None = None
    keep_replies: bool = True
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    reused: tuple[str, ...] = ()
    _values: dict[str, Any] = field(default_factory=dict, repr=False)

    def using(self, model: Spec | None) -> Services:
        """The same services with another model, which counts into the same budget; None keeps this one.

        Raises:
            UsageError: nobody said how to open models.
        """
        if model is None:
            return self
        if self.open_model is None:
            raise UsageError(f"the model {model!r} cannot be opened here", hint="give Services open_model")
        return replace(self, model=self.open_model(model))

    def reusing(self, texts: Sequence[str]) -> Services:
        """The same services, for calls whose prompts hold these texts in this order: each of them says so.

        A local model that joins texts reads each of them once, wherever it stands (see `Request.reused`).
        """
        return replace(self, reused=tuple(texts))

    @property
    def usage(self) -> Usage:
        """What the run has taken since it was started or resumed."""
        return self.budget.spent

    @property
    def as_of(self) -> AsOf | None:
        """The position that the texts are read up to, None where they are read to their end."""
        return None if self.shelf.cut is None else self.shelf.cut.as_of(self.model)

    def priced(self, cost: Cost) -> Cost:
        """`cost` with what the model's prices make of it; its money is None where they are not known."""
        prices = self.model.prices
        if prices is None:
            return cost
        return replace(cost, money=prices.cost(cost.prompt_tokens, 0, cost.completion_tokens))

    def check_prices(self) -> None:
        """Raise where money is limited and nobody knows what the model costs.

        Raises:
            ConfigError: so it is.
        """
        if self.budget.counts_money and self.model.prices is None:
            raise ConfigError(
                f"max_cost: what {self.model.name} costs is not known",
                hint="model: {openai: {model: ..., base_url: ..., prices: {prompt: 0.15, completion: 0.6}}}",
            )

    def emit(self, event: Event) -> None:
        """Tell whoever listens how far the run is, the graph's custom stream too."""
        if self.on_event is not None:
            self.on_event(event)
        tell(event)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """`ModelBackend.complete`, counted and within the budget."""
        given = [None] * len(requests)
        return self._call(Completion, self._marked(requests), given, lambda some, _: self.model.complete(some))

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """`ModelBackend.choose`, counted and within the budget; the probabilities are noted in the run log."""
        choices = self._call(Choice, self._marked(requests), options, self.model.choose)
        step = _STEP.get()
        if step is not None:
            step.decisions += [
                {"options": list(given), "probabilities": [round(share, 4) for share in choice.probabilities]}
                for given, choice in zip(options, choices, strict=True)
            ]
        return choices

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """`ModelBackend.likelihood`, counted and within the budget."""
        return self._call(Likelihood, self._marked(requests), continuations, self.model.likelihood)

    def attention_mass(self, request: Request, texts: Sequence[str], asked: str) -> Attention:
        """`ModelBackend.attention_mass`, counted and within the budget."""
        given = [(tuple(texts), asked)]
        return self._call(
            Attention, [request], given, lambda some, _: [self.model.attention_mass(some[0], texts, asked)]
        )[0]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """`ModelBackend.count_tokens`."""
        return self.model.count_tokens(texts)

    def write(self, request: Request) -> Completion:
        """Complete the request whose text the user reads: streamed where somebody listens.

        Where a budget has ended the run, and its time is over before the reply is, that is cut there.
        """
        manager = listeners()
        if self.on_text is None and manager is None and not self.budget.ending:
            completion = self.complete([request])[0]
        else:
            completion = self._heard(request, manager)
        self.note_said(request, completion.text)
        return completion

    def _heard(self, request: Request, manager: CallbackManager | None) -> Completion:
        """The reply, for listeners as it is written, or at once where an earlier run had it."""
        spoken: list[Completion] = []

        def speak(some: Sequence[Request], _: Sequence[None]) -> list[Completion]:
            spoken.append(self._spoken(some[0], manager))
            return spoken

        completion = self._call(Completion, self._marked([request]), [None], speak)[0]
        if not spoken:
            self.say(completion.text)
        return completion

    def note_said(self, request: Request, text: str) -> None:
        """Note in the run log that what the user reads is `text`, the reply to `request`: a trace starts from it."""
        step = _STEP.get()
        if step is not None and text.strip():
            messages = [(message.role, message.content) for message in request.messages]
            said = json.dumps([messages, request.prefill, text], ensure_ascii=False)
            step.said.append(self.runs.put_said(self.run, said))

    def say(self, text: str) -> None:
        """Add to the text that the user reads, behind what a model wrote."""
        if self.on_text is not None:
            self.on_text(text)

    def _spoken(self, request: Request, manager: CallbackManager | None) -> Completion:
        started, said = time.monotonic(), list[str]()

        def hear(piece: str) -> None:
            said.append(piece)
            if self.on_text is not None:
                self.on_text(piece)

        try:
            return spoken(self.model, request, hear, manager)
        except BudgetError:
            text = "".join(said).strip()
            if not self.budget.ending or not text:
                raise
            prompt, written = self.model.count_tokens(["\n".join(turn.content for turn in request.messages), text])
            return Completion(text, "length", Usage(prompt, 0, written, 1, time.monotonic() - started))

    def chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Chunks for a model to read, noted in the run log."""
        chunks = self.shelf.get(list(ids))
        step = _STEP.get()
        if step is not None:
            step.chunks += chunks
        return chunks

    def put(self, text: str) -> str:
        """Keep a text in the run log; returns the hash that goes into the graph's state."""
        digest = self.runs.put(self.run, text)
        step = _STEP.get()
        if step is not None:
            step.texts.append(digest)
        return digest

    def get(self, digest: str) -> str:
        """The text that `put` returned `digest` for."""
        return self.runs.get(digest)

    def link(self, before: str | None, **held: Any) -> str:
        """`put_json` for the next link of a chain, behind the link `before`.

        The newest is all that a graph's state has to hold: neither the state nor a link grows with the run.
        """
        return self.put_json({"before": before, **held})

    def links(self, last: str | None) -> list[dict[str, Any]]:
        """What the links of a chain hold, the first one first, up to the `last`; nothing for None."""
        found = []
        while last is not None:
            found.append(json.loads(self.get(last)))
            last = found[-1]["before"]
        return found[::-1]

    def put_json(self, value: Any) -> str:
        """`put` for a plain value: what is too long for a graph's state."""
        return self.put(json.dumps(value, ensure_ascii=False))

    def get_json(self, digest: str) -> Any:
        """The value that `put_json` returned `digest` for. It is shared: do not change it."""
        if digest not in self._values:
            self._values.clear()  # a loop asks for the same plan again and again: one is enough
            self._values[digest] = json.loads(self.get(digest))
        return self._values[digest]

    def decide(self, what: str, /, **signs: float) -> None:
        """Note a decision that was not a choice between options: the signs it was made of."""
        step = _STEP.get()
        if step is not None:
            step.decisions.append({"what": what, **{name: round(value, 4) for name, value in signs.items()}})

    @contextmanager
    def step(self, node: str, number: int) -> Iterator[None]:
        """Note all that happens inside as one step of the run; one that fails as cut short, with what it took."""
        started = time.perf_counter()
        opened = _Open()
        token = _STEP.set(opened)
        try:
            with self.budget.in_time(), journal(self.runs.calls(self.run, number, node)):
                yield
        except BaseException:
            if opened.usage.calls:
                self._note(f"{node} (cut short)", number, started, opened)
            raise
        finally:
            _STEP.reset(token)
        self._note(node, number, started, opened)

    def _note(self, node: str, number: int, started: float, opened: _Open) -> None:
        text = "".join(chunk.text for chunk in opened.chunks)
        if opened.kept:
            opened.decisions.append({"what": KEPT, "calls": opened.kept})
        step = Step(
            number=number,
            node=node,
            seconds=round(time.perf_counter() - started, 3),
            usage=opened.usage,
            spans=_joined(opened.chunks),
            read=text_hash(text) if opened.chunks else None,
            texts=tuple(opened.texts),
            decisions=tuple(opened.decisions),
            said=tuple(opened.said),
        )
        self.runs.log(self.run, step)

    def _marked(self, requests: Sequence[Request]) -> list[Request]:
        """Requests that say which reused texts they hold; those that do not hold all of them stay as they are."""
        return [replace(each, reused=self.reused) if _holds(each, self.reused) else each for each in requests]

    def _call(
        self,
        kind: type[Counted],
        requests: Sequence[Request],
        given: Sequence[Given],
        call: Callable[[Sequence[Request], Sequence[Given]], list[Counted]],
    ) -> list[Counted]:
        """`call` with those requests, and what is given beside each, whose reply is not kept of an earlier run."""
        if not requests:
            return []
        keys, kept = self._kept(kind, requests, given)
        new = [place for place, key in enumerate(keys) if key not in kept]
        made = self._ask([requests[place] for place in new], [given[place] for place in new], call) if new else []
        if self._keeps and not self.budget.ending:  # there a reply may be cut by the end of the time
            lasting = {keys[at]: asdict(one) for at, one in zip(new, made, strict=True) if not requests[at].temperature}
            self.runs.replies.keep(self.run, list(kept), lasting)
        step, replies = _STEP.get(), iter(made)
        if step is not None:
            step.kept += len(requests) - len(new)
        return [kept[key] if key in kept else next(replies) for key in keys]

    @property
    def _keeps(self) -> bool:
        return self.keep_replies and self.model.repeatable and bool(self.run)

    def _kept(
        self, kind: type[Counted], requests: Sequence[Request], given: Sequence[Given]
    ) -> tuple[list[str], dict[str, Counted]]:
        """The hash of each call, and the replies that are kept, which took nothing."""
        asked = [f"{self.model.identity} {kind.__name__}\n{pair!r}" for pair in zip(requests, given, strict=True)]
        keys = [text_hash(text) for text in asked]
        if not self._keeps:
            return keys, {}
        found = self.runs.replies.find([key for key, one in zip(keys, requests, strict=True) if not one.temperature])
        return keys, {key: replace(kind.of(values), usage=Usage()) for key, values in found.items()}

    def _ask(
        self,
        requests: Sequence[Request],
        given: Sequence[Given],
        call: Callable[[Sequence[Request], Sequence[Given]], list[Counted]],
    ) -> list[Counted]:
        """`call`, counted and within the budget."""
        check_stop()
        self.check_prices()
        tokens = 0
        if self.budget.counts_tokens:
            contents = [message.content for request in requests for message in request.messages]
            tokens = sum(self.model.count_tokens(contents))
        with self.budget.admitted(requests, tokens, self.priced(Cost(prompt_tokens=tokens)).money):
            started = time.monotonic()
            results = call(requests, given)
            used = sum((result.usage for result in results), Usage())
            self.budget.spend(used, time.monotonic() - started)
        step = _STEP.get()
        if step is not None:
            step.usage = step.usage + used
        return results


def _holds(request: Request, texts: Sequence[str]) -> bool:
    """Whether the last turn of a request holds some texts, one behind the other."""
    at = 0
    for text in texts:
        at = request.messages[-1].content.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return bool(texts)


def _joined(chunks: Sequence[Chunk]) -> tuple[tuple[str, int, int], ...]:
    """The spans of chunks, each joined to the one that ends where it begins."""
    spans: list[tuple[str, int, int]] = []
    for chunk in chunks:
        if spans and spans[-1][0] == chunk.document and spans[-1][2] == chunk.start:
            spans[-1] = (chunk.document, spans[-1][1], chunk.end)
        else:
            spans.append((chunk.document, chunk.start, chunk.end))
    return tuple(spans)
