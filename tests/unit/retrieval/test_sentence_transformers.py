"""Any model of sentence-transformers: its own settings hold, and nothing of it is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from readthrough.errors import ConfigError, UnknownNameError, WeightsError
from readthrough.retrieval.embedders.folder import find_folder, fingerprint
from readthrough.retrieval.embedders.open import open_embedder
from readthrough.retrieval.embedders.sentence import SentenceTransformerEmbedder
from readthrough.retrieval.embedding import embed_queries, embed_texts
from tests.embedder_samples import write_sentence_transformer

PROMPTS = {"query": "query : ", "document": "passage : "}
TEXTS = ["the lamp", "", "the keeper of the lamp is named ann", "a storm came in from the sea . " * 3, "猫"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_transformer(tmp_path_factory.mktemp("models") / "tiny", prompts=PROMPTS)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def opened(folder: Path, **options: Any) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(str(folder), dtype="float32", device="cpu", **options)


def test_equals_the_library_with_the_model_s_prompts(folder: Path, theirs: Any) -> None:
    mine = opened(folder)
    for found, expected in (
        (embed_texts(mine, TEXTS), theirs.encode_document(TEXTS, normalize_embeddings=True)),
        (embed_queries(mine, TEXTS), theirs.encode_query(TEXTS, normalize_embeddings=True)),
    ):
        assert np.abs(found - expected).max() < 1e-5
    assert np.abs(mine.embed(TEXTS) - mine.queries.embed(TEXTS)).max() > 0.01, "the prompts differ"


def test_prompts_can_be_given(folder: Path, theirs: Any) -> None:
    mine = opened(folder, query_prompt="a : ", document_prompt="")
    assert np.abs(mine.embed(TEXTS) - theirs.encode(TEXTS, prompt="", normalize_embeddings=True)).max() < 1e-5
    expected = theirs.encode(TEXTS, prompt="a : ", normalize_embeddings=True)
    assert np.abs(mine.queries.embed(TEXTS) - expected).max() < 1e-5


def test_prompt_and_special_tokens_count(folder: Path, theirs: Any) -> None:
    mine = opened(folder)
    assert mine.max_tokens == 64 - 2 - 3, "[CLS], [SEP], and `passage :` with one to spare"
    longest = " ".join(["lamp"] * mine.max_tokens)
    changed = longest[: -len("lamp")] + "sea"
    assert np.abs(mine.embed([longest]) - mine.embed([changed])).max() > 1e-4, "the last word is read"
    with pytest.raises(ValueError, match="60 tokens"):
        mine.embed([longest + " lamp"])
    assert opened(folder, window_tokens=20).max_tokens == 15
    with pytest.raises(WeightsError, match="no room"):
        _ = opened(folder, document_prompt="lamp " * 62).max_tokens


def test_the_name_tells_vectors_apart(folder: Path, tmp_path: Path) -> None:
    name = opened(folder).name
    assert opened(folder, query_prompt="a : ").name == name, "vectors of texts stay"
    others = {
        opened(folder, document_prompt="").name,
        opened(folder, window_tokens=20).name,
        opened(write_sentence_transformer(tmp_path / "tiny", seed=1, prompts=PROMPTS)).name,
    }
    assert len(others) == 3
    assert name not in others
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(folder, moved)
    assert opened(moved).name == name
    (moved / "1_Pooling" / "config.json").write_text(
        (folder / "1_Pooling" / "config.json").read_text().replace("mean", "cls")
    )
    assert opened(moved).name != name


def test_all_of_a_large_vocabulary_tells_models_apart(tmp_path: Path) -> None:
    vocabulary = tmp_path / "tokenizer.json"
    vocabulary.write_bytes(b"a" * (4 << 20))
    before = fingerprint(tmp_path)
    with vocabulary.open("r+b") as file:
        file.seek((4 << 10) + 1)
        file.write(b"b")
    assert fingerprint(tmp_path) != before


def test_what_the_hub_gave_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0_StaticEmbedding").mkdir()
    (tmp_path / "0_StaticEmbedding" / "model.safetensors").write_bytes(b"")
    (tmp_path / "modules.json").write_text("[]")  # such a model has no config.json
    asked = []

    def hub(name: str, local: bool = False) -> Path:
        asked.append(local)
        return tmp_path

    monkeypatch.setattr("readthrough.retrieval.embedders.folder.hub_folder", hub)
    assert find_folder("owner/static") == tmp_path and asked == [True]


def test_code_of_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: ...\n")
    modules = json.loads((folder / "modules.json").read_text())
    for kind in ("evil.Evil", "os.system", "sentence_transformers.util.import_from_string", "pylate.models.Evil"):
        (bad / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": kind}]))
        with pytest.raises(WeightsError, match="needs the class"):
            _ = opened(bad).name
    (bad / "modules.json").write_text(json.dumps(modules))
    config = json.loads((folder / "config.json").read_text())
    (bad / "config.json").write_text(
        json.dumps({**config, "model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}})
    )
    with pytest.raises(WeightsError):
        opened(bad).embed(["lamp"])
    assert not mark.exists()


def test_other_weights_than_safetensors_are_refused(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "model.safetensors").rename(bad / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        _ = opened(bad).name


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("modules.json", None, "no modules.json"),
        ("modules.json", "[{}]", "cannot be read"),
        ("modules.json", "nonsense", "cannot be read"),
        ("modules.json", '[{"type": "sentence_transformers.models.Pooling", "path": "../.."}]', "lies elsewhere"),
        ("config.json", "{", "does not load"),
        ("model.safetensors", "not weights", "does not load"),
    ],
)
def test_a_broken_model_says_so(folder: Path, tmp_path: Path, file: str, text: str | None, match: str) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / file).unlink()
    if text is not None:
        (bad / file).write_text(text)
    with pytest.raises(WeightsError, match=match) as error:
        opened(bad).embed(["lamp"])
    assert str(bad) in str(error.value)


def test_specs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = opened(folder).name
    for spec in (str(folder), f"sentence-transformers:{folder}", {"sentence-transformers": {"model": str(folder)}}):
        assert open_embedder(spec).name == name
    with pytest.raises(UnknownNameError, match="all-minilm-l6-v2"):
        open_embedder("all-minilm-l6-v3")
    with pytest.raises(UnknownNameError, match="window_tokens"):
        open_embedder({"all-minilm-l6-v2": {"window_token": 512}})
    with pytest.raises(ConfigError, match="positions"):
        open_embedder({"all-minilm-l6-v2": {"window_tokens": 512}})
    with pytest.raises(ConfigError, match="MODEL@http"):
        open_embedder("openai:@http://localhost/v1")
    with pytest.raises(ConfigError, match="model"):
        open_embedder("sentence-transformers")
    with pytest.raises(WeightsError):
        _ = open_embedder(str(folder / "nowhere" / "at-all")).name
    with pytest.raises(ConfigError, match="device"):
        open_embedder(str(folder), device="cuda:99").embed(["lamp"])
