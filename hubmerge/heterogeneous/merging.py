"""`merge_models`: models in memory, of different initialisation or width, into one: aligned, merged, fitted, normalised anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hubmerge.align_choices import is_matched_on_data, runs_together
from hubmerge.heterogeneous.align_stage import Choice, align_units, maps_of
from hubmerge.heterogeneous.base_positions import in_base_positions, with_positions_of_base
from hubmerge.heterogeneous.base_vocabulary import in_base_vocabulary, token_groups, with_rows_of
from hubmerge.heterogeneous.batches import Batch, check_batches, in_folds
from hubmerge.heterogeneous.checks import check_alike, check_sizes, checked_shares, known_groups, matchable
from hubmerge.heterogeneous.evaluating import evaluating, refuse_half
from hubmerge.heterogeneous.fit import fit_layers
from hubmerge.heterogeneous.functions import HALVING, check_functions
from hubmerge.heterogeneous.in_base_names import parents_in_base_names
from hubmerge.heterogeneous.labels import GROUP as LABELS
from hubmerge.heterogeneous.labels import Labels, merged_labels
from hubmerge.heterogeneous.layer_fit import Fit
from hubmerge.heterogeneous.layers import layers_of
from hubmerge.heterogeneous.maps import GroupMap
from hubmerge.heterogeneous.merged_tensors import fill_merged
from hubmerge.heterogeneous.norms import renormalise as renormalise_model
from hubmerge.heterogeneous.regmean import RegMean, regmean_layers
from hubmerge.heterogeneous.report import Report, report_of
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.heterogeneous.sizing import Widths, merged_widths
from hubmerge.heterogeneous.stream_kin import Held, best_residual
from hubmerge.heterogeneous.stream_maps import StreamMap
from hubmerge.heterogeneous.stream_turning import in_one_basis
from hubmerge.heterogeneous.uses import uses_of
from hubmerge.recipe_stages import AlignMethod, Residual
from hubmerge.recipe_stages import Widths as WidthsKind
from hubmerge.symmetry.budget import Policy
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

__all__ = ["MergedModel", "default_without", "merge_models"]


@dataclass(frozen=True)
class MergedModel:
    """The merged transformers model, in evaluation mode, and the report of how it came about."""

    model: Any
    report: Report


def merge_models(
    models: Sequence[Any],
    batches: Iterable[Batch],
    *,
    align: AlignMethod = "activations",
    widths: WidthsKind = "base",
    ratio: float | None = None,
    budget: float | None = None,
    policy: Policy = "uniform",
    min_similarity: float = 0.0,
    balance: float | None = None,
    regularisation: float | None = None,
    without: Collection[str] | None = None,
    residual: Residual | None = None,
    fit: Literal["auto", "merged", "parents", "regmean"] | None = "auto",
    ridge: float | Literal["auto"] = "auto",
    follow: Literal["confident", "all"] = "confident",
    non_diagonal: float = 0.9,
    labels: Labels | None = None,
    tokens: Sequence[NDArray[np.int64] | None] = (),
    weights: Sequence[float] | None = None,
    renormalise: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    scratch: Scratch | None = None,
) -> MergedModel:
    """Merge transformers models of one architecture, whatever their initialisation, widths and depths, into one of the first's class and depth.

    models: float32, the first is the base; they are not changed.  batches: what `forward` takes, gone through several times.  align: how
    units are matched; widths, ratio, budget, policy: see `hubmerge.heterogeneous.sizing.Widths`.  min_similarity: pairs of units whose
    activations are less alike are not merged.  balance: of weights in `balanced`, 0 to 1; regularisation: of `optimal_transport`, 0 for
    the exact plan; `hubmerge.align_choices` has their defaults.  without: groups, by name or by their row in the table, that keep their
    order; default `default_without`.  residual: activations to match residual streams under a norm too, orthogonal to turn them first
    (`hubmerge.heterogeneous.stream_turning`), keep for neither; by default, where `without` is left out too, strangers' are turned.
    fit: on what the layers are fitted, regmean for `hubmerge.heterogeneous.regmean`, None for not at all; ridge, follow: see
    `hubmerge.heterogeneous.layer_fit.Fit`; non_diagonal: see `hubmerge.heterogeneous.regmean.RegMean`.
    labels: see `merged_labels`.  tokens: for each other model which of its rows each of the base's embeddings is, -1 for none, None
    where they are the same rows; rows that only the base has stay.  weights: the models' shares where a unit is several's.
    renormalise: BatchNorm statistics are estimated anew.  seed: of the restarts of weight matching.
    progress: is told after each fitted layer how many of how many are.  scratch: where a fit puts what is beyond its room; None for nowhere,
    all of it is in memory.

    Source: Nasery et al. 2024, PLeaS, arXiv:2407.02447.  Differs from it: fits in closed form with a ridge towards the merged weights,
    on the merged model's own inputs unless ``fit="parents"``; a layer that adds to a residual stream is fitted to what the stream lacks;
    on every sample the parents are followed by how confident they are of it; widths are chosen under the dense cost.

    Raises `SymmetryError` for an architecture without a table, and `PlanError` for models that are not of one architecture, whose
    layers cannot be paired, or whose groups have other sizes where that cannot be bridged; and where there is no data for what needs some.
    """
    choice = Choice(align, widths, min_similarity, balance, regularisation, seed)
    choice.check()
    data = in_folds(list(batches))
    if data:
        refuse_half({f"models[{i}]": model for i, model in enumerate(models)})
    turns: tuple[StreamMap, ...] = ()
    with evaluating(models):
        specs = [spec_of(model) for model in models]
        check_alike(specs)
        if residual is None and without is None and align != "identity":
            held, names = [Held(model.state_dict()) for model in models], [f"models[{i}]" for i in range(len(models))]
            residual, _ = best_residual(held, specs, tokens or [None] * len(models[1:]), names)
        models = _in_base_vocabulary(models, tokens)
        models, rows = in_base_positions(models)
        if residual == "orthogonal":
            models, turns = in_one_basis(models, unlike=_unlike_labels(models, labels))
        models = with_positions_of_base(_with_rows_of_base(models, tokens), rows)
        specs = [spec_of(model) for model in models]
        check_batches(data, models[0], align, fit, renormalise=renormalise)
        configs = [_config(model) for model in models]
        check_functions(configs, side_by_side=HALVING if runs_together(align, fit) else ())
        shares = checked_shares(weights, len(models))
        parents = parents_in_base_names(models, specs, configs, data)
        kept = () if residual == "activations" else default_without(specs[0])
        left = kept if without is None else known_groups(specs[0], without)
        check_sizes(parents.specs, {LABELS, *(matchable(specs[0], left) if is_matched_on_data(align) else ())})
        heads = merged_labels(configs, labels) if LABELS in specs[0].groups else None
        alignment = align_units(choice, parents.models, parents.specs, data, left, heads.maps if heads else {})
        positions = _positions(models[0], specs[0], data[0]) if data else None
        chosen = merged_widths(
            parents.configs,
            parents.specs,
            Widths(widths, ratio, budget, policy),
            similarity=alignment.similarity,
            positions=positions,
            grown=heads.grown if heads else None,
        )
        maps: dict[str, tuple[GroupMap, ...]] = maps_of(alignment, parents.specs, chosen.sizes)
        maps |= heads.maps if heads else {}
        check_sizes(parents.specs, maps)
        merged = _new_model(models[0], chosen.config, heads.names if heads else ())
        states = [parent.state_dict() for parent in parents.models]
        fill_merged(merged.state_dict(), parents.specs, states, maps, shares)
        given = (merged, parents.models, parents.specs, maps, shares, data)
        if fit == "regmean":
            regmean_layers(*given, RegMean(non_diagonal, ridge, follow), progress, scratch)
        elif fit is not None:
            fit_layers(*given, Fit(fit, ridge, follow=follow), progress, scratch)
        if renormalise:
            renormalise_model(merged, data)
        report = report_of(parents.specs, alignment.matches, maps, spec_of(merged), positions)
        return MergedModel(merged, replace(report, depths=parents.depths, turned=tuple(turn.cosine for turn in turns)))


def _in_base_vocabulary(models: Sequence[Any], tokens: Sequence[NDArray[np.int64] | None]) -> Sequence[Any]:
    """All models with rows for the base's tokens alone, zeros where they have none."""
    others = zip(models[1:], tokens, strict=True) if tokens else ((model, None) for model in models[1:])
    return [models[0], *(model if rows is None else in_base_vocabulary(model, rows) for model, rows in others)]


def _with_rows_of_base(models: Sequence[Any], tokens: Sequence[NDArray[np.int64] | None]) -> Sequence[Any]:
    """The same with the base's rows in place of the zeros, which are in the base's own basis by now."""
    others = zip(models[1:], tokens, strict=True) if tokens else ((model, None) for model in models[1:])
    return [
        models[0],
        *(
            model if rows is None else with_rows_of(models[0], model, rows, token_groups(spec_of(model)))
            for model, rows in others
        ),
    ]


def _unlike_labels(models: Sequence[Any], labels: Labels | None) -> tuple[str, ...]:
    """The group of labels where the models have other ones, or in another order."""
    has_head = LABELS in spec_of(models[0]).groups
    return (LABELS,) if has_head and merged_labels([_config(model) for model in models], labels).maps else ()


def default_without(spec: SymmetrySpec) -> tuple[str, ...]:
    """The groups that are not matched unless it is asked for: residual streams under a norm of all units together.

    Matched by activations they made merged transformers worse, and least squares brings the streams together by itself.
    """
    return tuple(name for name, group in spec.groups.items() if group.normed_as_a_whole)


def _config(model: Any) -> dict[str, Any]:
    config: dict[str, Any] = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    config["num_labels"] = model.config.num_labels
    return config


def _positions(model: Any, spec: SymmetrySpec, batch: Batch) -> dict[str, int]:
    """How often the base uses every layer's weights for one sample: places of an image, tokens of a text."""
    layers = {layer.name: layer for layer in layers_of(model, spec)}
    found: dict[str, int] = {}
    for use in uses_of(model, layers, batch):
        channels = use.given[1 if layers[use.module].kind == "convolution" else -1]
        found[layers[use.module].weight] = math.prod(use.given[1:]) // channels
    return found


def _new_model(base: Any, config: Mapping[str, Any], names: Sequence[str]) -> Any:
    """An untrained model of the base's class; what is drawn for it takes nothing from the caller's random numbers."""
    import torch

    own = type(base.config).from_dict({**config, "architectures": [type(base).__name__]})
    if names:
        own.id2label = dict(enumerate(names))
        own.label2id = {name: i for i, name in enumerate(names)}
    with torch.random.fork_rng(devices=[]):
        return type(base)(own).eval()
