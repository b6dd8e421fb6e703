"""Values in texts: words, numbers and dates, however they are written; and what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from readthrough.agents.reading.values import Written, date_of

TEXT = (
    "Invoice No. INV-2024-001 of March 5, 2024, for 1,200.50 EUR (net 1.000,25), due 17/04/2024. Revenue was $1.2 "
    "million, the loss (45). Fee: 12%. Within thirty-five days; call (555) 123-4567. Acme\n   Widgets, Ltd. has "
    "3 sites. 12 345 people. Vertrag vom 3. Mai 2023. 2022-12-31. USD500 and -7. «Café» № 9'876. twenty boats"
)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("inv-2024-001", "INV-2024-001"),
        ("Acme Widgets Ltd.", "Acme\n   Widgets, Ltd"),
        ("ACME WIDGETS", "Acme\n   Widgets"),
        ("café", "Café"),
        ("5551234567", "555) 123-4567"),
        (1200.5, "1,200.50"),
        (1000.25, "1.000,25"),
        (1.2, "1.2 million"),
        (1_200_000, "1.2 million"),
        (-45, "45"),
        (12, "12%"),
        (0.12, "12%"),
        (35, "thirty-five"),
        (20, "twenty"),
        (12345, "12 345"),
        (9876, "9'876"),
        (500, "500"),
        (-7, "7"),
        (3.0, "3"),
        ("2024-03-05", "March 5, 2024"),
        ("5 Mar 2024", "March 5, 2024"),
        ("2024-04-17", "17/04/2024"),
        ("2023-05-03", "3. Mai 2023"),
        ("31 December 2022", "2022-12-31"),
    ],
)
def test_found(value: Any, said: str) -> None:
    assert said in [TEXT[start:end] for start, end in Written(TEXT).places(value)]


@pytest.mark.parametrize(
    "value",
    [
        "Bob",
        "Acme Ltd",
        "cm",
        "",
        "?",
        7.5,
        120050,
        46,
        8,
        "2024-05-03",
        "2024-03-06",
        "3 May",
        10**400,
        "Zoe wrote it to Max on March 5, 2024",
    ],
)
def test_not_found(value: Any) -> None:
    assert Written(TEXT).places(value) == []


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("5/3/2024", ["2024-05-03", "2024-03-05"]),
        ("17/04/2024", ["2024-04-17"]),
        ("Friday, 14 March 2025", ["2025-03-14"]),
        ("2024-03-05T10:00:00Z", ["2024-03-05"]),
        ("31 April 2024", []),
        ("from 1 May 2024 to 2 May 2024", []),
    ],
)
def test_days_of_a_date(text: str, days: list[str]) -> None:
    assert [day.isoformat() for day in date_of(text)] == days


def test_a_hostile_text_takes_no_time() -> None:
    for text in ("1," * 50_000, "1 " * 50_000, "a-" * 50_000, "12." * 30_000):
        written = Written(text)
        written.places(3.5), written.places("a b c d1"), written.places("2024-01-01")
