"""A safetensors header is believed only after all of it was checked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_builders import header_of, packed, safetensors

from zoo_index import CheckpointError, DType
from zoo_index.header import Header, header_length, parse_header

HINT = "the file is damaged or not safetensors; fetch or save it again"


def read(file: bytes) -> Header:
    length = header_length(file[:8], file="m.safetensors", file_size=len(file))
    return parse_header(file[8 : 8 + length], file="m.safetensors", file_size=len(file))


def refusal(file: bytes) -> str:
    with pytest.raises(CheckpointError) as refused:
        read(file)
    assert (refused.value.where, refused.value.hint) == ("m.safetensors", HINT)
    return refused.value.message


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_names_types_shapes_and_places_in_the_file_are_read() -> None:
    file = safetensors({"b": np.zeros((2, 3), "float32"), "a": np.ones(4, "float16")})
    header = read(file)
    start = len(file) - 2 * 3 * 4 - 4 * 2
    assert [(t.name, t.dtype, t.shape, t.start, t.end) for t in header.tensors] == [
        ("b", DType.F32, (2, 3), start, start + 24),
        ("a", DType.F16, (4,), start + 24, start + 32),
    ]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["float32", "float16", "int64", "uint16"]), st.lists(st.integers(0, 4), max_size=3)),
        max_size=6,
    ),
    st.integers(0, 64),
)
def test_every_file_that_tiles_its_bytes_is_read_back_whole(specs: dict[str, Any], padding: int) -> None:
    tensors = {name: np.zeros(shape, dtype) for name, (dtype, shape) in specs.items()}
    raw = json.dumps(header_of(tensors)).encode() + b" " * padding
    header = read(packed(raw, b"".join(values.tobytes() for values in tensors.values())))
    assert {t.name: t.shape for t in header.tensors} == {name: values.shape for name, values in tensors.items()}
    assert sum(t.nbytes for t in header.tensors) == sum(values.nbytes for values in tensors.values())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused_by_our_own_error(file: bytes) -> None:
    try:
        header = read(file)
    except CheckpointError:
        return
    assert sum(t.nbytes for t in header.tensors) <= len(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
lying_entries = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "F4", "X"]) | json_values},
    optional={
        "shape": st.lists(st.integers(-1, 3), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=2, max_size=2) | json_values,
    },
)


@given(st.dictionaries(st.text(max_size=4), lying_entries | json_values, max_size=3), st.binary(max_size=40))
def test_a_lying_header_is_refused_or_tiles_the_file_exactly(entries: dict[str, Any], data: bytes) -> None:
    file = packed(entries, data)
    try:
        header = read(file)
    except CheckpointError:
        return
    assert sum(t.nbytes for t in header.tensors) == len(data)


@given(st.integers(1, 200))
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    file = safetensors({"a": np.zeros((4, 4), "float32"), "b": np.zeros(30, "float32")})
    with pytest.raises(CheckpointError):
        read(file[: max(0, len(file) - cut)])


def test_a_truncated_file_says_how_long_it_is_and_should_be() -> None:
    file = safetensors({"a": np.zeros(4, "float32")})
    assert refusal(file[:-3]) == f"file ends before its tensors do: {len(file) - 3} bytes, header describes {len(file)}"


def test_bytes_that_no_tensor_owns_are_refused() -> None:
    file = safetensors({"a": np.zeros(4, "float32")}) + b"\0\0"
    assert refusal(file) == f"file has bytes that no tensor owns: {len(file)} bytes, header describes {len(file) - 2}"


def test_overlapping_tensors_are_refused_by_name() -> None:
    assert refusal(packed({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12))) == (
        "tensor 'b' overlaps the tensor before it"
    )


def test_a_gap_between_tensors_is_refused_by_name() -> None:
    assert refusal(packed({"a": entry([2], 0, 8), "b": entry([1], 12, 16)}, bytes(16))) == (
        "tensor 'b' leaves a gap before it"
    )


def test_a_shape_that_does_not_fit_its_bytes_is_refused() -> None:
    assert refusal(packed({"a": entry([3], 0, 8)}, bytes(8))) == (
        "tensor 'a' of shape [3] and dtype F32 does not fit its 8 bytes"
    )


def test_an_unknown_type_is_refused() -> None:
    assert refusal(packed({"a": entry([2], 0, 8, "F99")}, bytes(8))) == "tensor 'a' has unknown dtype 'F99'"


def test_a_name_that_occurs_twice_is_refused() -> None:
    raw = (
        b'{"a": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "a": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    )
    assert refusal(packed(raw, bytes(1))) == "header lists 'a' twice"


def test_half_a_surrogate_pair_as_a_name_is_refused() -> None:
    raw = b'{"\\ud800": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    assert refusal(packed(raw, bytes(1))) == "tensor '\\ud800' has a name that is not Unicode text"


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    raw = b'{"a": {"dtype":"U8","shape":[' + b"1" * 5000 + b'],"data_offsets":[0,1]}}'
    assert refusal(packed(raw, bytes(1))).startswith("header is not JSON (Exceeds the limit")


def test_a_header_nested_ten_thousand_deep_is_refused() -> None:
    assert refusal(packed(b"[" * 10_000)).startswith("header is not JSON")


def test_a_header_longer_than_its_file_is_refused() -> None:
    assert (
        refusal((10**6).to_bytes(8, "little") + b"{}") == "header says it is 1000000 bytes long in a file of 10 bytes"
    )


def test_a_file_too_short_for_its_length_is_refused() -> None:
    assert refusal(b"\0\0\0") == "file has 3 bytes, too short for a safetensors header"


def test_metadata_must_be_a_map_of_strings() -> None:
    assert refusal(packed({"__metadata__": {"a": 1}})) == "__metadata__ is not a map of strings"
    assert read(packed({"__metadata__": {"format": "pt"}})).metadata == {"format": "pt"}
