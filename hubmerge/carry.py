"""What goes along with the weights: config, generation config, tokenizer, processor, and nothing else.

The rule: config.json and generation_config.json come from the base model, else from the first model of the recipe;
tokenizer files from the model that `tokenizer_source` names, else from the same one; processor files, custom code and the
modules of sentence-transformers likewise from the donor of the config.  In the config dtype and quantisation are brought
in step with the weights here, layers and vocabulary by the modules that decide on them.  Everything else stays behind and is
listed in the plan.  A copy of one model (`files_of_copy`) takes the same of it, its weights, and its card.
"""

from __future__ import annotations

import copy
import fnmatch
import json
from collections.abc import Mapping
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.parents import ParentModel
from zoo_index.errors import CheckpointError
from zoo_index.plain import plain
from zoo_index.tensors import DType

__all__ = ["files_of_copy", "files_to_carry", "has_tokenizer", "merged_config"]

_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model*", "*.tiktoken", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "bpe.codes", "normalizer.json", "spiece.model", "*.spm", "spm.model",
    "sentencepiece*.model", "chat_template.json", "chat_template.jinja", "additional_chat_templates/*.jinja", "tekken.json",
    "tokenization_*.py",
)  # fmt: skip
_CONFIG = (
    "generation_config.json", "preprocessor_config.json", "processor_config.json", "image_processor_config.json",
    "video_preprocessor_config.json", "feature_extractor_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "[0-9]*_*/config.json", "configuration_*.py", "modeling_*.py", "processing_*.py",
    "image_processing_*.py", "feature_extraction_*.py",
)  # fmt: skip
_MODULE_WEIGHTS = ("[0-9]*_*/*.safetensors", "[0-9]*_*/pytorch_model*.bin")
"""Weights of a sentence-transformers module beside the transformer, like ``2_Dense/model.safetensors``."""
_INDEX = "model.safetensors.index.json"
_WEIGHTS = ("model.safetensors", _INDEX, "model-[0-9]*-of-[0-9]*.safetensors")
_CARD = "README.md"
"""Says under which licence a model is, which the card of a merge asks of every parent's."""


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def has_tokenizer(model: ParentModel) -> bool:
    """Whether a model's folder holds a tokenizer."""
    return any(_matches(name, _TOKENIZER) for name in model.source.files())


def files_to_carry(
    config_donor: ParentModel, tokenizer_donor: ParentModel | None
) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """Files (with sizes) taken from the config donor, from the tokenizer donor, and what stays behind of the first.

    Raises `PlanError` for a model of which a part would be lost.
    """
    files = config_donor.source.files()
    module = next((name for name in files if _matches(name, _MODULE_WEIGHTS)), None)
    if module is not None and "modules.json" in files:
        raise PlanError(
            f"{module} holds weights of a sentence-transformers module, which this version does not merge",
            where=str(config_donor.reference),
            hint="merge the transformer alone: copy its folder without modules.json",
        )
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


def files_of_copy(model: ParentModel) -> tuple[str, ...]:
    """The files of a model of which a copy is made, weights included; raises as `files_to_carry` does."""
    own, tokens, _ = files_to_carry(model, model)
    beside = [name for name in (_INDEX, "config.json", _CARD) if name in model.source.files()]
    return (*model.table.headers, *beside, *own, *tokens)


def merged_config(config: Mapping[str, Any], dtype: DType, *, where: str = "config.json") -> dict[str, Any]:
    """The donor's config with the dtype of the merged weights, in the donor's dialect (``dtype`` or ``torch_dtype``).

    What it says of quantisation goes: the merged weights have none (a float8 donor's are written in full).

    Raises `CheckpointError` for a config that cannot be written again: nested without end, or no Unicode text.
    """
    plain(dict(config), where=where)
    try:
        json.dumps(config, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            "the config holds half a surrogate pair, which is no text", where=where, hint="fetch or save it again"
        ) from None
    merged = copy.deepcopy(dict(config))
    merged.pop("_name_or_path", None)
    for part in [
        merged,
        *(value for key, value in merged.items() if key.endswith("_config") and isinstance(value, dict)),
    ]:
        part.pop("quantization_config", None)
        key = "torch_dtype" if "torch_dtype" in part else "dtype"
        if key in part or part is merged:
            part[key] = dtype.torch_name
    return merged
