"""A rich console that leaves a closed pipe to whoever called. Imported only when something is printed."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console as RichConsole


class Console(RichConsole):
    """Prints text as it is: no markup, no highlighting, no wrapping."""

    def __init__(self, *, stderr: bool, no_color: bool) -> None:
        # no_color None: as NO_COLOR says
        super().__init__(
            stderr=stderr, no_color=no_color or None, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def on_broken_pipe(self) -> NoReturn:
        """Rich would end the process here, with an exit code of its own."""
        raise BrokenPipeError
