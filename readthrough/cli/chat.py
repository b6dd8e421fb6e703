"""`readthrough chat`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from readthrough.catalogue import nearest
from readthrough.cli import telling
from readthrough.cli.ask import print_text, workflow_options
from readthrough.cli.flags import PATHS, Asking, Printing, command
from readthrough.cli.guard import PARTIAL, report
from readthrough.cli.screen import Screen
from readthrough.cli.session import again, limits, on_approval, open_book, overrides
from readthrough.errors import InputError, ReadthroughError, UsageError
from readthrough.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from readthrough.api import Book
    from readthrough.chat import Chat
    from readthrough.config import Settings
    from readthrough.memory.conversations import Conversations
    from readthrough.types import Answer

HELP = """\
/again          the last question anew; one that was interrupted goes on
/similar TEXT   what was asked of these texts before, in any conversation
/turns          this conversation
/sources        the texts
/quit           ends, as Ctrl-D does; Ctrl-C stops an answer"""


@dataclass(frozen=True, kw_only=True)
class ChatFlags(Asking, Printing):
    """Flags of `chat`."""

    paths: Annotated[list[str] | None, PATHS] = None
    session: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Go on with this conversation (`last`: the last one), or begin it."),
    ] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Answer anew what was answered before.")] = False
    listed: Annotated[bool, typer.Option("--list", help="List the conversations, last used first.")] = False
    delete: Annotated[str | None, typer.Option(metavar="NAME", help="Delete a conversation; its runs stay.")] = None


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    command(app, ChatFlags, "chat")(chat)


def chat(flags: ChatFlags) -> int:
    """Ask texts one question after another, at a prompt or from standard input, a question a line.

    Each question is understood from what was said before, and may be about that. A question that was answered before
    is answered from the log. Without PATH, --session reads the texts that it was about.
    """
    if flags.listed or flags.delete is not None:
        return _manage(flags)
    limits(flags)  # what is out of range is said before anything is read
    options = workflow_options(flags.option or [])
    screen = Screen(flags)
    with _open(flags, screen) as book, book.chat(flags.session) as conversation:
        _greet(conversation, flags, screen)
        talk = Talk(conversation, book, flags, screen, options)
        for line in _lines(talk.at_terminal):
            if not talk.hear(line):
                break
        screen.say(f"`{again('chat', '--session', conversation.session.name, flags=flags)}` goes on")
        return talk.code or (PARTIAL if book.partial else 0)


class Talk:
    """Answers lines: questions and commands. `code` is how the command ends: the first that was not 0."""

    def __init__(
        self, conversation: Chat, book: Book, flags: ChatFlags, screen: Screen, options: dict[str, Any]
    ) -> None:
        self._chat = conversation
        self._book = book
        self._flags = flags
        self._screen = screen
        self._options = options
        self.at_terminal = sys.stdin.isatty()
        self._streams = sys.stdout.isatty() and not flags.json
        self.code = 0
        self._commands: dict[str, Callable[[str], None]] = {
            "again": lambda _: self._answer(self._chat.again),
            "similar": self._similar,
            "turns": lambda _: self._turns(),
            "sources": lambda _: self._sources(),
            "help": lambda _: screen.say(HELP),
        }

    def hear(self, line: str) -> bool:
        """Do what a line asks for; returns whether to go on. An error is said, and the next line heard."""
        word, _, rest = line.strip().partition(" ")
        name = word.removeprefix("/")
        try:
            if word in ("/quit", "/exit"):
                return False
            if word.startswith("/") and name.isalpha():
                self._command(name)(rest.strip())
            elif word:
                self._answer(lambda **given: self._chat.ask(line, fresh=self._flags.fresh, **given))
        except ReadthroughError as error:
            self._end_line()
            code = report(error, as_json=self._flags.json, verbose=self._flags.verbose)
            self.code = self.code or code
        return True

    def _command(self, name: str) -> Callable[[str], None]:
        if name not in self._commands:
            near = nearest(name, list(self._commands))
            raise UsageError(f"there is no /{name}", hint=f"did you mean /{near}?" if near else "/help")
        return self._commands[name]

    def _answer(self, ask: Callable[..., Answer]) -> None:
        screen = self._screen
        screen.take_streamed()
        try:
            with screen.progress():
                answer = ask(
                    on_text=screen.piece if self._streams else None,
                    limits=limits(self._flags),
                    on_approval=on_approval(screen),
                    **self._options,
                )
        except KeyboardInterrupt:
            if not self.at_terminal:
                raise
            self._end_line()
            screen.say("stopped; /again goes on")
            return
        if self._flags.json:
            screen.json(answer.to_dict(), compact=True)
        else:
            print_text(answer, self._flags, screen)
        latest = self._chat.latest
        if latest is not None and latest.from_log:
            when = telling.clock(self._book.runs.find(answer.run).started)
            screen.say(f"answered from the log: run {answer.run} of {when}; /again asks anew")
        if answer.stopped is not None:
            self.code = self.code or PARTIAL
        if answer.resumable:
            screen.say("/again goes on from there")

    def _end_line(self) -> None:
        """Behind a part of an answer that was streamed, begin a line anew."""
        if self._screen.take_streamed():
            self._screen.data("")

    def _similar(self, text: str) -> None:
        latest = self._chat.latest
        wanted = text or (latest.question if latest is not None else "")
        if not wanted:
            raise UsageError("there is nothing to look for", hint="/similar TEXT")
        found = self._chat.similar(wanted)
        if self._flags.json:
            rows = [{**telling.row(run), "score": score} for run, score in found]
            self._screen.json({"schema": SCHEMA_VERSION, "runs": rows}, compact=True)
            return
        for run, _ in found:
            said = telling.first_line(str((run.answer or {}).get("answer", "")))
            self._screen.data(f"{run.id}  {telling.first_line(run.question)}  {said}")

    def _turns(self) -> None:
        turns = self._chat.turns
        if self._flags.json:
            rows = [{"turn": turn.number, "asked": turn.asked, "answer": turn.answer} for turn in turns]
            self._screen.json({"schema": SCHEMA_VERSION, "turns": rows}, compact=True)
            return
        for turn in turns:
            said = turn.said if turn.answer is not None else "(no answer: it was interrupted, or failed)"
            self._screen.data(f"{turn.number:>3}. {turn.asked}")
            self._screen.data(f"     {telling.first_line(said)}", style="dim")

    def _sources(self) -> None:
        if self._flags.json:
            rows = [{"document": entry.path, "characters": entry.characters} for entry in self._book.documents]
            self._screen.json({"schema": SCHEMA_VERSION, "sources": rows}, compact=True)
            return
        for entry in self._book.documents:
            self._screen.data(f"{entry.path}  {entry.kind}, {entry.characters:,} characters")


def _open(flags: ChatFlags, screen: Screen) -> Book:
    """The texts: those that are named, or those that the conversation was about."""
    paths = list(flags.paths or [])
    if not paths and flags.session is None:
        hint = "name files or folders; --session NAME goes on with a conversation"
        raise UsageError("there is no text to ask", hint=hint)
    if not paths:
        with _conversations(flags) as (log, _):
            read = log.find(str(flags.session)).read
        here = read.folder == os.getcwd()
        paths = [path if here else os.path.normpath(os.path.join(read.folder, path)) for path in read.paths]
    if "-" in paths:
        raise UsageError("standard input brings the questions of a chat", hint="name a file in place of -")
    return open_book(flags, paths, screen)


def _greet(conversation: Chat, flags: ChatFlags, screen: Screen) -> None:
    session = conversation.session
    if session.turns:
        screen.say(f"going on with {session.name}: {session.turns} turns so far")
    elif flags.session is not None:
        screen.say(f"a new conversation: {session.name}")
    for change in conversation.changed:
        screen.warn(f"{change}: earlier answers may not hold any more")
    if sys.stdin.isatty():
        screen.say("ask; /help says what else there is")


def _lines(at_terminal: bool) -> Iterator[str]:
    """The lines of standard input; at a terminal after a prompt, where Ctrl-C begins the line anew.

    Raises:
        InputError: a line is not UTF-8 text.
    """
    if not at_terminal:
        for number, line in enumerate(sys.stdin.buffer, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError("the questions are not UTF-8 text", path=f"standard input:{number}") from error
        return
    while True:
        try:
            line = _prompt()
        except KeyboardInterrupt:
            print(file=sys.stderr)  # noqa: T201
            continue
        except EOFError:
            print(file=sys.stderr)  # noqa: T201
            return
        yield line


def _prompt() -> str:
    if sys.stdout.isatty():
        import readline  # noqa: F401  gives `input` its history

        return input("> ")
    print("> ", end="", file=sys.stderr, flush=True)  # noqa: T201  standard output holds answers alone
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


@contextmanager
def _conversations(flags: ChatFlags) -> Iterator[tuple[Conversations, Settings]]:
    from readthrough.config import load_settings
    from readthrough.memory.conversations import FILE, Conversations

    settings = load_settings(overrides(flags)).settings
    log = Conversations(settings.home / FILE)
    try:
        yield log, settings
    finally:
        log.close()


def _manage(flags: ChatFlags) -> int:
    from readthrough.opening import forget

    screen = Screen(flags)
    with _conversations(flags) as (log, settings):
        if flags.delete is not None:
            log.delete(flags.delete)
            forget(settings, turns=(turn for each in log.sessions() for turn in log.turns(each.name)))
            if flags.json:
                screen.json({"schema": SCHEMA_VERSION, "deleted": flags.delete})
            screen.say(f"{flags.delete} was deleted; its runs stay in the log: `readthrough runs prune`")
        else:
            _list(log, screen)
    return 0


def _list(log: Conversations, screen: Screen) -> None:
    found = log.sessions()
    if screen.as_json:
        rows = [
            {"name": each.name, "used": each.used, "turns": each.turns, "texts": list(each.read.documents)}
            for each in found
        ]
        screen.json({"schema": SCHEMA_VERSION, "conversations": rows})
        return
    screen.table(
        [[each.name, telling.clock(each.used), f"{each.turns} turns", ", ".join(each.read.documents)] for each in found]
    )
