"""The engine: runs packed forward passes, sharing every prefix that is known or common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from readthrough.compression.plan import Plan
from readthrough.compression.selecting import TokenSelector
from readthrough.errors import ModelError
from readthrough.models.deadline import seconds_left
from readthrough.models.local.attention import Batch
from readthrough.models.local.cache import Sequence
from readthrough.models.local.compressing import Compressor
from readthrough.models.local.cuts import Cuts
from readthrough.models.local.jobs import Job, both, charged, ignore_logits, prompt_watch, query_watch
from readthrough.models.local.joining import Joiner, is_joined, read_apart
from readthrough.models.local.loading import DENSE_PLAN, Loaded
from readthrough.models.local.memory import is_out_of_memory, out_of_memory
from readthrough.models.local.plans import head_width
from readthrough.models.local.positions import own_attention
from readthrough.models.local.prefixes import KeptSequences, shared_prefixes
from readthrough.models.local.prompts import Tokens
from readthrough.models.local.readings import TOKENS_MIN, Readings
from readthrough.models.local.tiers import HOST, Tiers
from readthrough.models.local.turning import check_turning
from readthrough.types import Event

LOGITS_BYTES = 512 << 20
"""The most bytes of logits that one pass makes."""

PASS_TOKENS_MIN = 16
"""Where memory does not suffice passes become smaller, down to this."""

PACE_TOKENS_MIN = 256
"""A shorter pass takes long for what it computes: it says little of the next."""

SNAPSHOTS_MAX = 2
"""At so many of the latest places where a prompt was compressed other prompts can go on."""

STORED_TOKENS_MIN = 2048
"""A job that computed so many tokens is stored on disk, where readings are: it read a text, and prompts begin with the
text. So a text is written once, and no question about it is. Passages that were searched for are fewer, and will hardly
stand together again; a processor takes 1% to 5% of the time that it computed such a job to write it."""


class Engine:
    """Computes jobs on one model.

    Args:
        loaded: the model.
        forward_tokens: the most tokens in one pass; longer prompts take several.
        kept_bytes: how much KV of finished sequences to keep for later calls.
        on_event: hears of progress.
        plan: how attention is computed and what is kept of it.

    Raises:
        ModelError: the plan moves positions, and the model's cannot be moved.

    Attributes:
        kept: the sequences of earlier calls.
        readings: those on disk; None where nothing is kept there.
        own: the attention that the plan's positions bring; None where they bring none.
        joiner: puts texts together that were read apart; None where the plan does not say so: then no job has spans.
        token_bytes: the KV of one token.
    """

    def __init__(
        self,
        loaded: Loaded,
        forward_tokens: int,
        kept_bytes: int,
        on_event: Callable[[Event], None] | None = None,
        plan: Plan = DENSE_PLAN,
    ) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.device = loaded.device
        self.forward_tokens = forward_tokens
        self._pass_tokens = forward_tokens  # less, once memory did not suffice
        self.kept = KeptSequences(kept_bytes)
        self.readings: Readings | None = None
        self.on_event = on_event or (lambda event: None)
        self.plan = plan
        self.own = own_attention(plan.positions, loaded)
        self.compressor = Compressor(plan, loaded, self.forward, forward_tokens)
        self.joiner = None if plan.join is None else Joiner(plan.join, loaded, self.forward, forward_tokens)
        width = self.model.dtype.itemsize
        self.logits_rows = max(1, LOGITS_BYTES // (loaded.vocabulary * width))
        self.cuts = Cuts(plan, min(forward_tokens, self.logits_rows))
        config = self.model.config.get_text_config()
        self._layers = loaded.layers
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.token_bytes: int = 2 * self._layers * heads * head_width(config) * width
        # A mask that is four-dimensional already is passed through by transformers: none is built.
        self._no_mask = torch.empty(1, 1, 0, 0, device=self.device)
        if self.own is not None or (plan.keep is not None and plan.keep.renumbers):
            check_turning(loaded, self.forward)

    @property
    def keeps_replies(self) -> bool:
        """Whether a reply's KV is what a prompt's pass would have computed: only then is it kept for later calls."""
        return self.loaded.form.kind == "full" and self.plan.decode is None and self.plan.moment != "prompt"

    def keep_on_host(self, limit_bytes: int) -> None:
        """Move kept KV that there is no room for to the host's memory, with at most `limit_bytes` there: see `Tiers`.

        Computing it takes about as long as a disk does to write it. So no call waits for that: what is read is stored
        when it leaves the host's memory, or when all that is kept is dropped.
        """
        self.kept = Tiers(self.kept.limit_bytes, limit_bytes, self.device, self._store_left)

    def _store_left(self, number: int, tokens: Tokens, sequence: Sequence) -> None:
        if self.readings is not None and not is_joined(tokens):
            with self._disk():
                self.readings.add(tokens, sequence, STORED_TOKENS_MIN)

    def keep_on_disk(self, root: Path, limit_bytes: int) -> None:
        """Keep texts that are read below the folder `root` too, with at most `limit_bytes`: see `Readings`."""
        # Only with a plan does KV depend on where prompts are cut: see `Cuts`.
        # Of what is joined nothing is stored, but the texts are; of what is compressed at a prompt's end, all of it is.
        read_by = self.plan.reading
        plan = read_by.name if read_by == DENSE_PLAN else f"{read_by.name} in pieces of {self.cuts.piece_tokens}"
        weights = (self.loaded.fingerprint, str(self.model.dtype), self.loaded.form.kind)
        made_by = "\n".join([*weights, self.loaded.device_name, plan, torch.__version__])
        with self._disk():
            self.readings = Readings(root, made_by, limit_bytes, HOST if self.device.type == "cuda" else self.device)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """An error of the disk inside is said, once: from then on nothing is looked for or stored there."""
        try:
            yield
        except OSError as error:
            self.readings = None
            self.on_event(Event("warning", 0, note=f"what is read is not kept on disk: {error}"))

    def run(self, jobs: Seq[Job]) -> None:
        """Compute every job, prefixes that jobs share once. Sequences are kept for later calls."""
        self._find_kept(jobs)
        self._join([job for job in jobs if job.sequence.length < job.joined_tokens])
        fresh = [job for job in jobs if job.sequence.length < job.first_row]
        self._compute_shared(fresh)
        for job in jobs:
            job.cached_tokens = job.sequence.length - job.charged_tokens
        self.advance(jobs)
        for job in jobs:
            self.kept.add(*job.lasting)
            least = TOKENS_MIN if job.recurs else STORED_TOKENS_MIN
            later = isinstance(self.kept, Tiers) or job.spans
            if self.readings is not None and not later and len(job.tokens) - job.cached_tokens >= least:
                with self._disk():
                    self.readings.add(job.tokens, job.sequence)

    def _find_kept(self, jobs: Seq[Job]) -> None:
        for job in jobs:
            kept, length = self._find(job)
            length = self.cuts.settled(length)
            job.sequence = (kept or job.sequence).fork(length, reserve_tokens=len(job.tokens) - length)

    def _find(self, job: Job) -> tuple[Sequence | None, int]:
        """What is known of a job's beginning; nothing where there is no memory to bring it to the device."""
        while True:
            try:
                kept, length = self.kept.match(job.key, self._reusable(job))
                if self.readings is not None and not job.spans:
                    with self._disk():
                        reading, further = self.readings.match(job.tokens, self._reusable(job), length)
                        if reading is not None:
                            kept, length = self.kept.bring(reading, further), further
                return kept, length
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if not self.kept.make_room():
                return None, 0

    def _join(self, jobs: Seq[Job]) -> None:
        """Begin each job with the texts in it, joined; texts that are not known are read first, each once."""
        if self.joiner is None or not jobs:
            return
        texts: dict[bytes, Job] = {}
        for job in jobs:
            for tokens in read_apart(job.tokens, job.spans):
                texts.setdefault(tokens.tobytes(), Job(tokens, len(tokens), ignore_logits, recurs=True))
        self.run(list(texts.values()))
        joined: dict[bytes, Sequence] = {}
        for job in jobs:
            beginning = job.key[: job.joined_tokens].tobytes()
            if beginning not in joined:
                read = [texts[tokens.tobytes()] for tokens in read_apart(job.tokens, job.spans)]
                found = self.joiner.join(job.tokens, job.spans, [text.sequence for text in read])
                joined[beginning] = found.sequence
                job.charged_tokens = charged(job, read, found.places)
            job.sequence = joined[beginning].fork(reserve_tokens=len(job.tokens) - job.joined_tokens)

    def _reusable(self, job: Job, *, together: bool = False) -> int:
        """How many of a job's first tokens need not be computed for it alone; see `Cuts.reusable`."""
        if job.replies and self._shown is not None and not together:
            return 0
        return min(job.first_row, self.cuts.reusable(len(job.tokens), together=together))

    @property
    def _shown(self) -> TokenSelector | None:
        """The selector that is shown the prompts of replies, where there is one."""
        found = self.plan.decode
        return found if isinstance(found, TokenSelector) and found.reads_prompts else None

    def _compute_shared(self, jobs: Seq[Job]) -> None:
        """Compute the tree of shared prefixes level by level, and fork each job from its longest one."""
        shared = shared_prefixes([job.key for job in jobs], [self._reusable(job, together=True) for job in jobs])
        nodes: list[Job] = []
        levels: dict[int, list[int]] = {}
        depth: list[int] = []
        for index, node in enumerate(shared):
            depth.append(0 if node.parent is None else depth[node.parent] + 1)
            levels.setdefault(depth[index], []).append(index)
            length = self.cuts.settled(node.length)
            replies = all(jobs[i].replies for i in node.members)
            nodes.append(Job(jobs[node.members[0]].tokens[:length], length, ignore_logits, replies=replies))
        for level in sorted(levels):
            for index in levels[level]:
                before = shared[index].parent
                parent = None if before is None else nodes[before]
                self._start_node(nodes[index], parent, [jobs[i] for i in shared[index].members])
            self.advance([nodes[index] for index in levels[level]])
            for index in levels[level]:
                self._fork_members(nodes[index], [jobs[i] for i in shared[index].members])

    def _start_node(self, node: Job, parent: Job | None, members: list[Job]) -> None:
        known = [job.sequence for job in members]
        if parent is not None:
            known.append(parent.sequence)
        usable = [sequence for sequence in known if sequence.floor <= len(node.tokens)]
        longest = max(usable, key=lambda sequence: sequence.length, default=Sequence())
        length = min(longest.length, len(node.tokens))
        if parent is not None and length == parent.sequence.length:
            node.go_on(parent)
        else:
            node.sequence = longest.fork(length, reserve_tokens=len(node.tokens) - length)
        members[0].charged_tokens += len(node.tokens) - length

    def _fork_members(self, node: Job, members: list[Job]) -> None:
        for job in members:
            if job.sequence.length < node.sequence.length:
                job.go_on(node)

    def advance(self, jobs: Seq[Job]) -> None:
        """Compute what is left of each job, packed into passes of at most `forward_tokens` tokens."""
        pending = [job for job in jobs if job.sequence.length < len(job.tokens)]
        total = sum(len(job.tokens) - job.sequence.length for job in pending)
        done, pace, latest = 0, 0.0, None
        while pending:
            started = time.monotonic()
            chosen = self._pass_that_fits(pending, latest, pace)
            computed = sum(tokens for _, tokens in chosen)
            latest, pace = chosen[0][0], (time.monotonic() - started) / computed if computed >= PACE_TOKENS_MIN else 0.0
            done += computed
            pending = [job for job in pending if job.sequence.length < len(job.tokens)]
            self.on_event(Event("prefill", done, total, "tokens"))

    def _pass_that_fits(self, pending: Seq[Job], latest: Job | None, pace: float) -> list[tuple[Job, int]]:
        """One pass, a smaller one where memory does not suffice; what it computed.

        The pass before took `pace` seconds a token for the job `latest`.
        """
        while True:
            chosen = self._choose(pending)
            computed = sum(tokens for _, tokens in chosen)
            # a pass takes at least as long as the one before it in the same prompt: it is not begun to be in vain
            seconds_left(pace * computed if chosen[0][0] is latest else 0.0)
            try:
                self._pass(chosen)
                return chosen
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not self.kept.make_room():
                    if computed <= PASS_TOKENS_MIN:
                        raise out_of_memory(f"{sum(len(job.tokens) for job in pending)} tokens of prompts") from error
                    self._pass_tokens = computed // 2
                note = f"out of memory: passes of at most {self._pass_tokens} tokens from now on"
                self.on_event(Event("warning", 0, note=note))

    def _choose(self, pending: Seq[Job]) -> list[tuple[Job, int]]:
        """The jobs of the next pass with how many tokens of each."""
        chosen: list[tuple[Job, int]] = []
        tokens_left, rows_left = self._pass_tokens, self.logits_rows
        for job in pending:
            at = job.sequence.length
            silent = max(0, job.first_row - at)
            whole = self.cuts.tokens_to_next(at, len(job.tokens))
            take = min(whole, tokens_left, silent + rows_left)
            if take <= 0 or (take < whole and chosen and self.cuts.is_sparse(at)):
                break
            chosen.append((job, take))
            tokens_left -= take
            rows_left -= max(0, take - silent)
        return chosen

    def _pass(self, chosen: Seq[tuple[Job, int]]) -> None:
        pieces = [(job.sequence, job.tokens[job.sequence.length : job.sequence.length + take]) for job, take in chosen]
        silent = [max(0, job.first_row - job.sequence.length) for job, _ in chosen]
        laid = ((sequence, len(tokens)) for sequence, tokens in pieces)
        batch = Batch.pack(laid, self.plan.select, own=self.own)
        if self.plan.keep is not None and self.plan.keep.asks_queries:
            batch.watch = query_watch([job for job, _ in chosen], batch, self.plan.keep, self.loaded.attention_scale)
        if self._shown is not None and any(job.replies for job, _ in chosen):
            show = prompt_watch([job for job, _ in chosen], batch, self._shown, self.loaded.attention_scale)
            batch.watch = both(batch.watch, show)
        starts = [segment.start + quiet for segment, quiet in zip(batch.segments, silent, strict=True)]
        rows = np.concatenate(
            [np.arange(start, segment.end) for start, segment in zip(starts, batch.segments, strict=True)]
        )
        logits = self.forward(batch, [tokens for _, tokens in pieces], rows)
        offset = 0
        for (job, take), quiet in zip(chosen, silent, strict=True):
            count = max(0, take - quiet)
            if count:
                job.take(job.sequence.length + quiet - job.first_row, logits[offset : offset + count])
                offset += count
            job.commit(take)
            if self.cuts.compresses(job.sequence.length):
                self._compress(job)

    def _compress(self, job: Job) -> None:
        """Compress what a job has computed, and keep that: from further on, no other prompt can go on from here.

        Prompts that begin alike mostly differ near their ends: of all those places only the latest are kept.
        """
        tokens = job.tokens[: job.sequence.length]
        self.compressor.compress(tokens, job.sequence, job.queries, job.attended)
        job.attended.clear()
        if job.sequence.compressed:
            job.snapshots.append(self.kept.add(tokens, job.sequence.snapshot()))
            while len(job.snapshots) > SNAPSHOTS_MAX:
                self.kept.drop(job.snapshots.pop(0))

    def compress_prompt(self, job: Job) -> None:
        """Compress the whole of a job's prompt, where the plan says so. What is kept for other calls stays as it is."""
        if self.plan.moment == "prompt":
            whole, job.sequence = job.sequence, job.sequence.fork()
            job.sequence.memory = whole.memory
            self.compressor.compress(job.tokens, job.sequence, job.queries, job.attended)

    def forward(self, batch: Batch, tokens: Seq[Tokens], rows: np.ndarray, decoding: bool = False) -> torch.Tensor:
        """One pass over a packed batch. Nothing is committed: the caller says how many tokens count.

        Args:
            batch: the segments.
            tokens: the new tokens of each segment.
            rows: the packed rows whose logits are wanted.
            decoding: the tokens belong to replies that are being written: quantised weights are used where the
                model has them.

        Returns:
            Logits `[len(rows), V]` in the model's dtype.

        Raises:
            ModelError: the model does not send its attention through the registered function.
            BudgetError: the caller's time is over.
        """
        seconds_left()
        form = self.loaded.form
        if batch.segments[-1].end == 1 and not (decoding and form.whole):
            # One row takes other matrix kernels than several and rounds differently: an idle second row keeps a
            # greedy reply the same whether it is written alone, beside others, or with drafts. It costs nothing.
            batch, tokens = batch.with_idle_row(), [tokens[0], tokens[0]]
        ids = torch.from_numpy(np.concatenate(tokens)).to(self.device)[None]
        # At least one row: an empty selection means all of them to transformers.
        wanted = torch.from_numpy(rows if len(rows) else np.zeros(1, dtype=np.int64))
        form.decoding = decoding
        try:
            output = self.model(
                input_ids=ids,
                position_ids=batch.positions.to(self.device)[None],
                attention_mask=self._no_mask,
                use_cache=False,
                logits_to_keep=wanted.to(self.device),
                batch=batch,
            )
        finally:
            form.decoding = False
        if len(batch.layers_seen) != self._layers:
            raise ModelError(
                f"{type(self.model).__name__} used the engine's attention in {len(batch.layers_seen)} "
                f"of {self._layers} layers",
                hint="serve this model with another program and name it as openai:MODEL@URL",
            )
        logits: torch.Tensor = output.logits[0]
        return logits[: len(rows)]
