"""`draft_table`: a symmetry table for an architecture that has none, from the graph of a small random model, proved group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hubmerge.symmetry.draft_kin import Kindred, kindred_of
from hubmerge.symmetry.draft_loops import Loops, rows_of
from hubmerge.symmetry.draft_proofs import TOLERANCE, proven
from hubmerge.symmetry.draft_sizes import SizeFinder, flat_fields
from hubmerge.symmetry.draft_small import small_config, small_model
from hubmerge.symmetry.draft_table import Written, written_table
from hubmerge.symmetry.draft_trace import Traced, trace
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.load import load_spec
from hubmerge.symmetry.verify import Proof, example_inputs, prove
from zoo_index.families import Family

__all__ = ["Draft", "draft_table"]


@dataclass(frozen=True)
class Draft:
    """A drafted table.

    family: as data; the text of its file is `hubmerge.symmetry.draft_file.family_file`.  spec: what it says of the model asked for.
    proof: of all its groups together, on the small model.  left_out: (group of tensors, why it stays as it is).
    unknown: operations without a rule, with how often they occur; what they touch stays as it is.
    """

    family: Family
    spec: SymmetrySpec
    proof: Proof
    left_out: tuple[tuple[str, str], ...]
    unknown: Mapping[str, int]


def draft_table(config: Mapping[str, Any], *, where: str = "", seed: int = 0) -> Draft:
    """The table of one architecture, from its config alone; no weight is read and none downloaded.

    config: the content of config.json, which names a class of transformers.  Two small random models of that class are made and
    their graphs (torch.export) followed, index by index.  What the graph suggests is believed when a random element of it leaves the
    answers of the small model alone, in float64; what fails stays as it is.  The whole table is then proved once more, with other
    numbers, and held against the shapes of the model asked for.

    Raises `SymmetryError` for a class that cannot be made small, exported or given example inputs, and for a table that does not
    describe the model asked for; `PlanError` for a config that names no class.
    """
    from hubmerge.torch_threads import one_torch_thread

    with one_torch_thread():
        configs = [small_config(config, which) for which in (0, 1)]
        models = [small_model(each, where).double() for each in configs]
        inputs = _inputs(models[0], where)
        traced = [trace(models[0], inputs, where), trace(models[1], _inputs(models[1], where), where)]
        stated = [_stated(each, model) for each, model in zip(configs, models, strict=True)]
        finder = SizeFinder(stated)
        loops = rows_of(
            [{name: tuple(values.shape) for name, values in m.state_dict().items()} for m in models], finder
        )
        kindred = proven(models[0], inputs, traced[0], kindred_of(traced[0], loops.rows), seed)
        table = _written(traced, kindred, loops, finder, models[0])
        family = _with_defaults(table.family, config, models[0], stated[0])
        spec = load_spec(stated[0], _shapes(models[0]), where=where, family=family)
        proof = prove(models[0], inputs=inputs, seed=seed + 1, tolerance=TOLERANCE, spec=spec)
        if not proof.holds:
            raise SymmetryError(
                f"the drafted groups hold one by one and not together ({proof})",
                where=where,
                hint="write its table by hand, as zoo_index/families/family.py tells",
            )
        whole = load_spec(_stated(config, models[0]), _shapes_of(config, where), where=where, family=family)
    return Draft(family, whole, proof, table.left_out, traced[0].unknown)


def _inputs(model: Any, where: str) -> dict[str, Any]:
    inputs = example_inputs(model, 0)
    if not inputs:
        raise SymmetryError(
            f"{type(model).__name__} takes neither texts nor pictures",
            where=where,
            hint="write its table by hand, as zoo_index/families/family.py tells",
        )
    return inputs


def _stated(config: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """The config with what its class fills in."""
    return {**type(model.config).from_dict(dict(config)).to_dict(), "architectures": [type(model).__name__]}


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(values.shape) for name, values in model.state_dict().items()}


def _shapes_of(config: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the model that a config describes, which takes no memory."""
    import torch

    with torch.device("meta"):
        return _shapes(small_model(config, where))


def _written(traced: list[Traced], kindred: Kindred, loops: Loops, finder: SizeFinder, model: Any) -> Written:
    """The table; kin of which it cannot tell the size or the place stay as they are, until it can tell all that is left."""
    while True:
        table = written_table(traced, kindred, loops, finder, model)
        if not table.inexpressible:
            return table
        for number in table.inexpressible:
            kindred = kindred.with_kin(
                number, kindred.kin[number].fixed("no expression over the config gives its size or place")
            )


def _with_defaults(family: Family, config: Mapping[str, Any], model: Any, stated: Mapping[str, Any]) -> Family:
    """The table with what its fields are where config.json does not state them."""
    usual = dict(flat_fields(type(model.config)().to_dict()))
    known = dict(flat_fields(stated))
    text = " ".join((family.groups, family.tensors, *family.loops.values()))
    defaults = {
        name: value
        for name, value in usual.items()
        if name in text and name in known and isinstance(value, bool | int | str) and name != "model_type"
    }
    return replace(
        family,
        defaults={name: f"'{value}'" if isinstance(value, str) else value for name, value in defaults.items()},
        model_types=(str(config.get("model_type", model.config.model_type)),),
    )
