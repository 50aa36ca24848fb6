"""`ASSEMBLIES`: the methods that put unlike models together, as presets of the stages align, merge and fit.

Unlike a `MergeMethod` an assembly has no rule that merges tensor by tensor: its parents are brought into one order first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from hubmerge.mal_stages import MalParameters
from hubmerge.method_parameters import Parameters, PerParent
from hubmerge.recipe_stages import AlignMethod, FitFollow, FitInputs, FitMethod, Widths

__all__ = ["ASSEMBLIES", "Assembly", "AssemblyParameters", "TransportParameters", "assembly_of"]

_TABLE = "of an architecture that has a symmetry table"
_PASSES = "the models are run on the calibration data; `hubmerge plan` says how much memory that takes"


class AssemblyParameters(Parameters):
    """The parameters of every assembly."""

    weight: PerParent[float] = Field(
        1.0, ge=0, description="the model's share where units are averaged, divided by the sum of all"
    )


class TransportParameters(Parameters):
    """The parameters of `transport`."""

    weight: PerParent[float] = Field(
        1.0, description="how much of what the model learned is added; above 1 it is more, below 0 it is taken away"
    )


@dataclass(frozen=True)
class Assembly:
    """One assembly: what a recipe, the documentation and a manifest say of it, and what it does where a recipe is silent.

    parents: fewest and most models, the base model among them.  keys: those of a recipe that it reads and others do not.  takes: whole
    models, of which all stages are, or single layers of them for a base that stays what it is.  page: of the documentation.  carries:
    whether what each model learned on top of a base of its own is carried to the base model, which then is none of the models.  revision:
    raised whenever its numbers change.  about: what there is to say beside the summary.  needs, cost: as `hubmerge methods` tells them.
    other_fits: the summary where a recipe asks for another fit.
    """

    name: str
    summary: str
    paper: str
    align: AlignMethod
    widths: Widths
    fit: FitMethod
    inputs: FitInputs
    ridge: float | Literal["auto"]
    follow: FitFollow
    parameters: type[Parameters] = AssemblyParameters
    parents: tuple[int, int | None] = (2, None)
    keys: tuple[str, ...] = ("align", "fit", "calibration", "labels")
    takes: Literal["models", "layers"] = "models"
    page: str = "pleas.md"
    revision: int = 1
    about: str = ""
    needs: str = ""
    cost: str = ""
    carries: bool = False
    other_fits: tuple[tuple[FitMethod, str], ...] = ()

    def summary_of(self, fit: FitMethod) -> str:
        """What it does with this fit, in a sentence."""
        return dict(self.other_fits).get(fit, self.summary)

    @property
    def explanation(self) -> str:
        """All that the assembly says of itself."""
        return f"{self.summary}\n\n{self.about}" if self.about else self.summary

    @property
    def preset(self) -> dict[str, str]:
        """The choices of its stages where a recipe is silent, by the recipe's keys; none where there are no others."""
        if self.carries:
            return {"align": self.align}
        if self.takes == "layers":
            return {}
        return {
            "align": f"{{method: {self.align}, widths: {self.widths}}}",
            "fit": f"{{method: {self.fit}, inputs: {self.inputs}, ridge: {self.ridge}, follow: {self.follow}}}",
        }


_PLEAS = Assembly(
    name="pleas",
    needs=f"2 or more models {_TABLE}; data without labels, but for align: weights with fit: none",
    cost=f"every layer is solved once, and {_PASSES}",
    summary="Match the units of models trained apart, merge the pairs, and fit every layer to the parents' by least squares.",
    paper="Nasery et al. 2024, PLeaS, arXiv:2407.02447",
    align="activations",
    widths="base",
    fit="least_squares",
    inputs="auto",
    ridge="auto",
    follow="confident",
    other_fits=(
        ("none", "Match the units of models trained apart, and merge the pairs."),
        (
            "regmean",
            "Match the units of models trained apart, merge the pairs, and fit every layer to the parents' by RegMean.",
        ),
    ),
    about="""\
For models of one architecture that share no ancestor, of the same widths and depths or others, with the same classes or others.
The units of every model (channels, hidden units of an MLP, attention heads) are assigned to the base's by how they correlate on
the calibration data, group by group.  A pair becomes one unit, with the models' weights averaged.  With `widths: union` the merge
is wider, and the pairs that are least alike stay apart; weights between units of different models are zero.  Then the layers
are fitted in the order in which the model uses them, by least squares on data without labels, with a ridge towards the weights
they had, and BatchNorm's statistics are estimated anew.  What a layer is fitted to is the mean of the models' features, on
every sample by how sure each model is of its own answer: models that know different things are unsure of what the others know.
Units can be matched in other ways, as `align` says: by weights (Git Re-Basin), by both (MuDSC), contracted (ZipIt), many to many
(optimal transport); with `widths: fold` those without a partner join the most similar one.  A residual stream under a norm keeps its
order where a sample of the weights shows that the models are relatives; a stranger's is first turned to the base's as a whole, by the
weights, where the architecture lets it turn (orthogonal Procrustes, Theus et al. 2025, arXiv:2506.22712).  The layers of models of other depths
are paired with the base's by how alike what they give is (CKA); the base's depth stays.

Differs from the paper: layers are solved in closed form, on what the merge itself feeds them, where the paper descends a gradient on
the models' own features, and takes all models alike; a budget counts the dense cost, zero blocks included.""",
)

_TRANSPORT = Assembly(
    name="transport",
    needs=f"a base model, and of every model the base that it was trained from, all {_TABLE}; data without labels, but for align: weights",
    cost=_PASSES,
    summary="Carry what models learned on top of their own bases to another base, of other initialisation or width.",
    paper="Theseus 2026, arXiv:2602.12952",
    align="activations",
    widths="base",
    fit="none",
    inputs="auto",
    ridge="auto",
    follow="all",
    parameters=TransportParameters,
    parents=(1, None),
    page="transport.md",
    carries=True,
    about="""\
W = W_base + sum of weight * E (W_model - W_own) D, where W_base is `base_model`, the target, and W_own the model that is named as
`base` beside each of the models.  E and D come from aligning each own base with the target: units (channels, hidden units,
attention heads) are assigned by how they correlate on the calibration data, or by the weights that connect them; the features
inside heads are turned as far as the architecture lets them turn, and so is a residual stream under a norm, as a whole and by the
weights, unless the two bases are relatives.  Nothing is fitted, and a weight of 0 is the target
itself.  Of every tensor it is recorded how much of the delta's norm arrived; where it is less than a twentieth over all, the merge
warns that nothing was carried.

Differs from the paper: one map for each group of units, shared by all that write and read it, where the paper has a rotation for
every module's input and output.""",
)

_MAL = Assembly(
    name="mal",
    needs=f"a base model and 1 or more donors {_TABLE}; data without labels, else noise is taken; a probe has labels",
    cost=f"{_PASSES}, and how often a layer is run",
    summary="Merge single layers of any number of donors into a base model, each as far as its output bears it.",
    paper="Zhang et al. 2025, MAL, ICLR 2025 workshop Neural Network Weights as a New Data Modality",
    align="activations",
    widths="base",
    fit="none",
    inputs="merged",
    ridge="auto",
    follow="all",
    parameters=MalParameters,
    keys=("align", "calibration", "zoo", "probe"),
    takes="layers",
    page="mal.md",
    about="""\
The base keeps its architecture, widths, depth, config and head.  Donors are of its family, and may be wider or narrower, deeper or
shallower, and of other classes; they are listed, or found in a catalog (`zoo`).  Inside every stage layers are paired by linear CKA of
their outputs, in their order, and units by correlations of activations, on calibration data or, without any, on noise.  Then every pair
has its turn, the most promising first: the layer becomes 1 - f of what it is and f of the donor's, for the largest share f at which its
output drifts by at most `tau` and, with a `probe`, the loss of the whole model stays within 1 + `eps` times the control's.  Else it is
left alone.  Every decision is in the manifest.  The control is the base with BatchNorm's statistics estimated on the same data.

The base survives; that it gets better is not promised.  In the measurements it did with its own fine-tune, and by half a point where a
probe chose the shares of other donors.  The paper's text was not at hand: this is a reconstruction from its abstract and its
figures' captions.""",
)

ASSEMBLIES: Mapping[str, Assembly] = MappingProxyType(
    {assembly.name: assembly for assembly in (_PLEAS, _TRANSPORT, _MAL)}
)
"""Every assembly by the name that a recipe's merge_method has for it."""


def assembly_of(merge_method: str | None) -> Assembly | None:
    """The assembly that a recipe's `merge_method` names; None for a method on tensors, and for a name nobody knows."""
    return ASSEMBLIES.get(merge_method) if merge_method is not None else None
