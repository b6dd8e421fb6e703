"""A deterministic OpenAI-compatible server on loopback that does what a test tells it to, faults included.

`FakeServer(steps)` answers the n-th POST with the n-th step, and the last step again after that. A step is a
function that gets the handler and the request's body. `with FakeServer([...]) as server:` gives `server.url`.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Step = Callable[["Handler", Body], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeHTTPServer

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self.json(200, {"object": "list", "data": self.server.fake.models})
        else:
            self.json(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake = self.server.fake
        with fake.lock:
            number = len(fake.requests)
            fake.requests.append(body)
            fake.headers.append({name.lower(): value for name, value in self.headers.items()})
            fake.times.append(time.monotonic())
        fake.steps[min(number, len(fake.steps) - 1)](self, body)

    def json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), "application/json", headers)

    def send(self, status: int, data: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class FakeHTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeServer

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class FakeServer:
    """See the module. `requests`, `headers` and `times` hold what came, in order."""

    def __init__(self, steps: Sequence[Step], models: Sequence[Body] = ()) -> None:
        self.steps, self.models = list(steps), list(models)
        self.requests: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self._http = FakeHTTPServer(("127.0.0.1", 0), Handler)
        self._http.fake = self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()


def count(text: str) -> int:
    return len(text.split())


def usage(body: Body, text: str) -> Body:
    prompt = sum(count(message["content"]) for message in body["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": count(text), "total_tokens": prompt + count(text)}


def completion(body: Body, text: str | None, finish: str | None = "stop", **message: Any) -> Body:
    choice: Body = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage(body, text or "")}


def says(text: str | None, finish: str = "stop", **message: Any) -> Step:
    """A reply, streamed where that is asked for."""

    def step(handler: Handler, body: Body) -> None:
        if not body.get("stream"):
            handler.json(200, completion(body, text, finish, **message))
            return
        handler.begin_events()
        for word in (text or "").split(" "):
            handler.event({"choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]})
        handler.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if body.get("stream_options"):
            handler.event({"choices": [], "usage": usage(body, text or "")})
        handler.event("[DONE]")

    return step


def obeys(answer: Callable[[str], str]) -> Step:
    """A server that keeps `max_tokens` and `stop`, and gives JSON where a schema is asked for."""

    def step(handler: Handler, body: Body) -> None:
        if "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            choice = min(schema["properties"].get("choice", {}).get("enum", ["Ann"]))
            value = dict.fromkeys(schema["properties"], choice)
            handler.json(200, completion(body, json.dumps(value)))
            return
        reply = answer(body["messages"][-1]["content"])
        for mark in body.get("stop", ()):
            reply = reply.split(mark)[0]
        words = reply.split()
        cut = len(words) > body["max_tokens"]
        says(" ".join(words[: body["max_tokens"]]) if cut else reply, "length" if cut else "stop")(handler, body)

    return step


def fails(status: int, message: str, headers: dict[str, str] | None = None) -> Step:
    def step(handler: Handler, body: Body) -> None:
        handler.json(status, {"error": {"message": message, "type": "error"}}, headers)

    return step


def sends(data: bytes, content_type: str = "application/json", status: int = 200) -> Step:
    return lambda handler, body: handler.send(status, data, content_type)


def resets(handler: Handler, body: Body) -> None:
    """Hang up with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def hangs(handler: Handler, body: Body) -> None:
    """Say nothing until the test is over."""
    handler.server.fake.stopped.wait(30)
    handler.close_connection = True


def drips(handler: Handler, body: Body) -> None:
    """A byte at a time, for ever: no read times out."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.fake.stopped.wait(0.05):
        handler.wfile.write(b" ")


def breaks_off(words: int) -> Step:
    """Stream some words, then end without a reason to finish."""

    def step(handler: Handler, body: Body) -> None:
        handler.begin_events()
        for number in range(words):
            handler.event({"choices": [{"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}]})

    return step


def breaks_off_chunked(words: int) -> Step:
    """Stream some words in HTTP chunks, then reset in the middle of one."""

    def step(handler: Handler, body: Body) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for number in range(words):
            event = {"choices": [{"index": 0, "delta": {"content": f"word{number} "}}]}
            data = f"data: {json.dumps(event)}\n\n".encode()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        handler.wfile.write(b"50\r\ndata:")
        handler.wfile.flush()
        time.sleep(0.1)
        resets(handler, body)

    return step


class Bears:
    """A server that works at `capacity` requests together, each for `seconds` or as `seconds(running)` says.

    What is more is refused with 429, where `retry_after` says when to come back. `most` and `refused` count.
    """

    def __init__(
        self, capacity: int, seconds: float | Callable[[int], float] = 0.02, retry_after: float = 0.05
    ) -> None:
        self.capacity, self.seconds, self.retry_after = capacity, seconds, retry_after
        self.running = self.most = self.refused = self.answered = 0
        self._lock = threading.Lock()

    def __call__(self, handler: Handler, body: Body) -> None:
        with self._lock:
            taken = self.running < self.capacity
            self.running += taken
            self.refused += not taken
            self.most = max(self.most, self.running)
            running = self.running
        if not taken:
            fails(429, "too many requests", {"Retry-After": str(self.retry_after)})(handler, body)
            return
        handler.server.fake.stopped.wait(self.seconds(running) if callable(self.seconds) else self.seconds)
        with self._lock:
            self.running -= 1
            self.answered += 1
        says(body["messages"][-1]["content"])(handler, body)


class Slow:
    """Every request hangs whose number is in `slow`; the others are answered by `step`."""

    def __init__(self, slow: set[int], step: Step) -> None:
        self.slow, self.step = slow, step
        self._numbers = itertools.count()

    def __call__(self, handler: Handler, body: Body) -> None:
        (hangs if next(self._numbers) in self.slow else self.step)(handler, body)
