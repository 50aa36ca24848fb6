"""What a merged model's folder says about how to use it: config.json -> task, classes of transformers, processor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cards.errors import CardError

__all__ = ["ModelFacts", "read_model_facts"]


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


@dataclass(frozen=True)
class ModelFacts:
    """What the card's code and metadata need.  processor: the Auto class of what prepares inputs, None without one."""

    architecture: str
    pipeline_tag: str | None
    auto_class: str
    what: str
    processor: str | None
    labels: tuple[str, ...]


def read_model_facts(folder: Path) -> ModelFacts:
    """The facts of the model in `folder`; `CardError` when its config.json cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = config.get("architectures") or []
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise CardError(f"config.json cannot be read ({error})", where=str(folder), hint="merge again") from error
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    head = next((head for ending, head in _HEADS.items() if architecture.endswith(ending)), _ANY)
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


def _processor(folder: Path) -> str | None:
    has_images = (folder / "preprocessor_config.json").is_file()
    has_text = any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))
    if (folder / "processor_config.json").is_file() or (has_images and has_text):
        return "AutoProcessor"
    if has_images:
        return "AutoImageProcessor"
    return "AutoTokenizer" if has_text else None
