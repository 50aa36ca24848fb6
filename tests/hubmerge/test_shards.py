"""The layout of a checkpoint before its bytes exist."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hubmerge.io.shards import Layout, lay_out
from zoo_index import LocalFolder, ModelRef, PinnedRef
from zoo_index.checkpoint import read_tensor_table
from zoo_index.header import parse_header
from zoo_index.tensors import DType

ROWS = [("b", DType.F32, (3, 2)), ("a", DType.BF16, (5,)), ("n", DType.I64, ())]

rows = st.lists(
    st.tuples(st.sampled_from([DType.F32, DType.BF16, DType.I64, DType.BOOL]), st.lists(st.integers(0, 5), max_size=3)),
    min_size=1,
    max_size=12,
).map(lambda drawn: [(f"t{i}", dtype, tuple(shape)) for i, (dtype, shape) in enumerate(drawn)])


def headers(layout: Layout) -> dict[str, dict[str, list[int]]]:
    return {name: json.loads(raw[8:]) for name, raw in layout.headers.items()}


def test_one_file_holds_the_widest_types_first() -> None:
    layout = lay_out(ROWS, 10**9)
    assert headers(layout) == {
        "model.safetensors": {
            "__metadata__": {"format": "pt"},
            "n": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [3, 2], "data_offsets": [8, 32]},
            "a": {"dtype": "BF16", "shape": [5], "data_offsets": [32, 42]},
        }
    }
    assert layout.index is None


def test_a_header_is_padded_to_eight_bytes_so_that_tensors_are_aligned() -> None:
    raw = lay_out(ROWS, 10**9).headers["model.safetensors"]
    assert int.from_bytes(raw[:8], "little") == len(raw) - 8
    assert len(raw) % 8 == 0


def test_a_tensor_that_would_overfill_a_file_starts_the_next() -> None:
    layout = lay_out(ROWS, 34)  # 24 + 10 bytes fit, the eight of n do not
    assert [(meta.name, meta.file) for meta in layout.tensors] == [
        ("b", "model-00001-of-00002.safetensors"),
        ("a", "model-00001-of-00002.safetensors"),
        ("n", "model-00002-of-00002.safetensors"),
    ]
    assert json.loads(layout.index or "") == {
        "metadata": {"total_parameters": 12, "total_size": 42},
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00001-of-00002.safetensors",
            "n": "model-00002-of-00002.safetensors",
        },
    }


def test_a_tensor_larger_than_a_file_may_be_has_a_file_of_its_own() -> None:
    assert [meta.file for meta in lay_out(ROWS, 1).tensors] == [
        f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)
    ]


@given(rows, st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_every_layout_is_a_checkpoint_that_our_own_reader_accepts(
    rows: list[tuple[str, DType, tuple[int, ...]]], shard_size: int
) -> None:
    layout = lay_out(rows, shard_size)
    found = {}
    for name, raw in layout.headers.items():
        for meta in parse_header(raw[8:], file=name, file_size=layout.sizes[name]).tensors:
            found[meta.name] = (meta.file, meta.dtype, meta.shape, meta.start, meta.end)
            assert meta.start % (meta.dtype.bits // 8) == 0
    assert found == {m.name: (m.file, m.dtype, m.shape, m.start, m.end) for m in layout.tensors}
    assert {name: (dtype, shape) for name, dtype, shape in rows} == {m.name: (m.dtype, m.shape) for m in layout.tensors}
    for name in layout.sizes:
        held = [meta for meta in layout.tensors if meta.file == name]
        assert sum(meta.nbytes for meta in held) <= shard_size or sum(meta.nbytes > 0 for meta in held) == 1


def test_transformers_index_and_headers_agree_on_disk(tmp_path: Path) -> None:
    layout = lay_out(ROWS, 10)
    for name, raw in layout.headers.items():
        (tmp_path / name).write_bytes(raw + bytes(layout.sizes[name] - len(raw)))
    (tmp_path / "model.safetensors.index.json").write_text(layout.index or "")
    table = read_tensor_table(LocalFolder(tmp_path, PinnedRef(ModelRef.of(str(tmp_path)))))
    assert {name: meta.shape for name, meta in table.items()} == {"a": (5,), "b": (3, 2), "n": ()}
