"""The language of a text, and its words without their endings."""

from __future__ import annotations

import threading

import pytest

from readthrough.retrieval.analysis import Analyzer
from readthrough.retrieval.tongues import STEMMERS, Stemmers, language_of

TEXTS = {
    "en": "The keeper of the lighthouse had been ill for some weeks, and nobody in the village knew of it.",
    "de": "Der Wärter des Leuchtturms war seit einigen Wochen krank, und niemand im Dorf wusste etwas davon.",
    "fr": "Le gardien du phare était malade depuis quelques semaines, et personne dans le village ne le savait.",
    "es": "El guardián del faro llevaba unas semanas enfermo, y nadie en el pueblo sabía nada de eso todavía.",
    "it": "Il guardiano del faro era malato da alcune settimane, e nessuno nel villaggio lo sapeva ancora.",
    "pt": "O guarda do farol estava doente há algumas semanas, e ninguém na aldeia sabia disso até então.",
    "nl": "De wachter van de vuurtoren was al enkele weken ziek, en niemand in het dorp wist er iets van.",
    "sv": "Fyrvaktaren hade varit sjuk i några veckor, och ingen i byn visste något om det förrän den dagen.",
    "da": "Fyrpasseren havde været syg i nogle uger, og ingen i landsbyen vidste noget om det, da skibet blev set.",
    "no": "Fyrvokteren hadde vært syk i noen uker, og ingen i landsbyen visste noe om det, da skipet ble sett.",
    "fi": "Majakanvartija oli ollut sairaana muutaman viikon, eikä kukaan kylässä tiennyt siitä, mutta laiva tuli.",
    "hu": "A világítótorony őre már néhány hete beteg volt, és a faluban senki sem tudott róla, csak az orvos.",
    "ro": "Paznicul farului era bolnav de câteva săptămâni și nimeni din sat nu știa că nu mai poate lucra.",
    "tr": "Fener bekçisi birkaç haftadır hastaydı ve köyde bunu bilen hiç kimse yoktu, ama bir gemi daha geldi.",
    "pl": "Latarnik był chory od kilku tygodni i nikt we wsi o tym nie wiedział, ale statek już się zbliżał do brzegu.",
    "cs": "Strážce majáku byl už několik týdnů nemocný a nikdo ve vesnici o tom nevěděl, ale loď se blížila k břehu.",
    "ru": "Смотритель маяка был болен уже несколько недель, и никто в деревне не знал об этом, но корабль пришёл.",
    "el": "Ο φύλακας του φάρου ήταν άρρωστος εδώ και μερικές εβδομάδες και κανείς στο χωριό δεν το ήξερε.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_sentence(language: str) -> None:
    assert language_of(TEXTS[language]) == language


def test_every_language_that_is_stemmed_is_told() -> None:
    assert set(STEMMERS) | {"en"} == set(TEXTS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "猫である。名前はまだ無い。",
        "def load(path): return open(path).read()",
        "1 2 3",
        "Berlin Paris Madrid",
        "\x00\ud800",
    ],
)
def test_what_does_not_tell_is_not_guessed(text: str) -> None:
    assert language_of(text) is None


def test_what_stands_before_a_book_does_not_count() -> None:
    notice = TEXTS["en"] * 100
    assert language_of(notice + TEXTS["de"] * 1000 + notice) == "de"


@pytest.mark.parametrize(
    ("language", "forms"),
    [
        ("de", "Haus Hauses Häuser Häusern häuser"),
        ("de", "Straße Strassen Straßen"),
        ("fr", "cheval chevaux Chevaux"),
        ("fr", "élevé élevée élevés"),
        ("es", "canción canciones"),
        ("ru", "книга книги книгу"),
        ("sv", "flicka flickor flickorna"),
        ("tr", "İzmir izmir İZMİR"),
    ],
)
def test_forms_of_a_word_meet(language: str, forms: str) -> None:
    terms = Analyzer().stems(forms, language)
    assert len(terms) == len(forms.split())
    assert len(set(terms)) == 1


def test_words_of_two_languages_never_meet() -> None:
    analyzer = Analyzer()
    assert not set(analyzer.stems("gift chat main", "de")) & set(analyzer.stems("gift chat main", "fr"))


def test_terms_keep_their_places() -> None:
    analyzer = Analyzer()
    text = "Die alten Häuser am Rhein: loadPages(), 3 × größer; l'été à Paris"
    assert len(analyzer.stems(text, "de")) == len(analyzer.terms(text, "words"))


def test_shared_by_threads() -> None:
    stemmers, words = Stemmers(), " ".join(f"{start}häusern" for start in "abcdefghij") * 50
    expected = Stemmers().stemmed(words, "de")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(stemmers.stemmed(words, "de"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
