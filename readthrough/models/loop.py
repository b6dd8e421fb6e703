"""An event loop in a thread of its own, so that calls can run together, and be cancelled, from plain functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, TypeVar

from readthrough.errors import ModelError

S = TypeVar("S")
T = TypeVar("T")


class Loop:
    """Runs coroutines for callers that may themselves be inside another loop; started by the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `coroutine`; it sees the caller's context variables."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def wait(self, future: Future[T]) -> T:
        """The result of `future`, which is cancelled where the wait is interrupted.

        Raises:
            ModelError: the loop was closed meanwhile.
        """
        try:
            return future.result()
        except CancelledError:
            raise ModelError("the model was closed while it was asked") from None
        except BaseException:
            future.cancel()
            raise

    def map(self, function: Callable[[S], Awaitable[T]], items: Sequence[S], concurrency: int) -> list[T]:
        """`function` of every item, at most `concurrency` at a time, results in the items' order.

        The first failure, or Ctrl-C, cancels the rest and is raised.
        """

        async def run() -> list[T]:
            gate = asyncio.Semaphore(concurrency)

            async def one(item: S) -> T:
                async with gate:
                    return await function(item)

            tasks = [asyncio.create_task(one(item)) for item in items]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                await _cancel(tasks)

        return self.wait(self.submit(run()))

    def stream(
        self, function: Callable[[Callable[[S], None]], Coroutine[Any, Any, T]], on_item: Callable[[S], None]
    ) -> T:
        """The result of `function(put)`; what it puts is handed to `on_item` here, in the caller's thread."""
        items: SimpleQueue[tuple[S] | None] = SimpleQueue()
        future = self.submit(function(lambda item: items.put((item,))))
        future.add_done_callback(lambda _: items.put(None))
        try:
            while (item := items.get()) is not None:
                on_item(item[0])
        except BaseException:
            future.cancel()
            raise
        return self.wait(future)

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled. Calling it twice is fine."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel(asyncio.all_tasks(loop)))
        loop.close()


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
