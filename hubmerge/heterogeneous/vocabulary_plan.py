"""How the vocabularies of an assembly's models go together: the same, aligned token by token, or not known.  No torch, no weights."""

from __future__ import annotations

from collections.abc import Sequence

from hubmerge.align_choices import is_matched_on_data
from hubmerge.assembly_stages import AssemblyStages
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.token_rows import TokenRows, token_rows
from hubmerge.parents import ParentModel
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from hubmerge.vocabulary import Vocabulary, read_vocabulary
from zoo_index.apart import have_other_tokenizers
from zoo_index.errors import HubmergeError

__all__ = ["planned_tokens", "tokens_text"]

Planned = tuple[tuple[TokenRows | None, ...], list[str]]


def planned_tokens(models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], stages: AssemblyStages) -> Planned:
    """For each model but the base which of its rows the base's are, None where they are the same rows; and what is not known.

    models, specs: the base's first.  Raises `PlanError` where vocabularies differ and all models would have to read the same tokens.
    """
    found, warnings = [], []
    for model, spec in zip(models[1:], specs[1:], strict=True):
        rows, told = _aligned(models[0], model, specs[0], spec, stages)
        found.append(rows)
        warnings += told
    return tuple(found), warnings


def _aligned(
    base: ParentModel, other: ParentModel, spec: SymmetrySpec, theirs: SymmetrySpec, stages: AssemblyStages
) -> tuple[TokenRows | None, list[str]]:
    sizes = [_rows(each) for each in (spec, theirs)]
    if None in sizes:
        return None, []
    if sizes[0] == sizes[1] and not have_other_tokenizers(base.record, other.record):
        return None, []
    pair = f"{base.reference} and {other.reference}"
    left, right = _read(base), _read(other)
    if left is None or right is None:
        if sizes[0] != sizes[1]:
            return None, []  # other sizes are refused for themselves
        return None, [f"{pair} have different tokenizers: one row of the embeddings can stand for two tokens"]
    if sizes[0] == sizes[1] and dict(left.ids) == dict(right.ids):
        return None, []
    if dict(left.ids) != dict(right.ids) and (
        is_matched_on_data(stages.align) or stages.fit != "none" or stages.calibration is not None
    ):
        raise PlanError(
            f"{pair} have different vocabularies, and the same text is other tokens to each, so that they do not see the same data",
            where="calibration",
            hint=instead_of_one_vocabulary(
                base.reference,
                spec,
                theirs,
                f"write {'align: weights' if stages.bases else 'align: weights and fit: none'} without calibration",
                turns=bool(stages.bases),
            ),
        )
    return token_rows(left, right, sizes[0] or 0, sizes[1] or 0), []


def _rows(spec: SymmetrySpec) -> int | None:
    return next((group.size for group in spec.groups.values() if group.kind is Kind.TOKENS), None)


def _read(model: ParentModel) -> Vocabulary | None:
    try:
        return read_vocabulary(model.source, str(model.reference))
    except HubmergeError:
        return None


def tokens_text(rows: TokenRows, other: str, base: str) -> str:
    """What becomes of the rows of embeddings and heads, in a sentence."""
    return (
        f"{rows.shared:,} of {other}'s are {base}'s too, by what they stand for; {rows.alone:,} rows of {base} stay its own, "
        f"{rows.left_out:,} tokens of {other} are left out"
    )
