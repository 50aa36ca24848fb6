"""Random damage to everything a plan reads: one of our errors or a plan that holds, never anything else, never for long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from bad.models import CONFIG, SHAPES, lora, tensors, two_models_in
from zoo import write_model

from hubmerge import build_plan
from zoo_index.errors import HubmergeError

RECIPE = """
merge_method: ties
base_model: ./a
models:
- model: ./b+./l
  parameters:
    weight: 0.5
    density: [0.2, {filter: mlp, value: 0.8}, 1e-1]
- {model: {path: ./c, revision: null}, parameters: &p {weight: [0.3, 1]}}
parameters: {<<: *p, normalize: yes}
dtype: bfloat16
output: {shard_size: 5 GB}
tokenizer_source: base
"""
GOOD = {"merge_method": "ties", "base_model": "./a", "models": [{"model": "./b+./l"}, {"model": "./c"}]}
C = Path("c")
SHARDED = list(SHAPES)
TOKENIZER = "a/tokenizer.json"  # a damaged one is compared with no other, and goes along
# the first 8 bytes of a weight file and its header, and all of a small file, are what a plan reads
TURNS = 120
TARGETS = ["a/model.safetensors", "c/model.safetensors.index.json", "b/config.json", "l/adapter_config.json",
           "l/adapter_model.safetensors", TOKENIZER, "recipe.yaml"]  # fmt: skip


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_models_in(tmp_path, monkeypatch)
    write_model(C, tensors(3), config=CONFIG, shards=[SHARDED[:4], SHARDED[4:]])
    lora(alpha_pattern={".*q_proj": 3}, target_modules=["q_proj"], rank_pattern={})
    Path("a/tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {"x": 0}}}))
    Path("recipe.yaml").write_text(RECIPE)


PIECES = [b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b"true", b"\\ud800", b"\xff", b"\0", b"9" * 50, b"../", b"[" * 300,
          b"&x ", b"*x", b"<<: ", b"- ", b": ", b"\n", b"\t", b"0", b"2", b"F16", b"!!python/name:os", b"(.+)+$"]  # fmt: skip


def truncated(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw))]


def flipped(raw: bytes, random: Random) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ (1 << random.randrange(8))]) + raw[place + 1 :]


def spliced(raw: bytes, random: Random) -> bytes:
    start, stop = sorted(random.randrange(len(raw)) for _ in range(2))
    return raw[:start] + random.choice(PIECES) + raw[min(stop, start + random.randrange(12)) :]


def repeated(raw: bytes, random: Random) -> bytes:
    start, stop = sorted(random.randrange(len(raw)) for _ in range(2))
    return raw[:stop] + raw[start:]


def swapped(raw: bytes, random: Random) -> bytes:
    """Another value of the same document in the place of one."""
    words = raw.replace(b"{", b" ").replace(b"}", b" ").replace(b",", b" ").replace(b":", b" ").split()
    return raw.replace(random.choice(words), random.choice([*words, *PIECES]), 1) if words else raw


DAMAGES: list[Callable[[bytes, Random], bytes]] = [truncated, flipped, spliced, repeated, swapped]


def holds(recipe: str | dict[str, object]) -> bool:
    """Whether a plan came about; then every tensor is in it, and lies in its file."""
    try:
        plan = build_plan(recipe)
    except HubmergeError as fault:
        assert all(single.message and "\n" not in single.message for single in fault.faults)  # noqa: PT017 - plans are good too
        return False
    for step in plan.steps:
        assert step.output.nbytes == step.output.dtype.nbytes(step.output.shape)
        for operand in step.inputs:
            assert operand.rows is not None or operand.tensor.numel == step.output.numel
    json.dumps(plan.to_dict())
    str(plan)
    return True


def test_the_undamaged_models_and_recipe_make_a_plan() -> None:
    assert holds("recipe.yaml")
    assert holds(GOOD)


@pytest.mark.parametrize("target", TARGETS)
def test_random_damage_ends_in_a_fault_or_a_plan(target: str) -> None:
    random = Random(f"seed of {target}")
    path = Path(target)
    raw = path.read_bytes()
    outcomes = {True: 0, False: 0}
    for turn in range(TURNS):
        damaged = raw
        for _ in range(random.randrange(1, 3)):
            if damaged:
                damaged = DAMAGES[turn % len(DAMAGES)](damaged, random)
        path.write_bytes(damaged)
        begun = time.perf_counter()
        try:
            outcomes[holds("recipe.yaml" if target == "recipe.yaml" else GOOD)] += 1
        except Exception as crash:
            pytest.fail(f"{type(crash).__name__}: {crash}, for {damaged!r}")
        assert time.perf_counter() - begun < 5, damaged
    assert outcomes[False] > 10 or target == TOKENIZER
