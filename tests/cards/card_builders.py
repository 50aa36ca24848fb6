"""Tiny models, data and merges for the tests of cards; every model answers as its test wants."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hubmerge.manifest import FileDigest, Manifest, ParentRecord

LABELS = ("cat", "dog", "owl")


def image_model(
    folder: Path,
    answer: str = "cat",
    labels: Sequence[str] = LABELS,
    *,
    processor: bool = True,
    scores: Mapping[str, float] | None = None,
    width: int = 8,
) -> Path:
    """A ResNet that answers every picture with the label `answer`; scores: with these logits, by label, instead.

    width: of what its head reads.
    """
    labels = tuple(scores or labels)
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1,
        embedding_size=4,
        hidden_sizes=[4, width],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    model = ResNetForImageClassification(config)
    logits = scores or {answer: 1.0}
    _answer_always(model.classifier[1], [logits.get(label, 0.0) for label in labels])
    model.save_pretrained(folder)
    if processor:
        from transformers import ViTImageProcessor

        ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5]).save_pretrained(folder)
    return folder


def text_model(folder: Path, answer: str = "good") -> Path:
    """A DistilBERT that answers every text with the label `answer`."""
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    labels = ("bad", "good")
    config = DistilBertConfig(
        vocab_size=258,
        max_position_embeddings=32,
        dim=8,
        n_heads=2,
        n_layers=1,
        hidden_dim=16,
        pad_token_id=257,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(config)
    _answer_always(model.classifier, [float(label == answer) for label in labels])
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def language_model(folder: Path, *, uniform: bool = False, seed: int = 0, positions: int = 64) -> Path:
    """A Llama over single bytes; `uniform`: it gives each of its 258 tokens the same probability."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=258,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    if uniform:
        torch.nn.init.zeros_(model.lm_head.weight)
    else:
        torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer(*, end: bool = True):
    """One token per byte, 256: ``<end>``, 257: ``<pad>``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"eos_token": "<end>", "pad_token": "<pad>"} if end else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    """An image folder: `counts[label]` grey pictures of 8 x 8 per label."""
    import numpy as np
    from PIL import Image

    for shade, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            picture = np.full((8, 8), 20 * shade + number, dtype=np.uint8)
            Image.fromarray(picture).save(folder / label / f"{number:03}.png")
    return folder


def rows(file: Path, *entries: dict[str, object]) -> Path:
    """A .jsonl file."""
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return file


def card_of(folder: Path, front: str) -> Path:
    """Give a model folder a card with this front matter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n\n# A model\n", encoding="utf-8")
    return folder


def to_be_merged(place: Path, *parents: str) -> Path:
    """An image model named both, beside models of these names whose cards state MIT."""
    for name in parents:
        card_of(image_model(place / name), "license: mit")
    return image_model(place / "both")


def written_card(out: Path) -> str:
    """The text of a merge's card, written now."""
    from huggingface_hub import ModelCard

    from cards import write_card

    write_card(out, overwrite=True)
    return str(ModelCard.load(out / "README.md").text)


def merge_of(
    out: Path, folders: Sequence[Path], *, base: Path | None = None, plan_hash: str = "a" * 64, **changes
) -> Manifest:
    """Make the model folder `out` a merge of `folders`: write the manifest that the engine would."""
    records = [_record(path, "parent", {"weight": 0.5}) for path in folders]
    records += [_record(base, "base", {})] if base else []
    recipe = {
        "merge_method": "ties",
        "models": [{"model": str(path), "parameters": {"weight": 0.5}} for path in folders],
    }
    recipe |= {"base_model": str(base)} if base else {}
    files = {
        path.relative_to(out).as_posix(): FileDigest(
            size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in {"hubmerge.json", "README.md"}
    }
    facts = {
        "hubmerge_version": "0.1.0",
        "plan_hash": plan_hash,
        "recipe": recipe,
        "method": "ties",
        "method_revision": 1,
        "paper": "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
        "parents": tuple(records),
        "config_donor": str(base or (*folders, out)[0]),
        "dtype": "float32",
        "parameters": 1234,
        "tensors": {"merged": 10, "averaged": 4, "counted": 2},
        "versions": {"numpy": "2.4.6"},
        "files": files,
    }
    manifest = Manifest.model_validate(facts | changes)
    (out / "hubmerge.json").write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _record(path: Path, role: str, parameters: dict[str, float]) -> ParentRecord:
    return ParentRecord(
        reference=str(path), role=role, headers={"model.safetensors": "0123456789abcdef" * 4}, parameters=parameters
    )


def _answer_always(layer, logits: Sequence[float]) -> None:
    import torch

    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(logits))
