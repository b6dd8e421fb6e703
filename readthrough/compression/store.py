"""How the KV of a prompt is stored once it has been computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from readthrough.catalogue import unknown
from readthrough.compression.base import BLOCK_TOKENS, PIECE_TOKENS
from readthrough.kernels.quantize import Scheme
from readthrough.spec import make, split

Form = Literal["full", "fp8", "int8", "int4", "int2", "host", "disk"]
FORMS = list(get_args(Form))
_PLAIN = {"full", "host", "disk"}


@dataclass(frozen=True, slots=True)
class Store:
    """As it was computed, where it was, on the host or on disk; or packed: keys a channel over groups of tokens, values
    a token over groups of channels.

    Source: Liu et al., "KIVI", arXiv 2402.02750 (int2 or int4, groups of 32, a window of 128).
    Differs from the paper: a prompt is packed a piece at a time while it is read, not when it ends, so that no more
    than a piece is ever held in full; what a reply adds stays as it is.

    Attributes:
        form: `full`, `fp8`, `int8`, `int4` or `int2`; or, as it was computed, `host`: in the processor's memory
            instead of a GPU's; `disk`: in temporary files that are mapped into memory, which the system reads and
            forgets as it sees fit.
        value_form: of the values, where it is another than that of the keys.
        group: how many numbers share their bounds.
        window_tokens: so many of the latest tokens stay in full precision.
        piece_tokens: prompts are packed in pieces of so many tokens, where no policy says otherwise; what a prompt has
            behind the last whole one stays as it is.

    """

    form: Form = "full"
    value_form: Form | None = None
    group: int = 32
    window_tokens: int = 128
    piece_tokens: int = PIECE_TOKENS

    def __post_init__(self) -> None:
        if ({self.form, self.value_form or self.form} & _PLAIN) and self.value_form not in (None, self.form):
            raise ValueError("keys and values are both packed, or neither")
        for name, least in (("group", 1), ("window_tokens", 0), ("piece_tokens", BLOCK_TOKENS)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    @classmethod
    def of(cls, spec: object) -> Store:
        """The store of a spec: None or a form's name, or `{form: {option: value}}`.

        Raises:
            ConfigError: it is none of these, or an option is wrong.
            UnknownNameError: there is no such form or option.
        """
        if isinstance(spec, Store):
            return spec
        form, options = split("full" if spec is None else spec, "store of a plan")
        if form not in FORMS:
            raise unknown("form of stored KV", form, FORMS)
        made: Store = make(cls, "stored KV", {"form": form, **options}, form)
        return made

    @property
    def keys(self) -> Scheme | None:
        """How keys are packed; None where they are not."""
        return _scheme(self.form, "channel", self.group)

    @property
    def values(self) -> Scheme | None:
        """How values are packed; None where they are not."""
        return _scheme(self.value_form or self.form, "token", self.group)

    @property
    def group_tokens(self) -> int:
        """Each head stores a multiple of so many tokens."""
        return 1 if self.keys is None else self.group


FULL = Store()


def _scheme(form: Form, axis: Literal["channel", "token"], group: int) -> Scheme | None:
    return None if form == "full" or form == "host" or form == "disk" else Scheme(form, axis, group)
