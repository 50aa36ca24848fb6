"""`AssemblyRecord`: what a manifest says of a merge of unlike models: stages, groups, costs, and the data they were matched on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from hubmerge.recipe_stages import AlignMethod, Widths

__all__ = [
    "LITTLE",
    "AssemblyRecord",
    "CalibrationRecord",
    "CarriedRecord",
    "CostRecord",
    "DepthRecord",
    "GroupRecord",
    "LayerRecord",
    "TokensRecord",
    "no_partner",
]

LITTLE = 0.05
"""Of a task vector's norm: less than this carried is nothing."""


def no_partner(model: str, base: str, least: float) -> str:
    """What a merge warns of when no unit of a model found a partner; least: how alike pairs had to be."""
    return (
        f"no unit of {model} is at least {least:g} alike to one of {base}, so that none of them were brought together: "
        "a lower align.min_similarity leaves pairs"
    )


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class GroupRecord(_Record):
    """One group of units that were matched.

    row: its name in the family's table.  sizes: of the models, in the order of `AssemblyRecord.order`; merged: of the merge.  matched:
    for each other model, how many of its units share one with the base's; similarity: the mean over these pairs.  support: where units are
    mixed, for each model of how many of its units one of the merge is made (e to the power of their shares' entropy), on average, and
    largest_support: at most.
    """

    row: str
    sizes: tuple[int, ...]
    merged: int
    matched: tuple[int, ...]
    similarity: tuple[float, ...]
    support: tuple[float, ...] | None = None
    largest_support: tuple[float, ...] | None = None


class LayerRecord(_Record):
    """A layer of the base.  partner: the other model's that was merged with it, None where it stayed as it is.  cka: how alike what they
    give is; None in a stage of as many layers in both, where they go one with one, and where there was no data.
    """

    layer: str
    partner: str | None
    cka: float | None = None


class DepthRecord(_Record):
    """A model of another depth than the base's.  left_out: its layers that have no part in the merge."""

    layers: tuple[LayerRecord, ...]
    left_out: tuple[str, ...]


class CostRecord(_Record):
    """parameters: the numbers stored; multiply_adds: of one input, by matrices and kernels."""

    parameters: int
    multiply_adds: int


class CalibrationRecord(_Record):
    """The rows that were drawn.  commit: of a dataset on the Hub.  samples: how many there were; sha256: over all of them, in order."""

    data: str
    commit: str | None = None
    kind: Literal["text", "image", "pixels"]
    column: str
    samples: int
    sha256: str


class CarriedRecord(_Record):
    """What one model learned on top of `base`, carried to the merge.

    share: the norm of what was carried over that of what it learned, all tensors together; tensors: of each.  support: of groups whose
    features were mixed, of how many features one of the merge's is made, on average.
    """

    base: str
    share: float
    support: dict[str, float] = {}
    tensors: dict[str, float]


class TokensRecord(_Record):
    """Rows of embeddings and heads, aligned by what the tokens stand for.

    shared: tokens of the base that the model has too; alone: rows that stay the base's own; left_out: tokens of the model that the base
    has not.
    """

    shared: int
    alone: int
    left_out: int


class AssemblyRecord(_Record):
    """A merge of unlike models, as it was carried out.

    order: the models, the base first, in which everything else lists them; weights: their shares.  labels: how classes came together, None
    without a head.  depths: of every other model, None where it has the base's depth; empty where all have.  kept: groups that were not
    matched, with the reason.  cost, base_cost: dense; cost_without_zeros: of what is not zero because its units have no model in common.
    transport: where deltas were carried to the first of `order`, one for each of the others.
    residual: what became of a residual stream under a norm, None where there is none that can be turned and nothing was asked; turned: of each other
    model whose stream was turned, the mean cosine of what reads or writes both streams then.  tokens: of models of another vocabulary
    than the base's, by name.  positions: of models with a table of positions of another length, what became of it, in a sentence.
    """

    family: str
    order: tuple[str, ...]
    weights: tuple[float, ...]
    align: AlignMethod
    widths: Widths
    budget: float | None = None
    ratio: float | None = None
    min_similarity: float
    balance: float | None = None
    regularisation: float | None = None
    fit: Literal["least_squares", "regmean", "none"]
    inputs: Literal["auto", "merged", "parents"] | None = None
    ridge: float | Literal["auto"] | None = None
    follow: Literal["confident", "all"] | None = None
    non_diagonal: float | None = None
    labels: Literal["shared", "disjoint"] | None = None
    depths: tuple[DepthRecord | None, ...] = ()
    residual: Literal["keep", "activations", "orthogonal"] | None = None
    turned: tuple[float, ...] = ()
    tokens: dict[str, TokensRecord] = {}
    positions: dict[str, str] = {}
    groups: dict[str, GroupRecord]
    kept: dict[str, str] = {}
    base_cost: CostRecord
    cost: CostRecord
    cost_without_zeros: CostRecord
    calibration: CalibrationRecord | None = None
    transport: tuple[CarriedRecord, ...] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known of the merge and shows only once it is made."""
        alone = [
            no_partner(name, self.order[0], self.min_similarity)
            for place, name in enumerate(self.order[1:])
            if self.transport is None
            and self.groups
            and not any(group.matched[place] for group in self.groups.values())
        ]
        carried = [
            f"of what {name} learned on top of {carried.base}, {carried.share:.1%} of the norm was carried: the merge is its base model "
            "and hardly anything else"
            for name, carried in zip(self.order[1:], self.transport or (), strict=False)
            if carried.share < LITTLE
        ]
        return (*alone, *carried)
