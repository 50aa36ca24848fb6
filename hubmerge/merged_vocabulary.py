"""The vocabulary of a merge: whose tokens, in which order, and what the recipe says of single ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError, shown
from hubmerge.parents import ParentModel
from hubmerge.recipe import Recipe
from hubmerge.recipe_tokenizer import TokenEntry, TokenizerPart, TokenSource
from hubmerge.row_maps import RowPlan, VocabularyTensors, own_rows
from hubmerge.tokenizer import NewToken, alike, extended_document, union_tokens
from hubmerge.vocabulary import Vocabulary, hole
from zoo_index.errors import HubmergeError

__all__ = ["MergedVocabulary", "merge_vocabularies"]


@dataclass(frozen=True, eq=False)
class MergedVocabulary:
    """The rows, and the tokenizer.json to write (None: the leading model's goes along as it is).

    left: for each model how many of its tokens are not in the merge.
    """

    rows: RowPlan
    document: Mapping[str, Any] | None
    left: tuple[int, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Merging:
    """What is known while the tokens of the recipe are looked at."""

    models: Sequence[ParentModel]
    read: Sequence[Vocabulary]
    rows: Sequence[int]
    faults: list[HubmergeError]

    def index(self, source: TokenSource, where: str) -> int | None:
        named = [source.model in {model.reference, model.reference.model} for model in self.models]
        found = named.index(True) if any(named) else None
        if found is None:
            hint = "name one of " + ", ".join(str(model.reference) for model in self.models)
            self.faults.append(PlanError(f"{source.model} is none of the models", where=where, hint=hint))
        return found

    def row(self, token: str, source: TokenSource, where: str) -> tuple[int, int] | None:
        """The model and row that a recipe names for a token."""
        model = self.index(source, where)
        if model is None:
            return None
        name, rows = self.models[model].reference, self.rows[model]
        if source.token_id is not None:
            if source.token_id < rows:
                return model, source.token_id
            hint = f"its rows are 0 to {rows - 1}"
            self.faults.append(PlanError(f"{name} has no row {source.token_id}", where=where, hint=hint))
            return None
        wanted = source.token if source.token is not None else token
        number = self.read[model].ids.get(wanted, rows)
        if number < rows:
            return model, number
        hint = "name a model that has it, or another of its tokens: {kind: model_token, model: ..., token: ...}"
        self.faults.append(PlanError(f"{name} has no token {shown(wanted)}", where=where, hint=hint))
        return None


def merge_vocabularies(
    wish: TokenizerPart,
    recipe: Recipe,
    models: Sequence[ParentModel],
    read: Sequence[Vocabulary],
    tensors: Sequence[VocabularyTensors],
    *,
    lead: int,
    base: int | None,
) -> MergedVocabulary:
    """The vocabulary that `wish` asks for.

    read, tensors: of each model, in order.  lead: the model whose ids are kept; base: that whose rows stand in first.
    Raises `PlanError` for all faults together.
    """
    faults: list[HubmergeError] = []
    rows = [each.rows for each in tensors]
    faults += _short_faults(recipe, models, read, rows, base)
    order = [lead, *(i for i in range(len(models)) if i != lead)]
    ordered = [read[i] for i in order]
    tokens = _by_number(read[lead])
    new = union_tokens(ordered, [rows[i] for i in order], len(tokens)) if wish.source == "union" else []
    tokens += [token.token for token in new]
    numbers = {**read[lead].ids, **{token: number for number, token in enumerate(tokens)}}
    sources: dict[int, tuple[int, int] | None] = {}
    forced: set[int] = set()
    merging = _Merging(models, read, rows, faults)
    for token, entry in wish.tokens.items():
        where = f"tokenizer.tokens.{token}"
        held = [at for at, i in enumerate(order) if read[i].ids.get(token, rows[i]) < rows[i]]
        if not _entry_is_clear(token, entry, held, where, faults):
            continue
        if token not in numbers:
            numbers[token] = len(tokens)
            flags = ordered[held[0]].added.get(token, {}) if held else {"special": True}
            new.append(NewToken(token, len(tokens), held[0] if held else None, flags))
            tokens.append(token)
        number = numbers[token]
        if entry.source is not None:
            sources[number] = None if entry.source.kind == "zero" else merging.row(token, entry.source, where)
        if entry.force:
            forced.add(number)
    if new and read[lead].document is None:
        name = models[lead].reference
        hint = f"AutoTokenizer.from_pretrained({str(name)!r}).save_pretrained(...) writes one"
        faults.append(
            PlanError("tokens cannot be added to a tokenizer without tokenizer.json", where=str(name), hint=hint)
        )
    if faults:
        raise PlanError.of(faults)
    multiple = wish.pad_to_multiple_of or 1
    plan = RowPlan(
        len(tokens),
        -len(tokens) % multiple,
        tuple(own_rows(tokens, vocabulary.ids, count) for vocabulary, count in zip(read, rows, strict=True)),
        tuple(tensors),
        base,
        sources,
        frozenset(forced),
    )
    left = tuple(
        sum(_is_left(t, n, numbers, count) for t, n in v.ids.items()) for v, count in zip(read, rows, strict=True)
    )
    document = extended_document(ordered, new) if new else None
    warnings = (*_zero_rows(plan, tokens), *_unreached(ordered, new, [str(models[i].reference) for i in order]))
    return MergedVocabulary(plan, document, left, warnings, _rowless(models, read, rows))


def _by_number(vocabulary: Vocabulary) -> list[str]:
    names = [hole(number) for number in range(vocabulary.size)]
    for token, number in vocabulary.ids.items():
        names[number] = token
    return names


def _is_left(token: str, number: int, numbers: Mapping[str, int], rows: int) -> bool:
    return number < rows and token not in numbers and token != hole(number)


def _entry_is_clear(
    token: str, entry: TokenEntry, held: Sequence[int], where: str, faults: list[HubmergeError]
) -> bool:
    hint = "write source: a model, {kind: model_token, model: ..., token: ...} or {kind: zero}"
    if entry.source is None and entry.force:
        faults.append(PlanError("force needs the source of the row that all models are given", where=where, hint=hint))
    elif entry.source is None and not held:
        faults.append(PlanError(f"no model has the token {shown(token)}, so it has no row", where=where, hint=hint))
    else:
        return True
    return False


def _short_faults(
    recipe: Recipe, models: Sequence[ParentModel], read: Sequence[Vocabulary], rows: Sequence[int], base: int | None
) -> list[HubmergeError]:
    """Models that have no tokenizer of their own and too few rows for the base's."""
    if base is None:
        return []
    return [
        PlanError(
            f"it has no tokenizer, and {rows[i]:,} rows for the {read[base].size:,} tokens of {recipe.base_model}",
            where=str(model.reference),
            hint="save its tokenizer with it",
        )
        for i, model in enumerate(models)
        if i != base and read[i] is read[base] and 0 < rows[i] < min(read[base].size, rows[base])
    ]


def _zero_rows(plan: RowPlan, tokens: Sequence[str]) -> list[str]:
    nowhere = [tokens[number] for number in plan.nowhere() if tokens[number] != hole(int(number))]
    if not nowhere:
        return []
    count = f"{len(nowhere):,} tokens have" if len(nowhere) > 1 else "one token has"
    return [f"{count} no row in any model and get{'s' * (len(nowhere) == 1)} zeros (first {shown(nowhere[0])})"]


def _unreached(ordered: Sequence[Vocabulary], new: Sequence[NewToken], names: Sequence[str]) -> list[str]:
    """Tokens that are in the vocabulary and that no text is encoded to, as the two tokenizers cut text in other ways."""
    found = []
    for at, other in enumerate(ordered[1:], start=1):
        count = sum(token.holder == at and token.flags is None for token in new)
        if count and not alike(ordered[0], other):
            found.append(
                f"{names[at]} cuts text in another way than {names[0]}: its {count:,} ordinary tokens get ids and rows, "
                "and few or no texts are encoded to them"
            )
    return found


def _rowless(models: Sequence[ParentModel], read: Sequence[Vocabulary], rows: Sequence[int]) -> tuple[str, ...]:
    counts = [
        (model, sum(number >= count for number in vocabulary.ids.values()))
        for model, vocabulary, count in zip(models, read, rows, strict=True)
    ]
    return tuple(
        f"{model.reference}: {count:,} of its tokens have no row in its embeddings and are taken as unknown to it"
        for model, count in counts
        if count
    )
