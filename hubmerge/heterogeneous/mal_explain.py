"""A `MalPlan` in words: a page of text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hubmerge.heterogeneous.explain import aligned, data_text, short_names, work_rows
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.mal_structure import StagePairs

__all__ = ["mal_text"]

_SHOWN = 6
"""Models of a catalog that are passed over, and named one by one."""


def mal_text(plan: MalPlan) -> str:
    """The plan as a page of text: base and donors, layers, what is tried, data, bytes, memory, files, warnings."""
    lines = [f"{plan.assembly.name}: {plan.assembly.summary}", "", "base"]
    lines += [_model_line(plan, plan.base), "donors"]
    lines += [_model_line(plan, place) for place in plan.order[1:]]
    lines += _catalog_lines(plan)
    lines += ["", *_layer_lines(plan), ""]
    lines += [f"{what:<13}{text}" for what, text in _facts(plan)]
    lines += [f"{'note' if text in plan.notes else 'warning':<13}{text}" for text in plan.warnings]
    return "\n".join([*lines, f"{'plan':<13}{plan.hash[:12]}"])


def _model_line(plan: MalPlan, i: int) -> str:
    parent = plan.parents[i]
    found = plan.catalog is not None and str(parent.reference) in plan.catalog.taken
    pin = f" @ {parent.commit[:12]}" if parent.commit else ""
    widths = ", ".join(f"{name} {value}" for name, value in plan.widths[i].items())
    return f"  {parent.reference}{pin}{'  (from the catalog)' if found else ''}  {widths}; {plan.layers[i]} layers"


def _catalog_lines(plan: MalPlan) -> list[str]:
    """The models of a catalog that are no donors."""
    passed = plan.catalog.passed if plan.catalog is not None else ()
    lines = [f"  passed over: {name}: {why}" for name, why in passed[:_SHOWN]]
    return lines + ([f"  passed over: {len(passed) - _SHOWN} more"] if len(passed) > _SHOWN else [])


def _layer_lines(plan: MalPlan) -> list[str]:
    """A row for every stage of the base: its layers, and of every donor how many there are to go with them."""
    names = short_names([str(plan.parents[i].reference) for i in plan.order])
    rows = [
        [stage.stage, str(len(stage.ours)), *(str(len(donor[k].theirs)) for donor in plan.stages_of)]
        for k, stage in enumerate(plan.stages_of[0])
    ]
    lines = aligned([["layers of", *names], *rows])
    for name, stages in zip(names[1:], plan.stages_of, strict=True):
        lines += [f"  {text}" for stage in stages for text in _pairs_texts(name, stage)]
    return [
        *lines,
        "  which layer goes with which, of those that can, is told by the CKA of their outputs while it merges",
    ]


def _pairs_texts(donor: str, stage: StagePairs) -> Iterator[str]:
    """What is to be said of a stage where not every layer of the base could go with every one of the donor's."""
    rows = zip(stage.ours, stage.possible, stage.why, strict=True)
    alone: dict[str, list[int]] = {}
    for number, possible, why in rows:
        if not possible:
            alone.setdefault(why, []).append(number)
        elif len(possible) < len(stage.theirs):
            yield f"{stage.stage}.{number} can only go with {_numbers(possible)} of {donor}"
    for why, numbers in alone.items():
        yield f"{stage.stage}.{_numbers(numbers)} stays without {donor}: {why}"


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _facts(plan: MalPlan) -> Iterator[tuple[str, str]]:
    own = plan.stages.parameters
    base = plan.parents[plan.base].reference
    yield (
        "stays",
        f"{base}'s architecture, widths, depth, config and head, and every layer that nothing is accepted for",
    )
    yield "tried", _tried_text(plan)
    limit = f"the layer's output drifts by at most {own.tau:g} of its size"
    loss = f" and the loss on the probe is at most {1 + own.eps:g} times the control's"
    best = " and the loss on the probe falls the most"
    limit += "" if plan.probe is None else best if own.choose == "best" else loss
    yield "taken", f"{'that' if own.choose == 'best' else 'the largest'} at which {limit}; else the layer is left alone"
    least = plan.stages.min_similarity
    yield (
        "matched",
        f"units by the correlations of their activations, none less alike than {least:g}" + _kept_text(plan),
    )
    if plan.calibration is None:
        yield (
            "calibration",
            f"none: {plan.samples} samples of noise, drawn with seed {plan.recipe.seed}; BatchNorm's statistics are merged, not estimated",
        )
    else:
        assert plan.stages.calibration is not None
        yield "calibration", data_text(plan.stages.calibration, plan.calibration)
    if plan.probe is not None and plan.stages.probe is not None:
        yield "probe", f"{data_text(plan.stages.probe, plan.probe)}; labels in column {plan.stages.probe.labels}"
    yield "expect", "that the base survives; whether it gained anything shows against the control, measured on labels"
    yield from work_rows(plan, len(plan.tensors[plan.base]))
    yield "interrupted", "the same command goes on after the last decision"


def _kept_text(plan: MalPlan) -> str:
    names = plan.stages.without
    return f"; {', '.join(names)} keep{'s' * (len(names) == 1)} the order" if names else ""


def _tried_text(plan: MalPlan) -> str:
    tried, rounds, donors = plan.stages.tried, plan.stages.parameters.rounds, len(plan.parents) - 1
    span = " to ".join(dict.fromkeys(f"{share:g}" for share in (tried[0], tried[-1]))) if tried else ""
    shares = f"{_count(len(tried), 'share')} ({span})" if tried else "no share above 0"
    whole = ", and as many of the whole model on the probe" if plan.probe is not None else ""
    return (
        f"{_count(rounds, 'round')} of {_count(donors, 'donor')} and {_count(plan.layers[plan.base], 'layer')}, {plan.turns} turns, "
        f"{shares}: at most {plan.runs:,} runs of a layer on {plan.samples:,} samples{whole}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
