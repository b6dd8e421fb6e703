"""What the loaders make of presentations and workbooks, written by the libraries that people write them with."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pptx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.comments import Comment
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE

from readthrough.documents.base import LoadLimits
from readthrough.documents.load import load
from readthrough.documents.loaders.xlsx import XlsxLoader
from readthrough.documents.spreadsheet import Formats
from readthrough.errors import DocumentError
from readthrough.types import Document
from tests.contracts.test_loaders import check_places
from tests.document_samples import pptx_entries, save_pptx, save_xlsx, xlsx_entries, zip_bytes


def by_page(document: Document) -> list[str]:
    """The text of each page, and that pages and sections are the same parts of the text."""
    assert [page.start for page in document.pages] == [section.start for section in document.sections]
    return [document.text[page.start : page.end] for page in document.pages]


def test_slides_with_tables_groups_and_notes(tmp_path: Path) -> None:
    save_pptx(tmp_path / "a.pptx")
    document = load(tmp_path / "a.pptx")
    assert by_page(document) == [
        "Slide 1: The Lighthouse\nThe keeper is named Ann.\nShe lit it at six.\nNotes:\nSpeak slowly.",
        "Slide 2\nHour | Oil\nSix | Two pints\nIn a group",
    ]
    assert [section.title for section in document.sections] == ["The Lighthouse", "Slide 2"]
    assert document.page_at(document.text.index("pints")) == 2


def test_slides_come_in_the_order_of_the_presentation(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    for title in ("一", "二", "Überblick"):
        presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = title
    ids = presentation.slides._sldIdLst
    ids.insert(0, ids[2])
    presentation.slides[1]._element.set("show", "0")
    presentation.save(str(tmp_path / "a.pptx"))
    assert by_page(load(tmp_path / "a.pptx")) == ["Slide 1: Überblick", "Slide 2 (hidden): 一", "Slide 3: 二"]


def test_charts_lists_and_line_breaks(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Oil\vused"
    frame = slide.placeholders[1].text_frame
    frame.text = "In winter\vat night"
    below = frame.add_paragraph()
    below.text, below.level = "Most", 1
    data = CategoryChartData()
    data.categories = ["May", "June"]
    data.add_series("Pints", (30, 20.5))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 10**6, 10**6, data)
    presentation.save(str(tmp_path / "a.pptx"))
    document = load(tmp_path / "a.pptx")
    assert document.text.split("\n") == [
        "Slide 1: Oil used",
        "In winter",
        "at night",
        "  Most",
        "Pints | May: 30 | June: 20.5",
    ]


def test_a_sheet_under_the_names_of_its_columns(tmp_path: Path) -> None:
    save_xlsx(tmp_path / "a.xlsx")
    document = load(tmp_path / "a.xlsx")
    assert by_page(document) == [
        "Sheet: Oil\n1 | The Lighthouse\n\n3 | Hour | Keeper | Pints\n"
        "4 | Hour: six | Keeper: The keeper is named Ann. | Pints: 2\n5 | Hour: nine | Keeper: Bob | Pints: 1.5",
        "Sheet: Geheim (hidden)\n3 | Schlüssel",
    ]
    assert [section.title for section in document.sections] == ["Oil", "Geheim"]


def shown(tmp_path: Path, rows: list[list[Any]], formats: dict[str, str] | None = None) -> list[str]:
    """The lines of a sheet with these rows."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    for row in rows:
        sheet.append(row)
    for place, code in (formats or {}).items():
        sheet[place].number_format = code
    workbook.save(tmp_path / "a.xlsx")
    return load(tmp_path / "a.xlsx").text.split("\n")[1:]


def test_values_as_a_reader_sees_them(tmp_path: Path) -> None:
    values = [
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 6, 30), "2024-02-29 06:30"),
        (datetime.time(6, 30, 15), "06:30:15"),
        (datetime.timedelta(hours=30, minutes=5), "30:05:00"),
        (True, "TRUE"),
        (0.1 + 0.2, "0.3"),
        (-12, "-12"),
        ("=SUM(A1:A2)", "=SUM(A1:A2)"),
        ("'größe\n尺寸'", "'größe 尺寸'"),
        ("007", "007"),
        ("#N/A", "#N/A"),
    ]
    lines = shown(tmp_path, [[value] for value, _ in values])
    assert lines == [f"{number} | {text}" for number, (_, text) in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("0%", "25%"),
        ("0.00%", "25%"),
        ('"day" 0.0', "0.25"),
        ("[Red]0.0", "0.25"),
        ("hh:mm", "06:00"),
        ("[h]:mm", "6:00:00"),
        ("[$-409]h:mm AM/PM", "06:00"),
        ("General", "0.25"),
        ('yyyy"年"', "06:00"),
    ],
)
def test_formats_of_numbers(code: str, text: str, tmp_path: Path) -> None:
    assert shown(tmp_path, [[0.25]], {"A1": code}) == [f"1 | {text}"]


def test_days_are_counted_from_1900_or_1904() -> None:
    assert [Formats(("date",), False).number(day, "0") for day in ("1", "59", "61", "45351")] == [
        "1900-01-01",
        "1900-02-28",
        "1900-03-01",
        "2024-02-29",
    ]
    assert Formats(("date",), True).number("43889", "0") == "2024-02-29"


def test_which_row_names_the_columns(tmp_path: Path) -> None:
    form = [["Name", "Ann"], ["City", "Paris"], ["Age", 42]]
    assert shown(tmp_path, form) == ["1 | Name | Ann", "2 | City | Paris", "3 | Age | 42"]
    pairs = [["Hour", "Pints"], ["six", 2], ["nine", 3]]
    assert shown(tmp_path, pairs)[1:] == ["2 | Hour: six | Pints: 2", "3 | Hour: nine | Pints: 3"]
    years = [["Region", 2023, 2024], ["Nord", 1, 2]]
    assert shown(tmp_path, years)[1:] == ["2 | Region: Nord | 2023: 1 | 2024: 2"]
    gaps = [["A", None, "C", "D"], ["x", "y", 3], [], [None, None, 4, 5], [], ["Note"], ["p", 1]]
    assert shown(tmp_path, gaps) == [
        "1 | A | C | D",
        "2 | A: x | y | C: 3",
        "",
        "4 | C: 4 | D: 5",
        "",
        "6 | Note",
        "7 | p | 1",
    ]


def test_two_tables_on_a_sheet(tmp_path: Path) -> None:
    rows = [["Hour", "Keeper", "Pints"], ["six", "Ann", 2], [], ["Town", "Ships", "Wrecks"], ["Brest", 3, 0]]
    assert shown(tmp_path, rows)[-1] == "5 | Town: Brest | Ships: 3 | Wrecks: 0"


def test_notes_on_cells(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active["B2"] = 3
    workbook.active["B2"].comment = Comment("counted\ntwice", "Ann")
    workbook.save(tmp_path / "a.xlsx")
    assert load(tmp_path / "a.xlsx").text == "Sheet: Sheet\n2 | 3\n\nNote at B2: counted twice"


cells = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.sampled_from(["Ann", "größe", "一 二", "a | b", "x: y"])
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.lists(cells, max_size=5), min_size=1, max_size=12))
def test_no_cell_is_lost_and_places_hold(rows: list[list[Any]], tmp_path: Path) -> None:
    if all(value is None for row in rows for value in row):
        return
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.save(tmp_path / "a.xlsx")
    document = XlsxLoader().load(tmp_path / "a.xlsx", "a.xlsx")
    check_places(document)
    lines = document.text.split("\n")[1:]
    by_number = {int(line.split(" | ")[0]): line for line in lines if line}
    for number, row in enumerate(rows, 1):
        given = [str(value).upper() if isinstance(value, bool) else str(value) for value in row if value is not None]
        assert (number in by_number) == bool(given)
        assert all(value in by_number[number] for value in given)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ppt/presentation.xml": None}, "not a PowerPoint presentation"),
        ({"ppt/presentation.xml": "<p"}, "broken XML"),
        ({"ppt/presentation.xml": "<p/>"}, "no slides"),
        ({"ppt/_rels/presentation.xml.rels": None}, "slide 1 is missing"),
        ({"ppt/slides/slide1.xml": None}, "slide 1 is missing"),
        ({"ppt/slides/slide1.xml": "<sld/>"}, "no text in it"),
    ],
)
def test_broken_presentations(change: dict[str, str | None], reason: str, tmp_path: Path) -> None:
    entries = {**pptx_entries("Text"), **change}
    (tmp_path / "a.pptx").write_bytes(zip_bytes({name: data for name, data in entries.items() if data is not None}))
    with pytest.raises(DocumentError, match=reason):
        load(tmp_path / "a.pptx")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"xl/workbook.xml": None}, "not an Excel workbook"),
        ({"xl/workbook.xml": "<workbook/>"}, "no sheets"),
        ({"xl/worksheets/sheet1.xml": None}, "the sheet 'One' is missing"),
        ({"xl/worksheets/sheet1.xml": "<worksheet><row><c><v>1"}, "broken XML"),
        ({"xl/worksheets/sheet1.xml": "<worksheet><row><c><v>x</v></c></row></worksheet>"}, "the cell row 1 cannot"),
        ({"xl/worksheets/sheet1.xml": '<worksheet><row><c r="B7" t="s"><v>9</v></c></row></worksheet>'}, "the cell B7"),
        ({"xl/worksheets/sheet1.xml": "<worksheet><row><c/></row></worksheet>"}, "no text in it"),
    ],
)
def test_broken_workbooks(change: dict[str, str | None], reason: str, tmp_path: Path) -> None:
    entries = {**xlsx_entries('<row r="1"><c r="A1"><v>1</v></c></row>'), **change}
    (tmp_path / "a.xlsx").write_bytes(zip_bytes({name: data for name, data in entries.items() if data is not None}))
    with pytest.raises(DocumentError, match=reason):
        load(tmp_path / "a.xlsx")


def test_rows_and_cells_without_places_and_readings_of_words(tmp_path: Path) -> None:
    row = (
        "<row><c><v>1</v></c><c t='inlineStr'><is><r><t>東</t></r><r><t>京</t></r><rPh><t>とう</t></rPh></is></c></row>"
    )
    (tmp_path / "a.xlsx").write_bytes(zip_bytes(xlsx_entries(row + row)))
    assert load(tmp_path / "a.xlsx").text == "Sheet: One\n1 | 1 | 東京\n2 | 1 | 東京"


def test_a_long_text_named_again_and_again_is_stopped(tmp_path: Path) -> None:
    rows = "".join(f'<row r="{number}"><c t="s"><v>0</v></c></row>' for number in range(1, 2_000))
    entries = xlsx_entries(rows, strings=("a" * 30_000,))
    (tmp_path / "a.xlsx").write_bytes(zip_bytes(entries))
    with pytest.raises(DocumentError, match="unpacks to more than 5,000,000 characters"):
        load(tmp_path / "a.xlsx", limits=LoadLimits(archive_bytes=5_000_000))


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("Workbook", r"\.xls\)"),
        ("PowerPoint Document", r"\.ppt\)"),
        ("__properties_version1.0", "Outlook message"),
        ("Other", "an old Office file"),
    ],
)
def test_old_office_files_are_named(stream: str, reason: str, tmp_path: Path) -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + stream.encode("utf-16-le") + bytes(100)
    for name in ("a.xlsx", "a.old"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DocumentError, match=reason):
            load(tmp_path / name)
