"""The terms of a text: what must be found by what."""

from __future__ import annotations

import pytest

from readthrough.retrieval.analysis import Analyzer, prepare


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("running dogs", "The dog runs."),
        ("cafe", "Das Café am Platz"),
        ("STRASSE", "Die Strasse"),
        ("pages", "def loadPages(self):"),
        ("load_pages", "then load pages again"),
        ("loadpages", "def load_pages(self):"),
        ("loadPages", "self.load_pages()"),
        ("server", "class HTTPServer2:"),
        ("SHA 256", "import sha256sum"),
        ("__init__", "the init of it"),
        ("东京", "我住在东京都附近"),
        ("谁写了这本书", "这本书的作者是鲁迅"),
        ("猫", "吾輩は猫である"),
        ("東京都庁", "新宿の東京都庁舎へ行く"),
        ("コンピュータ", "新しいｺﾝﾋﾟｭｰﾀを買う"),
        ("ＡＢＣ", "the abc murders"),
        ("서울", "나는 서울에서 산다"),
        ("книга", "Это моя КНИГА."),
    ],
)
def test_found(analyzer: Analyzer, query: str, text: str) -> None:
    assert set(analyzer.terms(query, "stems")) & set(analyzer.terms(text, "stems"))


@pytest.mark.parametrize(("query", "text"), [("北京", "我住在东京都附近"), ("university", "the whole universe")])
def test_words_do_not_find_what_only_looks_alike(analyzer: Analyzer, query: str, text: str) -> None:
    exact = set(analyzer.terms(query, "words")) & set(analyzer.terms(text, "words"))
    assert all(len(term) == 1 for term in exact), "single characters may be shared, words and pairs not"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("loadPages", "loadpages load pages"),
        ("load_pages", "loadpages load pages"),
        ("HTTPServer", "httpserver http server"),
        ("_MAX_HOURS2", "maxhours2 max hours 2"),
        ("utf8Decoder", "utf8decoder utf 8 decoder"),
        ("Größe_maß", "großemaß große maß"),
        ("x_", "x"),
        ("PDFs and CDs of the 1990s, 2nd 3D", "pdfs and cds of the 1990s 2nd 3d"),
    ],
)
def test_identifiers_whole_and_in_parts(analyzer: Analyzer, text: str, terms: str) -> None:
    assert analyzer.terms(text, "words") == terms.split()


def test_words_stay_as_they_stand(analyzer: Analyzer) -> None:
    assert analyzer.terms("Kansas runs", "words") == ["kansas", "runs"]
    assert analyzer.terms("Kansas runs", "stems") == ["kansa", "run"]


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "a\x00b", "\ud800 x", '"', "a AND (b OR", "NEAR(", "*", "\U0010ffff"]
)
def test_any_text_can_be_analysed(analyzer: Analyzer, text: str) -> None:
    terms = analyzer.terms(text, "words")
    assert analyzer.lengths([prepare(text)]) == [len(terms)]


def test_lengths_count_what_both_analyses_make(analyzer: Analyzer) -> None:
    texts = ["The dogs are running.", "東京都", "", "loadPages"]
    lengths = analyzer.lengths([prepare(text) for text in texts])
    for analysis in ("words", "stems"):
        assert lengths == [len(analyzer.terms(text, analysis)) for text in texts]
