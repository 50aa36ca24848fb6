"""The card of models that were brought into one order before they were merged: what was moved, how far, on which data."""

from __future__ import annotations

import pytest
from card_builders import merge_of, to_be_merged, written_card

from cards.content import gather
from cards.errors import PublishError
from cards.public import public_manifest
from hubmerge.alignment.words import how_aligned
from hubmerge.alignment_record import AlignedGroupRecord, AlignedParentRecord, AlignmentRecord
from hubmerge.assembly_record import CalibrationRecord
from hubmerge.manifest import read_manifest

DATA = CalibrationRecord(data="./images", kind="image", column="image", samples=600, sha256="ab" * 32)


def group(size, moved, similarity, apart=0, before=None):
    return AlignedGroupRecord(row="mid", size=size, moved=moved, apart=apart, similarity=similarity, before=before)


def record(base="./low", other="./high", **changes):
    """Two groups: of 4 units 3 are moved, of 6 there are 2 without a partner."""
    groups = {"mid0": group(4, 3, 0.9), "mid1": group(6, 2, 0.4, apart=2)}
    given = {
        "family": "resnet",
        "base_model": base,
        "method": "activations",
        "min_similarity": 0.0,
        "parents": (AlignedParentRecord(reference=other, order_sha256="0" * 64, groups=groups),),
        "calibration": DATA,
        "statistics": 7,
    }
    return AlignmentRecord(**given | changes)


@pytest.fixture
def merge(tmp_path):
    return to_be_merged(tmp_path, "low", "high")


def card(merge, **changes):
    parents = [merge.parent / "low", merge.parent / "high"]
    alignment = record(*map(str, parents), **changes)
    merge_of(merge, parents, method="linear", format_version=3, alignment=alignment)
    return written_card(merge)


def test_similarities_are_means_over_the_units_that_have_a_partner():
    """(4 * .9 + 4 * .4) / 8 is .65; where all units of weights have one, the mean before it is told too."""
    assert how_aligned(record()) == (
        "./high in the order of ./low: 5 of 10 units moved, 2 without a partner, correlation 0.65 on average",
    )
    groups = {"mid0": group(4, 4, 0.9, before=0.1), "mid1": group(6, 0, 0.4, before=0.4)}
    parent = AlignedParentRecord(reference="./high", order_sha256="0" * 64, groups=groups)
    by_weights = record(method="weights", min_similarity=None, calibration=None, statistics=0, parents=(parent,))
    assert how_aligned(by_weights) == (
        "./high in the order of ./low: 4 of 10 units moved, cosine 0.60 on average, before 0.28",
    )


def test_a_card_says_who_was_moved_how_far_and_on_which_data(merge):
    text = card(merge)
    assert (
        "The units of the other models were brought into the order of low first, by how they correlate on the calibration data."
    ) in text
    assert (
        "- high in the order of low: 5 of 10 units moved, 2 without a partner, correlation 0.65 on average."
    ) in text
    assert (
        "- Matched on 600 rows of ./images, column `image`, without labels, on which BatchNorm's statistics were estimated anew; "
        "SHA-256 `abababababababab`."
    ) in text
    assert "put the calibration data beside it as ./images" in text
    assert "No training took place." in text


def test_what_was_not_done_is_not_said(merge):
    text = card(merge, method="weights", min_similarity=None, calibration=None, statistics=0)
    assert "by the weights that connect them." in text
    assert "calibration" not in text
    assert "BatchNorm" not in text


def test_no_local_path_is_left_in_what_is_published(merge):
    card(merge, calibration=DATA.model_copy(update={"data": str(merge.parent / "images")}))
    public = public_manifest(read_manifest(merge)).alignment
    assert (public.base_model, public.parents[0].reference, public.calibration.data) == ("./low", "./high", "./images")
    assert public.parents[0].order_sha256 == "0" * 64
    assert str(merge.parent) not in (merge / "README.md").read_text()


def test_it_is_published_with_its_weights_alone(merge):
    card(merge)
    with pytest.raises(PublishError) as refused:
        gather(merge, "recipe", name="both", place="ada/both")
    assert str(refused.value) == (
        "a merge by linear is not published as a recipe alone: making it again takes aligned copies of its parents · "
        f"{merge} · publish it with --as dense"
    )
