"""An `AssemblyPlan` in words: a page of text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hubmerge.calibration.check import CalibrationFacts
from hubmerge.explain_values import values_text
from hubmerge.heterogeneous.explain_align import matched_text, surplus_word, units_text
from hubmerge.heterogeneous.plan_types import AssemblyPlan, PlannedGroup
from hubmerge.heterogeneous.stream_plan import TURNED
from hubmerge.heterogeneous.vocabulary_plan import tokens_text
from hubmerge.heterogeneous.whole_plan import WholePlan
from hubmerge.plan_types import Download
from hubmerge.planned import Planned
from hubmerge.recipe_calibration import Calibration
from hubmerge.sizes import size_text

__all__ = ["aligned", "assembly_text", "data_text", "grouped_rows", "short_names", "work_rows"]

_SHOWN = 6
"""Labels that are named one by one."""
_INPUTS = {
    "auto": "on its inputs in the merge, held at a fit on the models' own",
    "merged": "on its inputs in the merge",
    "parents": "on the models' own inputs, averaged",
}


def assembly_text(plan: AssemblyPlan) -> str:
    """The plan as a page of text: models, units, labels, cost, data, bytes, memory, files, warnings."""
    lines = [f"{plan.assembly.name}: {plan.assembly.summary_of(plan.stages.fit)}", "", "parents"]
    lines += [_parent_line(plan, i) for i in plan.order]
    lines += [f"  all models: {values_text(plan.recipe.parameters)}"] if plan.recipe.parameters else []
    lines += ["", *_layer_lines(plan), *_unit_lines(plan)]
    lines += [*_kept_lines(plan), ""]
    lines += [f"{what:<13}{text}" for what, text in _facts(plan)]
    lines += [f"{'note' if text in plan.notes else 'warning':<13}{text}" for text in plan.warnings]
    return "\n".join([*lines, f"{'plan':<13}{plan.hash[:12]}"])


def _parent_line(plan: AssemblyPlan, i: int) -> str:
    parent = plan.parents[i]
    roles = [_role(plan, i)]
    roles += ["tokenizer"] if i == plan.tokenizer_donor else []
    pin = f" @ {parent.commit[:12]}" if parent.commit else ""
    widths = ", ".join(f"{name} {value}" for name, value in plan.widths[i].items())
    own = f"  {values_text(parent.parameters)}" if parent.parameters else ""
    return f"  {parent.reference}{pin}  ({', '.join(roles)}){own}  {widths}"


def _role(plan: AssemblyPlan, i: int) -> str:
    bases = plan.stages.bases
    if not plan.assembly.carries:
        return "base: its order of units, config" if i == plan.base else "parent"
    if i == plan.base:
        return "the target: what is carried is added to it"
    return f"learned on top of {bases[i]}" if i < len(bases) else "a model's own base"


def _layer_lines(plan: AssemblyPlan) -> list[str]:
    """A row for every stage in which not all models have as many layers; nothing where there is none."""
    if not plan.depths:
        return []
    names = short_names([str(plan.parents[i].reference) for i in plan.order])
    head = ["layers of", *names, *(f"{name} paired" for name in names[1:])]
    rows = [[stage.name, *map(str, stage.blocks), *map(str, stage.paired)] for stage in plan.depths]
    how = _PAIRED[plan.calibration is not None]
    return [*aligned([head, *rows]), f"  {how}; the base's others stay its own, other models' are left out", ""]


_PAIRED = {
    True: "paired in their order, by how alike (CKA) what they give on the calibration data is",
    False: "paired in their order, evenly spread, since there is no data",
}


def _unit_lines(plan: AssemblyPlan) -> list[str]:
    """A row for every kind of group: its units in each model, in the merge, and how many stay one model's."""
    if not plan.groups:
        return ["units        of no group are matched: all stay in the order they have"]
    names = short_names([str(plan.parents[i].reference) for i in plan.order])
    left = any(group.left_out(plan.others) for group in plan.groups)
    head = ["units of", *names, "merged", "apart", *([surplus_word(plan.stages)] if left else [])]
    rows = [
        [
            name,
            *map(str, group.sizes),
            f"{'' if plan.exact or plan.stages.budget is None else 'about '}{group.merged}",
            str(group.apart),
            *([str(group.left_out(plan.others))] if left else []),
        ]
        for name, group in grouped_rows(plan.groups)
    ]
    heads = any(group.heads for group in plan.groups)
    return [*aligned([head, *rows]), f"  {units_text(plan.stages, carries=plan.assembly.carries, heads=heads)}"]


def short_names(names: Sequence[str]) -> list[str]:
    """The last parts of the names, where these tell them apart."""
    last = [name.rstrip("/").rpartition("/")[2] for name in names]
    return last if len(set(last)) == len(last) else list(names)


def grouped_rows(groups: Sequence[PlannedGroup]) -> Iterator[tuple[str, PlannedGroup]]:
    """Groups of one row of the table and of the same sizes as one: the row's name, or the groups' where the row has several sizes."""
    found: dict[tuple[str, tuple[int, ...], int], list[PlannedGroup]] = {}
    for group in groups:
        found.setdefault((group.row, group.sizes, group.merged), []).append(group)
    rows = [row for row, _, _ in found]
    for (row, _, _), members in found.items():
        alone = rows.count(row) == 1
        names = [group.name for group in members]
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        yield (f"{row} ({len(names)} groups)" if alone and len(names) > 1 else span), members[0]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, its head first: the first column to the left, the others to the right, rows indented."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    return ["  ".join(row) if i == 0 else "  " + "  ".join(row) for i, row in enumerate(_indented(cells))]


def _indented(cells: list[list[str]]) -> list[list[str]]:
    """The head's first cell is two wider than the others, which are indented."""
    return [[cells[0][0] + "  ", *cells[0][1:]], *cells[1:]]


def _kept_lines(plan: AssemblyPlan) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in plan.kept.items():
        reasons.setdefault(reason, []).append(name)
    return [
        f"  {_some(names)} {'is' if len(names) == 1 else 'are'} {why}"
        if why.startswith(TURNED)
        else f"  {_some(names)} keep{'s' * (len(names) == 1)} the order: {why}"
        for why, names in reasons.items()
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _facts(plan: AssemblyPlan) -> Iterator[tuple[str, str]]:
    if plan.changed:
        told = ", ".join(f"{path} {value}" for path, value in plan.changed.items())
        yield "config", f"{plan.parents[plan.base].reference}'s with {told}"
    if plan.labels is not None:
        yield "labels", _labels_text(plan)
    for place, rows in zip(plan.order[1:], plan.tokens, strict=True):
        if rows is not None:
            yield "tokens", tokens_text(rows, *(str(plan.parents[i].reference) for i in (place, plan.base)))
    for told in plan.positions_told.values():
        yield "positions", told
    yield "cost", _cost_text(plan)
    yield "matched", _matched_text(plan)
    if plan.assembly.carries:
        yield "carried", "what each model learned on top of its own base; units that the target has not are left out"
    else:
        yield "fitted", _fitted_text(plan)
    if plan.calibration is not None:
        assert plan.stages.calibration is not None
        yield "calibration", data_text(plan.stages.calibration, plan.calibration)
    yield from work_rows(plan, plan.tensor_count)
    yield "interrupted", "it is not gone on with: the same command begins anew"


def work_rows(plan: WholePlan, tensors: int) -> Iterator[tuple[str, str]]:
    """What is read and written, the memory it takes, and the files that come along.  tensors: how many are written."""
    yield "reads", size_text(plan.bytes_read)
    yield "downloads", _downloads_text(plan)
    yield "writes", f"about {size_text(plan.bytes_written)}, {tensors} tensors, {plan.dtype}"
    yield (
        "memory",
        f"about {size_text(plan.peak_memory)} beside torch itself; one thread, so that it comes out the same",
    )
    yield "carried over", ", ".join(file.name for file in plan.carried) or "nothing"
    if plan.left:
        yield "left behind", ", ".join(plan.left)
    if plan.memory_use.disk:
        yield "scratch", f"up to {size_text(plan.memory_use.disk)} beside OUT until it is done; none with more --memory"


def _labels_text(plan: AssemblyPlan) -> str:
    assert plan.labels is not None
    names = plan.labels.names
    same = "the same in all models" + ("" if plan.assembly.carries else ", their rows are averaged")
    how = "one model's after the other's" if plan.joins_labels else same
    return f"{len(names)}, {how}: {_some(names)}"


def _cost_text(plan: AssemblyPlan) -> str:
    about = "" if plan.exact else "about "
    parameters, operations = (
        getattr(plan.cost, what) / getattr(plan.base_cost, what) for what in ("parameters", "multiply_adds")
    )
    text = f"{about}{plan.cost.parameters:,} parameters, {parameters:.2f} times the base's; {about}{operations:.2f} times its multiply-adds"
    without = plan.blocks.multiply_adds / plan.base_cost.multiply_adds
    return text + (
        f", {without:.2f} without the blocks that are zero" if f"{without:.2f}" != f"{operations:.2f}" else ""
    )


def _matched_text(plan: AssemblyPlan) -> str:
    return matched_text(plan.stages)


def _fitted_text(plan: AssemblyPlan) -> str:
    if plan.stages.fit == "none":
        return "no layer"
    ridge = "each with the ridge that predicts best" if plan.stages.ridge == "auto" else f"ridge {plan.stages.ridge:g}"
    sure = plan.stages.follow == "confident" and plan.stages.inputs != "parents"
    whom = ", on every sample to the models that are sure of it" if sure else ""
    if plan.stages.fit == "regmean":
        whose = ", on every sample those of the models that are sure of it" if plan.stages.follow == "confident" else ""
        return f"every layer by RegMean, on each model's own inputs{whose}, non_diagonal {plan.stages.non_diagonal:g}, {ridge}"
    return f"every layer by least squares, {_INPUTS[plan.stages.inputs]}, {ridge}{whom}"


def data_text(asked: Calibration, facts: CalibrationFacts) -> str:
    """Which rows of which data are drawn."""
    count = f"{facts.samples:,}" if facts.samples is not None else f"at most {asked.samples:,}"
    pin = f" @ {facts.commit[:12]}" if facts.commit else ""
    kind = {"text": "texts", "image": "images", "pixels": "inputs", None: "rows"}[facts.kind]
    return f"{count} {kind} of {asked.data}{pin}, column {facts.column}, drawn with seed {asked.seed}; their sha256 is recorded"


def _downloads_text(plan: Planned) -> str:
    """How much is fetched, of which models."""
    if not plan.downloads:
        return "nothing: all of it is on this disk"
    by_parent: dict[int, list[Download]] = {}
    for file in plan.downloads:
        by_parent.setdefault(file.parent, []).append(file)
    parts = [
        f"{size_text(sum(file.size for file in files))} of {plan.parents[i].reference}"
        for i, files in by_parent.items()
    ]
    return f"{size_text(plan.bytes_to_download)}: {', '.join(parts)}"
