"""AdaMerging: coefficients found by the entropy of the merge's answers on data without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from hubmerge.errors import RecipeError
from hubmerge.method import Parameters, register_around, register_wrapper
from hubmerge.method_parameters import Values
from hubmerge.wrapper import DataWork, Prepared, Preparing, ToldWork, Wrapper

__all__ = ["ADAMERGING", "AdaMergingParameters", "DescentParameters"]


class DescentParameters(Parameters):
    granularity: Literal["layer", "task"] = Field(
        "layer", description="one coefficient for each parent and tensor, or one for each parent"
    )
    init: float = Field(0.3, description="every coefficient at the start")
    steps: int = Field(
        500, ge=0, description="of the descent on coefficients; each runs one batch of every parent's data"
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam's")
    batch: int = Field(
        16, ge=1, description="rows of each parent's data in a step, at most those of a batch as it is given"
    )
    clamp: bool = Field(True, description="keep coefficients in [0, 1]")
    heads: Literal["auto", "merged", "own"] = Field(
        "auto",
        description="whose head answers for a parent's data: the merge's or the parent's own; auto: its own where the parents' labels have "
        "other names",
    )


class _InnerParameters(Parameters):
    inner: Literal["task_arithmetic", "ties"] = Field(
        "task_arithmetic", description="the method that processes the deltas and adds them; ties is AdaMerging++"
    )


class AdaMergingParameters(DescentParameters, _InnerParameters):
    """Those of the descent, and of the method inside."""


def _refuse(name: str) -> RecipeError:
    return RecipeError(
        f"adamerging adds deltas, each times its coefficient, and {name} does something else with them",
        where=f"parameters.{name}",
        hint="leave it out",
    )


def _check(values: Values) -> None:
    if values["normalize"]:
        raise _refuse("normalize")
    if values.get("elect", "plain") != "plain":
        raise _refuse("elect")


def _check_awd(values: Values) -> None:
    if values["normalize"] == "true":
        raise _refuse("normalize")


def _prepare(given: Preparing) -> Prepared:
    from hubmerge.adamerging.preparing import prepare_adamerging

    return prepare_adamerging(given)


def _work(work: DataWork) -> ToldWork:
    """Every step forwards and backwards on a batch of each parent's data, all parents' deltas at hand."""
    steps, batch, parents = work.values["steps"], work.values["batch"], len(work.samples)
    passes = sum(-(-count // batch) for count in work.samples)
    lines = (
        f"{steps} steps of the merge forwards and backwards, each on up to {batch} samples of every parent: {steps * parents:,} batches",
        f"{2 * passes} batches forwards, to tell the entropy before and after",
        "the base, a delta of every parent, and the model that is run, in float32"
        if work.thin is None
        else "the base and the model that is run, in float32, and of every parent its factors",
    )
    if work.thin is not None:
        return ToldWork(lines, 2 * work.weights + 3 * work.largest + 4 * batch * work.answer + work.thin)
    return ToldWork(lines, work.weights + 3 * work.largest + 4 * batch * work.answer, (parents + 1) * work.weights)


ADAMERGING = Wrapper(
    name="adamerging",
    inners={
        "task_arithmetic": {},
        "ties": {"normalize": False, "elect": "plain", "density": 0.2, "trim_scope": "model"},
    },
    parameters=AdaMergingParameters,
    prepare=_prepare,
    takes=("calibration",),
    needs_data=True,
    labels="none",
    needs="data of each parent's own task, without labels",
    cost="the merge is run on a batch of every parent's data in each step, forwards and backwards",
    work=_work,
    check=_check,
    paper="Yang et al. 2023, AdaMerging: adaptive model merging for multi-task learning, arXiv:2310.02575",
    about="""\
Find the coefficients of every parent and tensor with which the merge is surest of its answers on the parents' data, without labels; then merge.

The loss is the sum over the parents of the mean entropy of softmax(logits) on the parent's own data: of a classifier's classes, or
of a language model's next tokens.  Adam lowers it by the coefficients alone, from `init` on; a coefficient multiplies the parent's `weight` in
the inner method.  The gradient of a tensor is reduced to its inner products with the parents' deltas as soon as backward has made it, and
freed, so that no graph goes through the merge.  In memory, or in files beside OUT as far as memory lacks, are the base and one delta for each
parent, in float32, and the model that is run.  With `inner: ties` (AdaMerging++) the deltas are trimmed, and entries that disagree with the elected
sign are dropped, before they are weighed.  Every parent's head answers for its own data where the parents' labels have other names; such a head's
coefficients stay at `init`, and the merge has the merged head.

Differs from the paper: coefficients are brought back into [0, 1] after each step, where the authors' code clamps what it merges
with and lets the number itself run on; heads are merged along where the labels are the same; embeddings and heads of language models have
coefficients like other tensors; Adam has its usual decays.  A parent's batches are taken in an order drawn by `seed`, all before any comes
again.  The paper descends on the very data that it measures on: coefficients of
other data are worse, and data that holds few of the classes leads the entropy astray.
Statistics of BatchNorm are averaged by the parents' weights, before and during the descent.""",
)

_WITH_AWD = replace(
    ADAMERGING,
    name="awd",
    inners={"awd": {}},
    parameters=DescentParameters,
    check=_check_awd,
    about=f"Subtract from the parents' deltas what makes them alike, then merge what is left by adamerging.\n\n{ADAMERGING.about}",
)

register_wrapper(ADAMERGING)
register_around(_WITH_AWD, "adamerging")
