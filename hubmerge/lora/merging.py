"""`merge_adapters`: LoRA adapters of one base merged into one adapter, by any method, without ever building a dense change."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hubmerge.adapter_checks import method_fault, needs_no_basis, refuse_assembly
from hubmerge.adapter_words import BASES, COMBINATIONS, Basis, CombinationParameters, Missing, is_thinned
from hubmerge.errors import PlanError, RecipeError, shown
from hubmerge.in_memory_data import state_dict_of
from hubmerge.in_memory_recipe import known_method, recipe_of_call
from hubmerge.lora.adapter import Adapter, Kind, adapter_of, given_back, of_kind
from hubmerge.lora.base_tensors import AdapterBase, tensors_of_base
from hubmerge.lora.computing import check_ranks, combined_modules, cross_terms
from hubmerge.lora.headers import check_one_base, different_bases, other_ranks
from hubmerge.lora.in_basis import BasisMerge
from hubmerge.lora.low_rank import Reduced
from hubmerge.lora.plain import read_plain
from hubmerge.lora.running_in_memory import check_data, found_in_memory
from hubmerge.lora.stacks import Stack, stacks_of
from hubmerge.lora.weighing import coefficients_by
from hubmerge.lora.wholes import BySum, merged_wholes
from hubmerge.lora.writing import write_adapter
from hubmerge.method import MergeMethod, around, get_method
from hubmerge.recipe import Recipe
from hubmerge.wrapper import Prepared
from zoo_index.errors import HubmergeError

__all__ = ["MergedAdapter", "merge_adapters"]

_KNOTS = 'basis="knots"'


class MergedAdapter(dict[str, tuple[Any, Any]]):
    """``{module: (A, B)}``, the merged change being B @ A.

    energy: module -> the share of the merged change's sum of squares that its factors have; 1 where the rank was not cut.
    tensors: what was merged beside factors, by the base's names: whole tensors (modules_to_save, biases).  biases: module -> what is
    added to its output (``lora_bias``).  coefficients, state: of a method that runs models, by the base's tensors one number for each
    adapter, and what else was found, as in `MergedState`.
    """

    def __init__(
        self,
        modules: Mapping[str, tuple[Any, Any]],
        energy: Mapping[str, float],
        tensors: Mapping[str, Any] | None = None,
        biases: Mapping[str, Any] | None = None,
        found: Prepared | None = None,
    ) -> None:
        super().__init__(modules)
        self.energy, self.tensors, self.biases = dict(energy), dict(tensors or {}), dict(biases or {})
        self.coefficients = {} if found is None else found.coefficients
        self.state = {} if found is None else dict(found.state)


def merge_adapters(
    name: str,
    adapters: Sequence[Any],
    out: str | Path | None = None,
    *,
    basis: Basis | Literal["none"] | None = None,
    parameters: Mapping[str, Any] | None = None,
    missing: Missing = "zero",
    rank: int | None = None,
    base: Any = None,
    initial: Mapping[str, str | Path] | None = None,
    other_bases: bool = False,
    calibration: Any = None,
    seed: int = 0,
    jobs: int | None = None,
) -> MergedAdapter:
    """Merge LoRA adapters that were trained on one base.

    adapters: folders, or mappings of modules to (A, B), A (rank, in), B (out, rank), with the scale alpha / r in B.  name: with `basis`
    any method that merges deltas (`hubmerge methods`), in the coordinates of `Knots` or of `Core`.  Without it, or with none, a combination of PEFT
    (`COMBINATIONS`; where A and B are added up apart, PEFT shares the root of a scale between both, which is known of folders alone), or
    task_arithmetic, which is the same in every basis.  parameters: as for `merge_state_dicts`; a list has one value
    for each adapter.  missing: see `stacks_of`.  rank: of the result, at most; the nearest of that rank in the Frobenius norm, and
    `MergedAdapter.energy` says how near.  None keeps all of it, but for PEFT's combinations by ``svd``, which keep the largest rank of the
    adapters.  base: the model they were trained on (a folder, a repository, a state dict), for what they have beside factors
    (`hubmerge.lora.wholes`), and for starts that moved it (`hubmerge.lora.plain`).  initial: for starts that are not found again, by the
    name of an adapter the same before training.  other_bases: whether adapters of other bases or revisions are merged all the same; the result
    says that it is of the first's.  out: a new folder, for the merged adapter as PEFT has them; of adapters from memory alone its config
    names `base`.  calibration: for methods that run models, as for `merge_state_dicts`; `base` is then the model, or its folder, and every
    adapter is run on it.  jobs: threads, default the cores at hand.

    Returns float32 factors of the adapters' kind (numpy for folders); no dense change is built, but by PEFT's ``_svd`` forms.
    Raises `PlanError` and `RecipeError` before anything is computed, `MergeError` for numbers that are not finite.
    """
    refuse_assembly(name, "name")
    origin = None if base is None else tensors_of_base(state_dict_of(base))
    opened, kind = _opened(adapters, origin, {str(own): start for own, start in (initial or {}).items()})
    check_one_base(opened, other_bases=other_bases)
    if other_bases and (told := different_bases(opened)) is not None:
        warnings.warn(f"{told}; the result says that it is of the first's", stacklevel=2)
    for told in filter(None, map(other_ranks, opened)):
        warnings.warn(told, stacklevel=2)
    stacks = stacks_of(opened, missing)
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise PlanError(f"rank must be 1 or more, got {rank!r}", where="rank", hint="leave it out to keep all")
    chosen = None if basis == "none" else basis
    space = chosen or ("core" if needs_no_basis(name, parameters) else None)
    found: Prepared | None = None
    if space is not None:
        method, recipe = _method(name, space, len(opened), parameters or {}, seed)
        data = check_data(method, calibration, base, len(opened))
        merge = BasisMerge(opened, stacks, recipe, _places(len(opened)), space, missing, origin, jobs)
        found = None if data is None else found_in_memory(merge, base, data)
        coefficients = None if found is None else coefficients_by(found)
        cut, wholes = merge.modules(rank, coefficients), merge.wholes(coefficients)
    else:
        if calibration is not None and name in COMBINATIONS:
            raise RecipeError(f"{name} has no use for calibration=", where="calibration", hint="leave it out")
        cut, rule = _combined(name, opened, stacks, parameters or {}, rank, seed)
        wholes = merged_wholes(opened, origin, missing, rule)
    merged = {module: own.factors for module, own in cut.items()}
    if out is not None:
        write_adapter(Path(out), opened, merged, wholes, str(base) if isinstance(base, str | Path) else None)
    return MergedAdapter(
        {module: given_back(factors, kind) for module, factors in merged.items()},
        {module: own.energy for module, own in cut.items()},
        {name: of_kind(values, kind) for name, values in wholes.copies.items()},
        {module: of_kind(values, kind) for module, values in wholes.biases.items()},
        found,
    )


def _opened(
    adapters: Sequence[Any], base: AdapterBase | None, initial: Mapping[str, str | Path]
) -> tuple[list[Adapter], Kind]:
    if isinstance(adapters, str | Path | Mapping) or not isinstance(adapters, Sequence):
        raise PlanError("adapters must be a list", where="adapters", hint="adapters=[first, second]")
    if not adapters:
        raise PlanError("no adapters are given", where="adapters", hint="adapters=[first, second]")
    stranger = next(
        (own for own in initial if own not in [str(each) for each in adapters if isinstance(each, str | Path)]), None
    )
    if stranger is not None:
        raise PlanError(f"{shown(stranger)} is none of the adapters", where="initial", hint="initial={adapter: start}")
    opened: list[Adapter] = []
    kinds: set[Kind] = set()
    faults: list[HubmergeError] = []
    for i, given in enumerate(adapters):
        try:
            if isinstance(given, str | Path):
                opened.append(read_plain(str(given), base, initial.get(str(given))))
                continue
            adapter, kind = adapter_of(given, f"adapters[{i}]")
            opened.append(adapter)
            kinds.add(kind)
        except HubmergeError as fault:
            faults += fault.faults
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return opened, "torch" if "torch" in kinds else "numpy"


def _places(adapters: int) -> tuple[str, ...]:
    return tuple(f"parents[{i}]" for i in range(adapters))


def _method(
    name: str, basis: Basis, adapters: int, parameters: Mapping[str, Any], seed: int
) -> tuple[MergeMethod, Recipe]:
    """The method that merges in `basis`, and the recipe of the coordinates."""
    if basis not in BASES:
        raise RecipeError(f"there is no basis {shown(basis)}", where="basis", hint=f"one of: {', '.join(BASES)}, none")
    method = around(get_method(name), parameters)
    fault = method_fault(method, "name")
    if fault is not None:
        raise fault
    return method, recipe_of_call(name, _places(adapters), method.base == "required", parameters, seed, None)


def _combined(
    name: str,
    adapters: Sequence[Adapter],
    stacks: Mapping[str, Stack],
    parameters: Mapping[str, Any],
    rank: int | None,
    seed: int,
) -> tuple[dict[str, Reduced], BySum]:
    own, weights = _parameters(name, parameters, len(adapters))
    rule = "linear" if len(adapters) == 1 else name  # as in PEFT
    check_ranks(
        rule, {module: [part.rank for part in stack.present] for module, stack in stacks.items()}, instead=_KNOTS
    )
    text = cross_terms(rule, len(adapters), instead=_KNOTS)
    if text is not None:
        warnings.warn(text, stacklevel=3)
    return combined_modules(name, stacks, own, weights, rank, seed), BySum(weights)


def _parameters(
    name: str, parameters: Mapping[str, Any], adapters: int
) -> tuple[CombinationParameters, tuple[float, ...]]:
    if name not in COMBINATIONS:
        known = known_method(name, parameters)
        if known is not None:
            fault = method_fault(known, "name")
            if fault is not None:
                raise fault
            raise RecipeError(
                f"{name} merges adapters in a basis that they share, and none is named",
                where="basis",
                hint='write basis="knots" or basis="core"',
            )
        near = get_close_matches(name, COMBINATIONS, n=1, cutoff=0.0)[0]
        raise RecipeError(f"there is no method {shown(name)}", where="name", hint=f"the nearest name is {near}")
    weight = parameters.get("weight", 1.0)
    listed = weight.tolist() if hasattr(weight, "tolist") else weight
    weights = tuple(listed) if isinstance(listed, list | tuple) else (listed,) * adapters
    if len(weights) != adapters:
        raise RecipeError(
            f"weight has {len(weights)} values for {adapters} adapters",
            where="parameters.weight",
            hint="give one number for all, or one for each adapter in order",
        )
    rows = []
    for own in weights:
        try:
            rows.append(CombinationParameters.model_validate({**parameters, "weight": own}))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(("parameters", *map(str, first["loc"])))
            if first["type"] == "extra_forbidden":
                known_ones = ", ".join(CombinationParameters.model_fields)
                raise RecipeError(
                    f"unknown parameter {place[11:]!r}", where=place, hint=f"known: {known_ones}"
                ) from None
            raise RecipeError(f"{first['msg'].lower()}, got {shown(first['input'])}", where=place) from None
    if is_thinned(name) and "density" not in parameters:
        hint = 'write parameters={"density": 0.2}'
        raise RecipeError(f"{name} needs density, the share of entries it keeps", where="parameters.density", hint=hint)
    return rows[0], tuple(row.weight for row in rows)
