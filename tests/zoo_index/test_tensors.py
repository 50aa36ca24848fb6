"""Tables of tensors: sizes, types and the signature of shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_index import DType, TensorMeta, TensorTable


def meta(name: str, shape: tuple[int, ...], dtype: DType = DType.F32) -> TensorMeta:
    return TensorMeta(name, dtype, shape, "model.safetensors", 0, dtype.nbytes(shape))


def test_six_and_four_bit_types_are_rounded_up_to_whole_bytes() -> None:
    assert [DType.F4.nbytes((3,)), DType.F6_E2M3.nbytes((3,)), DType.BF16.nbytes((2, 3)), DType.C64.nbytes((2,))] == [
        2,
        3,
        12,
        16,
    ]
    assert DType.F32.nbytes(()) == 4
    assert DType.F32.nbytes((5, 0)) == 0


@pytest.mark.parametrize("dtype", [d for d in DType if DType.from_torch_name(d.torch_name) is not None])
def test_the_name_torch_gives_a_type_leads_back_to_it(dtype: DType) -> None:
    assert DType.from_torch_name(dtype.torch_name) is dtype
    assert DType.from_torch_name(f"torch.{dtype.torch_name}") is dtype


def test_only_real_floating_point_types_count_as_parameters() -> None:
    table = TensorTable.of([meta("w", (2, 3), DType.BF16), meta("n", (), DType.I64), meta("c", (4,), DType.C64)])
    assert table.parameters == 6
    assert table.dtypes == {DType.BF16: 6}
    assert table.nbytes == 12 + 8 + 32


def test_types_are_listed_most_frequent_first() -> None:
    table = TensorTable.of([meta("a", (1,)), meta("b", (8,), DType.F16), meta("c", (2,))])
    assert list(table.dtypes.items()) == [(DType.F16, 8), (DType.F32, 3)]


tables = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), st.lists(st.integers(0, 4), max_size=3), max_size=6
)


@given(tables, st.randoms())
def test_the_signature_depends_on_names_and_shapes_alone(shapes: dict[str, list[int]], random: object) -> None:
    rows = [meta(name, tuple(shape)) for name, shape in shapes.items()]
    other = [meta(name, tuple(shape), DType.F16) for name, shape in shapes.items()]
    random.shuffle(other)  # type: ignore[attr-defined]
    assert TensorTable.of(rows).signature() == TensorTable.of(other).signature()


@given(tables.filter(bool))
def test_another_shape_gives_another_signature(shapes: dict[str, list[int]]) -> None:
    rows = [meta(name, tuple(shape)) for name, shape in shapes.items()]
    name, shape = next(iter(shapes.items()))
    changed = [meta(name, (*shape, 7)), *(row for row in rows if row.name != name)]
    assert TensorTable.of(rows).signature() != TensorTable.of(changed).signature()


def test_excluded_parts_of_names_do_not_count() -> None:
    small, large = ([meta("lm_head.weight", (size, 2)), meta("body", (3,))] for size in (10, 20))
    assert TensorTable.of(small).signature() != TensorTable.of(large).signature()
    assert TensorTable.of(small).signature(("lm_head",)) == TensorTable.of(large).signature(("lm_head",))
