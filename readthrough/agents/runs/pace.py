"""How quick a model is on this machine, learned from what its calls took."""

from __future__ import annotations

from readthrough.types import Cost

# A token that is written takes as long as so many that are read, where none was seen being written.
_WRITTEN_TO_READ = 30.0
# Below this share of independence, the two rates cannot be told apart.
_TOLD_APART = 1e-3

# What a call takes beside its tokens, as if so many more were read.
_CALL_TOKENS = 16


class Pace:
    """Seconds a prompt token and a written token take: least squares over what was seen, never below zero."""

    def __init__(self) -> None:
        self._pp = self._pw = self._ww = self._ps = self._ws = 0.0

    def learn(self, cost: Cost) -> None:
        """Some work was done: its tokens took its seconds."""
        read, written = _read(cost), cost.completion_tokens
        self._pp += read * read
        self._pw += read * written
        self._ww += written * written
        self._ps += read * cost.seconds
        self._ws += written * cost.seconds

    def seconds(self, cost: Cost) -> float:
        """How long the tokens of `cost` will take, 0 where nothing was learned yet."""
        read, written = self.rates()
        return read * _read(cost) + written * cost.completion_tokens

    def rates(self) -> tuple[float, float]:
        """Seconds of a prompt token (a call counts as a few more), and of a written token."""
        independent = self._pp * self._ww - self._pw * self._pw
        if independent > _TOLD_APART * self._pp * self._ww:
            read = (self._ps * self._ww - self._ws * self._pw) / independent
            written = (self._ws * self._pp - self._ps * self._pw) / independent
            if read >= 0 and written >= 0:
                return read, written
            return (0.0, self._ws / self._ww) if read < 0 else (self._ps / self._pp, 0.0)
        mixed = self._pp + 2 * _WRITTEN_TO_READ * self._pw + _WRITTEN_TO_READ**2 * self._ww
        if mixed == 0:
            return 0.0, 0.0
        read = (self._ps + _WRITTEN_TO_READ * self._ws) / mixed
        return read, _WRITTEN_TO_READ * read


def _read(cost: Cost) -> float:
    return cost.read_tokens + _CALL_TOKENS * cost.calls
