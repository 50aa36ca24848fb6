"""Elements and what they do to tensors: numbers worked by hand, and a slow reference with whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
import symmetry_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmerge.symmetry import (
    Axis,
    Element,
    Factor,
    Group,
    Kind,
    Linear,
    Monomial,
    Role,
    SymmetrySpec,
    TensorSymmetry,
    random_element,
    spec_of,
    transform,
)

W, R, F = Role.WRITES, Role.READS, Role.FOLLOWS


def spec(groups: list[Group], **tensors: tuple[Axis, ...]) -> SymmetrySpec:
    """A spec by hand: each tensor with its axes."""
    return SymmetrySpec(
        "by hand",
        {group.name: group for group in groups},
        {name: TensorSymmetry(name, name, "", axes) for name, axes in tensors.items()},
    )


def along(*factors: tuple[str | None, Role, int]) -> tuple[Axis, ...]:
    """One axis of one segment with these factors."""
    return ((tuple(Factor(*factor) for factor in factors),),)


UNITS = Group("g", "g", Kind.SIGNED_SCALED, 3)
TURN = {"g": Monomial(np.array([2, 0, 1]), np.array([1.0, -2.0, 4.0]))}


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        (W, [30.0, -20.0, 80.0]),  # 1 * 30, -2 * 10, 4 * 20
        (R, [30.0, -5.0, 5.0]),  # 30 / 1, 10 / -2, 20 / 4
        (F, [30.0, 10.0, 20.0]),
    ],
)
def test_an_order_with_factors_along_each_kind_of_axis(role: Role, wanted: list[float]) -> None:
    ours = spec([UNITS], v=along(("g", role, 3)))
    assert transform(ours, {"v": torch.tensor([10.0, 20.0, 30.0])}, TURN)["v"].tolist() == wanted


def test_a_writer_and_a_reader_undo_each_other() -> None:
    ours = spec(
        [UNITS], up=(*along(("g", W, 3)), *along((None, W, 2))), down=(*along((None, W, 2)), *along(("g", R, 3)))
    )
    up, down = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
    changed = transform(ours, {"up": up, "down": down}, TURN)
    assert changed["up"].tolist() == [[5.0, 6.0], [-2.0, -4.0], [12.0, 16.0]]
    assert changed["down"].tolist() == [[2.0, -0.5, 0.0], [1.0, 0.0, 0.25]]
    assert torch.equal(changed["down"] @ changed["up"], down @ up)


def test_a_basis_is_changed_by_the_matrix_or_by_its_inverse_transposed() -> None:
    ours = spec([Group("g", "g", Kind.INVERTIBLE, 2)], w=along(("g", W, 2)), r=along(("g", R, 2)))
    element = {"g": Linear(np.array([[1.0, 2.0], [0.0, 4.0]]))}  # inverse [[1, -.5], [0, .25]]
    changed = transform(ours, {"w": torch.tensor([1.0, 1.0]), "r": torch.tensor([1.0, 1.0])}, element)
    assert changed["w"].tolist() == [3.0, 4.0]
    assert changed["r"].tolist() == [1.0, -0.25]


def test_inner_groups_are_changed_in_each_entry_of_the_outer_one_before_it_is_reordered() -> None:
    groups = [Group("kv", "kv", Kind.PERMUTATION, 2), Group("q", "q", Kind.PERMUTATION, 3, outer="kv")]
    ours = spec(groups, w=along(("kv", W, 2), ("q", W, 3)))
    element = {
        "kv": Monomial(np.array([1, 0]), np.ones(2)),
        "q": Monomial(np.array([[0, 2, 1], [1, 2, 0]]), np.ones((2, 3))),
    }
    # [0 1 2 | 3 4 5] -> inside [0 2 1 | 4 5 3] -> outside [4 5 3 | 0 2 1]
    assert transform(ours, {"w": torch.arange(6.0)}, element)["w"].tolist() == [4, 5, 3, 0, 2, 1]


def test_segments_are_changed_each_by_itself() -> None:
    parts: Axis = ((Factor("g", W, 3),), (Factor(None, W, 1),), (Factor("g", R, 3),))
    changed = transform(spec([UNITS], w=(parts,)), {"w": torch.tensor([1.0, 2, 3, 9, 4, 8, 12])}, TURN)["w"]
    assert changed.tolist() == [3.0, -2.0, 8.0, 9.0, 12.0, -2.0, 2.0]


def test_numbers_that_are_no_floats_and_tensors_without_the_group_are_handed_through() -> None:
    ours = spec([UNITS], count=(), v=along((None, W, 3)), i=along(("g", W, 3)))
    tensors = {"count": torch.tensor(5), "v": torch.ones(3), "i": torch.tensor([1, 2, 3])}
    changed = transform(ours, tensors, TURN)
    assert all(changed[name] is tensor for name, tensor in tensors.items())


def test_a_dtype_stays_and_the_inputs_do_too() -> None:
    values = torch.tensor([10.0, 20.0, 30.0], dtype=torch.bfloat16)
    changed = transform(spec([UNITS], v=along(("g", W, 3))), {"v": values}, TURN)["v"]
    assert changed.dtype is torch.bfloat16
    assert changed.tolist() == [30.0, -20.0, 80.0]
    assert values.tolist() == [10.0, 20.0, 30.0]


def _whole(segment: tuple[Factor, ...], ours: SymmetrySpec, element: Element) -> np.ndarray:
    """The matrix of a segment, entry by entry: (P_outer x I) times the inner matrices on the diagonal."""
    if not segment:
        return np.ones((1, 1))
    first, rest = segment[0], segment[1:]
    blocks = [_whole(rest, ours, _picked(element, ours, first.group, i)) for i in range(first.size)]
    inner = blocks[0].shape[0]
    whole = np.zeros((first.size * inner, first.size * inner))
    outer = _matrix(element[first.group], first.role) if first.group in element else np.eye(first.size)
    for i in range(first.size):
        for j in range(first.size):
            whole[i * inner : (i + 1) * inner, j * inner : (j + 1) * inner] = outer[i, j] * blocks[j]
    return whole


def _picked(element: Element, ours: SymmetrySpec, group: str | None, entry: int) -> Element:
    """The element inside one entry of `group`: of the groups nested in it, that entry's part."""
    if group is None:
        return element
    return {
        name: part
        if ours.groups[name].outer != group
        else Linear(part.matrix[entry])
        if isinstance(part, Linear)
        else Monomial(part.order[entry], part.factor[entry])
        for name, part in element.items()
    }


def _matrix(part: Monomial | Linear, role: Role) -> np.ndarray:
    if isinstance(part, Linear):
        matrix = part.matrix
    else:
        matrix = np.zeros((len(part.order), len(part.order)))
        for i, (source, factor) in enumerate(zip(part.order, part.factor, strict=True)):
            matrix[i, source] = abs(np.sign(factor)) if role is F else factor
    return np.linalg.inv(matrix).T if role is R else matrix


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(["llama", "gpt2", "t5 gated", "resnet basic"]), seed=st.integers(0, 1000))
def test_a_transformation_is_a_matrix_along_every_axis(name: str, seed: int) -> None:
    ours = spec_of(symmetry_models.model(name))
    rng = np.random.default_rng(seed)
    element = random_element(ours, seed)
    chosen = [tensor for tensor in ours.tensors.values() if tensor.axes][seed % 5 :: 5]
    tensors = {tensor.name: torch.from_numpy(rng.standard_normal(tensor.shape)) for tensor in chosen}
    changed = transform(ours, tensors, element)
    for tensor in chosen:
        wanted = tensors[tensor.name].numpy()
        for i, its_axis in enumerate(tensor.axes):
            blocks = [_whole(segment, ours, element) for segment in its_axis]
            sizes = [len(block) for block in blocks]
            matrix = np.zeros((sum(sizes), sum(sizes)))
            for block, end in zip(blocks, np.cumsum(sizes), strict=True):
                matrix[end - len(block) : end, end - len(block) : end] = block
            wanted = np.moveaxis(np.tensordot(matrix, wanted, axes=(1, i)), 0, i)
        np.testing.assert_allclose(changed[tensor.name].numpy(), wanted, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_random_element_is_of_its_group_s_kind(seed: int) -> None:
    kinds = [kind for kind in Kind if kind.is_symmetry]
    groups = [Group("outer", "outer", Kind.PERMUTATION, 2)]
    groups += [Group(kind.value, kind.value, kind, 6, outer="outer") for kind in kinds]
    element = random_element(spec(groups), seed)
    assert set(element) == {"outer", *(kind.value for kind in kinds)}
    for kind in kinds:
        part = element[kind.value]
        if isinstance(part, Linear):
            assert kind.is_linear
            assert part.matrix.shape == (2, 6, 6)
            assert (np.linalg.cond(part.matrix) < 1e4).all()
            if kind is Kind.PLANES:
                a, b = part.matrix[:, :3, :3], part.matrix[:, 3:, :3]
                assert np.array_equal(part.matrix, np.block([[a, -b], [b, a]]))
                assert not (a - a * np.eye(3)).any()
                assert not (b - b * np.eye(3)).any()
            continue
        assert np.array_equal(np.sort(part.order), np.tile(np.arange(6), (2, 1)))
        assert (part.order == np.arange(6)).any() == (not kind.permutes)
        assert kind.scales or np.array_equal(abs(part.factor), np.ones((2, 6)))
        assert kind.signs or (part.factor > 0).all()
        if kind is Kind.PLANE_SIGNS:
            assert np.array_equal(part.factor[:, :3], part.factor[:, 3:])


def test_a_group_s_part_depends_on_the_seed_and_its_name_alone() -> None:
    ours = spec_of(symmetry_models.model("llama"))
    whole, one = random_element(ours, 7), random_element(ours, 7, only={"ff1"})
    assert list(one) == ["ff1"]
    ff, again = whole["ff1"], one["ff1"]
    assert isinstance(ff, Monomial)
    assert isinstance(again, Monomial)
    assert np.array_equal(ff.order, again.order)
    assert np.array_equal(ff.factor, again.factor)
    other, elsewhere = whole["ff0"], random_element(ours, 8)["ff1"]
    assert isinstance(other, Monomial)
    assert isinstance(elsewhere, Monomial)
    assert not np.array_equal(ff.order, other.order)
    assert not np.array_equal(ff.order, elsewhere.order)
