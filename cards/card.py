"""`render_card`: (manifest, model, parents, verdict, results) -> the text of a model card.  Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from cards import card_words, markdown
from cards.adapter_words import adapter_words
from cards.alignment_words import alignment_words
from cards.assembly_words import AssemblyWords, assembly_words
from cards.card_tables import comparison_lines, data_lines, results_table, scores_sentence
from cards.disentangled_words import disentangled_words
from cards.layers_words import layers_words
from cards.licence import Verdict
from cards.model_facts import ModelFacts
from cards.parents import ParentFacts
from cards.prepared_words import prepared_words
from cards.public import public_manifest
from cards.results import Results
from hubmerge.manifest import Manifest
from zoo_index.reference import is_local_name, local_path

__all__ = ["render_card"]


def render_card(
    manifest: Manifest,
    *,
    name: str,
    model: ModelFacts,
    parents: Sequence[ParentFacts],
    verdict: Verdict,
    results: Results | None = None,
) -> str:
    """The card of a merge under the public name `name`, with its YAML front matter.

    results: an evaluation that holds this merge and, for comparison, its parents; None says so in the card.  Raises
    `ResultsError` when `results` hold nothing about this merge.  No local path comes into the text.
    """
    from huggingface_hub import ModelCard

    public = public_manifest(manifest)
    body = (
        _environment()
        .get_template("card.md.jinja")
        .render(
            name=name,
            model=model,
            parents=parents,
            verdict=verdict,
            results=results,
            warnings=public.warnings,
            assemblies=_assemblies(public, [each.name for each in parents if each.role == "parent"]),
            alignment=alignment_words(public.alignment),
            **_sentences(public, name, model, parents, verdict),
            **_evaluation(public, parents, results),
        )
    )
    front = _metadata(public, name, model=model, parents=parents, verdict=verdict, results=results).to_yaml()
    return str(ModelCard(f"---\n{front}\n---\n\n{body.strip()}\n"))


def _assemblies(public: Manifest, merged: Sequence[str]) -> list[AssemblyWords]:
    """What was done beside merging tensor by tensor, each with a table.  merged: the parents' names."""
    whole = assembly_words(public.assembly) or layers_words(public.layers) or adapter_words(public.adapters, merged)
    found = disentangled_words(public.disentangled, prepared_words(public.prepared))
    return [words for words in (whole, found) if words is not None]


def _environment() -> Any:
    """Jinja's sandbox with escaping on: cards, labels and names are written by strangers."""
    from jinja2 import PackageLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=PackageLoader("cards"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        text=markdown.text,
        fenced=markdown.fenced,
        names=card_words.join_names,
        linked=card_words.linked,
        url=card_words.url,
        state=card_words.state,
        coefficients=card_words.coefficients,
        licences=card_words.licences,
    )
    return environment


def _metadata(
    manifest: Manifest,
    name: str,
    *,
    model: ModelFacts,
    parents: Sequence[ParentFacts],
    verdict: Verdict,
    results: Results | None,
) -> Any:
    from huggingface_hub import ModelCardData

    every = [each for parent in parents for each in parent.models]
    hub_ids = _unique(each.hub_id for each in every)
    custom = verdict.licence == "other"
    tags = ["merge", "hubmerge", manifest.method]
    if model.base:
        hub_ids = [model.base] if not is_local_name(model.base) else []
        tags += [model.peft_type, *(f"base_model:adapter:{base}" for base in hub_ids)]
    return ModelCardData(
        base_model=hub_ids or None,
        base_model_relation="adapter" if model.base else "merge",
        library_name="peft" if model.base else "transformers",
        pipeline_tag=model.pipeline_tag,
        tags=tags,
        license=verdict.licence,
        license_name="licences-of-the-parents" if custom else None,
        license_link="README.md" if custom else None,
        language=_unique(word for each in every for word in each.card.languages) or None,
        datasets=_unique(word for each in every for word in each.card.datasets) or None,
        model_name=name if results else None,
        eval_results=results.eval_results(results.merged(manifest.plan_hash)) if results else None,
    )


def _sentences(
    manifest: Manifest, name: str, model: ModelFacts, parents: Sequence[ParentFacts], verdict: Verdict
) -> dict[str, Any]:
    every = [each for parent in parents for each in parent.models]
    folders = _unique(each.name for each in every if each.hub_id is None)
    hub_parents = list({each.hub_id: each for each in every if each.hub_id}.values())
    known = {each.name for each in every}
    unread = _unique(each.name for each in every if not each.card.found)
    return {
        "summary": card_words.summary(manifest, name, model, parents),
        "base_name": local_path(model.base).name if model.base and is_local_name(model.base) else model.base,
        "load_code": card_words.load_code(name, model),
        "hubmerge_code": card_words.hubmerge_code(name),
        "processor_words": card_words.PROCESSOR_WORDS.get(model.processor or ""),
        "method_sentence": card_words.method_sentence(manifest),
        "training_sentence": card_words.training_sentence(manifest),
        "recipe": yaml.safe_dump(manifest.recipe, sort_keys=False, allow_unicode=True, width=100),
        "has_folders": bool(folders),
        "sampled": all(parent.sample for parent in parents),
        "tensor_sentence": card_words.tensor_sentence(manifest),
        "hub_parents": hub_parents,
        "licence_sentence": card_words.licence_sentence(verdict),
        "silent": [name for name in verdict.unlicensed if name not in unread],
        "unknown": [name for name in verdict.unlicensed if name in unread],
        "unread": unread,
        "ancestors": _unique(base for each in every for base in each.card.base_models if base not in known),
        "reproduce_sentence": card_words.reproduce_sentence(folders, hub_parents, card_words.local_data(manifest)),
        "commands": "hubmerge merge recipe.yaml out/\nhubmerge verify out/",
        "exactness_sentence": card_words.exactness_sentence(manifest),
        "versions": card_words.versions(manifest),
    }


def _evaluation(manifest: Manifest, parents: Sequence[ParentFacts], results: Results | None) -> dict[str, Any]:
    if results is None:
        return {
            "columns": (),
            "rows": (),
            "comparisons": (),
            "data_lines": (),
            "stderr_sentence": "",
            "notes": (),
            "scores": "",
        }
    merged = results.merged(manifest.plan_hash)
    roles = {parent.name: parent.role for parent in parents}
    columns, rows = results_table(results, merged, roles)
    sentences = []
    if any(task.is_share for task in merged.tasks):
        sentences.append("The standard error of an accuracy p over n samples is the square root of p (1 − p) / n.")
    if any(task.joint for task in merged.tasks):
        sentences.append("Hits@k is the share of samples whose true label is among the k of highest score.")
    if not all(task.is_share for task in merged.tasks):
        sentences.append(
            "The standard errors of perplexity and bits per byte come from the windows of text, taken as independent."
        )
    if len(results.models) > 1:
        sentences.append("Differences are between models on the same samples, where these were the same for both.")
    return {
        "columns": columns,
        "rows": rows,
        "comparisons": comparison_lines(results, merged, roles),
        "data_lines": data_lines(merged),
        "stderr_sentence": " ".join(sentences),
        "scores": scores_sentence(merged),
        "notes": _unique(
            f"{task.name}: {note}" if model is merged else f"{model.name}, {task.name}: {note}"
            for model in (merged, *(model for model in results.models if model is not merged))
            for task in model.tasks
            for note in task.notes
        ),
    }


def _unique(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))
