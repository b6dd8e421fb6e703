"""What stands after `--model`, as a backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from readthrough.config import load_settings
from readthrough.errors import ConfigError, ModelError, ReadthroughError, UnknownNameError, WeightsError
from readthrough.models.base import Prices, Request
from readthrough.models.open import open_model
from readthrough.models.openai import OpenAIModel
from readthrough.models.scripted import ScriptedModel

URL = "http://127.0.0.1:9/v1"


def test_an_endpoint_with_its_address() -> None:
    model = open_model(f"openai:org/model-1@{URL}/", window_tokens=2048, deadline_seconds=7.0, device="cpu")
    assert isinstance(model, OpenAIModel)
    assert (model.model, model.base_url, model.window_tokens, model.deadline_seconds) == (
        "org/model-1",
        URL,
        2048,
        7.0,
    )
    assert model.name == f"openai:org/model-1@{URL}"


def test_an_address_with_a_password() -> None:
    model = open_model("openai:m@https://user:hidden@host.example:8443/v1", window_tokens=100)
    assert model.name == "openai:m@https://host.example:8443/v1"
    assert "hidden" not in repr(model)


def test_the_address_from_the_environment_or_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", URL)
    assert open_model("openai:m@20240229", window_tokens=100).name == f"openai:m@20240229@{URL}"
    other = open_model("openai:m", window_tokens=100, base_url="http://127.0.0.1:10")
    assert isinstance(other, OpenAIModel)
    assert other.base_url == "http://127.0.0.1:10"


def test_a_spec_as_in_yaml() -> None:
    model = open_model({"openai": {"model": "m", "base_url": URL, "window_tokens": 512}}, window_tokens=1024)
    assert isinstance(model, OpenAIModel)
    assert model.window_tokens == 512, "what the spec says of this model wins over a general setting"
    assert (model.concurrency, model.hedge_after_seconds, model.prices) == (16, None, None)


def test_what_an_endpoint_costs_and_bears_as_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("readthrough.yaml").write_text(
        f"model:\n  openai:\n    model: m\n    base_url: {URL}\n    window_tokens: 512\n"
        "    prices: {prompt: 0.15, completion: 0.6, cached: 0.075}\n    concurrency: 32\n    hedge_after_seconds: 20\n"
    )
    model = open_model(load_settings().settings.model)
    assert isinstance(model, OpenAIModel)
    assert model.prices == Prices(0.15, 0.6, 0.075)
    assert model.prices.cost(3_000_000, 1_000_000, 500_000) == pytest.approx(0.3 + 0.075 + 0.3)
    assert (model.concurrency, model.hedge_after_seconds) == (32, 20.0)


@pytest.mark.parametrize(
    ("spec", "kind", "match"),
    [
        ("qwen2.5-coder-1.5b", UnknownNameError, "qwen2.5-coder-1.5b-instruct"),
        ("gpt-4o", UnknownNameError, "openai:MODEL@URL"),
        ("./nowhere", WeightsError, "not a folder"),
        ("all-minilm-l6-v2", ConfigError, "embeddings"),
        ("openai:", ConfigError, "HOST:PORT"),
        ("openai:m@localhost:8000", ConfigError, "HOST:PORT"),
        ("openai:m@http://host/v1?key=1", ConfigError, "query"),
        ({"openai": {"modle": "m"}}, UnknownNameError, "'model'"),
        ({"openai": {"model": "m", "base_url": URL, "window_tokens": 9, "concurrency": 0}}, ConfigError, "above 0"),
        ({"openai": {"model": "m", "prices": {"prompt": 1, "completion": 1, "cache": 1}}}, ConfigError, "prices.cache"),
        ({"openai": {"model": "m", "prices": {"prompt": -1, "completion": 1}}}, ConfigError, "not below 0"),
        ({"openai": {"model": "m", "prices": {"prompt": 1}}}, ConfigError, "prices.completion"),
        ({"langchain": {"chat_model": "m"}}, ConfigError, "LangChain"),
        ("scripted:/no/such.yaml", ConfigError, "such.yaml"),
    ],
)
def test_specs_that_open_nothing(spec: str, kind: type[ReadthroughError], match: str) -> None:
    with pytest.raises(kind, match=match):
        open_model(spec)


def test_an_unknown_option() -> None:
    with pytest.raises(UnknownNameError, match="'device'"):
        open_model("small", devise="cpu")  # type: ignore[call-arg]


def test_torch_is_not_imported_for_an_endpoint() -> None:
    code = (
        "import sys\nfrom readthrough.models.open import open_model\n"
        f"open_model('openai:m@{URL}')\n"
        "try:\n    open_model('smal')\nexcept Exception as error:\n    print(type(error).__name__)\n"
        "print([name for name in ('torch', 'transformers', 'langchain_core') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["UnknownNameError", "[]"], done.stderr


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return f"scripted:{path}"


def test_a_script(tmp_path: Path) -> None:
    model = open_model(
        write(
            tmp_path / "s.yaml",
            "window_tokens: 64\nreplies: {'lighthouse': Ann, '.': nobody}\nchoices: {'.': [0.25, 0.75]}\n",
        )
    )
    assert isinstance(model, ScriptedModel)
    asks = [Request.user("Who keeps the lighthouse?", max_tokens=9), Request.user("Who else?", max_tokens=9)]
    assert [reply.text for reply in model.complete(asks)] == ["Ann", "nobody"]
    assert model.choose(asks[:1], [("a", "b")])[0].probabilities == (0.25, 0.75)
    assert model.calls == [], "a batch of many documents may ask it: what it was asked is not kept"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("replys: [a]\n", r"s\.yaml:1.*unknown key 'replys'"),
        ("window_tokens: 9\nreplies: a\n", r"s\.yaml:2.*'replies'"),
    ],
)
def test_a_script_with_a_mistake(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_model(write(tmp_path / "s.yaml", text))


def test_a_script_that_runs_out() -> None:
    model = ScriptedModel(replies=["one"])
    assert model.complete([Request.user("x")])[0].text == "one"
    with pytest.raises(ModelError, match="1 replies"):
        model.complete([Request.user("x")])


def test_faults_come_at_their_call() -> None:
    model = ScriptedModel(replies=["one", "two"], faults={1: ModelError("down")})
    asks = [Request.user("x")]
    assert model.complete(asks)[0].text == "one"
    with pytest.raises(ModelError, match="down"):
        model.complete(asks)
    assert model.complete(asks)[0].text == "two"
    assert [call.result is None for call in model.calls] == [False, True, False]


def test_a_script_that_breaks_the_schema() -> None:
    model = ScriptedModel(replies=['{"a": 1}'])
    with pytest.raises(ModelError, match="schema"):
        model.complete([Request.user("x", schema={"type": "object", "required": ["b"]})])
