"""Every symmetry table is right in both directions: what it allows changes nothing, and what it does not allow does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import symmetry_models
import torch
from symmetry_models import MODELS, ONE_OF_EACH_KIND

from hubmerge.symmetry import (
    Factor,
    Group,
    Kind,
    Role,
    SymmetryError,
    SymmetrySpec,
    prove,
    random_element,
    spec_of,
    transform,
)
from hubmerge.symmetry.verify import answers, drawn_anew, example_inputs, largest_difference

pytestmark = pytest.mark.usefixtures("one_thread")

SEEN = 1e-3
"""A relative error from which on the answers count as changed; what the tables allow stays below 1e-6."""

WIDER = {
    Kind.PERMUTATION: (Kind.SIGNED, Kind.SCALED),
    Kind.SIGNED: (Kind.SCALED,),
    Kind.SCALED: (Kind.SIGNED,),
    Kind.SIGNED_SCALED: (Kind.INVERTIBLE,),
    Kind.PLANES: (Kind.PERMUTATION, Kind.INVERTIBLE),
    Kind.PLANE_SIGNS: (Kind.PLANES,),
}
"""What goes beyond each kind.  Invertible has nothing beyond it."""


class Case:
    """A tiny model drawn anew, its symmetries, and inputs."""

    def __init__(self, name: str) -> None:
        self.model = symmetry_models.model(name)
        self.spec = spec_of(self.model)
        self.drawn = drawn_anew(self.model, 0)
        self.inputs = symmetry_models.inputs(name) or example_inputs(self.model, 0)
        self.before = answers(self.drawn, self.inputs)
        self.changed = copy.deepcopy(self.drawn)

    def change(self, spec: SymmetrySpec, *groups: str) -> float:
        """How far a random element of these groups of `spec` takes the answers."""
        element = random_element(spec, 1, only=groups)
        self.changed.load_state_dict(transform(spec, self.drawn.state_dict(), element))
        return largest_difference(self.before, answers(self.changed, self.inputs))

    def as_kind(self, group: str, kind: Kind) -> SymmetrySpec:
        return replace(self.spec, groups={**self.spec.groups, group: replace(self.spec.groups[group], kind=kind)})

    def with_axes(self, tensor: str, axes: Any) -> SymmetrySpec:
        return replace(self.spec, tensors={**self.spec.tensors, tensor: replace(self.spec.tensors[tensor], axes=axes)})


@pytest.mark.parametrize("name", MODELS)
def test_a_table_covers_a_model_and_its_symmetries_leave_the_answers_alone(name: str) -> None:
    model = symmetry_models.model(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    proof = prove(model, inputs=symmetry_models.inputs(name))
    assert proof.holds
    assert proof.error < 1e-6
    assert proof.groups >= 6
    assert set(spec_of(model).tensors) == set(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def _left_out(spec: SymmetrySpec) -> Iterator[tuple[str, str, Any]]:
    """(group, tensor, its axes without the group) for every place where a group changes a tensor."""
    for name, tensor in spec.tensors.items():
        for i, axis in enumerate(tensor.axes):
            for j, segment in enumerate(axis):
                for k, factor in enumerate(segment):
                    if factor.group and _acts(spec.groups[factor.group].kind, factor.role):
                        rest = (*segment[:k], Factor(None, Role.WRITES, factor.size), *segment[k + 1 :])
                        changed = (*axis[:j], rest, *axis[j + 1 :])
                        yield factor.group, name, (*tensor.axes[:i], changed, *tensor.axes[i + 1 :])


def _acts(kind: Kind, role: Role) -> bool:
    return kind.is_symmetry and (role is not Role.FOLLOWS or kind.permutes)


def _cannot_show(spec: SymmetrySpec, tensor: str, group: str) -> bool:
    """Biases of keys without RoPE add one number to all scores of a query, which softmax does not see; and of two names of
    one tensor, the one loaded last counts."""
    written = spec.tensors[tensor].written
    one_of_fused = tensor.endswith("c_attn.bias") and not spec.groups[group].name.startswith("value")
    copies = {stored for _, stored in spec.tied} | {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    return (written.startswith("(") and "<" in written and "rope" not in written and tensor.endswith("bias")) or (
        one_of_fused or tensor in copies
    )


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_every_axis_of_a_group_counts(name: str) -> None:
    case = Case(name)
    unseen = [
        (tensor, group)
        for group, tensor, axes in _left_out(case.spec)
        if not _cannot_show(case.spec, tensor, group) and case.change(case.with_axes(tensor, axes), group) < SEEN
    ]
    assert unseen == []


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_no_group_allows_more_than_its_table_says(name: str) -> None:
    case = Case(name)
    # the sign or scale of a whole head is in the groups inside it
    outer = {group.outer for group in case.spec.groups.values()}
    unseen = [
        (group.name, wider.value)
        for group in case.spec.groups.values()
        for wider in WIDER.get(group.kind, ())
        if group.name not in outer and case.change(case.as_kind(group.name, wider), group.name) < SEEN
    ]
    assert unseen == []


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "vit", "t5", "clip"])
def test_what_is_given_from_outside_is_no_symmetry(name: str) -> None:
    case = Case(name)
    for group in case.spec.groups.values():
        if group.kind in {Kind.TOKENS, Kind.LABELS} or group.note:
            assert case.change(case.as_kind(group.name, Kind.PERMUTATION), group.name) > SEEN


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("resnet backbone", ["res1", "res2"]),  # the stem is one with the first stage
        ("resnet backbone, one stage", ["res1"]),
        ("resnet backbone, stem", ["res0", "res2"]),
    ],
)
def test_the_stages_that_a_backbone_shows_stay_as_they_are_and_no_others(name: str, seen: list[str]) -> None:
    case = Case(name)
    stages = [group for group in case.spec.groups.values() if group.name.startswith("res")]
    assert [group.name for group in stages if group.kind is Kind.FIXED] == seen
    assert all(case.change(case.as_kind(group, Kind.PERMUTATION), group) > SEEN for group in seen)


def test_query_heads_do_not_leave_their_kv_head() -> None:
    case = Case("llama")
    heads = Group("heads", "heads", Kind.PERMUTATION, 4)
    query, out = (f"model.layers.0.self_attn.{name}.weight" for name in ("q_proj", "o_proj"))
    axes = case.spec.tensors[query].axes, case.spec.tensors[out].axes
    writes, reads = (((Factor("heads", role, 4), Factor(None, Role.WRITES, 4)),) for role in (Role.WRITES, Role.READS))
    bias = query.replace("weight", "bias")
    spec = replace(
        case.spec,
        groups={**case.spec.groups, "heads": heads},
        tensors={
            **case.spec.tensors,
            query: replace(case.spec.tensors[query], axes=(writes, axes[0][1])),
            bias: replace(case.spec.tensors[bias], axes=(writes,)),
            out: replace(case.spec.tensors[out], axes=(axes[1][0], reads)),
        },
    )
    assert case.change(spec, "heads") > SEEN


def test_the_heads_of_a_t5_stack_are_one_group_for_all_its_layers() -> None:
    case = Case("t5")
    apart = Group("apart", "apart", Kind.PERMUTATION, 4)
    spec = replace(case.spec, groups={**case.spec.groups, "apart": apart})
    for part in "qkvo":
        name = f"encoder.block.1.layer.0.SelfAttention.{part}.weight"
        place = 1 if part == "o" else 0
        role = Role.READS if part == "o" else Role.WRITES
        axes = list(spec.tensors[name].axes)
        axes[place] = ((Factor("apart", role, 4), Factor(None, Role.WRITES, 4)),)
        spec = replace(spec, tensors={**spec.tensors, name: replace(spec.tensors[name], axes=tuple(axes))})
    assert str(spec.tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]) == "(apart 4) <res"
    assert case.change(spec, "apart") > SEEN


def test_a_wrong_table_is_not_proved() -> None:
    case = Case("bert")
    proof = prove(case.model, spec=case.as_kind("res", Kind.SIGNED))
    assert not proof.holds
    assert str(proof).startswith("FAILS: 9 groups changed, relative error ")
    assert str(prove(case.model)).startswith("holds: 9 groups changed, relative error ")


def test_a_model_whose_answer_is_unknown_is_not_proved() -> None:
    case = Case("vit")

    class Silent(type(case.model)):  # type: ignore[misc]
        def forward(self, pixel_values: Any) -> Any:
            return {"something": pixel_values}

    case.drawn.__class__ = Silent
    with pytest.raises(SymmetryError) as refused:
        answers(case.drawn, case.inputs)
    assert str(refused.value) == "the model's answer is not known among something · prove a model with logits or states"
