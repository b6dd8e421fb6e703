"""The extension point of `models`: a ModelBackend completes prompts, and chooses between options.

Every backend keeps four promises: token counts are true, limits are obeyed, nothing is cut silently
(a prompt that does not fit raises PromptTooLongError), and calls handed over together may run together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from readthrough.errors import ConfigError, ModelError
from readthrough.types import Usage

Role = Literal["system", "user", "assistant"]
Capability = Literal["logits", "attention", "schema", "stream"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model.

    Attributes:
        messages: the chat so far; the last turn is the user's.
        max_tokens: the most tokens to generate.
        stop: strings that end the generation (not part of the completion).
        schema: a JSON Schema that the completion must satisfy, unless `max_tokens` cuts it; None for free text.
        prefill: the beginning of the assistant's reply, put into the prompt (not part of the completion).
        temperature: 0 is greedy and repeatable.
        reused: texts within the messages, in their order, that other requests hold too. A model that joins texts (a
            local one, where its plan says so) reads each of them once; others take no notice.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    prefill: str = ""
    temperature: float = 0.0
    reused: tuple[str, ...] = ()

    @classmethod
    def user(cls, content: str, system: str | None = None, **options: Any) -> Request:
        """A request of one user turn, with an optional system turn before it."""
        first = (Message("system", system),) if system else ()
        return cls(messages=(*first, Message("user", content)), **options)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote.

    Attributes:
        logprob: the sum over the completion's tokens, None where not known.
        tokens: how many tokens it has; where that is not said, those of `usage`, which is nothing of a kept reply.
    """

    text: str
    finish: Literal["stop", "length"]
    usage: Usage
    logprob: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.tokens is None:
            object.__setattr__(self, "tokens", self.usage.completion_tokens)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Completion:
        """The completion that `asdict` made `values` of."""
        return cls(**{**values, "usage": Usage(**values["usage"])})

    @property
    def mean(self) -> float | None:
        """The mean log-probability of a token, None where not known."""
        return None if self.logprob is None else self.logprob / max(1, self.tokens or 0)


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision among options: a probability for each, in the options' order, summing to 1."""

    probabilities: tuple[float, ...]
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Choice:
        """The choice that `asdict` made `values` of."""
        return cls(tuple(values["probabilities"]), Usage(**values["usage"]))

    @property
    def best(self) -> int:
        """The index of the most probable option."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """log p(continuation | prompt): the sum over its tokens, and how many there are."""

    logprob: float
    tokens: int
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Likelihood:
        """What `asdict` made `values` of."""
        return cls(**{**values, "usage": Usage(**values["usage"])})

    @property
    def mean(self) -> float:
        """The mean log-probability of a token."""
        return self.logprob / max(1, self.tokens)


@dataclass(frozen=True, slots=True)
class Attention:
    """How much attention a question pays to each of some texts in its prompt.

    Attributes:
        shares: that of each text, the sum over its tokens.
        tokens: how many tokens each has.
        by_token: the shares of the tokens of each text, in their order.
    """

    shares: tuple[float, ...]
    tokens: tuple[int, ...]
    usage: Usage = field(default_factory=Usage)
    by_token: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, values: dict[str, Any]) -> Attention:
        """What `asdict` made `values` of."""
        by_token = tuple(map(tuple, values["by_token"]))
        return cls(tuple(values["shares"]), tuple(values["tokens"]), Usage(**values["usage"]), by_token)


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens; `cached` is that of cached prompt tokens (None: as any prompt token).

    Raises:
        ConfigError: a price is below 0.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a price with a wrong name would be lost

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        if min(self.prompt, self.completion, self.cached or 0.0) < 0:
            raise ConfigError(f"{self}: a price is not below 0")

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """What a call costs."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = prompt_tokens - cached_tokens
        return (fresh * self.prompt + cached_tokens * cached + completion_tokens * self.completion) / 1e6


class ModelBackend(ABC):
    """A language model behind one interface; `name` as the user named it.

    Attributes:
        name: as the user named it.
        window_tokens: the most of a prompt and its reply together.
        tokenizer_id: whose tokens `count_tokens` counts.
        capabilities: what it can do beside completing.
        prices: what its tokens cost; None where that is not known.
        repeatable: whether a reply of temperature 0 may stand for one that is asked for again in the same words.
        concurrency: the most requests that run beside each other. With 1 calls take turns, and those of several threads
            are better made as one batch (`readthrough.models.gathering`).
    """

    concurrency: int = 1

    name: str
    window_tokens: int
    tokenizer_id: str
    capabilities: frozenset[Capability]
    prices: Prices | None = None
    repeatable: bool = False

    @property
    def identity(self) -> str:
        """What the same prompt must be asked of to get the same reply: the name, and whatever else changes it."""
        return self.name

    @property
    def plan_name(self) -> str:
        """How attention is computed, as answers tell it; an endpoint's is its own affair."""
        return "dense"

    @property
    def compresses(self) -> bool:
        """Whether KV of what is read is dropped or quantised, so that not all of it can be looked at again."""
        return False

    @abstractmethod
    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order.

        Raises:
            PromptTooLongError: a prompt and its `max_tokens` do not fit the window.
            ModelError: the model or endpoint failed.
        """

    @abstractmethod
    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """For every request, the probability of each of its options as the reply's beginning.

        With logits: scored, one forward pass. Without: constrained output, the chosen option's probability
        being the share of votes, 1.0 where there is one vote.
        """

    @abstractmethod
    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has for this model (an estimate where `tokenizer_id` says so)."""

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """Complete one request, handing over the text piece by piece as it is made."""
        completion = self.complete([request])[0]
        on_text(completion.text)
        return completion

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """log p(continuation | prompt) for each pair. Only with the capability `logits`."""
        raise ModelError(f"{self.name} gives no logits", hint="ask `capabilities` before `likelihood`")

    def attention_mass(self, request: Request, texts: Sequence[str], asked: str) -> Attention:
        """How much attention the tokens of `asked` pay to each of `texts`, which stand in the request before it.

        Only with the capability `attention`. Each share is the mean over those tokens, heads and layers.
        """
        raise ModelError(f"{self.name} does not show its attention", hint="ask `capabilities` before `attention_mass`")

    def close(self) -> None:  # noqa: B027  most backends hold nothing
        """Give back what the backend holds. Calling it twice is fine."""
