"""Ways to match in recipes: what they are resolved to, what is refused, what the plan says, and what the manifest keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pleas_models import planned, pleas

import hubmerge
from hubmerge.assembly_words import how_far
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.explain_align import units_text
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.report import GroupReport, Report, warnings_of
from hubmerge.symmetry.costs import Cost

pytestmark = pytest.mark.usefixtures("in_pleas_zoo")


def apart(*names: str, **changes: Any) -> AssemblyPlan:
    return planned(*names, labels="disjoint", **changes)


def line(plan: AssemblyPlan, start: str) -> str:
    return next(text for text in str(plan).splitlines() if text.strip().startswith(start))


def test_what_a_way_needs_and_is_not_said_is_the_default() -> None:
    stages = [apart(align=way).stages for way in ("balanced", "optimal_transport", "zip")]
    assert [(each.balance, each.regularisation) for each in stages] == [(0.5, None), (None, 0.03), (None, None)]
    assert apart(align={"method": "balanced", "balance": 0.0}).stages.balance == 0
    assert all(each.needs_data for each in stages)


@pytest.mark.parametrize(
    ("align", "fault"),
    [
        ({"balance": 0.5}, "balance is of no use with align: activations · recipe: align.balance · remove it, or write balanced"),
        ({"method": "balanced", "balance": 2}, "balance must be less than or equal to 1, got 2 · recipe: align.balance · see docs/recipe.md"),
        ({"method": "optimal_transport", "widths": "union"}, ("align: optimal_transport carries every unit to the base model's: "
         "none stays apart · recipe: align.widths · write widths: base, or align: zip")),
        ({"method": "zip", "min_similarity": 0.1}, ("align: zip contracts units until the width is reached, and leaves no pair "
         "unmerged for being unlike · recipe: align.min_similarity · remove it")),
        ({"widths": "fold", "ratio": 0.1}, ("ratio says how much wider the merge may be, and widths: fold makes nothing wider · "
         "recipe: align.ratio · add widths: union, or remove it")),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_anything_is_read(align: dict[str, Any], fault: str) -> None:
    with pytest.raises(HubmergeError) as refused:
        apart(align=align)
    assert str(refused.value) == fault


def test_deltas_are_carried_by_pairs_alone() -> None:
    recipe = {
        "merge_method": "transport", "base_model": "./low", "models": [{"model": "./high", "base": "./wide"}],
        "align": "zip", "calibration": {"data": "./images.npz", "samples": 8},
    }  # fmt: skip
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(recipe)
    assert str(refused.value) == (
        "transport does not align by zip · recipe: align · write align: activations, weights or identity"
    )


def test_the_plan_says_how_units_are_matched_and_what_becomes_of_those_too_many() -> None:
    seen = "the correlations of their activations on the calibration data"
    for align, matched, head in (
        ({"method": "balanced", "balance": 0.25}, f"by {seen} (0.75) and by the weights that connect them (0.25)", "left out"),
        ("zip", f"contracted by {seen}, the most alike first, within a model too", "joined"),
        ("optimal_transport", f"in part, many to many, by {seen}, regularisation 0.03", "spread"),
        ({"method": "optimal_transport", "regularisation": 0}, f"in part, many to many, by {seen}, as cheaply as can be", "spread"),
        ({"widths": "fold"}, f"by {seen}", "joined"),
    ):  # fmt: skip
        plan = apart("./low", "./wide", align=align)
        assert line(plan, "matched") == f"matched      {matched}"
        assert line(plan, "units of").endswith(f"apart  {head}")
        assert [group["left_out"] > 0 for group in plan.to_dict()["groups"]] == [head == "left out"] * 4
    folded = apart("./low", "./wide", align={"widths": "fold"})
    assert line(folded, "apart:") == (
        "  apart: at least so many stay one model's; the most alike are merged, and no pair less alike than 0; those without a "
        "partner join the most similar one, or are copied"
    )


def test_the_plan_speaks_of_heads_only_where_there_are_some() -> None:
    assert line(apart("./low", "./wide", align="zip"), "apart:") == "  apart: at least so many stay one model's"
    stages = apart("./low", "./wide", align="zip").stages
    assert units_text(stages, carries=False, heads=True).endswith("one model's; heads are matched in pairs")
    joined = apart("./low", "./wide", align={"widths": "fold"}).stages
    assert units_text(joined, carries=False, heads=True).endswith("or are copied, heads excepted")


def test_the_first_line_of_a_plan_names_the_fit_that_is_done() -> None:
    begin = "pleas: Match the units of models trained apart"
    for fit, end in (
        ("none", ", and merge the pairs."),
        ("regmean", ", merge the pairs, and fit every layer to the parents' by RegMean."),
        ("least_squares", ", merge the pairs, and fit every layer to the parents' by least squares."),
    ):
        assert str(apart("./low", "./wide", fit=fit)).splitlines()[0] == begin + end


def test_a_merge_in_which_nothing_found_a_partner_says_so(tmp_path: Path) -> None:
    recipe = pleas("./low", "./wide", align={"min_similarity": 1.0}, labels="disjoint", fit="none")
    warning = (
        "no unit of ./wide is at least 1 alike to one of ./low, so that none of them were brought together: "
        "a lower align.min_similarity leaves pairs"
    )
    manifest = hubmerge.merge(recipe, tmp_path / "out")
    assert manifest.warnings == (warning,)
    assert manifest.assembly is not None
    assert how_far(manifest.assembly)[-1] == f"warning: {warning}"


def test_the_manifest_keeps_the_way_and_of_how_many_units_one_is_made(tmp_path: Path) -> None:
    for align, balance, regularisation in (
        ("balanced", 0.5, None),
        ("optimal_transport", None, 0.03),
        ("zip", None, None),
    ):
        hubmerge.merge(pleas("./low", "./wide", align=align, labels="disjoint", fit="none"), tmp_path / align)
        record = hubmerge.read_manifest(tmp_path / align).assembly
        assert record is not None
        assert (record.align, record.balance, record.regularisation) == (align, balance, regularisation)
        group = record.groups["res2"]
        assert (group.sizes, group.merged) == ((6, 9), 6)
        if align == "balanced":
            assert group.support is None
            assert "pairs merged" in how_far(record)[0]
        else:
            assert group.support is not None
            assert group.largest_support is not None
            assert 1 < group.support[1] <= group.largest_support[1]
            assert "units sharing one with the base's, correlation " in how_far(record)[0]
            assert how_far(record)[0].endswith(" of one model's")


def test_a_merge_of_more_than_a_few_units_warns() -> None:
    def group(*support: float) -> GroupReport:
        return GroupReport((8, 8), 8, (8,), (0.5,), support, support)

    cost = Cost(1, 1)
    report = Report({"few": group(1.0, 3.9), "many": group(1.0, 6.25), "old": group()}, cost, cost, cost)
    assert warnings_of(report) == (
        "many: a unit of the merge is a mean of 6.2 units of one model, and keeps little of each",
    )
