"""The sentences and table cells of a card, one function each; everything from outside is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cards.licence import Verdict
from cards.markdown import Markup, code, some, text
from cards.model_facts import ModelFacts
from cards.parents import ParentFacts, ParentModel
from hubmerge.manifest import Manifest
from zoo_index.reference import is_local_name, local_path

__all__ = [
    "LOAD_LINE", "PROCESSOR_WORDS", "coefficients", "exactness_sentence", "hubmerge_code", "join_names", "licence_sentence",
    "licences", "linked", "load_code", "local_data", "method_sentence", "recipe_code", "reproduce_sentence", "state", "summary", "tensor_sentence",
    "training_sentence", "url", "versions",
]  # fmt: skip

LOAD_LINE = 'model_id = "{place}"'
"""The line of the card's code that names the folder or the repository; `cards.card_file.rename_card` looks for it."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PROCESSOR_WORDS = {
    "AutoImageProcessor": "image processor",
    "AutoTokenizer": "tokenizer",
    "AutoProcessor": "processor",
}
_TENSOR_WORDS = {
    "merged": "merged by the method",
    "copied": "copied unchanged, because all parents have the same",
    "averaged": "averaged (running statistics, which are no directions in weight space)",
    "counted": "taken from the parent with the largest (counters)",
    "estimated": "estimated anew (statistics of BatchNorm)",
    "kept": "kept as the base model has them",
}
_EXACTNESS = {
    "exact": "The weights come out the same, byte for byte, on every machine.",
    "tolerance": "The method multiplies matrices, so on another machine the last digits can differ; "
    "verify tells whether they are within tolerance.",
}
_DUTIES = {
    "yes": "may be published",
    "ask": "needs a person's decision before it is published",
    "no": "must not be published",
}


def summary(manifest: Manifest, name: str, model: ModelFacts, parents: Sequence[ParentFacts]) -> Markup:
    """What it is and what it was made of."""
    merged = [parent.name for parent in parents if parent.role == "parent"]
    bases = [parent.name for parent in parents if parent.role == "base" and parent.name not in merged]
    details: list[str] = [text(model.architecture)] if model.architecture else []
    details += [f"{manifest.parameters:,} parameters", text(manifest.dtype)]
    relative = f", starting from the base model {join_names(bases)}" if bases else ""
    classes = f" It tells {len(model.labels)} classes apart: {some(model.labels)}." if model.labels else ""
    count = _NUMBERS[len(merged)] if len(merged) < len(_NUMBERS) else str(len(merged))
    models = "model" if len(merged) == 1 else "models"
    if manifest.adapters is not None:
        models, relative = models.replace("model", "LoRA adapter"), f", on {join_names(bases)}" if bases else ""
    made = f"combining the weights of {count} {models}, {join_names(merged)}{relative}"
    if manifest.assembly is not None and manifest.assembly.transport is not None:
        made = _carried(manifest, parents)
    return Markup(
        f"{text(name)} is {model.what} ({', '.join(details)}). It was made by {made}, with the method "
        f"{text(manifest.method)}.{classes}"
    )


def _carried(manifest: Manifest, parents: Sequence[ParentFacts]) -> str:
    """What a merge that carried task vectors did: its base model is one of several, and the only one that it is made of."""
    assert manifest.assembly is not None
    target = next(
        parent.name
        for record, parent in zip(manifest.parents, parents, strict=True)
        if record.reference == manifest.assembly.order[0]
    )
    learned = [parent.name for parent in parents if parent.role == "parent"]
    bases = [parent.name for parent in parents if parent.role == "base" and parent.name != target] or [target]
    return f"adding to {join_names([target])} what {join_names(learned)} learned on top of {join_names(bases)}"


def method_sentence(manifest: Manifest) -> Markup:
    """Which method, of which paper, in which type."""
    paper = f" ({text(manifest.paper)})" if manifest.paper else ""
    return Markup(
        f"By hubmerge {text(manifest.hubmerge_version)}, with the method "
        f"{code(manifest.method)}{paper}, computed in float32 and stored as {text(manifest.dtype)}."
    )


def training_sentence(manifest: Manifest) -> str:
    """Whether anything was fitted, and to what."""
    if manifest.assembly is not None and manifest.assembly.fit == "regmean":
        return "No gradient was followed: its layers were merged by RegMean, on data without labels."
    if manifest.assembly is not None and manifest.assembly.fit == "least_squares":
        return "No gradient was followed: its layers were fitted by least squares, on data without labels."
    if manifest.prepared is not None and manifest.prepared.calibration:
        return "No weight was trained; gradients on data were taken to find coefficients, and nothing else."
    return "No training took place."


def exactness_sentence(manifest: Manifest) -> str:
    """How near another machine comes to these weights."""
    if manifest.prepared is not None and manifest.prepared.calibration:
        return (
            "Models are run on data to find the coefficients, so on another machine their last digits can differ; "
            "verify tells whether they are within tolerance."
        )
    return _EXACTNESS[manifest.reproducible]


def local_data(manifest: Manifest) -> str | None:
    """The data of a merge where it is files or folders, as the recipe names it."""
    names = dict.fromkeys(record.data for record in manifest.data if is_local_name(record.data))
    return " and ".join(names) or None


def tensor_sentence(manifest: Manifest) -> Markup:
    """What happened to how many tensors."""
    if manifest.adapters is not None and manifest.adapters.kind == "adapter":
        count = len(manifest.adapters.modules)
        return Markup(f"It changes {count} {'module' if count == 1 else 'modules'} of its base model.")
    counts = {kind: count for kind, count in manifest.tensors.items() if count}
    total = sum(counts.values())
    parts = [
        f"{count} {'was' if count == 1 else 'were'} {text(_TENSOR_WORDS.get(kind, kind))}"
        for kind, count in counts.items()
    ]
    return Markup(f"Of the model's {total} tensors, {_and(parts)}." if parts else "")


def load_code(name: str, model: ModelFacts) -> str:
    """Code that can be copied, with the ordinary classes of transformers and, for an adapter, of PEFT."""
    if model.base:
        return _adapter_code(name, model, model.base)
    classes = sorted({model.auto_class, model.processor or model.auto_class})
    lines = [
        f"from transformers import {', '.join(classes)}",
        "",
        LOAD_LINE.format(place=f"./{name}"),
        f'model = {model.auto_class}.from_pretrained(model_id, dtype="auto")',
    ]
    if model.processor:
        variable = "tokenizer" if model.processor == "AutoTokenizer" else "processor"
        lines.append(f"{variable} = {model.processor}.from_pretrained(model_id)")
    return "\n".join(lines)


def _adapter_code(name: str, model: ModelFacts, base: str) -> str:
    base = f"./{local_path(base).name}" if is_local_name(base) else base
    at = f", revision={json.dumps(model.base_revision)}" if model.base_revision else ""
    lines = [
        "from peft import PeftModel",
        f"from transformers import {model.auto_class}",
        "",
        LOAD_LINE.format(place=f"./{name}"),
        f'base = {model.auto_class}.from_pretrained({json.dumps(base)}{at}, dtype="auto")',
        "model = PeftModel.from_pretrained(base, model_id)",
    ]
    return "\n".join(lines)


def hubmerge_code(name: str) -> str:
    """The same by hubmerge, which reads the class from the config."""
    return recipe_code(f"./{name}")


def recipe_code(place: str) -> str:
    """The code that loads any merge from a folder or a repository, also one that holds only a recipe."""
    call = 'hubmerge.AutoMergedModel.from_pretrained(model_id, dtype="auto")'
    return f"import hubmerge\n\n{LOAD_LINE.format(place=place)}\nmodel = {call}"


def licence_sentence(verdict: Verdict) -> Markup:
    """The verdict in words."""
    stated = {parent.licence for parent in verdict.parents}
    if verdict.licence is not None and stated == {verdict.licence}:
        grounds = f"All of its parents state the licence {text(verdict.licence)}"
    else:
        each = [f"{text(parent.model)}: {text(parent.licence or 'none known')}" for parent in verdict.parents]
        grounds = f"Its parents state these licences: {', '.join(each)}"
    if verdict.licence == "other":
        return Markup(f"{grounds}. All of them apply at once, and this model {_DUTIES[verdict.allowed]}.")
    under = f", under {text(verdict.licence)}" if verdict.licence else ""
    return Markup(f"{grounds}. This model {_DUTIES[verdict.allowed]}{under}.")


def reproduce_sentence(folders: Sequence[str], hub_parents: Sequence[ParentModel], data: str | None = None) -> Markup:
    """What to lay ready before running the commands.  data: calibration data that is not on the Hub."""
    parts = ["Save the recipe above as recipe.yaml"]
    parts += [f"put the calibration data beside it as {text(data)}"] if data else []
    if folders:
        parts.append(f"put the {'folder' if len(folders) == 1 else 'folders'} {join_names(folders)} beside it")
    if hub_parents:
        parts.append("take the models from the Hub at the commits in the table")
    return Markup(f"{_and(parts)}, then run:")


def versions(manifest: Manifest) -> str:
    """The packages it was made with."""
    versions = {"hubmerge": manifest.hubmerge_version, **manifest.versions}
    return ", ".join(f"{package} {number}" for package, number in versions.items())


def join_names(names: Iterable[str]) -> Markup:
    """``a, b and c``, escaped."""
    return Markup(_and([text(name) for name in names]))


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def linked(parent: ParentFacts) -> Markup:
    """A parent's name, linked when it is on the Hub."""
    cells = [
        f"[{text(model.name)}]({url(model)})" if model.hub_id else str(text(model.name)) for model in parent.models
    ]
    return Markup(" + ".join(cells))


def url(model: ParentModel) -> str:
    """Where a model of the Hub is."""
    return f"https://huggingface.co/{quote(model.hub_id or '')}"


def state(parent: ParentFacts) -> Markup:
    """Which state of its files a parent had."""
    states = [_commit(model) for model in parent.models if model.hub_id]
    if any(model.hub_id is None for model in parent.models):
        states.append(f"weights sample {code(parent.sample)}" if parent.sample else f"header {code(parent.header)}")
    return Markup(", ".join(states))


def _commit(model: ParentModel) -> str:
    """The commit of a model of the Hub, linked: the link has all of it, which is what a download wants."""
    short = f"commit {code((model.commit or '')[:12])}"
    return f"[{short}]({url(model)}/tree/{quote(model.commit)})" if model.commit else short


def coefficients(parameters: Mapping[str, Any]) -> str:
    """What the recipe gave a parent of its own."""
    return ", ".join(f"{name} {value}" for name, value in parameters.items()) or "–"


def licences(parent: ParentFacts) -> str:
    """What its cards state."""
    return " and ".join(model.card.licence or "none known" for model in parent.models)
