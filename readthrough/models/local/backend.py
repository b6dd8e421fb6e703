"""The model backend that runs a transformers model in this process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from readthrough.compression.plan import DENSE, Plan
from readthrough.compression.prompt.base import Shares, TokenizedText
from readthrough.errors import ConfigError, ModelError, PromptTooLongError, UsageError
from readthrough.models.base import Attention, Capability, Choice, Completion, Likelihood, ModelBackend, Request
from readthrough.models.local.cache import bytes_held
from readthrough.models.local.drafts import Lookup
from readthrough.models.local.engine import Engine
from readthrough.models.local.generation import Limits, Reply, Writer
from readthrough.models.local.grammar import SchemaGrammar, grammar_tokenizer
from readthrough.models.local.jobs import Job
from readthrough.models.local.loading import Loaded, load
from readthrough.models.local.looking import Asked, look
from readthrough.models.local.noticing import notice
from readthrough.models.local.prompts import Prompts, Spans, Tokens
from readthrough.models.local.quantised import draft_rows
from readthrough.models.local.scoring import Logprobs, Question, score, score_reply, score_tokens
from readthrough.models.local.text import ReplyText
from readthrough.models.weights import resolve
from readthrough.types import Event, Usage

_COUNTS = ("window_tokens", "forward_tokens", "kept_bytes", "kept_host_bytes", "readings_bytes")
_RUNNING = ("running_replies", "running_bytes", "draft_tokens")


@dataclass(frozen=True, slots=True)
class Prefilled:
    """What reading a prompt took.

    Attributes:
        tokens: of the prompt.
        cached_tokens: of those, how many did not have to be computed.
        kv_bytes: what the prompt's KV takes in memory, by the plan.
        seconds: of wall time.
    """

    tokens: int
    cached_tokens: int
    kv_bytes: int
    seconds: float


@dataclass(eq=False)
class LocalModel(ModelBackend):
    """A causal language model in this process, by embedded name, folder or hub id.

    Greedy replies are repeatable; nothing is approximated, but where `weights` or `plan` say so. Calls from several
    take turns.

    Attributes:
        name: an embedded model's name, a folder with safetensors, or a hub id.
        dtype: `auto` (the weights' own), `bf16`, `fp16` or `fp32`.
        device: `auto` (CUDA or MPS where there is one), `cpu`, `cuda` or `mps`.
        weights: `full`; or `int4` or `int8`, which a processor writes replies with: faster, not quite the same, and
            a greedy reply may differ with what is written beside it. Prompts, options and likelihoods are computed
            with the full weights all the same.
        plan: how attention is computed: `dense`, exactly; or `{select: ..., keep: ..., store: ..., positions: ...}`:
            which keys long prompts attend to, what of their KV is kept, how it is stored, at which positions; or
            `{join: ...}`: texts that recur are read once, wherever they stand (see
            `readthrough.compression.plan.Plan`).
        window_tokens: the longest prompt and reply together; 0 takes the model's own, more than that is an error
            unless the plan moves positions.
        forward_tokens: the most tokens in one pass; longer prompts take several passes.
        kept_bytes: how much KV of finished calls is kept, so that a text that is asked about again is not read
            again; 0 keeps none.
        kept_host_bytes: with CUDA, how much of what `kept_bytes` has no room for is kept in the processor's memory,
            and copied back when it is asked about again; 0 keeps none there.
        readings: a folder in which texts that are read are kept for other processes; None keeps none. On CUDA a text
            is stored when the memories have no room for it any more, or on `close`.
        readings_bytes: the most bytes that they take, and at most a tenth of what is free on the disk; 0 keeps none.
        running_replies: the most replies written side by side.
        running_bytes: the most KV that replies or scores computed side by side may need (one always runs).
        draft_tokens: the most tokens that prompt lookup drafts for a step of a greedy reply, where the last draft came
            true; 0 turns it off.
        on_event: hears of progress in the stages `load`, `prefill` and `decode`.
    """

    name: str = "qwen2.5-coder-1.5b-instruct"
    dtype: str = "auto"
    device: str = "auto"
    weights: str = "full"
    plan: str | Mapping[str, Any] | None = None
    window_tokens: int = 0
    forward_tokens: int = 2048
    kept_bytes: int = 1 << 30
    kept_host_bytes: int = 4 << 30
    readings: str | Path | None = None
    readings_bytes: int = 10 << 30
    running_replies: int = 16
    running_bytes: int = 2 << 30
    draft_tokens: int = 15
    on_event: Callable[[Event], None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check_settings()
        plan = Plan.of(self.plan)
        started = time.perf_counter()
        loaded = load(resolve(self.name, self.on_event), self.dtype, self.device, self.weights, plan)
        self._plan = loaded.plan
        if self.window_tokens > loaded.window_tokens and not self._plan.endless:
            raise ConfigError(
                f"window_tokens is {self.window_tokens}, {self.name} was made for {loaded.window_tokens}",
                hint="leave it out to take the model's own, or choose a plan whose positions reach further",
            )
        self.window_tokens = self.window_tokens or loaded.window_tokens
        self._check_plan(loaded)
        self.tokenizer_id = self.name
        self.repeatable = True
        self.capabilities: frozenset[Capability] = frozenset({"logits", "schema", "stream"})
        if self.plan_name == DENSE:
            self.capabilities |= {"attention"}
        self._loaded = loaded
        self._lock = threading.RLock()
        self._prompts = Prompts(loaded.tokenizer)
        if self._plan.join is not None and not self._prompts.joins_pieces():
            raise ModelError(f"the tokenizer of {self.name} takes no pieces of texts", hint="use a plan without join")
        self._engine = Engine(loaded, self.forward_tokens, self.kept_bytes, self.on_event, self._plan)
        if loaded.device.type == "cuda":
            self._engine.keep_on_host(self.kept_host_bytes)
        if self.readings is not None and self.readings_bytes:
            self._engine.keep_on_disk(Path(self.readings).expanduser(), self.readings_bytes)
        limits = Limits(self.running_replies, self.running_bytes, draft_rows(self.weights), self.draft_tokens)
        self._writer = Writer(self._engine, limits)
        self._grammar_tokenizer = cache(lambda: grammar_tokenizer(loaded.tokenizer, loaded.vocabulary))
        if self.on_event:
            self.on_event(Event("load", time.perf_counter() - started, unit="seconds", note=self.name))
            for notice_given in loaded.notices:
                self.on_event(Event("warning", 0, note=f"{self.name} with {self.plan_name}: {notice_given}"))

    @property
    def identity(self) -> str:
        """Name, number type and kind of device; the weights and the plan where they are not the exact ones."""
        found = f"{self.name} {self._loaded.model.dtype} {self._loaded.device.type}".replace("torch.", "")
        found += "" if self.weights == "full" else f" {self.weights}"
        return found if self.plan_name == DENSE else f"{found} {self.plan_name}"

    @property
    def plan_name(self) -> str:
        """The plan, with all its options."""
        return self._plan.name

    @property
    def compresses(self) -> bool:
        """Whether the plan drops or quantises KV."""
        return self._plan.lossy

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer every request, in order; they are written side by side. See `ModelBackend.complete`.

        A reply ended by `max_tokens` has `finish` "length": with a schema it is then not valid yet.
        """
        return self._write(requests, None)

    def stream(self, request: Request, on_text: Callable[[str], None]) -> Completion:
        """Complete one request; `on_text` gets whole characters, never a part of a stop string."""
        return self._write([request], on_text)[0]

    def choose(self, requests: Sequence[Request], options: Sequence[Sequence[str]]) -> list[Choice]:
        """For every request, the probability of each of its options as the reply's beginning.

        Options are scored by logits as whole strings: softmax over the sums of their tokens' log-probabilities.

        Raises:
            UsageError: the numbers of requests and option lists differ, or a list has no or an empty option.
            PromptTooLongError: a prompt and its longest option do not fit the window.
        """
        if len(requests) != len(options):
            raise UsageError(f"{len(requests)} requests but {len(options)} lists of options")
        if any(not given or not all(given) for given in options):
            raise UsageError("every request needs at least one option, and no option may be empty")
        found = self._score(list(zip(requests, options, strict=True)))
        return [Choice(_softmax(question.logprobs), usage) for question, usage in found]

    def likelihood(self, requests: Sequence[Request], continuations: Sequence[str]) -> list[Likelihood]:
        """log p(continuation | prompt) for each pair. A prompt that many pairs share is computed once.

        Raises:
            UsageError: the numbers of requests and continuations differ.
            PromptTooLongError: a prompt and its continuation do not fit the window.
        """
        if len(requests) != len(continuations):
            raise UsageError(f"{len(requests)} requests but {len(continuations)} continuations")
        found = self._score([(request, [text]) for request, text in zip(requests, continuations, strict=True)])
        return [Likelihood(question.logprobs[0], len(question.continuations[0]), usage) for question, usage in found]

    def attention_mass(self, request: Request, texts: Sequence[str], asked: str) -> Attention:
        """How much attention the tokens of `asked` pay to each of `texts`, which stand in the request before it.

        Shares are means over the tokens of `asked`, heads and layers; that of a text is the sum over its tokens. What
        stands before `asked` is computed once for all that is asked about the same texts.

        Raises:
            UsageError: a text, or `asked` behind the last of them, is not in the messages in that order.
            PromptTooLongError: the prompt does not fit the window.
            ModelError: a plan decides what is attended to, or the model's attention cannot be watched.
        """
        self._check_shown()
        if not texts:
            return Attention((), ())
        started = time.perf_counter()
        with self._lock, torch.inference_mode():
            tokens, _, spans = self._prompts.pieced(replace(request, reused=(*texts, asked)), [])
            self._check_length(tokens, 0)
            found = notice(self._engine, tokens, spans)
        seconds = time.perf_counter() - started
        usage = Usage(spans[-1][1], found.cached_tokens, 0, 1, seconds)
        shares = tuple(math.fsum(each) for each in found.by_token)
        return Attention(shares, tuple(map(len, found.by_token)), usage, found.by_token)

    def prefill(self, request: Request) -> Prefilled:
        """Read a request's prompt now, so that this request and others that begin like it need not read it later.

        Raises:
            PromptTooLongError: the prompt does not fit the window.
        """
        started = time.perf_counter()
        with self._lock, torch.inference_mode():
            prompt = self._prompts.continued(self._prompts.render(request), [])[0]
            self._check_length(prompt, 0)
            job = Job(prompt, len(prompt), lambda offset, logits: None)
            self._engine.run([job])
            self._engine.compress_prompt(job)
        seconds = time.perf_counter() - started
        return Prefilled(len(prompt), job.cached_tokens, bytes_held([job.sequence]), seconds)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has by itself."""
        return self._prompts.count(texts)

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of a text by itself and where in it they begin. See `readthrough.compression.prompt.base.Scorer`.

        Raises:
            ModelError: the tokenizer does not say where its tokens stand.
        """
        return self._prompts.located(text)

    def token_logprobs(self, prompts: Sequence[Tokens], first: Sequence[int]) -> list[Logprobs]:
        """Of each prompt, the log-probabilities of its tokens from `first` on, as plain text without a chat template.

        What prompts have in common, also with earlier calls, is computed once.

        Raises:
            PromptTooLongError: a prompt is longer than the window.
        """
        with self._lock, torch.inference_mode():
            for prompt in prompts:
                self._check_length(prompt, 0)
            return score_tokens(self._engine, prompts, first, self.running_bytes)

    def reply_logprobs(self, prompt: Tokens, first: int) -> Logprobs:
        """The log-probabilities of a text's tokens from `first` on, as if they were a reply to those before.

        With a plan this says what a reply pays for it: the tokens see what it keeps of the prompt, and attend to what
        it selects for replies. `token_logprobs` computes all of them as a prompt.

        Raises:
            UsageError: there is nothing before `first`, or nothing from there on.
            PromptTooLongError: the text is longer than the window.
        """
        if not 0 < first < len(prompt):
            raise UsageError(f"a reply from token {first} on, of a text of {len(prompt)}", hint="give both a length")
        with self._lock, torch.inference_mode():
            self._check_length(prompt, 0)
            return score_reply(self._engine, prompt, first)

    @property
    def attention_layers(self) -> int:
        """See `readthrough.compression.prompt.base.AttentiveScorer`."""
        return self._loaded.layers

    def read_attention(
        self,
        prompt: Tokens,
        last_tokens: int,
        layers: Sequence[int],
        see: Callable[[int, Shares], None],
        *,
        products: bool = False,
    ) -> None:
        """See `readthrough.compression.prompt.base.AttentiveScorer`. Nothing of what is read is kept.

        Raises:
            UsageError: there is no such layer, or nothing is asked.
            PromptTooLongError: the prompt is longer than the window.
            ModelError: a plan decides what is attended to, or the model's attention cannot be watched.
        """
        self._check_shown()
        with self._lock, torch.inference_mode():
            self._check_length(prompt, 0)
            look(self._engine, prompt, Asked(last_tokens, tuple(layers), products), see)

    def _check_shown(self) -> None:
        if "attention" not in self.capabilities:
            raise ModelError(
                f"with the plan {self.plan_name} attention is not shown", hint="use the plan 'dense' for it"
            )

    def close(self) -> None:
        """Drop the KV that is kept in memory; see `readings`. The backend can still be used."""
        with self._lock, torch.inference_mode():
            self._engine.kept.clear()

    def _check_settings(self) -> None:
        least = {"forward_tokens": 1, "running_replies": 1}
        for setting in (*_COUNTS, *_RUNNING):
            value = getattr(self, setting)
            if value < least.get(setting, 0):
                raise ConfigError(f"{setting} must be at least {least.get(setting, 0)}, got {value}")

    def _check_plan(self, loaded: Loaded) -> None:
        keep = self._plan.keep
        if keep is not None and self._plan.endless:
            needed = keep.window_tokens + 2 * keep.piece_tokens
            if needed > loaded.window_tokens:
                raise ConfigError(
                    f"the window of {keep.name} and a piece of a prompt are {needed} tokens, {self.name} was made for "
                    f"{loaded.window_tokens}",
                    hint="lower window_tokens or piece_tokens of the plan",
                )

    def _write(self, requests: Sequence[Request], on_text: Callable[[str], None] | None) -> list[Completion]:
        started = time.perf_counter()
        with self._lock, torch.inference_mode():
            replies = [self._reply(request, on_text) for request in requests]
            self._writer.write(replies)
        seconds = (time.perf_counter() - started) / max(1, len(replies))
        return [_completion(reply, seconds) for reply in replies]

    def _reply(self, request: Request, on_text: Callable[[str], None] | None) -> Reply:
        if request.max_tokens < 1 or request.temperature < 0:
            raise UsageError(
                f"max_tokens must be at least 1 and temperature not negative, "
                f"got {request.max_tokens} and {request.temperature}"
            )
        prompt, _, spans = self._tokens(request, [])
        self._check_length(prompt, request.max_tokens)
        grammar = SchemaGrammar(self._grammar_tokenizer(), request.schema) if request.schema is not None else None
        text = ReplyText(self._loaded.tokenizer, prompt.tolist(), request.stop)
        return Reply(request, prompt, text, grammar, Lookup(prompt, request.max_tokens), on_text, spans)

    def _score(self, pairs: Sequence[tuple[Request, Sequence[str]]]) -> list[tuple[Question, Usage]]:
        started = time.perf_counter()
        with self._lock, torch.inference_mode():
            questions = []
            for request, texts in pairs:
                prompt, continuations, spans = self._tokens(request, texts)
                self._check_length(prompt, max(map(len, continuations)))
                questions.append(Question(prompt, continuations, spans))
            score(self._engine, questions, self.running_bytes)
        seconds = (time.perf_counter() - started) / max(1, len(questions))
        return [(each, Usage(each.prompt_tokens, each.cached_tokens, 0, 1, seconds)) for each in questions]

    def _tokens(self, request: Request, texts: Sequence[str]) -> tuple[Tokens, list[Tokens], Spans]:
        """A prompt, its continuations, and where texts in it are that are to be read apart."""
        if request.reused and self._plan.join is not None:
            return self._prompts.pieced(request, texts)
        return *self._prompts.continued(self._prompts.render(request), texts), ()

    def _check_length(self, prompt: Tokens, further_tokens: int) -> None:
        if not len(prompt):
            raise UsageError("the prompt has no tokens of its own")
        if len(prompt) + further_tokens > self.window_tokens:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens and {further_tokens} more are to follow, "
                f"the window of {self.name} is {self.window_tokens}",
                hint="split the text, or ask for fewer tokens",
            )


def _completion(reply: Reply, seconds: float) -> Completion:
    usage = Usage(len(reply.prompt), reply.job.cached_tokens, reply.tokens, 1, seconds)
    return Completion(reply.text.text, reply.finish or "length", usage, reply.logprob)


def _softmax(logprobs: Sequence[float]) -> tuple[float, ...]:
    highest = max(logprobs)
    weights = [math.exp(value - highest) for value in logprobs]
    return tuple(weight / sum(weights) for weight in weights)
