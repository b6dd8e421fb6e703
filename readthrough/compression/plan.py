"""A plan: how attention is computed, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from readthrough.catalogue import unknown
from readthrough.compression.base import AttentionPattern, Joining, KVPolicy, Positions
from readthrough.compression.selecting import PageSelector, ReplySelector, TokenSelector
from readthrough.compression.store import FULL, Store
from readthrough.errors import ConfigError
from readthrough.spec import build

DENSE = "dense"


KEYS = {
    "select": ("patterns", DENSE),
    "decode": ("selectors", DENSE),
    "keep": ("policies", "all"),
    "store": ("", "full"),
    "positions": ("positions", "trained"),
    "join": ("joins", "none"),
}
"""What a plan says: which parts of the catalogue there are for it, and what it is where nothing is said."""


@dataclass(frozen=True)
class Plan:
    """How the local engine computes attention. The default is exact.

    Attributes:
        select: which keys long prompts attend to; None for all.
        decode: which pages of keys, or single keys, the tokens of a reply attend to; None for all.
        keep: which tokens' KV stays in the cache; None for all.
        store: how it is stored.
        positions: which positions tokens have; None for those that the model was trained with.
        join: what is computed anew of texts that recur (`Request.reused`), which are then read once, apart; None reads
            each prompt as a whole.
    """

    select: AttentionPattern | None = None
    decode: PageSelector | TokenSelector | None = None
    keep: KVPolicy | None = None
    store: Store = FULL
    positions: Positions | None = None
    join: Joining | None = None

    def __post_init__(self) -> None:
        if self.positions is not None and self.positions.alone:
            self._refuse_others(f"the positions {self.positions.name!r}", ["select", "decode", "keep", "store", "join"])
        if self.join is not None:  # what is joined is whole, and was computed densely
            self._refuse_others(f"the join {self.join.name!r}", ["select", "decode", "keep", "store"])
        if self.keep is not None and self.keep.accumulates:  # shares of all attention, which a pattern does not compute
            self._refuse_others(f"the policy {self.keep.name!r}", ["select"])
        if isinstance(self.decode, TokenSelector) and self.decode.reads_prompts:
            self._refuse_others(f"decode {self.decode.name!r}", ["keep", "store"])  # it has to see all keys

    def _refuse_others(self, what: str, names: list[str]) -> None:
        others = [key for key in names if getattr(self, key) not in (None, FULL)]
        if others:
            raise ConfigError(
                f"plan: {what} cannot be combined with {' or '.join(others)}",
                hint=f"leave out {' and '.join(others)}, or the other",
            )

    @classmethod
    def of(cls, spec: object) -> Plan:
        """The plan of a spec: None or `dense`, or `{select: PATTERN, decode: SELECTOR, keep: POLICY, ...}`.

        Each of them is a name or `{name: {option: value}}`: parts of the catalogue, and of `store` forms of
        `readthrough.compression.store`. What is left out is `dense`, `all`, `full`, `trained` or `none`.

        Raises:
            ConfigError: it is none of these, or an option is wrong; the message names it.
            UnknownNameError: there is no such key or part; the message names the nearest.
        """
        if spec is None or spec == DENSE:
            return cls()
        if isinstance(spec, Plan):
            return spec
        if not isinstance(spec, Mapping):
            raise ConfigError(f"plan: expected {DENSE!r} or some of {', '.join(KEYS)}, not {spec!r:.80}")
        for key in spec:
            if key not in KEYS:
                raise unknown("key of a plan", str(key), list(KEYS))
        said = {key: spec[key] for key, (point, usual) in KEYS.items() if point and spec.get(key) not in (None, usual)}
        parts = {key: build(KEYS[key][0], part) for key, part in said.items()}
        return cls(**parts, store=Store.of(spec.get("store")))

    @property
    def name(self) -> str:
        """The plan in a few words, as answers and reports name it: `dense`, `select=antidiagonal(stride=16, ...)`."""
        named = {key: getattr(self, key) for key, (point, _) in KEYS.items() if point}
        parts = [f"{key}={part.name}({_options(part)})" for key, part in named.items() if part is not None]
        if self.store != FULL:
            parts.append(f"store={self.store.form}({_options(self.store, 'form')})")
        return " ".join(parts) or DENSE

    @property
    def moment(self) -> Literal["piece", "prompt"] | None:
        """When KV is compressed: at the end of each piece of a prompt, or at the end of a prompt; None for never."""
        if self.keep is not None:
            return self.keep.moment
        return None if self.store == FULL else "piece"

    @property
    def reading(self) -> Plan:
        """What of the plan decides the KV that a prompt is read into: not what is dropped of it once it is read."""
        found = replace(self, decode=None, join=None)
        return found if self.moment == "piece" else replace(found, keep=None, store=FULL)

    @property
    def lossy(self) -> bool:
        """Whether KV is dropped, or stored less exactly than it was computed."""
        return self.keep is not None or self.store.keys is not None

    @property
    def piece_tokens(self) -> int:
        """The length of the pieces that prompts are compressed in."""
        return self.store.piece_tokens if self.keep is None else self.keep.piece_tokens

    @property
    def endless(self) -> bool:
        """Whether no text is too long for its positions."""
        return self.keep is not None and self.keep.renumbers and self.moment == "piece"

    @property
    def window_tokens(self) -> int:
        """So many of the latest tokens stay as they are when KV is compressed."""
        window = 0 if self.keep is None else self.keep.window_tokens
        return window if self.store == FULL else max(window, self.store.window_tokens)


def _options(part: AttentionPattern | KVPolicy | ReplySelector | Positions | Joining | Store, but: str = "") -> str:
    return ", ".join(f"{name}={value}" for name, value in asdict(part).items() if name != but)
