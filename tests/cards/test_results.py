"""Results: what they hold, how they print, how they read back, how two models are compared."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards import ModelResult, Results, ResultsError, TaskResult, compare, read_results
from cards.compare import compare_tasks, mcnemar_p, pack_outcomes, unpack_outcomes
from cards.results import Outcomes, SuiteIdentity, format_value


def _accuracy(correct, **changes):
    share = sum(correct) / len(correct)
    facts = {
        "name": "low",
        "task": "image-classification",
        "metric": "accuracy",
        "value": share,
        "stderr": math.sqrt(share * (1 - share) / len(correct)),
        "n": len(correct),
        "higher_is_better": True,
        "seed": 0,
        "data": "zoo",
        "data_sha256": "d" * 64,
        "outcomes": Outcomes(correct=pack_outcomes(correct)),
    }
    return TaskResult.model_validate(facts | changes)


def _perplexity(losses, counts, **changes):
    mean = sum(losses) / sum(counts)
    facts = {
        "name": "prose",
        "task": "perplexity",
        "metric": "perplexity",
        "value": math.exp(mean),
        "stderr": 0.5,
        "n": len(counts),
        "higher_is_better": False,
        "seed": 0,
        "data": "prose.txt",
        "data_sha256": "e" * 64,
        "outcomes": Outcomes(losses=tuple(losses), counts=tuple(counts)),
    }
    return TaskResult.model_validate(facts | changes)


def _model(name, *tasks, merge=None):
    facts = {"parameters": 10, "size_bytes": 40, "dtype": "float32", "seconds": 1.0}
    return ModelResult(model=f"/home/someone/{name}", name=name, merge=merge, tasks=tasks, **facts)


def _results(*models):
    suite = SuiteIdentity(name="s", seed=0, sha256="f" * 64)
    return Results(suite=suite, device="cpu", versions={}, models=models)


def test_the_model_index_holds_value_n_and_error_and_each_metric_once():
    task = _accuracy([True] * 3 + [False])
    results = _results(_model("merged", task, task))
    (entry,) = results.model_index(results.models[0], "zoo-merge")

    assert entry["name"] == "zoo-merge"
    assert entry["results"] == [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": "low", "type": "zoo", "revision": "d" * 64},
            "metrics": [
                {
                    "type": "accuracy",
                    "value": 0.75,
                    "name": "Accuracy",
                    "args": {"n": 4, "seed": 0, "stderr": 0.216506},
                }
            ],
        }
    ]


def test_no_path_of_the_machine_is_in_the_model_index_or_the_table():
    results = _results(_model("merged", _accuracy([True, False])))
    assert (
        "someone" not in json.dumps(results.model_index(results.models[0], "m")) + str(results) + results._repr_html_()
    )


def test_names_in_the_html_table_are_escaped():
    assert "&lt;b&gt;" in _results(_model("<b>", _accuracy([True, False])))._repr_html_()


def test_a_value_shows_two_digits_of_its_error():
    assert format_value(_accuracy([True] * 3 + [False])) == "0.75 ± 0.22"
    assert format_value(_accuracy([True] * 99 + [False])) == "0.9900 ± 0.0099"
    assert format_value(_perplexity([1.0], [1], value=12.3456, stderr=None)) == "12.35"


def test_results_about_another_merge_are_refused_with_a_way_out():
    results = _results(_model("merged", _accuracy([True]), merge="a" * 64))
    assert results.merged("a" * 64).name == "merged"
    with pytest.raises(
        ResultsError, match="the results hold nothing about this merge · merged · run `hubmerge evaluate"
    ):
        results.merged("b" * 64)


def test_results_read_back_and_broken_files_are_refused(tmp_path):
    results = _results(_model("merged", _accuracy([True, False])))
    file = tmp_path / "results.json"
    file.write_text(results.to_json())
    assert read_results(file) == results

    file.write_text(results.to_json().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(ResultsError, match="format_version 9, this hubmerge reads 1"):
        read_results(file)
    file.write_text(results.to_json().replace('"device"', '"devcie"'))
    with pytest.raises(ResultsError, match="not a results file"):
        read_results(file)
    with pytest.raises(ResultsError, match="no such results file"):
        read_results(tmp_path / "none.json")


@given(st.lists(st.booleans(), max_size=70))
def test_outcomes_come_out_as_they_went_in(correct):
    assert unpack_outcomes(pack_outcomes(correct), len(correct)) == correct


def test_mcnemar_by_hand():
    # 6 against 0: 2 * (1/2)^6;  5 against 1: 2 * (1 + 6) / 64
    assert mcnemar_p(6, 0) == pytest.approx(2 / 64)
    assert mcnemar_p(5, 1) == pytest.approx(14 / 64)
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(3, 3) == 1.0
    assert mcnemar_p(2000, 2100) == pytest.approx(0.122, abs=0.005)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_does_not_care_whose_samples_are_whose(mine, theirs):
    assert mcnemar_p(mine, theirs) == mcnemar_p(theirs, mine)
    assert 0 < mcnemar_p(mine, theirs) <= 1


def test_a_paired_difference_is_known_better_than_an_unpaired_one():
    # 100 samples, both right on the same 60; one more right only here, none only there
    common = [True] * 60 + [False] * 39
    mine, theirs = _accuracy([*common, True]), _accuracy([*common, False])
    found = compare_tasks(mine, theirs)

    assert found.paired
    assert found.difference == pytest.approx(0.01)
    # one discordant sample: sqrt(1 - 1/100) / 100
    assert found.stderr == pytest.approx(math.sqrt(0.99) / 100)
    assert found.outcome == "within noise"
    assert compare_tasks(mine, theirs.model_copy(update={"outcomes": Outcomes()})).stderr > 0.06


def test_six_samples_that_only_one_model_gets_right_are_beyond_noise():
    common = [True, False] * 10
    mine, theirs = _accuracy(common + [True] * 6), _accuracy(common + [False] * 6)
    assert compare_tasks(mine, theirs).outcome == "better"
    assert compare_tasks(theirs, mine).outcome == "worse"


def test_other_data_is_never_paired():
    mine, theirs = _accuracy([True, False]), _accuracy([True, False], data_sha256="0" * 64)
    assert not compare_tasks(mine, theirs).paired


def test_perplexities_are_paired_window_by_window_when_the_windows_are_the_same():
    mine, theirs = _perplexity([10.0, 20.0, 31.0], [10, 10, 10]), _perplexity([11.0, 21.0, 32.0], [10, 10, 10])
    found = compare_tasks(mine, theirs)
    assert found.paired
    assert found.outcome == "better"  # the same 0.1 nat less in every window
    assert found.stderr < mine.stderr

    other_tokens = _perplexity([11.0, 21.0, 32.0], [9, 10, 11])
    assert not compare_tasks(mine, other_tokens).paired


def test_without_a_standard_error_nothing_is_claimed():
    single = _perplexity([10.0], [10], stderr=None)
    assert compare_tasks(single, _perplexity([11.0], [10], stderr=None)).outcome == "unknown"


def test_a_model_is_compared_with_all_others_task_by_task():
    results = _results(
        _model("merged", _accuracy([True])), _model("a", _accuracy([True])), _model("b", _accuracy([False]))
    )
    found = compare(results, results.models[0])
    assert [(row.model, row.other, row.difference) for row in found] == [("merged", "a", 0.0), ("merged", "b", 1.0)]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_comparing_the_other_way_round_changes_only_the_sign(pairs):
    mine, theirs = (_accuracy(list(side)) for side in zip(*pairs, strict=True))
    there, back = compare_tasks(mine, theirs), compare_tasks(theirs, mine)
    assert there.difference == -back.difference
    assert there.stderr == pytest.approx(back.stderr)
    assert {there.outcome, back.outcome} in ({"within noise"}, {"better", "worse"})
