"""What goes along with the weights: config, generation config, tokenizer, processor, and nothing else.

The rule: config.json and generation_config.json come from the base model, else from the first model of the recipe;
tokenizer files from the model that `tokenizer_source` names, else from the same one; processor files and the modules of
sentence-transformers likewise from the donor of the config.  Only dtype is changed.  Everything else stays behind and is
listed in the plan.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping
from typing import Any

from hubmerge.parents import ParentModel
from zoo_index.tensors import DType

__all__ = ["files_to_carry", "has_tokenizer", "merged_config"]

_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "*.tiktoken", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece*.model", "chat_template.json", "chat_template.jinja",
    "additional_chat_templates/*.jinja", "tekken.json",
)  # fmt: skip
_CONFIG = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
    "video_preprocessor_config.json", "feature_extractor_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "[0-9]_*/config.json", "configuration_*.py", "modeling_*.py",
)  # fmt: skip
_WEIGHTS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.bin.index.json",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.gguf",
)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def has_tokenizer(model: ParentModel) -> bool:
    """Whether a model's folder holds a tokenizer."""
    return any(_matches(name, _TOKENIZER) for name in model.source.files())


def files_to_carry(
    config_donor: ParentModel, tokenizer_donor: ParentModel | None
) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """Files (with sizes) taken from the config donor, from the tokenizer donor, and what stays behind of the first."""
    files = config_donor.source.files()
    own = {name: size for name, size in files.items() if _matches(name, _CONFIG)}
    tokens = {}
    if tokenizer_donor is not None:
        tokens = {name: size for name, size in tokenizer_donor.source.files().items() if _matches(name, _TOKENIZER)}
    left = tuple(
        name
        for name in files
        if name not in own and name != "config.json" and not _matches(name, _TOKENIZER) and not _matches(name, _WEIGHTS)
    )
    return own, tokens, left


def merged_config(config: Mapping[str, Any], dtype: DType) -> dict[str, Any]:
    """The donor's config with the dtype of the merged weights, in the donor's dialect (``dtype`` or ``torch_dtype``)."""
    merged = copy.deepcopy(dict(config))
    merged.pop("_name_or_path", None)
    for part in [
        merged,
        *(value for key, value in merged.items() if key.endswith("_config") and isinstance(value, dict)),
    ]:
        key = "torch_dtype" if "torch_dtype" in part else "dtype"
        if key in part or part is merged:
            part[key] = dtype.torch_name
    return merged
