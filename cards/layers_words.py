"""What a card says of single layers that were merged into a base: from which donors, how far, and the losses beside the control's."""

from __future__ import annotations

from cards.assembly_words import AssemblyWords, data_sentence, plain_name
from cards.markdown import Markup, code, text
from hubmerge.layers_record import LayersRecord
from hubmerge.layers_words import changed_layers, donor_rows

__all__ = ["layers_words"]

_COLUMNS = tuple(text(name) for name in ("donor", "layers with a partner", "layers merged", "share", "largest drift"))


def layers_words(record: LayersRecord | None) -> AssemblyWords | None:
    """The words for a record in which no local path is left; None for another kind of merge."""
    if record is None:
        return None
    return AssemblyWords(_taken(record), _COLUMNS, _rows(record), _remarks(record), _limits(record))


def _taken(record: LayersRecord) -> Markup:
    accepted = sum(each.accepted for each in record.decisions)
    largest = f"the largest share at which the layer's output drifts by at most {record.tau:g} of its size"
    if record.probe is not None:
        largest += f" and the loss on the probe is at most {1 + record.eps:g} times the control's"
    best = f"the share at which the loss on the probe falls the most, of those at which its output drifts by at most {record.tau:g}"
    return Markup(
        f"{text(plain_name(record.order[0]))} kept its architecture, widths, depth and head. Layers of the donors were merged into its "
        f"own one by one, each at {largest if record.choose == 'largest' else best}. {changed_layers(record)} of its {record.layers} layers "
        f"have something of a donor in them; {accepted} of {len(record.decisions)} attempts were accepted."
    )


def _rows(record: LayersRecord) -> tuple[tuple[Markup, ...], ...]:
    return tuple(
        tuple(
            text(value)
            for value in (
                plain_name(row.name),
                row.tried,
                row.merged,
                row.shares_text,
                "–" if row.drift is None else f"{row.drift:.3f}",
            )
        )
        for row in donor_rows(record)
    )


def _remarks(record: LayersRecord) -> tuple[Markup, ...]:
    found = []
    if record.losses is not None:
        own = record.losses
        found.append(
            f"Loss on the probe: {own.base:.4g} for the base, {own.control:.4g} for the control, {own.merged:.4g} for the merge. The control "
            "is the base with BatchNorm's statistics estimated on the calibration data and nothing merged; what the merge brings is the "
            "difference to it."
        )
    if record.statistics:
        found.append("BatchNorm's statistics were estimated anew on the calibration data.")
    if record.noise is not None:
        found.append(
            f"Layers and units were paired, and drifts measured, on {record.noise} samples of noise, without data."
        )
    if record.calibration is not None:
        found.append(f"The data for it: {data_sentence(record.calibration, 'without labels')}.")
    if record.probe is not None:
        labels = f"labels in column {code(record.probe.labels)}"
        found.append(f"The probe: {data_sentence(record.probe, labels)}.")
    if record.catalog is not None:
        query = f" for {code(record.catalog.text)}" if record.catalog.text else ""
        found.append(
            f"Donors were found in a catalog{query}: {len(record.catalog.taken)} were taken, {record.catalog.passed} did not fit."
        )
    return tuple(Markup(each) for each in found)


def _limits(record: LayersRecord) -> tuple[Markup, ...]:
    limits = [
        "Every layer computes what it did in the base within the drift above; that the model became better is not implied."
    ]
    if record.losses is None:
        limits.append("Whether it became better or worse than the base was not measured while it was made.")
    else:
        limits.append(
            "The loss on the probe chose what was merged, so it flatters the merge; measure it on other data."
        )
    return tuple(Markup(each) for each in limits)
