"""Weight files and indexes that are damaged or lie: refused by file and tensor, before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bad.models import CONFIG, DAMAGED, SHAPES, B, entry, raw_file, refusal, tensors, text, two_models_in
from zoo import packed, write_model

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FETCH = "fetch the model again, or save it again with save_pretrained"


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def weights(header: object, data: bytes = b"") -> Callable[[], None]:
    return text(WEIGHTS, raw_file(header, data))


DAMAGED_WEIGHTS: dict[str, tuple[Callable[[], None], str]] = {
    "empty": (text(WEIGHTS, b""), "file has 0 bytes, too short for a safetensors header"),
    "a length of 2**63": (text(WEIGHTS, (2**63).to_bytes(8, "little") + b"{}"),
                          "header says it is 9223372036854775808 bytes long in a file of 10 bytes"),
    "a length of 2**64-1": (text(WEIGHTS, b"\xff" * 8 + b"{}"), "header says it is 18446744073709551615 bytes long in a file of 10 bytes"),
    "a cut header": (text(WEIGHTS, raw_file({"w": entry([1], 0, 4)})[:30]), "header says it is 61 bytes long in a file of 30 bytes"),
    "a cut end": (weights({"w": entry([4], 0, 16)}, bytes(12)), "file ends before its tensors do: 82 bytes, header describes 86"),
    "bytes of nobody": (weights({"w": entry([1], 0, 4)}, bytes(6)), "file has bytes that no tensor owns: 75 bytes, header describes 73"),
    "overlapping tensors": (weights({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "tensor 'b' overlaps the tensor before it"),
    "two tensors in one place": (weights({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)), "tensor 'b' overlaps the tensor before it"),
    "a gap": (weights({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "tensor 'b' leaves a gap before it"),
    "a shape that lies": (weights({"w": entry([3], 0, 8)}, bytes(8)), "tensor 'w' of shape [3] and dtype F32 does not fit its 8 bytes"),
    "a shape beyond all": (weights({"w": entry([2**62, 2**62], 0, 8)}, bytes(8)),
                           "tensor 'w' of shape [4611686018427387904, 4611686018427387904] and dtype F32 does not fit its 8 bytes"),
    "a negative shape": (weights({"w": entry([-1, -2], 0, 8)}, bytes(8)), "tensor 'w' has shape [-1, -2]"),
    "a shape of booleans": (weights({"w": entry([True, 2], 0, 8)}, bytes(8)), "tensor 'w' has shape [True, 2]"),
    "a shape of NaN": (weights(b'{"w": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}', bytes(8)), "tensor 'w' has shape [nan]"),
    "offsets that are no numbers": (weights({"w": {"dtype": "F32", "shape": [1], "data_offsets": ["0", 4]}}, bytes(4)),
                                    "tensor 'w' has data_offsets ['0', 4]"),
    "an unknown type": (weights({"w": entry([1], 0, 4, "F99")}, bytes(4)), "tensor 'w' has unknown dtype 'F99'"),
    "a header of no JSON": (weights(b"{nothing}"),
                            "header is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
    "a header that is a list": (weights([]), "header is not a JSON object"),
    "a name twice": (weights(b'{"w": 1, "w": 2}'), "header lists 'w' twice"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED_WEIGHTS)
def test_a_damaged_or_lying_header_is_refused_by_file_and_tensor(kind: str) -> None:
    spoil, fault = DAMAGED_WEIGHTS[kind]
    spoil()
    assert refusal() == [f"{fault} · ./b/model.safetensors · {DAMAGED}"]


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3"])
def test_packed_types_are_refused(kind: str) -> None:
    weights({"w": entry([8], 0, {"F4": 4, "F6_E2M3": 6}[kind], kind)}, bytes({"F4": 4, "F6_E2M3": 6}[kind]))()
    assert refusal() == [
        f"tensor 'w' is {kind}, which this version does not merge · ./b · use the float32, float16 or bfloat16 model it was made from"
    ]


def sharded(change: Callable[[dict[str, str]], object] = lambda weight_map: None) -> dict[str, str]:
    """Model b in two shards, with an index changed by `change`."""
    names = list(SHAPES)
    write_model(B, tensors(2), config=CONFIG, shards=[names[:3], names[3:]])
    (B / WEIGHTS).unlink(missing_ok=True)
    weight_map: dict[str, str] = json.loads((B / INDEX).read_text())["weight_map"]
    change(weight_map)
    (B / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return weight_map


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
OUTSIDE = "points outside the model's folder · b · the model is damaged or hostile; fetch it again"
INDEXES: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "a shard that is not there": (lambda m: m.update({"lm_head.weight": "model-00003-of-00002.safetensors"}),
                                  f"the index names model-00003-of-00002.safetensors, which is not in the folder · ./b/{INDEX} · {FETCH}"),
    "a path out of the folder": (lambda m: m.update({"lm_head.weight": "../a/model.safetensors"}), f"'../a/model.safetensors' {OUTSIDE}"),
    "a path out and in": (lambda m: m.update({"lm_head.weight": "x/../../a/model.safetensors"}), f"'x/../../a/model.safetensors' {OUTSIDE}"),
    "an absolute path": (lambda m: m.update({"lm_head.weight": "/etc/passwd"}), f"'/etc/passwd' {OUTSIDE}"),
    "a path of Windows": (lambda m: m.update({"lm_head.weight": "..\\a\\model.safetensors"}), f"'..\\\\a\\\\model.safetensors' {OUTSIDE}"),
    "no path": (lambda m: m.update({"lm_head.weight": ""}), f"'' {OUTSIDE}"),
    "a tensor that no shard holds": (lambda m: m.update({"extra": ONE}),
                                     f"tensor 'extra': the index says {ONE}, no shard holds it · ./b/{INDEX} · {FETCH}"),
    "a tensor in another shard": (lambda m: m.update({"lm_head.weight": TWO}),
                                  f"tensor 'lm_head.weight': the index says {TWO}, {ONE} holds it · ./b/{INDEX} · {FETCH}"),
    "a tensor left out": (lambda m: m.pop("lm_head.weight"),
                          f"tensor 'lm_head.weight': the index says nothing about it, {ONE} holds it · ./b/{INDEX} · {FETCH}"),
    "a shard left out": (lambda m: [m.pop(name) for name in list(m) if m[name] == TWO],
                         f"{TWO} is in the folder but not in the index · ./b/{INDEX} · {FETCH}"),
    "a shard that is no name": (lambda m: m.update({"lm_head.weight": 5}),
                                f"the index has no weight_map of names to files · ./b/{INDEX} · {FETCH}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_that_disagrees_with_the_folder_is_refused(kind: str) -> None:
    change, fault = INDEXES[kind]
    sharded(change)
    assert refusal() == [fault]


def test_a_tensor_in_two_shards_and_a_single_file_beside_an_index_are_refused() -> None:
    sharded()
    both = {name: values for name, values in tensors(2).items() if name in list(SHAPES)[2:]}
    (B / TWO).write_bytes(packed(both))
    third = list(SHAPES)[2]
    assert refusal() == [f"tensor {third!r} is in both {ONE} and {TWO} · ./b/{INDEX} · {FETCH}"]
    (B / WEIGHTS).write_bytes(packed(tensors(2)))
    assert refusal() == [
        f"both {WEIGHTS} and {INDEX} are here, and they can describe different weights · ./b · delete the stale one"
    ]


def test_a_shard_that_is_missing_on_disk_is_named() -> None:
    sharded()
    (B / TWO).unlink()
    assert refusal() == [f"the index names {TWO}, which is not in the folder · ./b/{INDEX} · {FETCH}"]
