"""What a merge's folder says about how to use it: its config -> task, classes of transformers, processor.

config.json of a model, adapter_config.json of an adapter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cards.errors import CardError
from zoo_index.cache import cached_snapshot
from zoo_index.reference import ModelRef, is_local_name, local_path

__all__ = ["ADAPTER_CONFIG", "ModelFacts", "is_adapter", "read_model_facts"]

ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class _Head:
    pipeline_tag: str | None
    auto_class: str
    what: str


_HEADS = {
    "ForImageClassification": _Head("image-classification", "AutoModelForImageClassification", "an image classifier"),
    "ForSequenceClassification": _Head(
        "text-classification", "AutoModelForSequenceClassification", "a text classifier"
    ),
    "ForTokenClassification": _Head("token-classification", "AutoModelForTokenClassification", "a token classifier"),
    "ForQuestionAnswering": _Head("question-answering", "AutoModelForQuestionAnswering", "a question answering model"),
    "ForMaskedLM": _Head("fill-mask", "AutoModelForMaskedLM", "a masked language model"),
    "ForCausalLM": _Head("text-generation", "AutoModelForCausalLM", "a language model"),
    "LMHeadModel": _Head("text-generation", "AutoModelForCausalLM", "a language model"),
    "ForObjectDetection": _Head("object-detection", "AutoModelForObjectDetection", "an object detector"),
    "ForSemanticSegmentation": _Head(
        "image-segmentation", "AutoModelForSemanticSegmentation", "a semantic segmentation model"
    ),
    "ForAudioClassification": _Head("audio-classification", "AutoModelForAudioClassification", "an audio classifier"),
    "ForCTC": _Head("automatic-speech-recognition", "AutoModelForCTC", "a speech recogniser"),
    "ForSpeechSeq2Seq": _Head("automatic-speech-recognition", "AutoModelForSpeechSeq2Seq", "a speech recogniser"),
}
_IMAGE_TEXT = _Head("image-text-to-text", "AutoModelForImageTextToText", "a model of images and text")
_SEQ2SEQ = _Head(None, "AutoModelForSeq2SeqLM", "a sequence-to-sequence model")
_ANY = _Head(None, "AutoModel", "a model without a task of its own")
_ADAPTER_TASKS = {
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
"""PEFT's task_type -> the ending of the class it is for."""
_ADAPTERS = {"LORA": "a LoRA adapter"}
"""What the field calls an adapter of PEFT's peft_type."""


@dataclass(frozen=True)
class ModelFacts:
    """What the card's code and metadata need.  processor: the Auto class of what prepares inputs, None without one.

    base: the model an adapter belongs to (None for a model), at base_revision if that is known; peft_type: what kind of adapter it is.
    """

    architecture: str
    pipeline_tag: str | None
    auto_class: str
    what: str
    processor: str | None
    labels: tuple[str, ...]
    base: str | None = None
    peft_type: str = ""
    base_revision: str | None = None


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds a PEFT adapter and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def read_model_facts(folder: Path) -> ModelFacts:
    """The facts of the model or adapter in `folder`; `CardError` when its config cannot be read."""
    if is_adapter(folder):
        return _adapter_facts(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = config.get("architectures") or []
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise CardError(f"config.json cannot be read ({error})", where=str(folder), hint="merge again") from error
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    head = _head_of(architecture)
    if architecture.endswith("ForConditionalGeneration"):
        head = _IMAGE_TEXT if "vision_config" in config else _SEQ2SEQ
    labels = config.get("id2label")
    return ModelFacts(
        architecture=architecture,
        pipeline_tag=head.pipeline_tag,
        auto_class=head.auto_class,
        what=head.what,
        processor=_processor(folder),
        labels=tuple(str(label) for label in labels.values()) if isinstance(labels, dict) else (),
    )


def _head_of(architecture: str) -> _Head:
    return next((head for ending, head in _HEADS.items() if architecture.endswith(ending)), _ANY)


def _adapter_facts(folder: Path) -> ModelFacts:
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base, kind = str(config["base_model_name_or_path"] or ""), str(config.get("peft_type") or "adapter")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise CardError(f"{ADAPTER_CONFIG} cannot be read ({error})", where=str(folder), hint="merge again") from error
    task = str(config.get("task_type") or "")
    revision = config.get("revision")
    known = _HEADS.get(_ADAPTER_TASKS.get(task, "")) or _head_of_base(base, revision)
    head = _SEQ2SEQ if task == "SEQ_2_SEQ_LM" else known
    return ModelFacts(
        architecture="",
        pipeline_tag=head.pipeline_tag,
        auto_class=head.auto_class,
        what=f"{_ADAPTERS.get(kind.upper(), f'an adapter ({kind})')} for {head.what}",
        processor=_processor(folder),
        labels=(),
        base=base,
        peft_type=kind.lower(),
        base_revision=str(revision) if revision else None,
    )


def _head_of_base(base: str, revision: Any) -> _Head:
    """What the base model of an adapter is, where it is on this disk: many adapters do not say what they are for."""
    snapshot = None if is_local_name(base) or not base else cached_snapshot(ModelRef(base, revision))
    folder = snapshot.folder if snapshot is not None else local_path(base)
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
        return _head_of(str(names[0]))
    except (OSError, ValueError, LookupError, TypeError):  # it is somewhere else, or does not say
        return _ANY


def _processor(folder: Path) -> str | None:
    has_images = (folder / "preprocessor_config.json").is_file()
    has_text = any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))
    if (folder / "processor_config.json").is_file() or (has_images and has_text):
        return "AutoProcessor"
    if has_images:
        return "AutoImageProcessor"
    return "AutoTokenizer" if has_text else None
