"""The card of single layers that were merged into a base: how many, from whom, at what share, and the control's loss beside the merge's."""

from __future__ import annotations

import pytest
from card_builders import merge_of, to_be_merged, written_card

from cards.content import gather
from cards.errors import PublishError
from cards.public import public_manifest
from hubmerge.assembly_record import CalibrationRecord
from hubmerge.layers_record import CatalogRecord, DecisionRecord, LayersRecord, LossesRecord, ProbeRecord
from hubmerge.layers_words import donor_rows, layers_told
from hubmerge.manifest import read_manifest

DATA = {"data": "./images", "kind": "image", "column": "image", "samples": 600, "sha256": "ab" * 32}


def decision(donor, layer, factor=0.0, number=1):
    accepted = factor > 0
    return DecisionRecord(
        round=number, donor=donor, layer=f"layer.{layer}", position=layer, donor_layer=None if layer == 2 else f"layer.{layer}",
        cka=0.5, similarity=0.4, factor=factor, drift=factor / 4, accepted=accepted, why="" if accepted else "no",
    )  # fmt: skip


def record(**changes):
    """A base of three layers; of one donor a layer at .2 and, in a second round, at .4, of another none."""
    made = [decision(1, 0, 0.2), decision(1, 0, 0.4, 2), decision(1, 1), decision(1, 2), decision(2, 0), decision(2, 2)]
    given = {
        "family": "resnet", "order": ("./low", "./high", "./other"), "layers": 3, "tau": 0.1, "eps": 0.05, "rounds": 2,
        "choose": "largest", "factors": (0.2, 0.4), "min_cka": 0.0, "min_similarity": 0.0, "statistics": True,
        "decisions": tuple(made), "losses": LossesRecord(base=0.5, control=0.45, merged=0.4321),
        "calibration": CalibrationRecord(**DATA),
        "probe": ProbeRecord(**DATA | {"samples": 200}, labels="digit", labels_sha256="cd" * 32),
        "catalog": CatalogRecord(text="digits", limit=8, taken=("./high", "./other"), passed=3),
    }  # fmt: skip
    return LayersRecord(**given | changes)


@pytest.fixture
def merge(tmp_path):
    return to_be_merged(tmp_path, "low", "high", "other")


def card(merge, **changes):
    parents = [merge.parent / name for name in ("low", "high", "other")]
    layers = record(order=tuple(map(str, parents)), **changes)
    merge_of(
        merge, parents, method="mal", format_version=4, layers=layers, tensors={"merged": 5, "estimated": 4, "kept": 9}
    )
    return written_card(merge)


def test_a_row_of_a_donor_counts_layers_once_over_all_rounds():
    high, other = donor_rows(record())
    assert (high.tried, high.merged, high.shares_text, high.drift) == (2, 1, "0.2 to 0.4", 0.1)
    assert (other.tried, other.merged, other.shares_text, other.drift) == (1, 0, "–", None)


def test_the_terminal_is_told_layers_shares_and_losses():
    assert layers_told(record()) == (
        "1 of 3 layers have something of a donor in them; 2 of 6 turns were accepted",
        "./high: 1 of 2 layers merged, share 0.2 to 0.4, drift at most 0.100",
        "./other: 0 of 1 layers merged",
        "loss on the probe: base 0.5, control 0.45, merged 0.4321",
    )


def test_a_card_says_what_was_taken_and_what_the_control_has(merge):
    text = card(merge)
    assert (
        "low kept its architecture, widths, depth and head. Layers of the donors were merged into its own one by one, each at the "
        "largest share at which the layer's output drifts by at most 0.1 of its size and the loss on the probe is at most 1.05 times the "
        "control's. 1 of its 3 layers have something of a donor in them; 2 of 6 attempts were accepted."
    ) in text
    assert "| donor | layers with a partner | layers merged | share | largest drift |" in text
    assert "| high | 2 | 1 | 0.2 to 0.4 | 0.100 |" in text
    assert "| other | 1 | 0 | – | – |" in text
    assert "Loss on the probe: 0.5 for the base, 0.45 for the control, 0.4321 for the merge." in text
    assert "600 rows of ./images, column `image`, without labels; SHA-256 `abababababababab`." in text
    assert "The probe: 200 rows of ./images, column `image`, labels in column `digit`" in text
    assert "Donors were found in a catalog for `digits`: 2 were taken, 3 did not fit." in text
    assert (
        "5 were merged by the method, 4 were estimated anew (statistics of BatchNorm) and 9 were kept as the base model has them"
        in text
    )
    assert "that the model became better is not implied" in text
    assert "No training took place." in text


def test_without_a_probe_nothing_is_said_to_be_measured(merge):
    text = card(merge, losses=None, probe=None, calibration=None, catalog=None, noise=64, statistics=False)
    assert "Layers and units were paired, and drifts measured, on 64 samples of noise, without data." in text
    assert "Whether it became better or worse than the base was not measured while it was made." in text
    assert "control" not in text
    assert "calibration" not in text


def test_no_local_path_is_left_in_what_is_published(merge):
    taken = (str(merge.parent / "high"),)
    card(merge, catalog=CatalogRecord(limit=8, taken=taken, passed=0))
    public = public_manifest(read_manifest(merge)).layers
    assert (public.order, public.catalog.taken) == (("./low", "./high", "./other"), ("./high",))
    assert str(merge.parent) not in (merge / "README.md").read_text()


def test_it_is_not_published_as_a_recipe(merge):
    card(merge)
    with pytest.raises(PublishError) as refused:
        gather(merge, "recipe", name="both", place="ada/both")
    assert str(refused.value) == (
        f"a merge by mal is not published as a recipe alone: making it again takes its data · {merge} · publish it with --as dense"
    )


def test_a_merge_that_took_nothing_warns():
    assert record().warnings == ()
    assert record(decisions=(decision(1, 0),)).warnings == (
        "no layer of any donor was accepted: this is the base model as it was",
    )
