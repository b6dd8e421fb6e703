"""What endpoints do wrong: every fault is a typed error within the deadline, and nothing partial is an answer."""

from __future__ import annotations

import email.utils
import logging
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from readthrough.errors import ConfigError, DeadlineError, EndpointError, PromptTooLongError
from readthrough.models.base import Request
from readthrough.models.endpoint import connection
from readthrough.models.openai import OpenAIModel
from tests import fake_server as fake
from tests.endpoints import ASK, KEY, ask, fault, open_on, quick
from tests.fake_server import FakeServer, Handler, Step, fails, says, sends

__all__ = ["quick"]


# Retries


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_transient_status_is_asked_again(status: int) -> None:
    text, server = ask([fails(status, "busy"), says("Ann")])
    assert (text, len(server.requests)) == ("Ann", 2)


def test_a_reset_is_asked_again() -> None:
    text, server = ask([fake.resets, fake.resets, says("Ann")])
    assert (text, len(server.requests)) == ("Ann", 3)


def test_retry_after_in_seconds_is_honoured() -> None:
    _, server = ask([fails(429, "slow down", {"Retry-After": "0.6"}), says("Ann")])
    assert server.times[1] - server.times[0] >= 0.6


def test_retry_after_as_a_date_is_honoured() -> None:
    moment = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 s away
    _, server = ask([fails(503, "soon", {"Retry-After": moment}), says("Ann")])
    assert server.times[1] - server.times[0] >= 0.9


def test_retry_after_beyond_the_deadline_fails_at_once() -> None:
    started = time.monotonic()
    server = fault([fails(429, "slow down", {"Retry-After": "60"})], DeadlineError, "60.0 s", deadline_seconds=2.0)
    assert time.monotonic() - started < 1.0
    assert len(server.requests) == 1


def test_an_endless_fault_ends() -> None:
    server = fault([fails(500, "broken")], EndpointError, "500")
    assert len(server.requests) == 1 + connection.RETRIES


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_final_status_is_not_asked_again(status: int) -> None:
    server = fault([fails(status, f"no: Bearer {KEY}")], EndpointError, str(status))
    assert len(server.requests) == 1


# Deadline


@pytest.mark.parametrize("step", [fake.hangs, fake.drips])
def test_the_deadline_holds(step: Step) -> None:
    started = time.monotonic()
    fault([step], DeadlineError, "within 0.5 s", deadline_seconds=0.5)
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("step", [fake.hangs, fake.drips])
def test_the_deadline_holds_for_a_stream(step: Step) -> None:
    with FakeServer([step]) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineError):
            open_on(server, deadline_seconds=0.5).stream(ASK, lambda text: None)
        assert time.monotonic() - started < 1.5


def test_a_dead_address() -> None:
    with FakeServer([says("x")]) as server:
        pass
    with pytest.raises(EndpointError, match="cannot be reached"):
        open_on(server, deadline_seconds=1.5).complete([ASK])


def test_an_interrupt_ends_a_hanging_call_at_once() -> None:
    code = (
        "from readthrough.models.base import Request\nfrom readthrough.models.openai import OpenAIModel\n"
        "model = OpenAIModel('m', base_url={url!r}, window_tokens=4096)\n"
        "model.complete([Request.user('a'), Request.user('b')])\n"
    )
    with FakeServer([fake.hangs]) as server:
        child = subprocess.Popen([sys.executable, "-c", code.format(url=server.url)], stderr=subprocess.PIPE, text=True)
        limit = time.monotonic() + 30
        while not server.requests and time.monotonic() < limit:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, errors = child.communicate(timeout=10)
    assert time.monotonic() - started < 2
    assert child.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")


# Streams


def test_a_stream() -> None:
    with FakeServer([says("Ann keeps it")]) as server:
        pieces: list[str] = []
        completion = open_on(server).stream(ASK, pieces.append)
    assert "".join(pieces) == completion.text == "Ann keeps it "
    assert len(pieces) == 3
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 3)


@pytest.mark.parametrize("step", [fake.breaks_off(2), fake.breaks_off_chunked(2)])
def test_a_cut_stream_is_an_error_and_is_not_repeated(step: Step) -> None:
    with FakeServer([step, says("Ann")]) as server:
        pieces: list[str] = []
        with pytest.raises(EndpointError, match=r"cut|broke off"):
            open_on(server).stream(ASK, pieces.append)
    assert pieces == ["word0 ", "word1 "]
    assert len(server.requests) == 1


def test_a_stream_that_breaks_before_any_text_is_asked_again() -> None:
    with FakeServer([fake.breaks_off_chunked(0), says("Ann")]) as server:
        assert open_on(server).stream(ASK, lambda text: None).text == "Ann "


def test_an_error_inside_a_stream() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        handler.event({"choices": [{"delta": {"content": "Ann"}}]})
        handler.event({"error": {"message": f"out of memory, {KEY}"}})

    with FakeServer([step]) as server, pytest.raises(EndpointError, match="out of memory") as caught:
        open_on(server).stream(ASK, lambda text: None)
    assert KEY not in str(caught.value)


def test_a_stop_string_never_shows_in_a_stream() -> None:
    with FakeServer([says("Ann keeps END more")]) as server:
        pieces: list[str] = []
        request = Request.user("Who?", max_tokens=50, stop=("s END",))
        completion = open_on(server).stream(request, pieces.append)
    assert "".join(pieces) == completion.text == "Ann keep"
    assert completion.finish == "stop"


def test_a_server_that_does_not_know_stream_options() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        if "stream_options" in body:
            fails(400, "Unrecognized request argument supplied: stream_options")(handler, body)
        else:
            says("Ann")(handler, body)

    with FakeServer([step]) as server:
        completion = open_on(server).stream(ASK, lambda text: None)
    assert completion.text == "Ann "
    assert completion.usage.completion_tokens == 1


# Replies that are none


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (sends(b"<html>Sign in</html>", "text/html"), "text/html"),
        (sends(b'{"error": {"message": "model is loading"}}'), "model is loading"),
        (sends(b'{"object": "error", "message": "no GPU"}'), "no GPU"),
        (sends(b'{"choices": [{"mess'), "broken JSON"),
        (sends(b'{"choices": [NaN]}'), "NaN"),
        (sends(b'{"choices": []}'), "no chat completion"),
        (sends(b"[]"), "no object"),
        (says(""), "nothing"),
        (says(None), "nothing"),
        (says(" ", finish="length"), "used up max_tokens"),
        (says(None, refusal="I will not."), "refused"),
        (says("half", finish="content_filter"), "content_filter"),
        (says("x" * (1 << 20)), "1,048,576 characters"),
        (sends(b'{"choices":[{"finish_reason":"stop","message":{"content":"\\ud800"}}]}'), "surrogate"),
        (sends(b'{"choices":[{"finish_reason":null,"message":{"content":"half"}}]}'), "cut reply"),
        (sends(b'{"choices":[{"finish_reason":"stop","message":{"content":7}}]}'), "int"),
        (sends(b"", "application/json", 204), "broken JSON"),
    ],
)
def test_a_bad_reply_is_a_typed_error(step: Step, match: str) -> None:
    server = fault([step], EndpointError, match)
    assert len(server.requests) == 1


def test_a_cut_reply_says_so() -> None:
    with FakeServer([says("Ann keeps", finish="length")]) as server:
        completion = open_on(server).complete([ASK])[0]
    assert (completion.text, completion.finish) == ("Ann keeps", "length")


def test_a_redirect_is_not_followed() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        handler.send(307, b"", "text/plain", {"Location": "http://169.254.169.254/latest"})

    server = fault([step], EndpointError, "redirects to http://169.254.169.254")
    assert len(server.requests) == 1


# Long prompts


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
        "Requested tokens (5000) exceed context window of 4097",
        "request (5000 tokens) exceeds the available context size (4097 tokens), try increasing it",
    ],
)
def test_the_server_says_the_prompt_is_too_long(message: str) -> None:
    server = fault([fails(400, message)], PromptTooLongError, "4097")
    assert len(server.requests) == 1


def test_a_prompt_longer_than_the_window_is_never_sent() -> None:
    server = fault([says("x")], PromptTooLongError, "window", Request.user("word " * 5000))
    assert server.requests == []


def test_a_server_that_cuts_prompts_in_silence_is_found_out() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        reply = fake.completion(body, "Ann")
        reply["usage"]["prompt_tokens"] = 512
        handler.json(200, reply)

    fault([step], PromptTooLongError, "read 512 tokens of a prompt of at least 2000", Request.user("word " * 2000))


# Parameters, order, window


def test_a_server_that_wants_max_completion_tokens() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        if "max_tokens" in body:
            fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")(handler, body)
        elif "temperature" in body:
            fails(400, "Unsupported value: 'temperature' does not support 0 with this model.")(handler, body)
        else:
            says("Ann")(handler, body)

    text, server = ask([step])
    assert text == "Ann"
    assert server.requests[-1]["max_completion_tokens"] == 50


def test_requests_run_together_and_keep_their_order() -> None:
    running, most = set[int](), [0]

    def step(handler: Handler, body: dict[str, Any]) -> None:
        number = int(body["messages"][-1]["content"])
        running.add(number)
        most[0] = max(most[0], len(running))
        time.sleep(0.05 * (1 + number % 3))
        running.discard(number)
        says(f"reply {number}")(handler, body)

    with FakeServer([step]) as server:
        completions = open_on(server, concurrency=3).complete([Request.user(str(n)) for n in range(9)])
    assert [completion.text for completion in completions] == [f"reply {n}" for n in range(9)]
    assert most[0] == 3


def test_one_failure_ends_the_others() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        (fails(400, "bad") if body["messages"][-1]["content"] == "1" else fake.hangs)(handler, body)

    with FakeServer([step]) as server:
        started = time.monotonic()
        with pytest.raises(EndpointError, match="400"):
            open_on(server, concurrency=3).complete([Request.user(str(n)) for n in range(3)])
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("name", ["max_model_len", "context_length"])
def test_the_server_is_asked_for_its_window(name: str) -> None:
    with FakeServer([says("x")], models=[{"id": "other"}, {"id": "windowed", name: 2048}]) as server:
        assert OpenAIModel("windowed", base_url=server.url).window_tokens == 2048
        assert OpenAIModel("other", base_url=server.url).window_tokens == 8192


# Secrets


def test_secrets_stay_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeServer([fails(500, f"you sent {KEY} and pass-word-1"), says("Ann")]) as server:
        url = server.url.replace("//", "//user:pass-word-1@")
        model = OpenAIModel("secretive", base_url=url, api_key=KEY, window_tokens=4096)
        assert model.complete([ASK])[0].text == "Ann"
        shown = repr(model) + repr(vars(model)) + model.name + caplog.text
    assert server.headers[0]["authorization"].startswith("Basic ")
    for secret in (KEY, "pass-word-1", server.headers[0]["authorization"].split()[1]):
        assert secret not in shown


def test_the_key_is_sent() -> None:
    _, server = ask([says("Ann")])
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host", "http://", "host:80", "http://a b/v1", "http://h/v1?key=abc"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError):
        OpenAIModel("m", base_url=url)


def test_no_key_for_the_public_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="no key"):
        OpenAIModel("m")
