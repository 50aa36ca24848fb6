"""Sens-Merging: every layer of every parent weighed by how sensitive it is on its own data, and by how far the parent is from the others."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hubmerge.errors import MergeError, RecipeError, shown
from hubmerge.method import Parameters, register_wrapper
from hubmerge.sensitivity.coefficients import Alignment, by_layer, cross_task, layers_of, normalised, sens_coefficients
from hubmerge.wrapper import DataWork, Prepared, Preparing, ToldWork, Wrapper

__all__ = ["CROSS_TASK", "SENS_MERGING", "SensMergingParameters"]

CROSS_TASK = "cross_task"
"""The word among a parent's statistics for its cross-task scale, beside the names of tensors."""


class SensMergingParameters(Parameters):
    inner: Literal["task_arithmetic", "ties", "dare_ties"] = Field(
        "task_arithmetic", description="the method that merges the deltas with the coefficients as weights"
    )
    temperature: float = Field(
        1.0, gt=0, description="of the softmax over the parents; at 1 they are almost alike, at 0.01 few count"
    )
    alignment: Alignment = Field(
        "distance",
        description="what of the distance between logits counts: distance, the further from the others the more; similarity, exp(-distance)",
    )


def prepare_sens(given: Preparing) -> Prepared:
    """The coefficients by layer; see the wrapper's `about`.

    Raises `RecipeError` for statistics that lack a tensor or are no sums, and what `measured` raises.
    """
    tensors = given.tensors
    layer_of = layers_of(tensors)
    state: dict[str, Any] = {}
    if given.models is not None:
        from hubmerge.sensitivity.measured import measured

        found = measured(given.models, given.note, given.scratch)
        sums: list[Mapping[str, float]] = [*found.sums]
        measured_of = {name: _layer_by_name(name, layer_of) for own in sums for name in own}
        scales = cross_task(found.distances, given.values["alignment"])
        state |= {"distances": found.distances.tolist(), "losses": list(found.losses), "samples": list(found.samples)}
    else:
        assert given.statistics is not None
        rows = [_sums(given.statistics[place], place, tensors) for place in range(given.parents)]
        sums = [own for own, _ in rows]
        measured_of = layer_of
        scales = _scales([scale for _, scale in rows])
    layers, table = by_layer({**layer_of, **measured_of}, sums)
    coefficients = sens_coefficients(table, scales, given.values["temperature"])
    by_name = {layer: tuple(row) for layer, row in zip(layers, coefficients.tolist(), strict=True)}
    state |= {
        "sensitivities": dict(zip(layers, table.tolist(), strict=True)),
        "cross_task": normalised(scales).tolist(),
    }
    return Prepared(by_name, layer_of, state)


def sens_work(work: DataWork) -> ToldWork:
    """Every parent forwards and backwards on its own data, then forwards on the others'."""
    own, parents = sum(work.samples), len(work.samples)
    others = own * (parents - 1)
    lines = [f"{own} samples forwards and backwards, each by its own parent, one at a time"]
    lines += [f"{others} forwards: each parent on the data of the others"] if others else []
    lines.append(f"each parent is loaded {'twice' if others else 'once'}, one at a time, in float32")
    return ToldWork(tuple(lines), work.weights + 3 * work.largest + 4 * work.answer, sum(work.logits) if others else 0)


def _layer_by_name(name: str, layer_of: Mapping[str, str]) -> str:
    """The layer of a parameter; of one that the checkpoint has in parts (experts, before they are stacked) that which it is in by its name."""
    if name in layer_of:
        return layer_of[name]
    found = [layer for layer in layer_of.values() if name.startswith(f"{layer}.")]
    if not found:
        raise MergeError(
            f"the model has a parameter {name!r}, which is in no layer of its checkpoint",
            where=name,
            hint="save the model again with this version of transformers",
        )
    return max(found, key=len)


def _sums(own: Mapping[str, Any], place: int, tensors: tuple[str, ...]) -> tuple[dict[str, float], float | None]:
    """One parent's statistics checked: the sums by tensor, and its cross-task scale, None where it has none."""
    where = f"statistics[{place}]"
    odd = next((name for name in own if name not in tensors and name != CROSS_TASK), None)
    if odd is not None:
        close = get_close_matches(str(odd), [*tensors, CROSS_TASK], n=1)
        hint = f"did you mean {close[0]}?" if close else f"name tensors of the merge, and {CROSS_TASK}"
        raise RecipeError(f"{shown(odd)} is no tensor of the merge", where=where, hint=hint)
    missing = [name for name in tensors if name not in own]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        hint = "give every tensor its sum of |weight * gradient|; 0 for one that has no gradient"
        raise RecipeError(f"there is nothing of tensor {missing[0]!r}{more}", where=where, hint=hint)
    scale = own.get(CROSS_TASK)
    sums = {name: _number(own[name], f"{where}[{name!r}]") for name in tensors}
    return sums, None if scale is None else _number(scale, f"{where}[{CROSS_TASK!r}]")


def _number(value: Any, where: str) -> float:
    """A sum, or the sum of an array of magnitudes; `RecipeError` for what is none, negative or not finite."""
    try:
        array = np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all() or (array < 0).any():
        raise RecipeError(
            f"sensitivities are finite numbers of 0 or more, or arrays of them, got {shown(value)}",
            where=where,
            hint="give the mean over samples of the sum of |weight * gradient|",
        )
    return float(array.sum())


def _scales(found: list[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    given = [scale for scale in found if scale is not None]
    if given and len(given) < len(found):
        lacking = ", ".join(f"statistics[{place}]" for place, scale in enumerate(found) if scale is None)
        raise RecipeError(
            f"{lacking} has no {CROSS_TASK}, and others do", where="statistics", hint="give it of all or none"
        )
    return np.array(given or [1.0] * len(found))


SENS_MERGING = Wrapper(
    name="sens_merging",
    inners={
        "task_arithmetic": {},
        "ties": {"normalize": False, "elect": "plain"},
        "dare_ties": {"elect": "plain"},
    },
    parameters=SensMergingParameters,
    prepare=prepare_sens,
    takes=("calibration", "statistics"),
    needs_data=True,
    needs="data of each parent's own task, with labels for classifiers",
    cost="every parent is run on its own data, forwards and backwards, and on the others' forwards",
    work=sens_work,
    paper="Liu et al. 2025, Sens-Merging, arXiv:2502.12420",
    about="""\
Weigh every layer of every parent by its sensitivity on calibration data, and by how far the parent's answers lie from the others'; then merge.

S(t, l) is the mean over the samples x of parent t's own data of the sum over the weights w of layer l of |w * dL(x)/dw|, and alpha(t, l) is
S(t, l) over the Euclidean norm of S(t) over the layers.  g(t, s) is the mean over the data of s, and over its tokens, of the Euclidean
distance between the logits of t and of s; kappa(t) is the sum of g(t, s) over the others s (`alignment: similarity`: of exp(-g)), divided by
the sum over all t.  The coefficient of parent t in layer l is T * softmax over t of alpha(t, l) * kappa(t) / temperature, which is 1 on
average over the T parents, and it multiplies the parent's `weight` in the inner method.  A layer is a block of the network, as the names of
tensors count blocks; embeddings, the last norm and the head are layers of their own.  The loss is that of the labels, or of the next token
where a language model has texts alone.  alpha * kappa is about 1 / T at most: at temperature 1 the coefficients are almost 1, which is the
inner method alone.

Differs from the paper, for which there is no official code: this is a reconstruction from its formulas.  Gradients are taken sample by
sample, as the formula has them, not of a batch's mean.  Whether near or far models should count more is `alignment`; the default is the
formula, by which a model that is further from the others counts more.  Deltas are processed before they are weighed: under sens_merging
`ties` elects signs without the coefficients and adds the agreeing deltas (`elect: plain`, `normalize: false`), `dare_ties` elects alike.
Statistics of BatchNorm are averaged by the parents' weights alone.""",
)

register_wrapper(SENS_MERGING)
