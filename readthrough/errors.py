"""The error tree. Every error a user can meet derives from ReadthroughError.

ReadthroughError                     exit code
|-- UsageError                       2   the call itself is wrong (no question, unknown flag value)
|-- InputError                       4   what was given to read is wrong
|   |-- MissingPathError                 a path that does not exist
|   |-- DocumentError                    a file that cannot be read: encrypted, broken, too large
|   |   `-- NotTextError                 a file that is no document: empty, or binary
|   `-- EmptyShelfError                  nothing readable was left of all that was given
|-- ConfigError                      4   a setting, YAML file or catalogue name is wrong
|   |-- UnknownNameError                 a name that is not in the catalogue (names the nearest)
|   |-- MissingExtraError                an optional package is not installed
|   `-- SandboxError                     programs cannot be run safely on this system
|-- ModelError                       5   a model or endpoint failed
|   |-- PromptTooLongError               a prompt does not fit the window (nothing was cut)
|   |-- EndpointError                    the endpoint answered with an error, or with nothing
|   |   |-- DeadlineError                the total deadline passed
|   |   `-- CircuitOpenError             it failed so often that it is left alone for some seconds
|   `-- WeightsError                     weights are missing or their hash is wrong
|-- LibraryError                     1   the library on disk cannot be read or written
|-- BudgetError                      3   a budget ended the run; what there is so far is kept
`-- StoppedError                     1   somebody ended it from another thread; what there is so far is kept
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ReadthroughError(Exception):
    """An error with what went wrong, where (`path`) and what to do about it (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path and self.path not in self.message else ""
        fix = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments do not survive Exception's own pickling, and loaders run in another process.
        return (_rebuild, (type(self), self.message, self.path, self.hint))

    def to_dict(self) -> dict[str, Any]:
        """The error as every surface prints it: `{"schema": 1, "error": {type, message, path, hint}}`."""
        error = {"type": type(self).__name__, "message": self.message, "path": self.path, "hint": self.hint}
        return {"schema": 1, "error": error}


def _rebuild(kind: type[ReadthroughError], message: str, path: str | None, hint: str | None) -> ReadthroughError:
    return kind(message, path=path, hint=hint)


class UsageError(ReadthroughError):
    """The call itself is wrong."""

    exit_code = 2


class InputError(ReadthroughError):
    """What was given to read is wrong."""

    exit_code = 4


class MissingPathError(InputError):
    """A path that does not exist or may not be read."""


class DocumentError(InputError):
    """A file that cannot be read as a document; `message` is the reason, `path` the file."""


class NotTextError(DocumentError):
    """A file that is no document: it is empty, or binary."""


class EmptyShelfError(InputError):
    """Nothing readable was left of all the paths that were given."""


class ConfigError(ReadthroughError):
    """A setting, a YAML file or a name is wrong."""

    exit_code = 4


class UnknownNameError(ConfigError):
    """A name that is not in the catalogue."""


class MissingExtraError(ConfigError):
    """An optional package is needed and not installed."""


class SandboxError(ConfigError):
    """Programs that a model writes cannot be run safely on this system."""


@contextmanager
def needed(package: str, install: str) -> Iterator[None]:
    """Around the import of an optional package; `install` is what comes after `pip install` in the hint.

    Raises:
        MissingExtraError: it cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"{package} is not installed", hint=f"pip install {install}") from error


class ModelError(ReadthroughError):
    """A model or an endpoint failed."""

    exit_code = 5


class PromptTooLongError(ModelError):
    """A prompt does not fit the model's window. Nothing was cut."""


class EndpointError(ModelError):
    """An endpoint answered with an error, with nothing, or with something that cannot be used."""


class DeadlineError(EndpointError):
    """The total deadline of a call passed."""


class CircuitOpenError(EndpointError):
    """An endpoint failed so often that it is not asked now; it is tried again in `again_seconds`."""

    def __init__(
        self, message: str, *, path: str | None = None, hint: str | None = None, again_seconds: float = 0.0
    ) -> None:
        super().__init__(message, path=path, hint=hint)
        self.again_seconds = again_seconds


class WeightsError(ModelError):
    """Weights are missing, incomplete, or not the ones that were pinned."""


class LibraryError(ReadthroughError):
    """The library on disk cannot be read or written."""


class InvalidAnswerError(ReadthroughError):
    """An answer that breaks the Answer contract: a quote that is not in its source, or coverage that does not sum."""


class BudgetError(ReadthroughError):
    """A budget ended the run. `budget` names it with its limit, `max_calls=40`."""

    exit_code = 3

    def __init__(self, message: str, *, path: str | None = None, hint: str | None = None, budget: str = "") -> None:
        super().__init__(message, path=path, hint=hint)
        self.budget = budget


class StoppedError(ReadthroughError):
    """Whoever started the work from another thread wants it ended."""
