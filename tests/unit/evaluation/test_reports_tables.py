"""The tables of a report: what they say of known results."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from readthrough.evaluation.reports import groups, tables, text
from readthrough.evaluation.reports.groups import Section, sections
from readthrough.evaluation.reports.tables import Table
from readthrough.evaluation.store import Result
from tests.result_samples import failed, result, sweep


def only(results: list[Result]) -> Section:
    found = sections(results)
    assert len(found) == 1
    return found[0]


def rows(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def column(table: Table, head: str) -> list[str]:
    return [row[table.heads.index(head)].text for row in table.rows]


def test_summary_counts_everything() -> None:
    results = [
        result("a", score=1.0, seconds=1.0, prompt_tokens=100, written_tokens=10, memory_bytes=2 * 10**9),
        result("b", score=0.5, seconds=3.0, prompt_tokens=300, written_tokens=30, stopped="max_calls=3"),
        result("c", score=0.0, seconds=9.0, prompt_tokens=200, written_tokens=20, abstained=True),
        result("d", score=1.0, seconds=5.0, prompt_tokens=200, written_tokens=20, abstained=True, type="unanswerable"),
        failed("e", seconds=70.0),
    ]
    table = tables.summary(only(results))
    assert column(table, "questions") == ["5"]
    assert column(table, "score (95% interval)")[0].startswith("0.50 (")
    assert column(table, "median s") == ["4"], "the one without an answer is not timed"
    assert column(table, "reading s") == ["2.5"]
    assert column(table, "tokens read") == ["200"]
    assert column(table, "tokens written") == ["20"]
    assert column(table, "memory") == ["2 GB"]
    assert column(table, "stopped") == ["1"]
    assert column(table, "refused") == ["1"], "a refusal of an unanswerable question is right"
    assert column(table, "errors") == ["1"]
    assert len(table.notes) == 1


def test_summary_has_the_best_system_first_and_says_where_questions_differ() -> None:
    results = [result("a", "worse", 0.2), result("a", "better", 0.9), result("b", "better", 0.7)]
    table = tables.summary(only(results))
    assert column(table, "system") == ["better", "worse"]
    assert "same questions" in table.notes[1]


def test_a_system_of_failures_alone_is_shown() -> None:
    found = tables.tables(only([failed("a"), failed("b", message="the endpoint hung"), result("a", "other")]))
    assert column(found[0], "score (95% interval)") == ["1.00 (1.00-1.00)", "0.00 (0.00-0.00)"]
    assert column(found[0], "median s") == ["2", ""]
    errors = next(table for table in found if table.title == "Errors")
    assert rows(errors) == [["retrieve", "EndpointError", "the endpoint hung", "2"]]


def test_by_type() -> None:
    results = [
        result("a", type="multi_hop", score=0.0),
        result("b"),
        result("c"),
        result("a", "full", type="multi_hop"),
    ]
    table = tables.by_type(only(results))
    assert table.heads == ("system", "multi hop (1)", "single hop (2)")
    assert rows(table) == [["full", "1.00 (1.00-1.00)", ""], ["retrieve", "0.00 (0.00-0.00)", "1.00 (1.00-1.00)"]]


def test_one_type_and_one_system_leave_only_the_summary() -> None:
    assert [table.title for table in tables.tables(only([result("a"), result("b")]))] == ["Scores"]


def test_by_tags_leaves_out_what_only_numbers_questions_and_what_has_many_values() -> None:
    results = [
        result(
            f"q{i}", tags={"language": "de" if i % 2 else "en", "document": f"doc {i}", "sample": i % 2, "hard": i > 5}
        )
        for i in range(20)
    ]
    found = tables.by_tags(only([*results, result("untagged")]))
    assert [table.title for table in found] == ["By hard", "By language"]
    assert [table.heads for table in found] == [("system", "false (6)", "true (14)"), ("system", "de (10)", "en (10)")]


def test_by_tags_leaves_out_what_tells_single_questions_apart() -> None:
    long = "a sentence that is about this question and a few others"
    tags = [
        {"story": i // 2, "hops": 2 + i // 5, "single": i // 3 * 3 + i % 2, "note": long if i % 2 else "x"}
        for i in range(10)
    ]
    results = [result(f"q{i}", tags=each) for i, each in enumerate(tags)]
    assert [table.title for table in tables.by_tags(only(results))] == ["By hops", "By story"]
    assert "By story" not in [table.title for table in tables.by_tags(only(results[::2]))], "one question each"


def test_errors_that_differ_by_their_numbers_are_one() -> None:
    found = [failed("a", message="a prompt of 12 tokens"), failed("b", message="a prompt of 1,345 tokens")]
    table = tables.errors(
        only([*found, failed("c", message="a prompt of no tokens"), failed("d", message="a prompt of 7 tokens")])
    )
    assert rows(table)[0][2:] == ["a prompt of 12 tokens", "3"]


def test_titles_name_files_without_their_folders() -> None:
    task = {"questions": {"path": "/home/ann/data/dev.jsonl"}}
    (section,) = groups.sections([result("a", task=task)])
    assert section.title == "questions(path=dev.jsonl)"
    other = {"questions": {"path": "/home/bob/dev.jsonl"}}
    titles = [section.title for section in groups.sections([result("a", task=task), result("b", task=other)])]
    assert titles[1:] == ["questions(path=/home/ann/data/dev.jsonl)", "questions(path=/home/bob/dev.jsonl)"]


def test_lengths_that_are_nearly_the_same_are_one() -> None:
    lengths = [8100, 8177, 8192, 32700, 32768, 131072]
    tag = groups.tag([result(str(i), tags={"length_tokens": i}) for i in lengths], "length_tokens")
    assert [column.name for column in tag.columns] == ["8K", "32K", "128K"]


def test_seconds_by_length() -> None:
    results = [
        result("a", "slow", seconds=10.0, tags={"length_tokens": 1000}),
        result("b", "slow", seconds=30.0, tags={"length_tokens": 1000}),
        result("c", "slow", seconds=90.0, tags={"length_tokens": 4000}),
        result("a", "quick", seconds=1.0, tags={"length_tokens": 1000}),
        failed("c", "quick", seconds=0.1, tags={"length_tokens": 4000}),
    ]
    table = tables.speed(only(results))
    assert table.heads == ("system", "1K", "4K")
    assert sorted(rows(table)) == [
        ["quick", "1 s, 1 ms a token", ""],
        ["slow", "20 s, 20 ms a token", "90 s, 22 ms a token"],
    ]
    assert not tables.speed(only(results[:2])).rows


def test_many_lengths_go_to_powers_of_two() -> None:
    chance = random.Random(0)
    results = [result(str(i), tags={"length_tokens": int(2 ** chance.uniform(10, 17))}) for i in range(300)]
    tag = groups.tag(results, "length_tokens")
    assert [column.name for column in tag.columns] == ["1K", "2K", "4K", "8K", "16K", "32K", "64K", "128K"]
    assert sum(len(those) for those in groups.grouped(results, tag.column).values()) == 300


def test_many_depths_go_to_tenths() -> None:
    results = [result(str(i), tags={"depth": i / 99}) for i in range(100)]
    names = [column.name for column in groups.tag(results, "depth").columns]
    assert names == ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]


def test_tags_of_every_kind() -> None:
    values = [None, True, "x", 3, 2.5, ["a", "b"], {"k": 1}, float("nan")]
    results = [result(str(i), tags={} if i == 0 else {"odd": value}) for i, value in enumerate(values)]
    tag = groups.tag(results, "odd")
    assert tag.column(results[0]) is None
    assert sorted(column.name for column in tag.columns) == sorted(
        ["true", "x", "3.0", "2.5", '["a", "b"]', '{"k": 1}', "NaN"]
    )


def test_worth_is_the_quickest_of_the_good_ones() -> None:
    scores = {"best": (0.9, 60.0), "near": (0.87, 5.0), "quick": (0.5, 1.0)}
    results = [
        result(f"q{i}", flow, score, seconds=seconds) for i in range(3) for flow, (score, seconds) in scores.items()
    ]
    [row] = rows(tables.worth(only(results)))
    assert row == ["all", "near", "0.87", "5", "best", "0.90", "60"]


def test_worth_asks_only_systems_that_were_asked_all() -> None:
    results = [result("a", "lucky", 1.0), *(result(name, "other", 0.5) for name in "abc")]
    [row] = rows(tables.worth(only(results)))
    assert row[1] == row[4] == "other"


def test_pairs_say_plainly_what_the_questions_can_show() -> None:
    results = []
    for i in range(40):
        results += [result(f"q{i}", "good", float(i % 10 != 0)), result(f"q{i}", "bad", float(i % 10 == 0))]
        results.append(result(f"q{i}", "like", float(i % 10 != 1)))
    table = tables.pairs(only(results))
    said = {(row[0], row[1]): row for row in rows(table)}
    assert said["good", "bad"][7] == "good is better"
    assert said["good", "bad"][3:5] == ["36", "4"]
    assert said["good", "bad"][5].startswith("+0.80 (")
    assert "40 questions" in said["good", "like"][7]
    assert "is better" not in said["good", "like"][7]
    assert float(said["good", "bad"][6]) < 1e-6
    assert said["good", "like"][6] == "1"


def test_pairs_take_the_questions_of_both() -> None:
    table = tables.pairs(only([result("a", "one"), result("b", "one"), result("b", "two"), result("c", "three")]))
    shared = {frozenset(row[:2]): (row[2], row[7]) for row in rows(table)}
    assert shared[frozenset({"one", "two"})][0] == "1"
    assert shared[frozenset({"one", "three"})] == ("0", "no questions in common")


def test_pairs_without_scores_of_0_and_1_have_no_mcnemar() -> None:
    table = tables.pairs(only([result("a", "one", 0.5), result("a", "two", 1.0)]))
    assert column(table, "McNemar p") == [""]


def test_of_many_systems_the_best_is_compared() -> None:
    results = [result("a", f"flow-{i}", i / 10) for i in range(7)]
    assert set(column(tables.pairs(only(results)), "one")) == {"flow-6"}
    assert len(tables.pairs(only(results)).rows) == 6
    assert len(tables.pairs(only(results[:5])).rows) == 10


def test_confidences() -> None:
    results = [result(str(i), score=float(i > 4), confidence=0.9 if i > 4 else 0.1) for i in range(10)]
    table = tables.confidences(only([*results, result("none"), result("a", "silent")]))
    assert rows(table) == [["retrieve", "10", "1", "0.10", "1.00", "0.18"]]


def test_other_scores() -> None:
    results = [
        replace(result("a"), scores={"score": 1.0, "citation_recall": 0.5}),
        replace(result("b"), scores={"score": 1.0, "citation_recall": 0.0}),
        result("a", "other"),
    ]
    table = tables.other_scores(only(results))
    assert table.heads == ("system", "citation recall")
    assert sorted(rows(table)) == [["other", ""], ["retrieve", "0.25"]]


def test_provenance() -> None:
    other = replace(result("b"), made={**result().made, "commit": "def5678"}, finished="2026-11-24T00:00:00+00:00")
    said = dict(rows(tables.provenance([result("a"), result("c"), other])))
    assert said["commit"] == "abc1234 (2 of 3 results); def5678 (1 of 3 results)"
    assert said["date"] == "2026-11-23 (2 of 3 results); 2026-11-24 (1 of 3 results)"
    assert said["torch"] == "2.13.0"
    assert said["device"] == "Some Processor"
    assert said["limits of an answer"] == "seconds 90"
    assert said["system retrieve"] == "retrieve, small, hybrid"


def test_provenance_of_many_values_is_short() -> None:
    results = [replace(result(str(i)), made={"commit": f"c{i:03}"}) for i in range(100)]
    assert dict(rows(tables.provenance(results)))["commit"].endswith("; 95 more")


def test_a_section_for_all_and_one_for_each_task_at_all_its_lengths() -> None:
    assert [section.title for section in sections(sweep())] == ["All tasks", "needle", "tracing"]
    assert [section.title for section in sections(sweep()[:90])] == ["needle"]
    assert sum(len(section.results) for section in sections(sweep())[1:]) == len(sweep())


def test_intervals_do_not_hang_on_the_order_of_results() -> None:
    results = sweep()
    shuffled = random.Random(1).sample(results, len(results))
    assert groups.score_interval(results) == groups.score_interval(shuffled)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (512, "512"),
        (1024, "1K"),
        (8192, "8K"),
        (131072, "128K"),
        (1048576, "1M"),
        (8000, "8K"),
        (128000, "128K"),
        (1500, "1.5K"),
    ],
)
def test_lengths_are_named(count: int, shown: str) -> None:
    assert text.tokens(count) == shown


def test_long_texts_are_cut_with_a_word() -> None:
    assert text.cut("x" * 5000, 2000) == "x" * 2000 + "… (3,000 more characters)"
    assert text.cut("short", 2000) == "short"
