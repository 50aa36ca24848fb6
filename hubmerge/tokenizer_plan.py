"""Which tokenizer a merge gets, what is written of it, and how the rows of embeddings and heads follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hubmerge.carry import has_tokenizer
from hubmerge.chat_template import STALE_TEMPLATES, TEMPLATE_FILE, template_files, unknown_markers
from hubmerge.errors import PlanError
from hubmerge.merged_vocabulary import merge_vocabularies
from hubmerge.parents import ParentModel
from hubmerge.plan_types import VocabularyRows
from hubmerge.recipe import Recipe
from hubmerge.recipe_tokenizer import TokenizerPart
from hubmerge.row_maps import RowPlan, vocabulary_tensors
from hubmerge.tokenizer import extended_settings
from hubmerge.vocabulary import Vocabulary, hole, read_object, read_vocabulary
from hubmerge.vocabulary_report import rows_report
from zoo_index.errors import HubmergeError

__all__ = ["TokenizerPlan", "plan_tokenizer"]

_REWRITTEN = (
    "tokenizer.json", "vocab.json", "vocab.txt", "vocab.bpe", "merges.txt", "added_tokens.json", "tokenizer.model",
    "tokenizer.model.v3", "spiece.model", "sentencepiece.bpe.model", "spm.model",
)  # fmt: skip
"""Files that would say something else than a tokenizer.json with tokens added."""
_SETTINGS = "tokenizer_config.json"
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class TokenizerPlan:
    """The outcome.

    donor: index of the model whose tokenizer files go along, None when there is no tokenizer.  texts: files that are
    written; stale: files of the donor that they replace.  rows: where rows come from, None when no tensor is sized by a
    vocabulary or the recipe does not ask for one.  config: the config of the merge, from its donor's.
    """

    donor: int | None
    texts: Mapping[str, str] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()
    rows: RowPlan | None = None
    vocabulary: VocabularyRows | None = None
    other_ids: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def config(self, config: Mapping[str, Any], models: Sequence[ParentModel], donor: int) -> Mapping[str, Any]:
        """The config of model `donor` with the size of the vocabulary and, where its ids have other meanings, with theirs.

        Parts of the config that are about the same vocabulary (text_config and its like) are written anew as well.
        """
        if self.rows is None or self.donor is None:
            return config
        source = models[self.donor].config if self.other_ids else config
        merged = _with_ids(config, source)
        size, before = self.rows.rows, self.rows.tensors[donor].rows
        inner = False
        for key, part in merged.items():
            if (
                isinstance(part, Mapping)
                and "vocab_size" in part
                and (key == "text_config" or part["vocab_size"] == before)
            ):
                theirs = source.get(key)
                merged[key] = {**_with_ids(part, theirs if isinstance(theirs, Mapping) else part), "vocab_size": size}
                inner = True
        return merged if inner and "vocab_size" not in merged else {**merged, "vocab_size": size}


def _with_ids(config: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the ids of special tokens (bos_token_id and its like) that `source` has."""
    kept = {key: value for key, value in config.items() if not key.endswith("_token_id")}
    ids = {key: value for key, value in source.items() if key.endswith("_token_id")}
    return {
        key: ids[key] if key in ids else kept[key]
        for key in dict.fromkeys([*config, *ids])
        if key in ids or key in kept
    }


def plan_tokenizer(recipe: Recipe, models: Sequence[ParentModel], donor: int) -> TokenizerPlan:
    """Decide tokenizer, vocabulary and chat template.

    donor: index of the model that gives its config.  Raises `PlanError` for all faults together: models and tokens that
    are not there, tokenizers that cannot be read, rows without tokens.
    """
    wish = recipe.tokenizer
    if wish is None and recipe.tokenizer_source is not None:
        wish = TokenizerPart(source=recipe.tokenizer_source)
    plan = _carried(models, donor) if wish is None else _asked_for(recipe, wish, models, donor)
    return _with_template(plan, recipe, models)


def _carried(models: Sequence[ParentModel], donor: int) -> TokenizerPlan:
    """The donor's tokenizer, else the first; warned of when ids mean other tokens elsewhere."""
    lead = next((i for i in (donor, *range(len(models))) if has_tokenizer(models[i])), None)
    if lead is None:
        return TokenizerPlan(None)
    signature = models[lead].record.tokenizer_signature
    warnings = []
    for i, model in enumerate(models):
        other = model.record.tokenizer_signature if i != lead and vocabulary_tensors(model).rows else None
        if signature is not None and other is not None and other != signature:
            warnings.append(_disagreement(models[lead], model))
    return TokenizerPlan(lead, warnings=tuple(text for text in warnings if text))


def _disagreement(first: ParentModel, other: ParentModel) -> str:
    """How many ids stand for different tokens in two models; empty when none does."""
    pair = f"{first.reference} and {other.reference}"
    try:
        left, right = (read_vocabulary(model.source, str(model.reference)) for model in (first, other))
    except HubmergeError:
        left = right = None
    hint = "`tokenizer_source: base` or union aligns rows by token"
    if left is None or right is None:
        return f"{pair} have different tokenizers: one row of the embeddings can stand for two tokens; {hint}"
    mine, theirs = ({number: token for token, number in each.ids.items()} for each in (left, right))
    shared = mine.keys() & theirs.keys()
    differ = sorted(number for number in shared if mine[number] != theirs[number])
    if not differ:
        return ""
    shown = ", ".join(f"{number} is {_said(mine[number])} and {_said(theirs[number])}" for number in differ[:_SHOWN])
    return f"{pair}: {len(differ):,} of {len(shared):,} ids stand for different tokens ({shown}); {hint}"


def _said(token: str) -> str:
    return "nothing" if token.startswith(hole(0)[0]) else repr(token)


def _asked_for(recipe: Recipe, wish: TokenizerPart, models: Sequence[ParentModel], donor: int) -> TokenizerPlan:
    key = "tokenizer_source" if recipe.tokenizer is None else "tokenizer.source"
    lead = _lead(wish.source, models, donor, key)
    notes = []
    if wish.source == "base" and recipe.base_model is None:
        notes.append(
            f"no base_model is named; the tokenizer of base is that of {models[donor].reference}, listed first"
        )
    tensors = tuple(vocabulary_tensors(model) for model in models)
    if not any(each.rows for each in tensors) or _all_the_same(wish, models, [each.rows for each in tensors]):
        _refuse_union_without_rows(wish, models, key)
        return TokenizerPlan(lead, notes=tuple(notes))
    read = _read_all(models, recipe, donor)
    notes += [
        f"{models[i].reference} has no tokenizer and is taken to have that of {models[donor].reference}"
        for i in range(len(models))
        if not has_tokenizer(models[i])
    ]
    merged = merge_vocabularies(
        wish, recipe, models, read, tensors, lead=lead, base=donor if recipe.base_model else None
    )
    texts: dict[str, str] = {}
    if merged.document is not None:
        texts["tokenizer.json"] = json.dumps(merged.document, ensure_ascii=False, indent=2) + "\n"
        settings = extended_settings(_settings(models[lead]), merged.document)
        if settings is not None:
            texts[_SETTINGS] = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    stale = frozenset((*_REWRITTEN, *texts) if texts else ())
    other = lead != donor and not _same_ids(read[lead], read[donor])
    if other:
        notes.append(
            f"the ids of special tokens in config.json are those of {models[lead].reference}, whose vocabulary is taken"
        )
    return TokenizerPlan(
        lead,
        texts,
        stale,
        merged.rows,
        rows_report(merged.rows, merged.left, models),
        other,
        merged.warnings,
        (*notes, *merged.notes),
    )


def _lead(source: str, models: Sequence[ParentModel], donor: int, key: str) -> int:
    """The model whose tokenizer is the first of the merge, or all of it."""
    if source in {"base", "union"}:
        holders: list[int] = [i for i in (donor, *range(len(models))) if has_tokenizer(models[i])]
        if donor in holders or (source == "union" and holders):
            return holders[0]
        hint = "save a tokenizer with it, or name a model that has one"
    else:
        chosen = next(i for i, m in enumerate(models) if source in {str(m.reference), str(m.reference.model)})
        if has_tokenizer(models[chosen]):
            return chosen
        donor = chosen
        hint = "write base, or another of " + ", ".join(str(model.reference) for model in models)
    raise PlanError(f"{models[donor].reference} has no tokenizer", where=key, hint=hint)


def _all_the_same(wish: TokenizerPart, models: Sequence[ParentModel], rows: Sequence[int]) -> bool:
    """Whether one tokenizer, in a form that need not be understood, is all models': as nothing moves, nothing is read."""
    signatures = {model.record.tokenizer_signature for model in models}
    plain = not wish.tokens and not wish.pad_to_multiple_of
    unread = any("tokenizer.json" not in model.source.files() for model in models)
    return plain and unread and len(signatures) == 1 and None not in signatures and len(set(rows)) == 1


def _refuse_union_without_rows(wish: TokenizerPart, models: Sequence[ParentModel], key: str) -> None:
    holders = [model for model in models if has_tokenizer(model)]
    if wish.source == "union" and len({model.record.tokenizer_signature for model in holders}) > 1:
        raise PlanError(
            "the models have different tokenizers, and no embeddings whose rows could follow a union of them",
            where=f"{key}: union",
            hint="write base, or one of " + ", ".join(str(model.reference) for model in holders),
        )


def _read_all(models: Sequence[ParentModel], recipe: Recipe, donor: int) -> list[Vocabulary]:
    """Every model's vocabulary; that of a model without a tokenizer is the base model's."""
    read: list[Vocabulary | None] = []
    faults: list[HubmergeError] = []
    for model in models:
        try:
            read.append(read_vocabulary(model.source, str(model.reference)))
        except PlanError as fault:
            faults.append(fault)
            read.append(None)
            continue
        if read[-1] is None and recipe.base_model is None:
            hint = "name the base_model whose tokenizer it has, or save a tokenizer with it"
            faults.append(PlanError("it has no tokenizer", where=str(model.reference), hint=hint))
    if not faults and read[donor] is None:
        hint = "save a tokenizer with it, or leave out tokenizer_source and tokenizer"
        faults.append(PlanError("it has no tokenizer", where=str(models[donor].reference), hint=hint))
    if faults:
        raise PlanError.of(faults)
    base = read[donor]
    return [each for vocabulary in read if (each := vocabulary or base) is not None]


def _same_ids(left: Vocabulary, right: Vocabulary) -> bool:
    return left is right or dict(left.ids) == dict(right.ids)


def _with_template(plan: TokenizerPlan, recipe: Recipe, models: Sequence[ParentModel]) -> TokenizerPlan:
    if recipe.chat_template is None:
        return plan
    if plan.donor is None:
        raise PlanError(
            "a chat template belongs to a tokenizer, and none of the models has one",
            where="chat_template",
            hint="leave it out, or merge models with their tokenizers",
        )
    order = [plan.donor, *(i for i in range(len(models)) if i != plan.donor)]
    settings = json.loads(plan.texts[_SETTINGS]) if _SETTINGS in plan.texts else _settings(models[plan.donor])
    files = template_files(recipe.chat_template, [models[i].source for i in order], settings)
    if files is None:
        told = "chat_template: auto finds none, as no model has a chat template"
        return replace(plan, warnings=(*plan.warnings, told))
    texts = {**plan.texts, **files}
    unread = _unread_markers(files[TEMPLATE_FILE], texts, models[plan.donor])
    stale = frozenset({*plan.stale, *STALE_TEMPLATES, *files})
    return replace(plan, texts=texts, stale=stale, warnings=(*plan.warnings, *unread))


def _settings(model: ParentModel) -> dict[str, Any]:
    """A model's tokenizer_config.json; empty when it has none."""
    return read_object(model.source, _SETTINGS, str(model.reference)) if _SETTINGS in model.source.files() else {}


def _unread_markers(template: str, texts: Mapping[str, str], donor: ParentModel) -> list[str]:
    """A warning of markers of a template that are no tokens of the merge."""
    try:
        vocabulary = read_vocabulary(donor.source, str(donor.reference))
    except HubmergeError:
        return []
    tokens = set(vocabulary.ids if vocabulary else ())
    if "tokenizer.json" in texts:
        tokens |= {row["content"] for row in json.loads(texts["tokenizer.json"])["added_tokens"]}
    unknown = unknown_markers(template, tokens) if tokens else ()
    if not unknown:
        return []
    named = ", ".join(unknown)
    return [
        f"the chat template writes {named}, which the tokenizer cuts into pieces; add them under tokenizer: tokens:"
    ]
