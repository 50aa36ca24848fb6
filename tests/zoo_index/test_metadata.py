"""From a model's files to its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo_builders import (
    llama_config,
    packed,
    record_of,
    safetensors,
    source_of,
    write_adapter,
    write_files,
    write_model,
)

from zoo_index import CheckpointError, LocalFolder, ModelRecord, ModelRef, PinnedRef, read_adapter_record
from zoo_index.compat import Level, compare
from zoo_index.documents import read_files
from zoo_index.metadata import catalog_name

CARD = """---
license: Apache-2.0
base_model: org/base
pipeline_tag: text-generation
library_name: transformers
tags: [llama, 7]
---
# A model
"""


def test_a_model_folder_becomes_a_record(tmp_path: Path) -> None:
    record = record_of(write_model(tmp_path / "m", card=CARD))
    assert record.reference == str(tmp_path / "m")
    assert (record.kind, record.model_type, record.architectures) == ("model", "llama", ("LlamaForCausalLM",))
    assert (record.licence, record.pipeline_tag, record.library) == ("apache-2.0", "text-generation", "transformers")
    assert record.tags == ("llama", "7")
    assert [(edge.parent, edge.relation) for edge in record.base_models] == [("org/base", "finetune")]
    assert record.vocabulary == {"lm_head.weight": (12, 8), "model.embed_tokens.weight": (12, 8)}
    # embeddings and head 2 x 12 x 8, final norm 8, and per layer 2 norms of 8, q and o 8 x 8, k and v 4 x 8, mlp 3 x 16 x 8
    assert record.parameters == 192 + 8 + 2 * (16 + 128 + 64 + 384) == 1384
    assert record.dtypes == {"float32": 1384}
    assert record.bytes == 4 * 1384
    assert record.refusals == record.warnings == ()


def test_a_record_survives_its_own_json(tmp_path: Path) -> None:
    for folder in (write_model(tmp_path / "m", card=CARD), write_adapter(tmp_path / "a")):
        record = record_of(folder)
        assert ModelRecord.model_validate_json(record.model_dump_json()) == record
        assert ModelRecord.model_validate(record.to_json()) == record


def test_an_adapter_folder_becomes_a_record(tmp_path: Path) -> None:
    record = read_adapter_record(source_of(write_adapter(tmp_path, r=4, use_rslora=True, modules_to_save=["score"])))
    facts = record.adapter
    assert record.kind == "adapter"
    assert facts is not None
    assert (facts.peft_type, facts.base, facts.r, facts.alpha) == ("LORA", "org/base", 4, 8.0)
    assert (facts.target_modules, facts.modules_to_save) == (("q_proj", "v_proj"), ("score",))
    assert (facts.dora, facts.rslora) == (False, True)
    assert [(edge.parent, edge.source) for edge in record.base_models] == [("org/base", "adapter_config")]


def test_an_adapter_saved_beside_its_bases_config_is_an_adapter(tmp_path: Path) -> None:
    write_files(write_adapter(tmp_path), {"config.json": llama_config()})
    record = record_of(tmp_path)
    assert (record.kind, record.model_type) == ("adapter", "llama")


def test_a_model_with_a_forgotten_adapter_config_is_a_model(tmp_path: Path) -> None:
    write_files(write_model(tmp_path), {"adapter_config.json": {"peft_type": "LORA", "base_model_name_or_path": "a/b"}})
    record = record_of(tmp_path)
    assert (record.kind, record.adapter, record.base_models) == ("model", None, ())


def test_a_model_is_not_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a model, not an adapter"):
        read_adapter_record(source_of(write_model(tmp_path)))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        record_of(tmp_path)
    assert str(refused.value) == (
        f"no config.json and no adapter_config.json, so this is neither a model nor an adapter · {tmp_path} · "
        "name the folder that from_pretrained would take"
    )


def test_a_manifest_gives_the_parents(tmp_path: Path) -> None:
    manifest = {"format_version": 1, "parents": [{"reference": "./low", "role": "parent"}]}
    record = record_of(write_model(tmp_path, files={"hubmerge.json": manifest}))
    assert [(e.parent, e.relation, e.source, e.confidence) for e in record.base_models] == [
        ("./low", "merge", "manifest", "high")
    ]


def refusals(folder: Path) -> tuple[str, ...]:
    record = record_of(folder)
    assert record.reference == str(folder)
    return record.refusals


def test_a_quantised_model_is_recorded_with_its_reason(tmp_path: Path) -> None:
    folder = write_model(tmp_path, config=llama_config(quantization_config={"quant_method": "awq"}))
    assert refusals(folder) == (
        "the model is quantised (awq); its packed numbers cannot be averaged · use the unquantised model it was made from",
    )


def test_a_model_with_its_own_code_is_recorded_with_a_warning(tmp_path: Path) -> None:
    record = record_of(write_model(tmp_path, config=llama_config(auto_map={"AutoModelForCausalLM": "modeling_x.X"})))
    assert record.refusals == ()
    assert record.warnings == (
        "the model brings its own code (modeling_x.X), which runs only with trust_remote_code=True",
    )


def test_models_with_their_own_code_can_be_merged(tmp_path: Path) -> None:
    config = llama_config(auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    one, two = (record_of(write_model(tmp_path / name, config=config)) for name in ("one", "two"))
    assert compare(one, two).level is Level.identical


def test_a_pickled_model_is_recorded_with_its_reason(tmp_path: Path) -> None:
    (write_model(tmp_path) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert refusals(tmp_path)[0].startswith("only pickled weights (pytorch_model.bin), which can run code when read")


def test_a_damaged_header_is_recorded_with_its_reason(tmp_path: Path) -> None:
    write_files(write_model(tmp_path), {"model.safetensors": packed(b"nonsense")})
    record = record_of(tmp_path)
    assert record.refusals[0].startswith("header is not JSON")
    assert (record.parameters, record.signature, record.dtypes) == (None, None, {})
    assert record.model_type == "llama"


def test_a_config_that_is_not_json_is_recorded_with_its_reason_once(tmp_path: Path) -> None:
    write_files(write_model(tmp_path), {"config.json": "{nope"})
    assert [refusal.split(" (")[0] for refusal in refusals(tmp_path)] == ["config.json is not JSON"]


def test_every_reason_is_recorded(tmp_path: Path) -> None:
    folder = write_model(tmp_path, config=llama_config(quantization_config={"bits": 4}, auto_map={"AutoModel": "m.X"}))
    (folder / "model.safetensors").unlink()
    assert [refusal[:26] for refusal in refusals(folder)] == [
        "the model is quantised (un",
        "no safetensors weights · e",
    ]


def test_a_strange_file_name_in_a_reason_cannot_move_the_cursor(tmp_path: Path) -> None:
    (write_model(tmp_path) / "model.safetensors").rename(tmp_path / "a\x1b[2J.bin")
    assert "\x1b" not in refusals(tmp_path)[0]
    assert "a\ufffd[2J.bin" in refusals(tmp_path)[0]


@pytest.mark.parametrize(
    ("card", "warning"),
    [
        ("---\na: [1,\n---\n", "README.md: its front matter is not YAML"),
        ("---\nlicense: mit\n", "README.md: its front matter has no end (a line of ---)"),
        ("---\n- a\n---\n", "README.md: its front matter is not a mapping"),
        ("---\na: &a [*a]\n---\n", "README.md: the metadata holds values nested deeper than 64 · make it smaller"),
        ("---\nwhen: 2024-99-99\n---\n", "README.md: its front matter is not YAML"),
        ("---\na: !!python/object/apply:os.system [ls]\n---\n", "README.md: its front matter is not YAML"),
        ("---\n? [1, 2]\n: x\n---\n", "README.md: its front matter is not YAML"),
    ],
)
def test_a_broken_card_is_a_warning_and_no_refusal(tmp_path: Path, card: str, warning: str) -> None:
    record = record_of(write_model(tmp_path, card=card))
    assert record.refusals == ()
    assert len(record.warnings) == 1
    assert record.warnings[0].startswith(warning)


def test_a_card_that_expands_to_a_billion_values_is_a_warning(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    record = record_of(write_model(tmp_path, card="---\n" + "\n".join(lines) + "\n---\n"))
    assert record.warnings == ("README.md: the metadata holds more than 500000 values · make it smaller",)


@pytest.mark.parametrize("card", ["", "no front matter", "---\n---\n", "\ufeff---\r\nlicense: mit\r\n---\r\n"])
def test_a_card_without_metadata_or_with_windows_line_ends_is_fine(tmp_path: Path, card: str) -> None:
    record = record_of(write_model(tmp_path, card=card))
    assert record.warnings == ()
    assert record.licence == ("mit" if "mit" in card else None)


def test_another_licence_keeps_its_name(tmp_path: Path) -> None:
    record = record_of(write_model(tmp_path, card="---\nlicense: other\nlicense_name: llama3\n---\n"))
    assert (record.licence, record.licence_name) == ("other", "llama3")


def test_several_licences_are_all_kept(tmp_path: Path) -> None:
    assert record_of(write_model(tmp_path, card="---\nlicense: [mit, apache-2.0]\n---\n")).licence == "mit, apache-2.0"


def test_documents_are_kept_as_they_were_read(tmp_path: Path) -> None:
    reading = read_files(source_of(write_model(tmp_path, card=CARD)))
    assert list(reading.documents) == ["config.json", "README.md"]
    assert reading.documents["config.json"] == llama_config()
    assert reading.documents["README.md"]["base_model"] == "org/base"


def test_a_folder_is_recorded_under_its_absolute_path_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "zoo" / "m")
    monkeypatch.chdir(tmp_path / "zoo")
    for name in ("./m", "../zoo/m", "./m/"):
        source = LocalFolder(Path(name), PinnedRef(ModelRef.of(name)))
        assert catalog_name(source) == str(tmp_path / "zoo" / "m")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "model_type",
        "architectures",
        "auto_map",
        "quantization_config",
        "id2label",
        "rope_scaling",
        "text_config",
        "r",
        "lora_alpha",
        "target_modules",
        "peft_type",
        "base_model_name_or_path",
        "use_dora",
        "tags",
        "license",
        "parents",
    ]
)
documents = st.dictionaries(fields, json_values, max_size=6)


@given(documents, documents, st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_with_any_values_give_a_record(tmp_path: Path, one: Any, two: Any, adapter: bool) -> None:
    import yaml

    files: dict[str, object] = {"README.md": f"---\n{yaml.safe_dump(one)}---\n", "hubmerge.json": two}
    files |= {"config.json": one, "model.safetensors": safetensors({"w": np.zeros(2, "float32")})}
    if adapter:
        files |= {"adapter_config.json": two, "adapter_model.safetensors": safetensors({})}
    write_files(tmp_path, files)
    record = record_of(tmp_path)
    assert ModelRecord.model_validate_json(record.model_dump_json()) == record
