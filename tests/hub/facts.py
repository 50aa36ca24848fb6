"""All the Hub can tell about a repository at one commit, by the names of the API's `expand` parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import yaml

from hub.cards import base_models, base_relation, card_tags, read_card, strings
from hub.repository import Commit, Repository
from hub.state import HubState
from hub.weights import safetensors_info

__all__ = ["DATASET_FIELDS", "MODEL_FIELDS", "Facts", "iso"]

_AUTO_CLASSES = (  # ending of an architecture's name -> transformers' Auto class, task
    ("ForCausalLM", "AutoModelForCausalLM", "text-generation"),
    ("LMHeadModel", "AutoModelForCausalLM", "text-generation"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "AutoModelForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "AutoModelForQuestionAnswering", "question-answering"),
    ("ForMaskedLM", "AutoModelForMaskedLM", "fill-mask"),
    ("ForImageClassification", "AutoModelForImageClassification", "image-classification"),
    ("Model", "AutoModel", "feature-extraction"),
)


def iso(moment: datetime) -> str:
    """A date as the API writes it: UTC, milliseconds, Z."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _some(values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


@dataclass
class Facts:
    """One repository at one commit; everything is read when first asked for."""

    state: HubState
    repository: Repository
    commit: Commit

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.commit.tree)

    def text(self, name: str) -> str | None:
        entry = self.commit.tree.get(name)
        return self.state.objects.read(entry.sha256).decode("utf-8", "replace") if entry else None

    def json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self.text(name) or "{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def card(self) -> dict[str, Any]:
        return read_card(self.text("README.md") or "")

    @cached_property
    def model_config(self) -> dict[str, Any]:
        return self.json("config.json")

    @cached_property
    def auto_class(self) -> tuple[str, str] | None:
        """transformers' Auto class for the model and its task."""
        architecture = next(iter(strings(self.model_config.get("architectures"))), "")
        return next(((auto, task) for ending, auto, task in _AUTO_CLASSES if architecture.endswith(ending)), None)

    @cached_property
    def pipeline_tag(self) -> str | None:
        stated = next(iter(strings(self.card.get("pipeline_tag"))), None)
        inferred = self.auto_class[1] if self.auto_class and self.card.get("library_name") == "transformers" else None
        return stated or inferred

    @cached_property
    def relation(self) -> str | None:
        return base_relation(self.card, self.model_config, self.files)

    @cached_property
    def tags(self) -> list[str]:
        return card_tags(
            self.card,
            config=self.model_config,
            files=self.files,
            pipeline_tag=self.pipeline_tag,
            relation=self.relation,
        )

    @cached_property
    def safetensors(self) -> dict[str, Any] | None:
        return safetensors_info(self.commit.tree, self.state.objects)

    def config_summary(self) -> dict[str, Any] | None:
        """The API's extract of config.json, tokenizer_config.json and adapter_config.json: no sizes in it."""
        summary = _some(self.model_config, ("architectures", "model_type", "quantization_config", "auto_map"))
        tokenizer = self.json("tokenizer_config.json")
        if found := _some(tokenizer, ("bos_token", "eos_token", "unk_token", "pad_token", "chat_template")):
            summary["tokenizer_config"] = found
        if adapter := self.json("adapter_config.json"):
            summary["peft"] = _some(adapter, ("base_model_name_or_path", "task_type"))
        return summary or None

    def transformers_info(self) -> dict[str, Any] | None:
        if self.card.get("library_name") != "transformers" or self.auto_class is None:
            return None
        processor = "AutoTokenizer" if "tokenizer_config.json" in self.files else None
        info = {"auto_model": self.auto_class[0], "pipeline_tag": self.auto_class[1]}
        return {**info, "processor": processor} if processor else info

    def base_models(self) -> dict[str, Any] | None:
        """Parents that exist here (with the id they have now); others only keep their tags."""
        parents = []
        for name in base_models(self.card):
            found = self.state.find("models", self.state.moved.get(("models", name.lower()), name))
            if found is not None and not found.private:
                parents.append({"_id": found.number, "id": found.id})
        return {"relation": self.relation, "models": parents} if parents else None

    def children(self) -> int:
        tag = f"base_model:{self.repository.id}"
        others = [other for (kind, _), other in self.state.repositories.items() if kind == "models"]
        return sum(tag in Facts(self.state, other, other.head).tags for other in others if not other.private)

    def siblings(self, *, blobs: bool = False) -> list[dict[str, Any]]:
        rows = []
        for path, entry in self.commit.tree.items():
            row: dict[str, Any] = {"rfilename": path}
            if blobs:
                row |= {"blobId": entry.oid, "size": entry.size}
                if entry.lfs:
                    row["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
            rows.append(row)
        return rows

    def used_storage(self) -> int:
        contents = {e.sha256: e.size for commit in self.repository.commits.values() for e in commit.tree.values()}
        return sum(contents.values())

    def eval_results(self) -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = []
        for name in self.files:
            if not name.startswith(".eval_results/") or not name.endswith((".yaml", ".yml")):
                continue
            try:
                entries = yaml.safe_load(self.text(name) or "")
            except yaml.YAMLError as error:
                found.append({"filename": name, "error": str(error)})
                continue
            found += [{"filename": name, "data": entry} for entry in entries or [] if isinstance(entry, dict)]
        return found or None


Field = Callable[[Facts], Any]

_COMMON: Mapping[str, Field] = {
    "author": lambda facts: facts.repository.namespace,
    "cardData": lambda facts: facts.card or None,
    "createdAt": lambda facts: iso(facts.repository.created),
    "disabled": lambda facts: facts.repository.disabled,
    "downloads": lambda facts: facts.repository.downloads,
    "downloadsAllTime": lambda facts: facts.repository.downloads,
    "gated": lambda facts: facts.repository.gated,
    "lastModified": lambda facts: iso(facts.repository.last_modified),
    "likes": lambda facts: facts.repository.likes,
    "private": lambda facts: facts.repository.private,
    "resourceGroup": lambda facts: None,
    "sha": lambda facts: facts.commit.id,
    "siblings": lambda facts: facts.siblings(),
    "tags": lambda facts: facts.tags,
    "trendingScore": lambda facts: facts.repository.likes,
    "usedStorage": Facts.used_storage,
}

MODEL_FIELDS: Mapping[str, Field] = {
    **_COMMON,
    "baseModels": Facts.base_models,
    "childrenModelCount": Facts.children,
    "config": Facts.config_summary,
    "evalResults": Facts.eval_results,
    "gguf": lambda facts: None,
    "inference": lambda facts: None,
    "inferenceProviderMapping": lambda facts: [],
    "library_name": lambda facts: next(iter(strings(facts.card.get("library_name"))), None),
    "mask_token": lambda facts: facts.json("tokenizer_config.json").get("mask_token"),
    "model-index": lambda facts: facts.card.get("model-index"),
    "pipeline_tag": lambda facts: facts.pipeline_tag,
    "safetensors": lambda facts: facts.safetensors,
    "spaces": lambda facts: [],
    "transformersInfo": Facts.transformers_info,
    "widgetData": lambda facts: facts.card.get("widget"),
}
"""expand name -> how it is found; a value of None is left out of the answer."""

DATASET_FIELDS: Mapping[str, Field] = {**_COMMON, "description": lambda facts: None, "citation": lambda facts: None}
"""The same for datasets and spaces."""
