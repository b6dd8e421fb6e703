"""Structured output and choices of endpoints: fallbacks, bounded repairs, votes."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from readthrough.errors import DeadlineError, EndpointError
from readthrough.models.openai import OpenAIModel, Prices
from tests import fake_server as fake
from tests.endpoints import ASK, ASK_JSON, GOOD_JSON, ask, fault, open_on, quick
from tests.fake_server import FakeServer, Handler, Step, fails, says

__all__ = ["quick"]


# Structured output


def refusing(*forms: str, status: int = 400) -> Step:
    """A server that knows none of `forms` of response_format, and follows the prompt."""

    def step(handler: Handler, body: dict[str, Any]) -> None:
        form = body.get("response_format", {}).get("type")
        if form in forms:
            fails(status, f"response_format.type: literal_error, input {form!r}")(handler, body)
        else:
            says(GOOD_JSON)(handler, body)

    return step


@pytest.mark.parametrize(
    ("step", "forms"),
    [
        (refusing(), ["json_schema"]),
        (refusing("json_schema"), ["json_schema", "json_object"]),
        (refusing("json_schema", status=500), ["json_schema", "json_object"]),
        (refusing("json_schema", "json_object"), ["json_schema", "json_object", None]),
    ],
)
def test_structured_output_falls_back_and_remembers(step: Step, forms: list[str | None]) -> None:
    with FakeServer([step]) as server:
        model = open_on(server)
        replies = [model.complete([ASK_JSON])[0].text for _ in range(2)]
        again = OpenAIModel(model.model, base_url=server.url, window_tokens=4096).complete([ASK_JSON])[0].text
    assert [json.loads(reply) for reply in (*replies, again)] == [{"answer": "Ann"}] * 3
    used = [body.get("response_format", {}).get("type") for body in server.requests]
    assert used == [*forms, forms[-1], forms[-1]]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "[Ann]",
        '{"answer": NaN}',
        '{"answer": 7}',
        '{"answer": "\\ud800"}',
        "{}",
        '{"answer": "x"',
        "{" + "x" * 2000,
    ],
)
def test_a_bad_reply_is_repaired(bad: str) -> None:
    text, server = ask([says(bad), says(GOOD_JSON)], ASK_JSON)
    assert json.loads(text) == {"answer": "Ann"}
    assert len(server.requests) == 2
    assert "cannot be used" in server.requests[1]["messages"][-1]["content"]


def test_a_server_that_ignores_schemas_gets_them_in_the_prompt() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        says(GOOD_JSON if "JSON Schema" in body["messages"][-1]["content"] else "Her name is Ann.")(handler, body)

    with FakeServer([step]) as server:
        model = open_on(server)
        replies = [model.complete([ASK_JSON])[0] for _ in range(2)]
    assert [json.loads(reply.text) for reply in replies] == [{"answer": "Ann"}] * 2
    assert [reply.usage.calls for reply in replies] == [2, 1]
    assert ["response_format" in body for body in server.requests] == [True, False, False]


def test_repairs_are_bounded() -> None:
    server = fault([says('{"answer": 7}')], EndpointError, "after 2 repairs", ASK_JSON)
    assert len(server.requests) == 3


def test_a_form_that_was_cut_is_given_back_and_not_asked_for_again() -> None:
    with FakeServer([says('{"answer": "An', finish="length")]) as server:
        reply = open_on(server).complete([ASK_JSON])[0]
    assert (reply.text, reply.finish, len(server.requests)) == ('{"answer": "An', "length", 1)


def test_prose_that_was_cut_before_its_form_is_repaired() -> None:
    text, server = ask([says("Let me think about", finish="length"), says(GOOD_JSON)], ASK_JSON)
    assert json.loads(text) == {"answer": "Ann"}
    assert len(server.requests) == 2


def test_a_choice_that_was_cut_is_an_error() -> None:
    steps: list[Step] = [says("x"), says('{"choice": "Y', finish="length")]
    with FakeServer(steps) as server, pytest.raises(EndpointError, match="a choice was cut"):
        open_on(server).choose([ASK], [("Yes", "No")])


def test_a_repair_counts_its_cost() -> None:
    with FakeServer([says("{}"), says(GOOD_JSON)]) as server:
        model = open_on(server, prices=Prices(prompt=1.0, completion=10.0))
        usage = model.complete([ASK_JSON])[0].usage
    assert usage.calls == 2
    prompts = [sum(fake.count(m["content"]) for m in body["messages"]) for body in server.requests]
    assert usage.prompt_tokens == sum(prompts)
    assert usage.cost == pytest.approx((sum(prompts) + 10 * 3) / 1e6)


def test_a_fence_around_json_is_forgiven() -> None:
    text, server = ask([says(f"```json\n{GOOD_JSON}\n```")], ASK_JSON)
    assert json.loads(text) == {"answer": "Ann"}
    assert len(server.requests) == 1


# Choices


def with_logprobs(*tokens: tuple[str, float]) -> Step:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        reply = fake.completion(body, tokens[0][0], "length")
        top = [{"token": token, "logprob": logprob} for token, logprob in tokens]
        reply["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        handler.json(200, reply)

    return step


def choose(steps: list[Step], *options: str) -> tuple[tuple[float, ...], FakeServer]:
    with FakeServer(steps) as server:
        return open_on(server).choose([ASK], [options])[0].probabilities, server


def test_choose_by_logprobs() -> None:
    probabilities, server = choose([with_logprobs((" Yes", -0.5), ("No", -1.5), ("yes", -3.0))], "Yes", "No")
    assert probabilities == pytest.approx((0.7463, 0.2537), abs=1e-4)
    assert server.requests[0]["max_tokens"] == 1


def test_choose_by_a_vote_where_tokens_do_not_tell_options_apart() -> None:
    steps = [with_logprobs(("chapter", -0.01)), says('{"choice": "chapter two"}')]
    probabilities, server = choose(steps, "chapter one", "chapter two")
    assert probabilities == (0.0, 1.0)
    schema = server.requests[1]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["chapter one", "chapter two"]


def test_choose_where_logprobs_are_refused() -> None:
    def step(handler: Handler, body: dict[str, Any]) -> None:
        if "logprobs" in body:
            fails(400, "logprobs are not supported with this model")(handler, body)
        else:
            says('{"choice": "No"}' if "response_format" in body else "No")(handler, body)

    with FakeServer([step]) as server:
        model = open_on(server)
        chosen = [model.choose([ASK], [("Yes", "No")])[0] for _ in range(2)]
    assert [choice.probabilities for choice in chosen] == [(0.0, 1.0)] * 2
    assert sum("logprobs" in body for body in server.requests) == 1


def test_choose_with_an_option_that_is_none() -> None:
    steps: list[Step] = [says("x"), says('{"choice": "Perhaps"}')]
    with FakeServer(steps) as server, pytest.raises(EndpointError, match="after 2 repairs"):
        open_on(server).choose([ASK], [("Yes", "No")])


def test_the_deadline_covers_repairs() -> None:
    def slow(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.4)
        says("no JSON")(handler, body)

    started = time.monotonic()
    fault([slow], DeadlineError, "within 0.7 s", ASK_JSON, deadline_seconds=0.7)
    assert time.monotonic() - started < 1.7
